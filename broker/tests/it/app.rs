//! A broker for tests: real sockets, a hook that lets everybody do everything, verbs.

use std::net::SocketAddr;
use std::sync::Arc;

use latchline_broker::config::{self, Config};
use latchline_broker::hooks::chain::Chain;
use latchline_broker::hooks::link::{Link, OnFault};
use latchline_broker::listen::Kind;
use latchline_broker::metrics::Metrics;
use latchline_broker::server::Server;
use latchline_shared::budget::Budget;
use latchline_shared::hook::Hook;
use latchline_shared::kit::config::load;
use latchline_shared::kit::shutdown::Shutdown;
use latchline_shared::kit::testing::eventually;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::hooks::Open;
use crate::raw::bytes::Connect;
use crate::raw::read::Connack;
use crate::raw::{Raw, SOON};

/// A running broker.
pub(crate) struct App {
    pub server: Server,
    registry: Registry,
}

impl App {
    /// Starts a broker on a free port, with limits as the test wants them.
    pub(crate) async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::with_links(vec![], adjust).await
    }

    /// As [`Self::start`], with one more hook behind the one that lets everybody in.
    pub(crate) async fn with_hook(hook: &Arc<impl Hook>, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::with_links(vec![closed(hook)], adjust).await
    }

    /// As [`Self::start`], with more hooks behind the one that lets everybody in.
    pub(crate) async fn with_links(links: Vec<Link>, adjust: impl FnOnce(&mut Config)) -> Self {
        let config = Self::config(adjust);
        let mut registry = Registry::default();
        let budget = Budget::new(config.limits.inflight_bytes_total);
        let metrics = Metrics::new(&mut registry, &budget);
        let links = std::iter::once(closed(&Arc::new(Open))).chain(links).collect();
        let chain = Chain::new(links);
        let server = Server::start(&config, chain, metrics, budget, &Shutdown::new()).expect("free ports");
        Self { server, registry }
    }

    /// The defaults with free ports, as the test wants them.
    pub(crate) fn config(adjust: impl FnOnce(&mut Config)) -> Config {
        let mut config: Config =
            load(config::DEFAULT_TOML, None, "NONE", std::iter::empty()).expect("the defaults are valid");
        config.listen.tcp = Some(([127, 0, 0, 1], 0).into());
        config.listen.ws = Some(([127, 0, 0, 1], 0).into());
        adjust(&mut config);
        config
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, kind: Kind) -> SocketAddr {
        self.server.addresses.iter().find(|(known, _)| *known == kind).expect("such a listener").1
    }

    /// Where plain MQTT is spoken.
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.address(Kind::Tcp)
    }

    /// A client with a clean session.
    pub(crate) async fn client(&self, version: u8, id: &str) -> Raw {
        let (raw, connack) = self.connect(&Connect::new(version, id)).await;
        assert_eq!((connack.code, connack.present), (0, false), "{id}");
        raw
    }

    /// A client with this CONNECT.
    pub(crate) async fn connect(&self, connect: &Connect) -> (Raw, Connack) {
        Raw::connect(self.tcp(), connect).await
    }

    /// A client that comes back: Session Present must be as `present` says.
    pub(crate) async fn resume(&self, connect: &Connect, present: bool) -> Raw {
        let (raw, connack) = self.connect(connect).await;
        assert_eq!((connack.code, connack.present), (0, present), "{}", connect.id);
        raw
    }

    /// Waits until the broker has noticed that a client is gone, and has parked its session.
    pub(crate) async fn parked(&self, id: &str) {
        let registry = &self.server.broker.registry;
        eventually(SOON, &format!("{id} is parked"), async || {
            registry.status(id).is_some_and(|status| !status.online)
        })
        .await;
    }

    /// Waits until a client's session has ended.
    pub(crate) async fn forgotten(&self, id: &str) {
        let registry = &self.server.broker.registry;
        eventually(SOON, &format!("{id} is forgotten"), async || registry.status(id).is_none()).await;
    }

    /// Value of a sample, by its name with labels; 0 while it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("text");
        let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Messages dropped for this cause.
    pub(crate) fn dropped(&self, cause: &str) -> u64 {
        self.metric(&format!("broker_route_drops_total{{cause=\"{cause}\"}}"))
    }

    /// Refusals for this cause.
    pub(crate) fn refused(&self, cause: &str) -> u64 {
        self.metric(&format!("broker_session_refusals_total{{cause=\"{cause}\"}}"))
    }

    /// Times that reading was paused for this cause.
    pub(crate) fn paused(&self, cause: &str) -> u64 {
        self.metric(&format!("broker_session_read_pauses_total{{cause=\"{cause}\"}}"))
    }

    /// Waits until nothing waits for storage any more.
    pub(crate) async fn settled(&self) {
        let budget = &self.server.broker.budget;
        eventually(SOON, "the budget is free", async || budget.used() == 0).await;
    }
}

/// A link whose faults count.
pub(crate) fn closed(hook: &Arc<impl Hook>) -> Link {
    Link { hook: Arc::clone(hook) as Arc<dyn Hook>, deadline: None, on_fault: OnFault::Closed }
}

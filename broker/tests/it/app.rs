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
use latchline_shared::hook::{Access, Answer, Authentication, Authorisation, Call, Connect, Hook};
use latchline_shared::kit::config::load;
use latchline_shared::kit::shutdown::Shutdown;
use latchline_shared::message::Client;
use prometheus_client::registry::Registry;

/// Lets everybody do everything, except what a test forbids by its topic.
struct Open;

impl Hook for Open {
    fn name(&self) -> &'static str {
        "open"
    }

    fn calls(&self) -> &'static [Call] {
        &[Call::ClientAuthenticate, Call::ClientAuthorise]
    }

    fn client_authenticate(&self, _connect: &Arc<Connect>) -> Answer<Authentication> {
        Answer::Now(Authentication::Allow { role: "any".into() })
    }

    fn client_authorise(&self, _client: &Client, _access: &Access<'_>) -> Authorisation {
        Authorisation::Allow
    }
}

/// A running broker.
pub(crate) struct App {
    pub server: Server,
}

impl App {
    /// Starts a broker on a free port, with limits as the test wants them.
    pub(crate) async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::with_hooks(vec![], adjust).await
    }

    /// As [`Self::start`], with more hooks behind the one that lets everybody in.
    pub(crate) async fn with_hooks(hooks: Vec<Link>, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config: Config =
            load(config::DEFAULT_TOML, None, "NONE", std::iter::empty()).expect("the defaults are valid");
        config.listen.tcp = Some(([127, 0, 0, 1], 0).into());
        config.listen.ws = Some(([127, 0, 0, 1], 0).into());
        adjust(&mut config);
        let mut registry = Registry::default();
        let budget = Budget::new(config.limits.inflight_bytes_total);
        let metrics = Metrics::new(&mut registry, &budget);
        let mut links = vec![Link { hook: Arc::new(Open), deadline: None, on_fault: OnFault::Closed }];
        links.extend(hooks);
        let server =
            Server::start(&config, Chain::new(links), metrics, budget, &Shutdown::new()).expect("free ports");
        Self { server }
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, kind: Kind) -> SocketAddr {
        self.server.addresses.iter().find(|(known, _)| *known == kind).expect("such a listener").1
    }
}

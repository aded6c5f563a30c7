//! A running broker: its listeners, its timers, and its orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use latchline_shared::budget::Budget;
use latchline_shared::kit::shutdown::Shutdown;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::broker::Broker;
use crate::config::Config;
use crate::hooks::chain::Chain;
use crate::listen::tls::Tls;
use crate::listen::{self, Acceptor, Kind};
use crate::metrics::Metrics;
use crate::registry::Due;
use crate::session::mailbox::Signal;

/// What the end may take beyond the time that connections have to finish.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Open files for everything that is not a client: Kafka, HTTP, logs.
const FILES_RESERVED: usize = 256;

/// A running broker.
pub struct Server {
    /// What the connections share.
    pub broker: Arc<Broker>,
    /// Where it listens.
    pub addresses: Vec<(Kind, SocketAddr)>,
    tls: Option<Arc<Tls>>,
    shutdown: Shutdown,
}

impl Server {
    /// Binds the listeners and begins to serve. Must be called within a tokio runtime.
    pub fn start(
        config: &Config,
        chain: Chain,
        metrics: Arc<Metrics>,
        budget: Arc<Budget>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let tls = Tls::load(&config.listen).context("TLS")?;
        let listeners = listen::bind(&config.listen)?;
        let broker = Broker::new(config, chain, metrics, budget);
        let acceptor = Acceptor {
            broker: Arc::clone(&broker),
            permits: Arc::new(Semaphore::new(connections_max(config.limits.connections_max))),
            tls: tls.clone(),
            ws_path: config.listen.ws_path.as_str().into(),
        };
        let addresses = listeners.iter().map(|listener| (listener.kind, listener.address)).collect();
        for listener in listeners {
            tracing::info!(listener = listener.kind.name(), address = %listener.address, "listening");
            shutdown.spawn("accept", listen::accept(listener, acceptor.clone(), shutdown.clone()));
        }
        shutdown.spawn("session timers", keep_time(Arc::clone(&broker), shutdown.clone()));
        Ok(Self { broker, addresses, tls, shutdown: shutdown.clone() })
    }

    /// Reads certificates anew. On an error the old ones stay.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// Ends in order: nobody new; what is in flight is stored and acknowledged, until the deadline;
    /// DISCONNECT with reason 0x8B.
    pub async fn stop(&self) {
        self.shutdown.request();
        self.broker.begin_to_stop();
        if let Err(unfinished) = self.shutdown.drain(self.broker.limits.shutdown_deadline + DRAIN_GRACE).await
        {
            tracing::warn!(%unfinished, "some connections did not end in time");
        }
        if timeout(DRAIN_GRACE, self.broker.chain.drained()).await.is_err() {
            tracing::warn!("some receipts did not settle in time");
        }
    }
}

/// As many connections as are configured, or as the system gives us files for.
fn connections_max(configured: usize) -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    let possible = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(FILES_RESERVED);
    if possible < configured {
        tracing::info!(
            possible,
            configured,
            "fewer connections than limits.connections_max: too few open files allowed"
        );
    }
    configured.min(possible).min(Semaphore::MAX_PERMITS)
}

/// Publishes delayed wills and ends expired sessions.
async fn keep_time(broker: Arc<Broker>, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        let (key, client_id) = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            reminder = broker.registry.timers.next() => reminder,
        };
        match broker.registry.due(&client_id, key, Instant::now()) {
            Due::Nothing => {}
            Due::Will(client, will) => broker.publish_will(&client, *will),
            Due::End(ended) => broker.clean_up(*ended),
        }
    }
}

impl Broker {
    /// Tells all connections, also those that are just connecting, that the server stops.
    fn begin_to_stop(&self) {
        self.stopping.cancel();
        self.registry.signal_all(Signal::Shutdown);
    }
}

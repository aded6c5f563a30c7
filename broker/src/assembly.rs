//! The broker put together: hooks in their order, metrics, and the server that runs them. What stores
//! messages is given by whoever calls, the broker's process or one that measures it: the library
//! knows no Kafka.

use std::sync::Arc;

use latchline_shared::budget::Budget;
use latchline_shared::hook::Hook;
use latchline_shared::kit::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::hooks::access::AccessControl;
use crate::hooks::chain::Chain;
use crate::hooks::guard::Guard;
use crate::hooks::link::{Link, OnFault};
use crate::metrics::Metrics;
use crate::server::Server;

/// Starts a server with these hooks, and the guard if it is configured.
///
/// Ordering: access decides first, then the guard, and only what both let pass is stored.
pub fn assemble(
    config: &Config,
    access: Arc<AccessControl>,
    storing: Option<Arc<dyn Hook>>,
    registry: &mut Registry,
    shutdown: &Shutdown,
) -> anyhow::Result<Server> {
    let deadline = Some(config.limits.authenticate_timeout);
    let mut links = vec![Link { hook: access, deadline, on_fault: OnFault::Closed }];
    if let Some(guard) = Guard::open(config)? {
        guard.metrics().register(registry);
        links.push(Link { hook: Arc::new(guard), deadline: None, on_fault: OnFault::Closed });
    }
    if let Some(hook) = storing {
        links.push(Link { hook, deadline: None, on_fault: OnFault::Closed });
    }
    let chain = Chain::new(links);
    chain.metrics().register(registry);
    let budget = Budget::new(config.limits.inflight_bytes_total);
    let metrics = Metrics::new(registry, &budget);
    Server::start(config, chain, metrics, budget, shutdown)
}

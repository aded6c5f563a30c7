//! Whether publishing goes on: the readiness condition, and two lines in the log for each outage.

use tokio::time::Instant;
use tracing::{info, warn};

use crate::kit::http::readiness::Condition;

/// The state of one publisher.
pub(super) struct Outage {
    table: String,
    condition: Condition,
    since: Option<Instant>,
}

impl Outage {
    pub(super) fn new(table: String, condition: Condition) -> Self {
        Self { table, condition, since: None }
    }

    /// It does not work for now.
    pub(super) fn fails(&mut self, why: &str) {
        if self.since.is_none() {
            warn!(table = self.table, error = why, "publishing waits");
            self.since = Some(Instant::now());
        }
        self.condition.not_ready(why);
    }

    /// It works, or somebody else does it.
    pub(super) fn works(&mut self) {
        self.condition.ready();
        if let Some(since) = self.since.take() {
            let outage_ms = since.elapsed().as_millis() as u64;
            info!(table = self.table, outage_ms, "publishing goes on");
        }
    }
}

//! What digests count. The only place that names these metrics; they are registered below the service's
//! prefix.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::Made;

/// Handles to all metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    digests: Counter,
    parts: Counter,
    released: Counter,
    ended: Counter,
    failed: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            ("digests", "Messages that tell of several notifications", &metrics.digests),
            ("digest_parts", "Notifications that digests tell of", &metrics.parts),
            ("digest_released", "Notifications that waited for a digest alone", &metrics.released),
            ("digest_ended", "Notifications of no digest: too late, or of nobody", &metrics.ended),
            ("digest_failures", "Digests that could not be made, and are tried again", &metrics.failed),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    /// A step was done.
    pub(super) fn count(&self, made: &Made) {
        self.digests.inc_by(made.digests);
        self.parts.inc_by(made.parts);
        self.released.inc_by(made.released);
        self.ended.inc_by(made.ended);
        self.failed.inc_by(made.failed);
    }
}

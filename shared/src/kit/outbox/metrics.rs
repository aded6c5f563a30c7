//! What publishing counts. The only place that names its metrics; a service registers them below a
//! prefix of its own (`registry.sub_registry_with_prefix("auditor")`).

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::table::Backlog;

/// Handles to all metrics; clones are the same metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Messages that wait, as far as they are counted; 0 where another instance publishes.
    rows: Gauge,
    /// Age of the oldest of them.
    age_seconds: Gauge<f64, AtomicU64>,
    /// Messages that Kafka has stored.
    pub(super) published: Counter,
    /// Attempts that could not be finished.
    pub(super) failures: Counter,
    /// Messages that Kafka will never take.
    pub(super) refused: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("outbox");
        registry.register("rows", "Messages that wait to be published", metrics.rows.clone());
        registry.register_with_unit(
            "age",
            "Age of the oldest message that waits",
            Unit::Seconds,
            metrics.age_seconds.clone(),
        );
        for (name, help, counter) in [
            ("published", "Messages that Kafka has stored", &metrics.published),
            ("failures", "Attempts to publish that could not be finished", &metrics.failures),
            ("refused", "Messages that Kafka will never take", &metrics.refused),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    /// What waits.
    pub(super) fn backlog(&self, backlog: &Backlog) {
        self.rows.set(backlog.rows);
        self.age_seconds.set(backlog.age_seconds);
    }

    /// Another instance publishes, and says what waits.
    pub(super) fn standby(&self) {
        self.backlog(&Backlog { rows: 0, age_seconds: 0.0 });
    }
}

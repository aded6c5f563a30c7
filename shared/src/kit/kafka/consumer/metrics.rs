//! What reading counts. The only place that names its metrics; a service registers them below a
//! prefix of its own (`registry.sub_registry_with_prefix("auditor")`).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Handles to all metrics; clones are the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    records: Family<StreamLabels, Counter>,
    poison: Family<PoisonLabels, Counter>,
    lag: Family<PartitionLabels, Gauge>,
    /// Records that came again and were dropped, their effect being stored.
    pub(super) redelivered: Counter,
    /// Records that Kafka deleted before they were read.
    pub(super) lost: Counter,
    /// From the first record of a batch to its commit.
    pub(super) batch_seconds: Histogram,
    /// Records in a batch.
    pub(super) batch_records: Histogram,
    /// Times that partitions came or went.
    pub(super) rebalances: Counter,
    /// Transactions given up because another member had moved the offset.
    pub(super) fenced: Counter,
    /// Attempts after a transient fault.
    pub(super) retries: Counter,
    /// Lanes that do not keep up, whose partitions are paused.
    pub(super) paused_lanes: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    stream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoisonLabels {
    stream: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    stream: String,
    partition: i32,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            poison: Family::default(),
            lag: Family::default(),
            redelivered: Counter::default(),
            lost: Counter::default(),
            batch_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            batch_records: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            rebalances: Counter::default(),
            fenced: Counter::default(),
            retries: Counter::default(),
            paused_lanes: Gauge::default(),
        };
        metrics.register(registry.sub_registry_with_prefix("kafka"));
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("records", "Records read", self.records.clone());
        registry.register("poison", "Records that went to the dead-letter stream", self.poison.clone());
        registry.register("lag_records", "Records behind the stored offset", self.lag.clone());
        for (name, help, counter) in [
            ("redelivered", "Records that came again and were dropped", &self.redelivered),
            ("lost_records", "Records that Kafka deleted before they were read", &self.lost),
            ("rebalances", "Times that partitions came or went", &self.rebalances),
            ("fenced", "Transactions given up because another member had moved the offset", &self.fenced),
            ("retries", "Attempts after a transient fault", &self.retries),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register_with_unit(
            "batch",
            "From the first record of a batch to its commit",
            Unit::Seconds,
            self.batch_seconds.clone(),
        );
        registry.register("batch_records", "Records in a batch", self.batch_records.clone());
        registry.register("paused_lanes", "Lanes that do not keep up", self.paused_lanes.clone());
    }

    /// The counter of a stream's records.
    pub(super) fn records(&self, stream: &str) -> Counter {
        self.records.get_or_create_owned(&StreamLabels { stream: stream.to_owned() })
    }

    /// A record went to the dead-letter stream.
    pub(super) fn poison(&self, stream: &str, class: &'static str) {
        self.poison.get_or_create(&PoisonLabels { stream: stream.to_owned(), class }).inc();
    }

    /// How many records are not stored yet.
    pub(super) fn lag(&self, stream: &str, partition: i32, records: i64) {
        self.lag.get_or_create(&PartitionLabels { stream: stream.to_owned(), partition }).set(records);
    }

    /// The partitions are somebody else's now.
    pub(super) fn forget_lag(&self) {
        self.lag.clear();
    }
}

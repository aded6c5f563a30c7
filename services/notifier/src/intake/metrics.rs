//! What the intake counts. The only place that names its metrics; they are registered below the
//! service's prefix.
//!
//! What is counted was committed: a batch that is rolled back and applied again counts once.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Handles to all metrics.
#[derive(Debug)]
pub struct Metrics {
    records: Family<KindLabels, Counter>,
    notifications: Family<HowLabels, Counter>,
    skipped: Family<CauseLabels, Counter>,
    seconds: Histogram,
    lost: Counter,
    remembered: Family<LaneLabels, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HowLabels {
    channel: &'static str,
    how: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    partition: i32,
}

/// What a transaction came to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    records: BTreeMap<&'static str, u64>,
    notifications: BTreeMap<(&'static str, &'static str), u64>,
    skipped: BTreeMap<&'static str, u64>,
    /// When those events happened that somebody is told of now, in Unix milliseconds.
    told_at_ms: Vec<i64>,
}

impl Tally {
    /// A record, by what it was.
    pub(super) fn record(&mut self, kind: &'static str) {
        *self.records.entry(kind).or_default() += 1;
    }

    /// A contact of a member that nothing is told to, by why; or a member without one, or an event
    /// without members.
    pub(super) fn skip(&mut self, cause: &'static str) {
        *self.skipped.entry(cause).or_default() += 1;
    }

    /// A notification that was written.
    pub(super) fn notification(&mut self, channel: &'static str, how: &'static str, at_ms: i64) {
        *self.notifications.entry((channel, how)).or_default() += 1;
        if how == "now" {
            self.told_at_ms.push(at_ms);
        }
    }
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            notifications: Family::default(),
            skipped: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.005, 2.0, 18)),
            lost: Counter::default(),
            remembered: Family::default(),
        };
        registry.register("intake_records", "Records by what they were", metrics.records.clone());
        registry.register(
            "intake_notifications",
            "Notifications that were written, by channel and how they are told",
            metrics.notifications.clone(),
        );
        registry.register("intake_skipped", "What nobody is told, by why", metrics.skipped.clone());
        registry.register_with_unit(
            "intake",
            "From an event to the commit of the notification that is told at once",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "intake_lost_records",
            "Records that were deleted before they were read",
            metrics.lost.clone(),
        );
        registry.register(
            "intake_remembered_processes",
            "Processes whose repetition costs nothing, by lane",
            metrics.remembered.clone(),
        );
        metrics
    }

    /// A lane's transaction was committed.
    pub(super) fn commit(&self, partition: i32, remembered: usize, tally: &Tally, now_ms: i64) {
        for (kind, count) in &tally.records {
            self.records.get_or_create(&KindLabels { kind }).inc_by(*count);
        }
        for ((channel, how), count) in &tally.notifications {
            self.notifications.get_or_create(&HowLabels { channel, how }).inc_by(*count);
        }
        for (cause, count) in &tally.skipped {
            self.skipped.get_or_create(&CauseLabels { cause }).inc_by(*count);
        }
        for at_ms in &tally.told_at_ms {
            self.seconds.observe((now_ms - at_ms).max(0) as f64 / 1_000.0);
        }
        let remembered = i64::try_from(remembered).unwrap_or(i64::MAX);
        self.remembered.get_or_create(&LaneLabels { partition }).set(remembered);
    }

    /// Records were deleted before they were read.
    pub(super) fn lost(&self, count: i64) {
        self.lost.inc_by(count.unsigned_abs());
    }

    /// A lane is not ours any more.
    pub(super) fn closed(&self, partition: i32) {
        self.remembered.remove(&LaneLabels { partition });
    }
}

//! What monitoring counts. The only place that names its metrics; they are registered below the
//! service's prefix.
//!
//! What is counted was committed: a batch that is rolled back and applied again counts once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::alarm::{self, Applied};
use crate::lane::{Lane, Tally};

/// Handles to all metrics.
#[derive(Debug)]
pub struct Metrics {
    reports: Family<OutcomeLabels, Counter>,
    report_seconds: Histogram,
    findings: Counter,
    known_findings: Counter,
    unknown_words: Counter,
    lost: Counter,
    alarms: Arc<alarm::sweep::metrics::Metrics>,
    locks: Family<LaneLabels, Gauge>,
    live: Family<LaneLabels, Gauge>,
    behind: Family<LaneLabels, Gauge<f64, AtomicU64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    partition: i32,
}

impl Metrics {
    /// Registers them, beside those of alarms.
    pub fn new(registry: &mut Registry, alarms: Arc<alarm::sweep::metrics::Metrics>) -> Self {
        let metrics = Self {
            reports: Family::default(),
            report_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 18)),
            findings: Counter::default(),
            known_findings: Counter::default(),
            unknown_words: Counter::default(),
            lost: Counter::default(),
            alarms,
            locks: Family::default(),
            live: Family::default(),
            behind: Family::default(),
        };
        registry.register("reports", "Reports by what became of them", metrics.reports.clone());
        registry.register_with_unit(
            "report",
            "From the broker's seeing a report to its being stored",
            Unit::Seconds,
            metrics.report_seconds.clone(),
        );
        registry.register("locks", "Locks that are known, by lane", metrics.locks.clone());
        registry.register(
            "lane_live",
            "1 if the lane keeps up, so that silence counts",
            metrics.live.clone(),
        );
        registry.register_with_unit(
            "behind",
            "From the newest report of a lane to the commit of its last reports",
            Unit::Seconds,
            metrics.behind.clone(),
        );
        for (name, help, counter) in [
            ("findings", "Findings of the auditor", &metrics.findings),
            ("known_findings", "Findings that the auditor had published before", &metrics.known_findings),
            ("unknown_words", "Words of findings that a newer auditor knows", &metrics.unknown_words),
            ("lost_records", "Records that were deleted before they were read", &metrics.lost),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    /// A lane's transaction was committed.
    pub(super) fn commit(&self, number: i32, lane: &Lane, tally: &Tally, applied: &Applied, now_ms: i64) {
        for (outcome, count) in [
            ("applied", tally.applied.len() as u64 - tally.unreadable),
            ("unreadable", tally.unreadable),
            ("late", tally.late),
            ("duplicate", tally.duplicate),
            ("mismatched", tally.mismatched),
        ] {
            self.reports.get_or_create(&OutcomeLabels { outcome }).inc_by(count);
        }
        for at_ms in &tally.applied {
            self.report_seconds.observe(seconds(now_ms - at_ms));
        }
        self.findings.inc_by(tally.findings);
        self.known_findings.inc_by(tally.known_findings);
        self.unknown_words.inc_by(tally.unknown_words);
        self.alarms.count(applied);
        let labels = LaneLabels { partition: number };
        self.locks.get_or_create(&labels).set(i64::try_from(lane.len()).unwrap_or(i64::MAX));
        self.live.get_or_create(&labels).set(i64::from(lane.is_live()));
        if let Some(newest_ms) = lane.newest_ms().filter(|_| !tally.applied.is_empty()) {
            self.behind.get_or_create(&labels).set(seconds(now_ms - newest_ms));
        }
    }

    /// Records were deleted before they were read.
    pub(super) fn lost(&self, count: i64) {
        self.lost.inc_by(count.unsigned_abs());
    }

    /// A lane begins; what it was before, here or elsewhere, is over.
    pub(super) fn opened(&self, number: i32) {
        let labels = LaneLabels { partition: number };
        self.locks.remove(&labels);
        self.live.remove(&labels);
        self.behind.remove(&labels);
    }
}

fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1_000.0
}

//! What judging counts. The only place that names its metrics; they are registered below the
//! service's prefix.
//!
//! What is counted was committed: a batch that is rolled back and judged again counts once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use latchline_shared::kit::clock;
use latchline_shared::report::Said;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::event::{Event, Kind};
use crate::finding::Finding;
use crate::judge::{Decision, Quiet};
use crate::verdict::Verdict;

/// Handles to all metrics.
#[derive(Debug)]
pub struct Metrics {
    verdicts: Family<VerdictLabels, Counter>,
    findings: Family<FindingLabels, Counter>,
    results: Family<ResultLabels, Counter>,
    events: Family<EventLabels, Counter>,
    quiet: Family<QuietLabels, Counter>,
    delay_seconds: Histogram,
    /// What each lane has in its transaction.
    pending: Mutex<HashMap<i32, Tally>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    kind: &'static str,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    finding: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuietLabels {
    cause: &'static str,
}

/// What a transaction comes to.
#[derive(Debug, Clone, Default)]
struct Tally {
    events: Vec<Counted>,
    quiet: Quiet,
}

#[derive(Debug, Clone)]
struct Counted {
    kind: Kind,
    verdict: Option<Verdict>,
    outcome: Option<Said>,
    findings: Vec<Finding>,
    occurred_at_ms: i64,
}

impl Counted {
    fn of(event: &Event) -> Self {
        let is_result = event.kind == Kind::Result;
        Self {
            kind: event.kind,
            verdict: Verdict::from_name(&event.verdict).filter(|_| !is_result),
            outcome: Said::from_name(&event.verdict).filter(|_| is_result),
            findings: event.findings.iter().filter_map(|word| Finding::from_name(word)).collect(),
            occurred_at_ms: event.occurred_at_ms,
        }
    }
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            verdicts: Family::default(),
            findings: Family::default(),
            results: Family::default(),
            events: Family::default(),
            quiet: Family::default(),
            delay_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 18)),
            pending: Mutex::default(),
        };
        registry.register(
            "judge_verdicts",
            "Commands and attempts by their verdict",
            metrics.verdicts.clone(),
        );
        registry.register("judge_findings", "What is wrong beside the verdict", metrics.findings.clone());
        registry.register("judge_results", "Commands by how they ended", metrics.results.clone());
        registry.register("judge_events", "Rows of history by their kind", metrics.events.clone());
        registry.register(
            "judge_quiet_reports",
            "Reports that are not history, by cause",
            metrics.quiet.clone(),
        );
        registry.register_with_unit(
            "judge_delay",
            "From the broker's seeing something to its being in history",
            Unit::Seconds,
            metrics.delay_seconds.clone(),
        );
        metrics
    }

    /// A lane's transaction comes to this, in the place of what it came to before it was rolled
    /// back.
    pub(super) fn prepare(&self, lane: i32, decision: &Decision) {
        let events = decision.events.iter().map(Counted::of).collect();
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.insert(lane, Tally { events, quiet: decision.quiet });
    }

    /// The lane's transaction was committed. True if it wrote history.
    pub(super) fn commit(&self, lane: i32) -> bool {
        let tally = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&lane);
        let Tally { events, quiet } = tally.unwrap_or_default();
        let now_ms = i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX);
        let has_written = !events.is_empty();
        for event in events {
            let kind = event.kind.name();
            self.events.get_or_create(&EventLabels { kind }).inc();
            if let Some(verdict) = event.verdict {
                self.verdicts.get_or_create(&VerdictLabels { kind, verdict: verdict.name() }).inc();
            }
            if let Some(outcome) = event.outcome {
                self.results.get_or_create(&ResultLabels { outcome: outcome.name() }).inc();
            }
            for finding in event.findings {
                self.findings.get_or_create(&FindingLabels { finding: finding.name() }).inc();
            }
            let delay_ms = now_ms.saturating_sub(event.occurred_at_ms).max(0);
            self.delay_seconds.observe(delay_ms as f64 / 1_000.0);
        }
        for (cause, count) in [("heartbeat", quiet.heartbeats), ("late", quiet.late)] {
            self.quiet.get_or_create(&QuietLabels { cause }).inc_by(count);
        }
        has_written
    }
}

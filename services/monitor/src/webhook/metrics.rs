//! What the webhook counts. The only place that names its metrics; they are registered below the
//! prefix `monitor`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::queue::Backlog;

/// Handles to all metrics; clones are the same metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    sent: Family<Labels, Counter>,
    rows: Gauge,
    age_seconds: Gauge<f64, AtomicU64>,
}

/// What became of an alert in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Delivered,
    /// It is tried again.
    Retried,
    /// The receiver will never take it: dropped.
    Refused,
    /// It is too old to be tried again: dropped.
    Expired,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
    status: u16,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "webhook_sent",
            "Alerts by what became of them; status 0 is no answer",
            metrics.sent.clone(),
        );
        registry.register("webhook_backlog_rows", "Alerts that wait to be sent", metrics.rows.clone());
        registry.register_with_unit(
            "webhook_backlog_age",
            "Age of the oldest alert that waits",
            Unit::Seconds,
            metrics.age_seconds.clone(),
        );
        metrics
    }

    pub(super) fn count(&self, outcome: Outcome, status: u16, alerts: usize) {
        self.sent.get_or_create(&Labels { outcome: outcome.name(), status }).inc_by(alerts as u64);
    }

    pub(super) fn backlog(&self, backlog: &Backlog) {
        self.rows.set(backlog.rows);
        self.age_seconds.set(backlog.age_seconds);
    }
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

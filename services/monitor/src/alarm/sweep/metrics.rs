//! What alarms count. The only place that names its metrics; they are registered below the prefix
//! `monitor`.
//!
//! What is counted was committed: who commits counts.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use latchline_shared::alarm::{AlarmType, Severity};
use latchline_shared::fault::Fault;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio_postgres::{GenericClient, Row};

use super::super::Applied;
use super::super::store::failed;

const OPEN: &str =
    "select type, severity, count(*) from alarm where state <> 'closed' group by type, severity";

/// Handles to all metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    open: Family<OpenLabels, Gauge<i64>>,
    events: Family<EventLabels, Counter>,
    notifications: Counter,
    idle: Counter<u64, AtomicU64>,
    /// Those that are not zero.
    counted: Mutex<Vec<OpenLabels>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpenLabels {
    r#type: &'static str,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    change: &'static str,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("alarm_open", "Open alarms; every instance counts all", metrics.open.clone());
        registry.register("alarm_events", "Changes of alarms, by what happened", metrics.events.clone());
        registry.register(
            "alarm_notifications",
            "Changes of alarms that somebody should be told",
            metrics.notifications.clone(),
        );
        registry.register(
            "alarm_idle_signals",
            "Signals that changed nothing, because no alarm was open for them",
            metrics.idle.clone(),
        );
        metrics
    }

    /// This was committed.
    pub fn count(&self, applied: &Applied) {
        for (change, count) in &applied.changes {
            self.events.get_or_create(&EventLabels { change: change.name() }).inc_by(*count);
        }
        self.notifications.inc_by(applied.notifications);
        self.idle.inc_by(applied.idle);
    }

    /// Counts open alarms.
    pub async fn look(&self, client: &impl GenericClient) -> Result<(), Fault> {
        let rows = client.query_typed(OPEN, &[]).await.map_err(failed)?;
        let open: Vec<(OpenLabels, i64)> =
            rows.iter().filter_map(|row| labels(row).transpose()).collect::<Result<_, Fault>>()?;
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for labels in counted.drain(..) {
            if !open.iter().any(|(other, _)| *other == labels) {
                self.open.get_or_create(&labels).set(0);
            }
        }
        for (labels, count) in open {
            self.open.get_or_create(&labels).set(count);
            counted.push(labels);
        }
        Ok(())
    }
}

/// None: words of a newer program.
fn labels(row: &Row) -> Result<Option<(OpenLabels, i64)>, Fault> {
    let word = |index: usize| row.try_get::<_, &str>(index).map_err(failed);
    let (alarm, severity) = (AlarmType::from_name(word(0)?), Severity::from_name(word(1)?));
    let count: i64 = row.try_get(2).map_err(failed)?;
    Ok(alarm
        .zip(severity)
        .map(|(alarm, severity)| (OpenLabels { r#type: alarm.name(), severity: severity.name() }, count)))
}

//! What the bridge counts. The only place that names its metrics.

use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::hook::Call;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::config::HOOKS;

/// Handles to all metrics; the counters of each hook are looked up once.
#[derive(Debug)]
pub(crate) struct Metrics {
    records: [[Counter; RESULTS.len()]; HOOKS.len()],
    /// Records that are neither stored nor failed.
    pub(crate) pending_records: Gauge,
    /// Their bytes.
    pub(crate) pending_bytes: Gauge,
    store_seconds: Histogram,
    /// 1 while Kafka cannot be reached.
    outage: Gauge,
    /// Producers that failed for good.
    pub(crate) replacements: Counter,
}

/// In the order of the array above.
const RESULTS: [&str; 3] = ["stored", "transient", "permanent"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    hook: &'static str,
    result: &'static str,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let records = Family::<Labels, Counter>::default();
        let counters = HOOKS.map(|hook| {
            let hook = hook.name();
            RESULTS.map(|result| records.get_or_create_owned(&Labels { hook, result }))
        });
        let metrics = Self {
            records: counters,
            pending_records: Gauge::default(),
            pending_bytes: Gauge::default(),
            store_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 18)),
            outage: Gauge::default(),
            replacements: Counter::default(),
        };
        registry.register("broker_bridge_records", "Records by hook and what became of them", records);
        registry.register(
            "broker_bridge_pending_records",
            "Records on their way to Kafka",
            metrics.pending_records.clone(),
        );
        registry.register_with_unit(
            "broker_bridge_pending",
            "Bytes of the records on their way to Kafka",
            Unit::Bytes,
            metrics.pending_bytes.clone(),
        );
        registry.register_with_unit(
            "broker_bridge_store",
            "From a hook to the record's being stored",
            Unit::Seconds,
            metrics.store_seconds.clone(),
        );
        registry.register("broker_bridge_outage", "1 while Kafka cannot be reached", metrics.outage.clone());
        registry.register(
            "broker_bridge_producer_replacements",
            "Producers that failed for good and were replaced",
            metrics.replacements.clone(),
        );
        metrics
    }

    /// A record is on its way.
    pub(crate) fn sent(&self, bytes: usize) {
        self.pending_records.inc();
        self.pending_bytes.inc_by(bytes as i64);
    }

    /// A record has arrived, or has not.
    pub(crate) fn settled(&self, hook: Call, bytes: usize, took: Duration, result: &Result<(), Fault>) {
        self.pending_records.dec();
        self.pending_bytes.dec_by(bytes as i64);
        let index = match result {
            Ok(()) => 0,
            Err(Fault::Transient { .. }) => 1,
            Err(Fault::Permanent(_) | Fault::Bug(_)) => 2,
        };
        if let Some(hook) = HOOKS.iter().position(|known| *known == hook) {
            self.records[hook][index].inc();
        }
        if result.is_ok() {
            self.store_seconds.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn outage(&self, is_outage: bool) {
        self.outage.set(i64::from(is_outage));
    }
}

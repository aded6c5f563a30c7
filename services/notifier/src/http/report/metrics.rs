//! What became of delivery reports. The only place that names their metric; it is registered below the
//! prefix `notifier`.

use latchline_shared::words;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

words! {
    /// What became of a report.
    Result {
        /// The message arrived.
        Delivered = "delivered",
        /// It did not.
        Undelivered = "undelivered",
        /// Nobody is there.
        Gone = "gone",
        /// It says nothing yet.
        Nothing = "nothing",
        /// What it says was known, or does not follow what is.
        Repeated = "repeated",
        /// Its status is not in the gateway's map.
        UnknownStatus = "unknown_status",
        /// Its link, or token, is not ours.
        Refused = "refused",
        /// It cannot be read.
        Malformed = "malformed",
        /// There is no such message.
        NoMessage = "no_message",
        /// There is no such gateway.
        NoGateway = "no_gateway",
        /// Postgres could not take it.
        Failed = "failed",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    gateway: String,
    result: &'static str,
}

/// Handles to all metrics; clones are the same metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    reports: Family<Labels, Counter>,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Delivery reports by gateway and what became of them";
        registry.register("delivery_reports", help, metrics.reports.clone());
        metrics
    }

    pub(super) fn count(&self, gateway: &str, result: Result) {
        let labels = Labels { gateway: gateway.to_owned(), result: result.name() };
        self.reports.get_or_create(&labels).inc();
    }

    #[cfg(test)]
    pub(super) fn counted(&self, gateway: &str, result: Result) -> u64 {
        let labels = Labels { gateway: gateway.to_owned(), result: result.name() };
        self.reports.get_or_create(&labels).get()
    }
}

//! Everything that the broker counts, by name: `broker_<step>_<what>`, the step's word being the
//! file's. Units and `_total` are appended when encoded.
//!
//! One struct, passed where it is needed: no globals. The hot path uses the public fields, handles
//! that were resolved once; the methods look a label up under a lock, and stand only where something
//! is refused, dropped, paused or ended. Labels are words from the code, never client ids.

use std::fmt::Write;
use std::sync::Arc;

use latchline_shared::budget::Budget;
use latchline_shared::hook::Call;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The broker's counters.
#[derive(Debug)]
pub struct Metrics {
    /// Connections from CONNACK to their end.
    pub connections: Gauge,
    /// Sessions, connected and parked.
    pub sessions: Gauge,
    /// Connections that took a session from another one.
    pub takeovers: Counter,
    /// PUBLISH packets that the hooks accepted.
    pub publish_accepted: Counter,
    /// PUBLISH packets that access rules or hooks rejected.
    pub publish_rejected: Counter,
    /// PUBLISH packets whose receipt failed, so that they are not acknowledged.
    pub publish_faulted: Counter,
    /// PUBLISH packets sent to subscribers.
    pub delivered: Counter,
    /// PUBLISH packets that subscribers acknowledged.
    pub acked: Counter,
    /// Seconds from PUBLISH to the settling of its receipt.
    pub publish_to_stored: Histogram,
    /// Seconds from PUBLISH to its PUBACK or PUBREC.
    pub publish_to_ack: Histogram,
    accepted: Family<ListenerLabel, Counter>,
    refused: Family<CauseLabel, Counter>,
    dropped: Family<CauseLabel, Counter>,
    paused: Family<CauseLabel, Counter>,
    disconnected: Family<ReasonLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HookLabels {
    hook: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason_code: Hex,
}

/// A reason code as the standard writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hex(u8);

impl EncodeLabelValue for Hex {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        write!(encoder, "{:#04x}", self.0)
    }
}

impl Metrics {
    /// Registers everything; `budget` (what waits for storage) is read at each scrape.
    pub fn new(registry: &mut Registry, budget: &Arc<Budget>) -> Arc<Self> {
        let messages: Family<HookLabels, Counter> = Family::default();
        let count =
            |call: Call, result| messages.get_or_create_owned(&HookLabels { hook: call.name(), result });
        let metrics = Self {
            connections: Gauge::default(),
            sessions: Gauge::default(),
            takeovers: Counter::default(),
            publish_accepted: count(Call::MessagePublish, "accepted"),
            publish_rejected: count(Call::MessagePublish, "rejected"),
            publish_faulted: count(Call::MessagePublish, "fault"),
            delivered: count(Call::MessageDeliver, "accepted"),
            acked: count(Call::MessageAcked, "accepted"),
            publish_to_stored: latency(),
            publish_to_ack: latency(),
            accepted: Family::default(),
            refused: Family::default(),
            dropped: Family::default(),
            paused: Family::default(),
            disconnected: Family::default(),
        };
        metrics.register(registry);
        registry.register("broker_hook_messages", "Messages by hook and result", messages);
        registry.register_collector(Box::new(InFlight(Arc::clone(budget))));
        Arc::new(metrics)
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "broker_accept_connections",
            "Connections accepted, by listener",
            self.accepted.clone(),
        );
        registry.register("broker_session_connections", "Connected clients", self.connections.clone());
        registry.register("broker_session_sessions", "Sessions, connected and parked", self.sessions.clone());
        registry.register("broker_session_takeovers", "Sessions taken over", self.takeovers.clone());
        registry.register(
            "broker_session_refusals",
            "Connections, messages and subscriptions refused, by cause",
            self.refused.clone(),
        );
        registry.register(
            "broker_session_read_pauses",
            "Times that nothing more was read from a client, by cause",
            self.paused.clone(),
        );
        registry.register(
            "broker_session_disconnects",
            "Connections that the broker ended, by reason code",
            self.disconnected.clone(),
        );
        registry.register_with_unit(
            "broker_session_publish_to_ack",
            "Time from PUBLISH to PUBACK or PUBREC",
            Unit::Seconds,
            self.publish_to_ack.clone(),
        );
        registry.register_with_unit(
            "broker_hook_publish_to_stored",
            "Time from PUBLISH to the settling of its receipt",
            Unit::Seconds,
            self.publish_to_stored.clone(),
        );
        registry.register("broker_route_drops", "Deliveries lost, by cause", self.dropped.clone());
    }

    /// A connection was accepted by the listener of this name.
    pub fn accepted(&self, listener: &'static str) {
        self.accepted.get_or_create(&ListenerLabel { listener }).inc();
    }

    /// Something was refused.
    pub fn refused(&self, cause: &'static str) {
        self.refused.get_or_create(&CauseLabel { cause }).inc();
    }

    /// A delivery was lost.
    pub fn dropped(&self, cause: &'static str) {
        self.dropped_many(cause, 1);
    }

    /// `count` deliveries were lost.
    pub fn dropped_many(&self, cause: &'static str, count: u64) {
        if count > 0 {
            self.dropped.get_or_create(&CauseLabel { cause }).inc_by(count);
        }
    }

    /// Reading from a client was paused.
    pub fn paused(&self, cause: &'static str) {
        self.paused.get_or_create(&CauseLabel { cause }).inc();
    }

    /// The broker ended a connection, for a protocol error or otherwise.
    pub fn disconnected(&self, reason_code: u8) {
        self.disconnected.get_or_create(&ReasonLabel { reason_code: Hex(reason_code) }).inc();
    }
}

/// From 0.25 ms to 33 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 18))
}

/// Reads the budget when it is asked for.
#[derive(Debug)]
struct InFlight(Arc<Budget>);

impl Collector for InFlight {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::<i64>::new(i64::try_from(self.0.used()).unwrap_or(i64::MAX));
        let (name, help) = ("broker_hook_in_flight", "Bytes of messages that wait for storage");
        gauge.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), gauge.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    /// The samples of a scrape, without help and types.
    fn scrape(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn what_is_counted_can_be_scraped() {
        let (mut registry, budget) = (Registry::default(), Budget::new(1_000));
        let metrics = Metrics::new(&mut registry, &budget);
        let _permit = budget.take(300);
        metrics.connections.inc();
        metrics.sessions.inc_by(2);
        metrics.takeovers.inc();
        metrics.publish_accepted.inc();
        metrics.publish_rejected.inc_by(2);
        metrics.publish_faulted.inc_by(3);
        metrics.delivered.inc_by(4);
        metrics.acked.inc_by(5);
        metrics.publish_to_stored.observe(0.001);
        metrics.publish_to_ack.observe(40.0);
        metrics.accepted("tcp");
        metrics.refused("no_rule");
        metrics.dropped("slow_receiver");
        metrics.dropped_many("slow_receiver", 6);
        metrics.dropped_many("expired", 0);
        metrics.paused("inflight_bytes_total");
        metrics.disconnected(0x82);

        let scraped = scrape(&registry);
        for expected in [
            "broker_accept_connections_total{listener=\"tcp\"} 1",
            "broker_session_connections 1",
            "broker_session_sessions 2",
            "broker_session_takeovers_total 1",
            "broker_session_refusals_total{cause=\"no_rule\"} 1",
            "broker_session_read_pauses_total{cause=\"inflight_bytes_total\"} 1",
            "broker_session_disconnects_total{reason_code=\"0x82\"} 1",
            "broker_session_publish_to_ack_seconds_count 1",
            "broker_session_publish_to_ack_seconds_bucket{le=\"32.768\"} 0",
            "broker_session_publish_to_ack_seconds_bucket{le=\"+Inf\"} 1",
            "broker_hook_publish_to_stored_seconds_sum 0.001",
            "broker_hook_publish_to_stored_seconds_bucket{le=\"0.0005\"} 0",
            "broker_hook_publish_to_stored_seconds_bucket{le=\"0.001\"} 1",
            "broker_hook_messages_total{hook=\"message.publish\",result=\"accepted\"} 1",
            "broker_hook_messages_total{hook=\"message.publish\",result=\"rejected\"} 2",
            "broker_hook_messages_total{hook=\"message.publish\",result=\"fault\"} 3",
            "broker_hook_messages_total{hook=\"message.deliver\",result=\"accepted\"} 4",
            "broker_hook_messages_total{hook=\"message.acked\",result=\"accepted\"} 5",
            "broker_hook_in_flight_bytes 300",
            "broker_route_drops_total{cause=\"slow_receiver\"} 7",
        ] {
            assert!(scraped.iter().any(|line| line == expected), "{expected}\nis not in {scraped:#?}");
        }
        assert!(!scraped.iter().any(|line| line.contains("expired")));
    }

    #[test]
    fn hot_counters_are_there_before_they_count() {
        let mut registry = Registry::default();
        let _metrics = Metrics::new(&mut registry, &Budget::new(1));
        let zeros =
            scrape(&registry).into_iter().filter(|line| line.starts_with("broker_hook_messages_total"));
        assert_eq!(zeros.count(), 5);
    }
}

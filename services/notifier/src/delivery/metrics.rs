//! What delivery counts. The only place that names its metrics; they are registered below the prefix
//! `notifier`. Hosts of webhooks are no labels: there may be any number.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::breaker::Condition;
use super::desk::Seen;
use super::queue::backlog::Backlog;
use crate::event::Channel;
use crate::status::{Outcome, Status};

/// Handles to all metrics; clones are the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    attempt_seconds: Family<ChannelLabels, Histogram>,
    rows: Family<StatusLabels, Counter>,
    event_seconds: Family<ChannelLabels, Histogram>,
    record_seconds: Family<ChannelLabels, Histogram>,
    contacts_bounced: Family<ChannelLabels, Counter>,
    put_back: Family<ChannelLabels, Counter>,
    crowded: Family<ChannelLabels, Counter>,
    lost: Family<ChannelLabels, Counter>,
    backlog: Family<BacklogLabels, Gauge>,
    backlog_age: Family<ChannelLabels, Gauge<f64, AtomicU64>>,
    breaker: Family<BreakerLabels, Gauge>,
    hosts: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabels {
    channel: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    channel: &'static str,
    provider: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    channel: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BacklogLabels {
    channel: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    channel: &'static str,
    provider: String,
}

impl From<Channel> for ChannelLabels {
    fn from(channel: Channel) -> Self {
        Self { channel: channel.name() }
    }
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 20))
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(histogram),
            rows: Family::default(),
            event_seconds: Family::new_with_constructor(histogram),
            record_seconds: Family::new_with_constructor(histogram),
            contacts_bounced: Family::default(),
            put_back: Family::default(),
            crowded: Family::default(),
            lost: Family::default(),
            backlog: Family::default(),
            backlog_age: Family::default(),
            breaker: Family::default(),
            hosts: Gauge::default(),
        };
        metrics.register(registry);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        let seconds = Unit::Seconds;
        registry.register("delivery_attempts", "Attempts by how they ended", self.attempts.clone());
        let help = "How long attempts took";
        registry.register_with_unit("delivery_attempt", help, seconds.clone(), self.attempt_seconds.clone());
        registry.register("delivery_ended", "Notifications whose status became final", self.rows.clone());
        let help = "From the event to a provider's acceptance";
        registry.register_with_unit("delivery_event", help, seconds.clone(), self.event_seconds.clone());
        let help = "From the notification's row to a provider's acceptance";
        registry.register_with_unit("delivery_record", help, seconds.clone(), self.record_seconds.clone());
        let help = "Contacts that are not used any more, because messages came back";
        registry.register("delivery_contacts_bounced", help, self.contacts_bounced.clone());
        let help = "Rows that were leased and put back, because their host is left alone or crowded";
        registry.register("delivery_put_back", help, self.put_back.clone());
        let help = "Rows of those put back whose host had as many messages under way as it may";
        registry.register("delivery_crowded", help, self.crowded.clone());
        let help = "Attempts whose end nobody wrote down in time";
        registry.register("delivery_lost", help, self.lost.clone());
        let help = "Notifications that are due, wait for another attempt (later), or are under way (sending)";
        registry.register("delivery_backlog", help, self.backlog.clone());
        let help = "For how long the oldest notification that is due has been due";
        registry.register_with_unit("delivery_backlog_age", help, seconds, self.backlog_age.clone());
        let help = "Breakers: 0 closed, 1 half open, 2 open";
        registry.register("delivery_breaker", help, self.breaker.clone());
        let help = "Hosts of webhooks that are left alone";
        registry.register("delivery_hosts_left_alone", help, self.hosts.clone());
    }

    pub(super) fn attempt(&self, channel: Channel, provider: &str, outcome: Outcome, took: Duration) {
        let (provider, outcome) = (provider.to_owned(), outcome.name());
        let labels = AttemptLabels { channel: channel.name(), provider, outcome };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_seconds.get_or_create(&channel.into()).observe(took.as_secs_f64());
    }

    /// Its status is what it is now; counted if that is final.
    pub(super) fn ended(&self, channel: Channel, status: Status, count: usize) {
        if status.is_final() {
            let labels = StatusLabels { channel: channel.name(), status: status.name() };
            self.rows.get_or_create(&labels).inc_by(count as u64);
        }
    }

    pub(super) fn accepted(&self, channel: Channel, since_event: Duration, since_record: Duration) {
        self.event_seconds.get_or_create(&channel.into()).observe(since_event.as_secs_f64());
        self.record_seconds.get_or_create(&channel.into()).observe(since_record.as_secs_f64());
    }

    pub(super) fn bounced(&self, channel: Channel) {
        self.contacts_bounced.get_or_create(&channel.into()).inc();
    }

    pub(super) fn crowded(&self, channel: Channel) {
        self.crowded.get_or_create(&channel.into()).inc();
    }

    pub(super) fn put_back(&self, channel: Channel, count: usize) {
        self.put_back.get_or_create(&channel.into()).inc_by(count as u64);
    }

    pub(super) fn lost(&self, channel: Channel) {
        self.lost.get_or_create(&channel.into()).inc();
    }

    pub(super) fn waits(&self, backlog: &[Backlog]) {
        for one in backlog {
            for (state, count) in [("due", one.due), ("later", one.later), ("sending", one.sending)] {
                let labels = BacklogLabels { channel: one.channel.clone(), state };
                self.backlog.get_or_create(&labels).set(count);
            }
            if let Some(channel) = Channel::from_name(&one.channel) {
                self.backlog_age.get_or_create(&channel.into()).set(one.due_age_s);
            }
        }
    }

    pub(super) fn seen(&self, seen: &[Seen]) {
        let mut hosts = 0;
        for one in seen {
            let state = match one.condition {
                Condition::Closed => 0,
                Condition::HalfOpen => 1,
                Condition::Open(_) => 2,
            };
            // Hosts are addresses; names of the configuration are not.
            if one.name.contains("://") {
                hosts += 1;
                continue;
            }
            let labels = BreakerLabels { channel: one.channel.name(), provider: one.name.clone() };
            self.breaker.get_or_create(&labels).set(state);
        }
        self.hosts.set(hosts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_their_names_and_no_hosts() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(registry.sub_registry_with_prefix("notifier"));
        let second = Duration::from_secs(1);
        metrics.attempt(Channel::Email, "relay", Outcome::Accepted, second);
        metrics.ended(Channel::Email, Status::Pending, 1);
        metrics.ended(Channel::Email, Status::Sent, 2);
        metrics.accepted(Channel::Sms, second, second);
        metrics.put_back(Channel::Webhook, 3);
        metrics.crowded(Channel::Webhook);
        let open = Condition::Open(second);
        let seen = [("relay", Channel::Email, Condition::Closed), ("https://x", Channel::Webhook, open)];
        let seen = seen.map(|(name, channel, condition)| Seen { channel, name: name.to_owned(), condition });
        metrics.seen(&seen);
        let backlog = Backlog { channel: "sms".to_owned(), due: 4, later: 5, sending: 6, due_age_s: 7.5 };
        metrics.waits(&[backlog]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"notifier_delivery_attempts_total{channel="email",provider="relay",outcome="accepted"} 1"#,
            r#"notifier_delivery_ended_total{channel="email",status="sent"} 2"#,
            r#"notifier_delivery_event_seconds_count{channel="sms"} 1"#,
            r#"notifier_delivery_put_back_total{channel="webhook"} 3"#,
            r#"notifier_delivery_crowded_total{channel="webhook"} 1"#,
            r#"notifier_delivery_breaker{channel="email",provider="relay"} 0"#,
            "notifier_delivery_hosts_left_alone 1",
            r#"notifier_delivery_backlog{channel="sms",state="later"} 5"#,
            r#"notifier_delivery_backlog_age_seconds{channel="sms"} 7.5"#,
        ] {
            assert!(text.lines().any(|one| one == line), "{line}:\n{text}");
        }
        assert!(!text.contains("https://x") && !text.contains(r#"status="pending""#));
    }
}

//! The Kafka bridge: a hook in the broker's process whose receipts settle when Kafka has stored the
//! record (contract, sections 2 and 3).
//!
//! The way of an event: [`rules`] say to which streams it goes, [`mapping`] makes the record,
//! [`producer`] sends it, and [`deliveries`] settles the receipt that the acknowledgement waits for.
//! Start reads [`config`] and, if there is one, a [`mod@reference`] file.
//!
//! Guarantees: a receipt settles without fault only after all in-sync replicas have the record; the
//! records of one connection are handed over in the order of the calls, and those with one key are
//! stored in that order. Non-guarantee: a record may be stored twice; then it says `dup`.
//!
//! Sequence: the broker calls the message hooks of one connection one after the other, so a load
//! and a store number its records without gaps. A number is used up only by a record that was
//! handed over.

pub mod config;
pub mod reference;

mod rules;

mod mapping;

mod deliveries;
pub mod producer;

mod metrics;
mod topics;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use latchline_shared::hook::{Call, Delivered, Hook, PublishAnswer, Refusal};
use latchline_shared::kit::clock;
use latchline_shared::kit::kafka::link::Link;
use latchline_shared::kit::kafka::topics::TopicsError;
use latchline_shared::message::{Client, Message, Qos};
use latchline_shared::receipt::Receipt;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::warn;

use config::Config;
use deliveries::Deliveries;
use mapping::{Record, Surroundings};
use metrics::Metrics;
use producer::Producer;
use rules::Rules;
use topics::TopicLook;

thread_local! {
    /// The record that is being made on this thread.
    static RECORD: RefCell<Record> = RefCell::default();
}

/// The bridge. Records that are not stored when it is dropped fail; see [`Bridge::flush`].
#[derive(Debug)]
pub struct Bridge {
    node: String,
    rules: Rules,
    calls: &'static [Call],
    producer: Producer,
    deliveries: Arc<Deliveries>,
    /// Whether the topics have been seen.
    has_topics: Arc<AtomicBool>,
    /// Ends with the bridge.
    _topics_watch: JoinSet<()>,
}

/// Why the bridge does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong, in these ways.
    #[error("the bridge's configuration is wrong: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The settings do not make a client.
    #[error("the bridge's kafka settings are wrong")]
    Settings(#[source] anyhow::Error),
    /// Topics are missing.
    #[error("the bridge's topics are not there")]
    Topics(#[source] TopicsError),
}

impl Bridge {
    /// Starts the bridge of the broker `node`.
    ///
    /// Topics that are missing are created if the configuration says so. While Kafka is away the
    /// bridge starts all the same, is not ready, keeps records and looks for the topics later: a
    /// broker that restarts in an outage still takes connections.
    pub async fn start(
        config: &Config,
        node: &str,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        let (config, warnings) = config.effective().map_err(StartError::Config)?;
        for warning in warnings {
            warn!(%warning, "a setting in the bridge's reference file has no effect");
        }
        let client = producer::client_config(&config, node).map_err(StartError::Settings)?;
        let deliveries = Deliveries::new(Link::new("bridge"), Metrics::new(registry));
        let producer = Producer::start(client, Arc::clone(&deliveries))
            .map_err(|error| StartError::Settings(error.into()))?;
        let rules = Rules::new(&config.rules);
        let client = config.kafka.client_config(node).map_err(StartError::Settings)?;
        let has_topics = Arc::default();
        let look = TopicLook::new(&config, &rules, client);
        let topics_watch = look.watch(&deliveries, &has_topics).await.map_err(StartError::Topics)?;
        Ok(Arc::new(Self {
            node: node.to_owned(),
            // A process has one bridge, which lives as long as it does.
            calls: rules.calls().leak(),
            rules,
            producer,
            deliveries,
            has_topics,
            _topics_watch: topics_watch,
        }))
    }

    /// Whether records can be stored now, and if not, why.
    pub fn ready(&self) -> Result<(), String> {
        if !self.deliveries.link.is_up() {
            return Err(format!("kafka cannot be reached: {}", self.deliveries.link.failure()));
        }
        if !self.has_topics.load(Ordering::Acquire) {
            return Err("kafka's topics have not been seen".to_owned());
        }
        if !self.producer.is_open() {
            return Err("the kafka producer is being replaced".to_owned());
        }
        Ok(())
    }

    /// Waits until all records are stored, at most for `deadline`; returns how many are not.
    pub async fn flush(&self, deadline: Duration) -> usize {
        let until = Instant::now() + deadline;
        loop {
            let pending = self.deliveries.metrics.pending_records.get();
            if pending <= 0 || Instant::now() >= until {
                return usize::try_from(pending).unwrap_or_default();
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Hands an event's record to every stream whose rule holds for `name`. `fill` makes the record
    /// that takes this number in `sequence`.
    fn store(
        &self,
        hook: Call,
        name: &str,
        sequence: Option<&AtomicU64>,
        fill: impl FnOnce(&mut Record, Surroundings<'_>, u64),
    ) -> Receipt {
        let rules = self.rules.matching(hook, name);
        let parts = rules.clone().count() as u32;
        if parts == 0 {
            return Receipt::settled();
        }
        let (receipt, slot) = Receipt::open(parts);
        let n = sequence.map_or(0, |sequence| sequence.load(Ordering::Relaxed) + 1);
        RECORD.with_borrow_mut(|record| {
            fill(record, Surroundings { node: &self.node, ts: clock::unix_ms() }, n);
            let mut is_handed_over = false;
            for rule in rules {
                is_handed_over |= self.producer.send(hook, &rule.stream, record, Arc::clone(&slot));
            }
            if let Some(sequence) = sequence.filter(|_| is_handed_over) {
                sequence.store(n, Ordering::Relaxed);
            }
        });
        receipt
    }
}

impl Hook for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn calls(&self) -> &'static [Call] {
        self.calls
    }

    fn client_connected(&self, client: &Client) -> Receipt {
        self.store(Call::ClientConnected, "", None, |record, around, _| record.connected(around, client))
    }

    fn client_disconnected(&self, client: &Client, reason: &'static str) -> Receipt {
        let fill =
            |record: &mut Record, around: Surroundings<'_>, _| record.disconnected(around, client, reason);
        self.store(Call::ClientDisconnected, "", None, fill)
    }

    fn session_subscribed(&self, client: &Client, filter: &str, qos: Qos) -> Receipt {
        let hook = Call::SessionSubscribed;
        self.store(hook, rules::without_group(filter), None, |record, around, _| {
            record.subscription(hook, around, client, filter, qos);
        })
    }

    fn session_unsubscribed(&self, client: &Client, filter: &str, qos: Qos) -> Receipt {
        let hook = Call::SessionUnsubscribed;
        self.store(hook, rules::without_group(filter), None, |record, around, _| {
            record.subscription(hook, around, client, filter, qos);
        })
    }

    fn message_publish(&self, client: &Client, message: &Message) -> PublishAnswer {
        let sequence = Some(&client.sequence.publish);
        PublishAnswer::Accept(self.store(
            Call::MessagePublish,
            &message.topic,
            sequence,
            |record, around, n| {
                record.publish(around, client, message, n);
            },
        ))
    }

    fn message_rejected(&self, client: &Client, message: &Message, refusal: &Refusal) -> Receipt {
        let (hook, sequence) = (Call::MessageRejected, Some(&client.sequence.rejected));
        self.store(hook, &message.topic, sequence, |record, around, n| {
            record.rejected(around, client, message, refusal.cause, n);
        })
    }

    fn message_deliver(&self, receiver: &Client, delivery: &Delivered<'_>) -> Receipt {
        let (hook, sequence) = (Call::MessageDeliver, Some(&receiver.sequence.deliver));
        self.store(hook, &delivery.message.topic, sequence, |record, around, n| {
            record.delivery(hook, around, receiver, delivery, n);
        })
    }

    fn message_acked(&self, receiver: &Client, delivery: &Delivered<'_>) -> Receipt {
        let (hook, sequence) = (Call::MessageAcked, Some(&receiver.sequence.acked));
        self.store(hook, &delivery.message.topic, sequence, |record, around, n| {
            record.delivery(hook, around, receiver, delivery, n);
        })
    }
}

//! Publishes the newest of something under a key: records on a compacted topic.
//!
//! A record counts as published when all in-sync replicas have it; it may be published twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::task;

use crate::fault::Fault;
use crate::kit::kafka::client::describe;
use crate::kit::kafka::link::{Link, LinkContext};
use crate::kit::kafka::topics::{self, Missing, Topic, TopicsError};

/// How long Kafka may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client that publishes to one topic.
pub struct Publisher {
    topic: String,
    config: ClientConfig,
    name: &'static str,
    producer: RwLock<FutureProducer<LinkContext>>,
    is_ensured: AtomicBool,
}

impl Publisher {
    /// `config` says how to reach Kafka. Blocks for a moment and asks Kafka nothing yet.
    pub fn new(name: &'static str, mut config: ClientConfig, topic: &str) -> anyhow::Result<Self> {
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
            .set("allow.auto.create.topics", "false");
        let producer = RwLock::new(config.create_with_context(LinkContext(Link::new(name)))?);
        Ok(Self { topic: topic.to_owned(), config, name, producer, is_ensured: AtomicBool::new(false) })
    }

    /// Waits until Kafka has stored the record. The topic is created if it is missing.
    pub async fn publish(&self, key: &str, value: &[u8]) -> Result<(), Fault> {
        if !self.is_ensured.load(Ordering::Relaxed) {
            self.ensure().await?;
            self.is_ensured.store(true, Ordering::Relaxed);
        }
        let record = FutureRecord::to(&self.topic).key(key).payload(value);
        let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Err((error, _)) = producer.send(record, TIMEOUT).await else { return Ok(()) };
        if producer.client().fatal_error().is_some() {
            self.renew();
        }
        Err(Fault::transient(describe(&error)))
    }

    /// A producer that failed for good does not recover.
    fn renew(&self) {
        let made = self.config.create_with_context(LinkContext(Link::new(self.name)));
        let Ok(new): KafkaResult<FutureProducer<LinkContext>> = made else { return };
        let old = std::mem::replace(&mut *self.producer.write().unwrap_or_else(PoisonError::into_inner), new);
        // Ending one blocks.
        drop(task::spawn_blocking(move || drop(old)));
    }

    async fn ensure(&self) -> Result<(), Fault> {
        // Kafka's word for its own default of copies.
        let topic = Topic { name: self.topic.clone(), partitions: 1, replication: -1 };
        match topics::ensure(&self.config, &[topic], Missing::Refuse, TIMEOUT).await {
            Ok(_) => Ok(()),
            Err(TopicsError::Missing(_)) => self.create().await,
            Err(error) => Err(Fault::transient(error.to_string())),
        }
    }

    async fn create(&self) -> Result<(), Fault> {
        let config = self.config.clone();
        // Making a client blocks.
        let admin = task::spawn_blocking(move || config.create::<AdminClient<DefaultClientContext>>())
            .await
            .map_err(|error| Fault::transient(error.to_string()))?
            .map_err(|error| Fault::transient(describe(&error)))?;
        let new = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let results = admin.create_topics(&[new], &options).await;
        match results.map_err(|error| Fault::transient(describe(&error)))?.pop() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((name, code))) => Err(Fault::transient(format!("create topic {name}: {code}"))),
        }
    }
}

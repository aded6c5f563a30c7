//! Publishes records to one stream.
//!
//! A record counts as published when all in-sync replicas have it; it may be published twice.
//!
//! Ordering: one client stores the records of a partition in the order in which they were handed
//! over, without a gap: none is stored before all that were handed over earlier are, but those that
//! Kafka refuses by themselves. So it has one request at a time for each server, a record never
//! times out alone (the whole attempt does, and then the client is made anew), and when a request is
//! refused, the library stops (`enable.gapless.guarantee`). The records of such a request are then
//! sent again one by one, because Kafka does not say which of them is to blame.
//!
//! Keys are mapped to partitions as Java's producers do it, and the bridge.

pub mod stream;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use tokio::task;
use tokio::time::{Instant, timeout_at};

use self::stream::Stream;
use crate::fault::Fault;
use crate::kit::kafka::client::describe;
use crate::kit::kafka::link::{Link, LinkContext};

/// How long Kafka may take to store a record that is published alone.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Properties that a guarantee rests on, beside what everybody sets.
const FIXED: [(&str, &str); 7] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("enable.gapless.guarantee", "true"),
    ("max.in.flight.requests.per.connection", "1"),
    ("message.timeout.ms", "0"),
    ("allow.auto.create.topics", "false"),
    ("partitioner", "murmur2_random"),
];

type Producer = FutureProducer<LinkContext>;

/// A record to be published.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its value.
    pub value: &'a [u8],
    /// Its headers.
    pub headers: &'a [(String, String)],
}

/// A client that publishes to one stream.
pub struct Publisher {
    stream: Stream,
    config: ClientConfig,
    link: Arc<Link>,
    producer: RwLock<Producer>,
    is_ensured: AtomicBool,
}

impl Publisher {
    /// `config` says how to reach Kafka, `name` is what logs call the client. Blocks for a moment
    /// and asks Kafka nothing yet.
    pub fn new(name: &'static str, mut config: ClientConfig, stream: Stream) -> anyhow::Result<Self> {
        for (property, value) in FIXED {
            config.set(property, value);
        }
        let link = Link::new(name);
        let producer = RwLock::new(config.create_with_context(LinkContext(Arc::clone(&link)))?);
        Ok(Self { stream, config, link, producer, is_ensured: AtomicBool::new(false) })
    }

    /// Makes sure that the stream is there, before there is something to publish: whoever reads it
    /// may wait for it.
    pub async fn prepare(&self) -> Result<(), Fault> {
        if !self.is_ensured.load(Ordering::Relaxed) {
            self.stream.ensure(&self.config).await?;
            self.is_ensured.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until Kafka has stored the record. The stream is created if it is missing.
    pub async fn publish(&self, key: &str, value: &[u8]) -> Result<(), Fault> {
        let results = self.publish_batch(&[Outgoing { key, value, headers: &[] }], TIMEOUT).await;
        results.into_iter().collect()
    }

    /// Waits until Kafka has stored the records or refused them, at most for about `patience`; the
    /// result of each. A permanent fault is one that the record itself is to blame for. The stream
    /// is created if it is missing.
    ///
    /// Cancel safety: what was not answered may be stored later, in order and from the beginning.
    pub async fn publish_batch(
        &self,
        records: &[Outgoing<'_>],
        patience: Duration,
    ) -> Vec<Result<(), Fault>> {
        if let Err(fault) = self.prepare().await {
            return vec![Err(fault); records.len()];
        }
        let until = Instant::now() + patience;
        let mut results = self.attempt(records, until).await;
        if records.len() > 1 {
            self.attempt_refused(records, &mut results, until).await;
        }
        results
    }

    /// Sends those again that were refused, each alone. What comes after one that could not be
    /// stored for now waits for it.
    async fn attempt_refused(
        &self,
        records: &[Outgoing<'_>],
        results: &mut [Result<(), Fault>],
        until: Instant,
    ) {
        let mut waits_for = None;
        for (record, result) in records.iter().zip(results) {
            if !matches!(result, Err(Fault::Permanent(_))) {
                continue;
            }
            *result = match &waits_for {
                Some(fault) => Err(Fault::clone(fault)),
                None => self.attempt(&[*record], until).await.into_iter().collect(),
            };
            if let Err(fault @ (Fault::Transient { .. } | Fault::Bug(_))) = result {
                waits_for = Some(fault.clone());
            }
        }
    }

    /// Hands all over and waits for the answers.
    async fn attempt(&self, records: &[Outgoing<'_>], until: Instant) -> Vec<Result<(), Fault>> {
        let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sent = Vec::with_capacity(records.len());
        let mut stopped = None;
        for record in records {
            sent.push(match &stopped {
                // Behind a gap.
                Some(why) => Err(Fault::clone(why)),
                None => producer
                    .send_result(future_record(&self.stream.name, record))
                    .map_err(|(error, _)| self.fault(&error)),
            });
            if let Some(Err(fault @ (Fault::Transient { .. } | Fault::Bug(_)))) = sent.last() {
                stopped = Some(fault.clone());
            }
        }
        let mut results = Vec::with_capacity(records.len());
        let settle = async {
            for delivery in sent {
                results.push(match delivery {
                    Err(fault) => Err(fault),
                    Ok(delivery) => match delivery.await {
                        Ok(result) => result.map(drop).map_err(|(error, _)| self.fault(&error)),
                        Err(_) => Err(Fault::transient("the client ended")),
                    },
                });
            }
        };
        let is_late = timeout_at(until, settle).await.is_err();
        results.resize(records.len(), Err(Fault::transient("not stored in time")));
        if is_late || producer.client().fatal_error().is_some() {
            self.renew(producer);
        }
        results
    }

    /// A producer that failed for good does not recover, and one that is late still has records.
    fn renew(&self, old: Producer) {
        let context = LinkContext(Arc::clone(&self.link));
        let made: KafkaResult<Producer> = self.config.create_with_context(context);
        let Ok(new) = made else { return };
        let replaced =
            std::mem::replace(&mut *self.producer.write().unwrap_or_else(PoisonError::into_inner), new);
        // Ending one blocks.
        drop(task::spawn_blocking(move || drop((old, replaced))));
    }

    fn fault(&self, error: &KafkaError) -> Fault {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(
                Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::InvalidTimestamp
                | Code::MessageBatchTooLarge
                | Code::MessageSizeTooLarge
                | Code::PolicyViolation,
            ) => Fault::Permanent(describe(error).into()),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                // It was deleted.
                self.is_ensured.store(false, Ordering::Relaxed);
                Fault::transient(describe(error))
            }
            _ => Fault::transient(describe(error)),
        }
    }
}

fn future_record<'a>(stream: &'a str, record: &Outgoing<'a>) -> FutureRecord<'a, str, [u8]> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in record.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    FutureRecord::to(stream).key(record.key).payload(record.value).headers(headers)
}

#[cfg(test)]
pub(crate) mod tests;

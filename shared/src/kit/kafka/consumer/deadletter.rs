//! The dead-letter stream `<stream>.<service>.dlq`: records that cannot be used, with their bytes,
//! their place and the reason.
//!
//! A letter counts as written when all in-sync replicas have it; before that the offset does not
//! move past the record. Non-guarantee: it may be written twice.
//!
//! The producer is made when it is first needed and made anew after a failure, because one that
//! failed for good does not recover.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Mutex;
use tokio::task;
use tracing::{debug, warn};

use super::{Poison, Record};
use crate::kit::kafka::client::describe;
use crate::kit::kafka::topics::Topic;

/// How long Kafka may take to store a letter before another attempt is made.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest reason; the letter must not become much larger than the record.
const REASON_BYTES_MAX: usize = 1024;
/// Records as large as any that Kafka delivered.
const RECORD_BYTES_MAX: &str = "1000000000";

type Producer = FutureProducer<Quiet>;

/// The dead-letter streams of one service.
pub(super) struct DeadLetters {
    service: &'static str,
    config: ClientConfig,
    producer: Mutex<Option<Producer>>,
}

impl DeadLetters {
    /// `config` says how to reach Kafka.
    pub(super) fn new(service: &'static str, mut config: ClientConfig) -> Self {
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
            .set("message.max.bytes", RECORD_BYTES_MAX)
            .set("allow.auto.create.topics", "false")
            .set("statistics.interval.ms", "0");
        Self { service, config, producer: Mutex::new(None) }
    }

    /// The dead-letter topic of each stream.
    pub(super) fn topics(&self, streams: &[String]) -> Vec<Topic> {
        // Kafka's word for its own default.
        let topic = |stream: &String| Topic { name: self.stream(stream), partitions: 1, replication: -1 };
        streams.iter().map(topic).collect()
    }

    /// Writes a letter, and waits until Kafka has stored it. Cancel safety: it may be stored.
    pub(super) async fn write(&self, record: &Record, poison: &Poison) -> Result<(), String> {
        let stream = self.stream(&record.stream);
        let producer = self.producer().await?;
        let mut letter = FutureRecord::<[u8], [u8]>::to(&stream).payload(&record.value).headers(headers(
            self.service,
            record,
            poison,
        ));
        letter.key = record.key.as_deref();
        let Err((error, _)) = producer.send(letter, TIMEOUT).await else { return Ok(()) };
        let old = self.producer.lock().await.take();
        drop(task::spawn_blocking(move || drop((old, producer))));
        Err(format!("{stream}: {}", describe(&error)))
    }

    fn stream(&self, stream: &str) -> String {
        format!("{stream}.{}.dlq", self.service)
    }

    async fn producer(&self) -> Result<Producer, String> {
        let mut producer = self.producer.lock().await;
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let new: Producer =
            self.config.create_with_context(Quiet(self.service)).map_err(|error| describe(&error))?;
        Ok(producer.insert(new).clone())
    }
}

fn headers(service: &str, record: &Record, poison: &Poison) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 7);
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let timestamp = record.timestamp_ms.map(|ms| ms.to_string()).unwrap_or_default();
    for (key, value) in [
        ("x-orig-topic", &*record.stream),
        ("x-orig-partition", &record.partition.to_string()),
        ("x-orig-offset", &record.offset.to_string()),
        ("x-orig-timestamp", &timestamp),
        ("x-error-class", poison.class),
        ("x-error-message", beginning(&poison.message)),
        ("x-service", service),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers
}

/// As much of a text as fits.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_BYTES_MAX)]
}

/// The producer's log. It has the consumer's properties as well, of which the library complains;
/// what matters is what becomes of each letter, and that is handled where it is written.
#[derive(Debug, Clone)]
struct Quiet(&'static str);

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(reader = self.0, facility, line = message, "dead-letter client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(reader = self.0, %error, reason, "dead-letter client");
    }
}

/// Says that a record was put aside.
pub(super) fn tell(record: &Record, poison: &Poison) {
    let Record { stream, partition, offset, .. } = record;
    let Poison { class, message } = poison;
    warn!(%stream, partition, offset, class, error = beginning(message), "dead letter");
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    #[test]
    fn letters_say_whence_and_why() {
        let record = Record {
            stream: "message_command".into(),
            partition: 3,
            offset: 17,
            timestamp_ms: None,
            key: None,
            value: Vec::new(),
            headers: vec![("mid".to_owned(), b"abc".to_vec())],
        };
        let poison = Poison { class: "json", message: "ü".repeat(REASON_BYTES_MAX) };
        let headers = headers("auditor", &record, &poison);
        let text = |header: Header<'_, &[u8]>| {
            (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap())
        };
        let found: Vec<_> = headers.iter().map(text).collect();
        let reason = "ü".repeat(REASON_BYTES_MAX / 2);
        let expected = [
            ("mid", "abc"),
            ("x-orig-topic", "message_command"),
            ("x-orig-partition", "3"),
            ("x-orig-offset", "17"),
            ("x-orig-timestamp", ""),
            ("x-error-class", "json"),
            ("x-error-message", &reason),
            ("x-service", "auditor"),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}

//! What becomes of the records that were handed to the client library.
//!
//! The library calls back for each of them, on the producer's thread, with the [`InFlight`] that
//! was sent along. A record that is stored settles its part of the receipt. One that cannot be
//! stored ever settles it with a fault. One that was not stored this time, because the producer has
//! failed for good, is kept for the next producer: nobody else would send an `acked` record again.
//!
//! Invariant: each [`InFlight`] settles exactly one part of one receipt.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use latchline_shared::fault::Fault;
use latchline_shared::hook::Call;
use latchline_shared::kit::kafka::client::describe;
use latchline_shared::kit::kafka::link::Link;
use latchline_shared::receipt::Slot;
use latchline_shared::record::header;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Timestamp};
use tokio::sync::Notify;
use tracing::error;

use crate::metrics::Metrics;

/// How many producers may fail over the same record before it is given up.
const ATTEMPTS_MAX: u8 = 5;

/// Facility of the library's log for errors after which a producer stores nothing more.
const FATAL: &str = "FATAL";

/// A record's companion through the client library.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) hook: Call,
    /// Grows with each record.
    pub(crate) number: u64,
    pub(crate) bytes: usize,
    pub(crate) sent_at: Instant,
    pub(crate) slot: Arc<Slot>,
    /// How often it was on the wire when a producer failed.
    pub(crate) attempts: u8,
}

/// A record that waits for the next producer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) stream: String,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: OwnedHeaders,
    pub(crate) ts: i64,
    pub(crate) in_flight: Box<InFlight>,
}

/// Shared by the producers that follow each other.
#[derive(Debug)]
pub(crate) struct Deliveries {
    pub(crate) link: Arc<Link>,
    pub(crate) metrics: Metrics,
    /// A topic that was there seems to be gone.
    pub(crate) topics_doubted: Notify,
    /// How many records the library has reported on, stored or not.
    pub(crate) delivered: AtomicU64,
    waiting: Mutex<Vec<Waiting>>,
    /// The producer stores nothing more and must be replaced.
    is_broken: AtomicBool,
    /// Nothing is stored any more.
    is_closing: AtomicBool,
}

impl Deliveries {
    pub(crate) fn new(link: Arc<Link>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            link,
            metrics,
            topics_doubted: Notify::new(),
            delivered: AtomicU64::new(0),
            waiting: Mutex::default(),
            is_broken: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// The producer will store nothing more. Said once, whoever notices first.
    pub(crate) fn break_down(&self, why: &str) {
        if !self.is_broken.swap(true, Ordering::AcqRel) {
            error!(why, "the kafka producer has failed for good and is replaced");
        }
    }

    /// A fresh producer takes over.
    pub(crate) fn mend(&self) {
        self.is_broken.store(false, Ordering::Release);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    /// Keeps a record for the next producer.
    pub(crate) fn wait(&self, waiting: Waiting) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
    }

    /// The records that wait, in the order in which they came from their hooks.
    pub(crate) fn take_waiting(&self) -> Vec<Waiting> {
        let mut waiting = mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.sort_unstable_by_key(|waiting| waiting.in_flight.number);
        waiting
    }

    /// Settles a record's part of its receipt.
    pub(crate) fn settle(&self, in_flight: &InFlight, result: Result<(), Fault>) {
        let InFlight { hook, bytes, sent_at, .. } = *in_flight;
        self.metrics.settled(hook, bytes, sent_at.elapsed(), &result);
        in_flight.slot.settle(result);
    }

    /// Settles a record that Kafka refuses for good, or that nobody will send any more.
    pub(crate) fn give_up(&self, stream: &str, in_flight: &InFlight, error: &KafkaError) {
        if !self.is_closing() {
            self.link
                .complain("refused", &format!("a record for {stream} was not stored: {}", describe(error)));
        }
        if is_about_topics(error) {
            self.topics_doubted.notify_one();
        }
        self.settle(in_flight, Err(fault(error)));
    }

    fn not_stored(&self, error: &KafkaError, message: &BorrowedMessage<'_>, mut in_flight: Box<InFlight>) {
        if matches!(fault(error), Fault::Permanent(_)) || self.is_closing() {
            return self.give_up(message.topic(), &in_flight, error);
        }
        // Purged from the queue: it was not on the wire, so it did not break anything.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PurgeQueue) {
            in_flight.attempts += 1;
            if in_flight.attempts >= ATTEMPTS_MAX {
                return self.give_up(message.topic(), &in_flight, error);
            }
        }
        self.wait(Waiting {
            stream: message.topic().to_owned(),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: marked_dup(message.headers()),
            ts: match message.timestamp() {
                Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
                Timestamp::NotAvailable => 0,
            },
            in_flight,
        });
        self.break_down(&describe(error));
    }
}

/// The same headers, but for `dup`: the record may be stored already.
fn marked_dup(headers: Option<&impl Headers>) -> OwnedHeaders {
    let mut marked = OwnedHeaders::new_with_capacity(headers.map_or(0, Headers::count));
    for Header { key, value } in headers.into_iter().flat_map(Headers::iter) {
        let value = if key == header::DUP { Some("true".as_bytes()) } else { value };
        marked = marked.insert(Header { key, value });
    }
    marked
}

/// Whether the same record can be stored another time.
pub(crate) fn fault(error: &KafkaError) -> Fault {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::ClusterAuthorizationFailed
            | Code::InvalidArgument
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidRequiredAcks
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::MessageBatchTooLarge
            | Code::MessageSizeTooLarge
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::UnknownPartition
            | Code::UnknownTopic
            | Code::UnknownTopicId
            | Code::UnknownTopicOrPartition
            | Code::UnsupportedCompressionType
            | Code::UnsupportedForMessageFormat,
        ) => Fault::Permanent(describe(error).into()),
        _ => Fault::transient(describe(error)),
    }
}

fn is_about_topics(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let about =
        [Code::UnknownTopic, Code::UnknownTopicId, Code::UnknownTopicOrPartition, Code::UnknownPartition];
    error.rdkafka_error_code().is_some_and(|code| about.contains(&code))
}

/// What a producer calls back.
#[derive(Debug, Clone)]
pub(crate) struct Context(pub(crate) Arc<Deliveries>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The only callback that tells a fatal error from others: `error` gets the code below it.
        if facility == FATAL {
            self.0.break_down(message);
        } else {
            self.0.link.log(level, facility, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // What follows a fatal error is no news.
        if !self.0.is_broken() {
            self.0.link.error(&error, reason);
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        self.0.link.statistics(json);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, in_flight: Box<InFlight>) {
        self.0.delivered.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(_) => self.0.settle(&in_flight, Ok(())),
            Err((error, message)) => self.0.not_stored(error, message, in_flight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_be_stored_is_permanent() {
        for (code, is_permanent) in [
            (RDKafkaErrorCode::MessageSizeTooLarge, true),
            (RDKafkaErrorCode::UnknownTopic, true),
            (RDKafkaErrorCode::TopicAuthorizationFailed, true),
            (RDKafkaErrorCode::Fatal, false),
            (RDKafkaErrorCode::PurgeInflight, false),
            (RDKafkaErrorCode::MessageTimedOut, false),
            (RDKafkaErrorCode::NotEnoughReplicas, false),
        ] {
            let fault = fault(&KafkaError::MessageProduction(code));
            assert_eq!(matches!(fault, Fault::Permanent(_)), is_permanent, "{code:?}");
        }
    }

    #[test]
    fn records_that_are_sent_again_say_so() {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "hook", value: Some("message.acked") })
            .insert(Header { key: "dup", value: Some("false") })
            .insert(Header { key: "peer", value: Some("p") });
        let marked = marked_dup(Some(&headers));
        let read: Vec<_> = marked.iter().map(|header| (header.key, header.value.unwrap())).collect();
        assert_eq!(read, [("hook", &b"message.acked"[..]), ("dup", b"true"), ("peer", b"p")]);
        let none = OwnedHeaders::new().insert(Header { key: "session", value: Some("1") });
        assert_eq!(marked_dup(Some(&none)).count(), 1);
    }
}

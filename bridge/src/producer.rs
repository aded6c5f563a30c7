//! The producer: records go in, receipts settle when Kafka has stored them.
//!
//! It retries for ever, in order and without duplicates (idempotent, all in-sync replicas), and
//! never refuses a record for want of room: what bounds its memory is the broker's budget of bytes,
//! whose permits the receipts hold.
//!
//! The client library gives a producer up when it can no longer tell what is stored (a fatal
//! error). Then the [`Gate`] closes, records that come wait, the old producer ends, and a fresh one
//! first sends what had not been stored, in the order of the hooks, and only then opens the gate.
//!
//! Ordering: nothing is sent on the new producer while the old one can still store something, so a
//! lock's records stay in order; those that are sent again may be stored twice and say so (`dup`).
//!
//! One thread per bridge polls for deliveries; receipts settle there.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use latchline_shared::fault::Fault;
use latchline_shared::hook::Call;
use latchline_shared::kit::kafka::client::describe;
use latchline_shared::receipt::Slot;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};
use tracing::{error, info};

use crate::config::Config;
use crate::deliveries::{Context, Deliveries, InFlight, Waiting, fault};
use crate::mapping::Record;

/// How long one look for deliveries takes at most; the bound for noticing that it is time to end.
const POLL: Duration = Duration::from_millis(100);

/// How long deliveries gather while there are some, so that one wake-up of a thread acknowledges
/// many messages. After [`POLL`] without any, the next ones settle as they come.
const GATHER: Duration = Duration::from_millis(2);

/// How long the requests of a producer that ends may still be answered; longer than a request
/// takes to time out.
const DRAIN: Duration = Duration::from_secs(90);

/// How long what was purged may take to be reported.
const PURGE: Duration = Duration::from_secs(5);

/// Pause before a producer is replaced, doubled each time that it follows soon after the last one.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(60);

type Inner = BaseProducer<Context>;

/// A producer that lasts as long as the bridge.
#[derive(Debug)]
pub(crate) struct Producer {
    shared: Arc<Shared>,
    /// None while dropping.
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    config: ClientConfig,
    gate: RwLock<Gate>,
    deliveries: Arc<Deliveries>,
    /// How many records there have been.
    number: AtomicU64,
}

/// What a record meets.
enum Gate {
    Open(Inner),
    /// It waits for the next producer.
    Replacing,
    /// It fails.
    Closed,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The configuration may hold a password.
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The client library's configuration for these settings. Public, because the benchmark compares the
/// bridge with a bare producer of the same configuration.
///
/// # Errors
/// If the settings do not make a client.
pub fn client_config(config: &Config, node: &str) -> anyhow::Result<ClientConfig> {
    let mut client = config.kafka.client_config(node)?;
    for (name, value) in [
        // Notices within 20 s that a server is there and does not answer.
        ("socket.timeout.ms", "20000"),
        ("request.timeout.ms", "15000"),
        ("socket.connection.setup.timeout.ms", "10000"),
        // Sees within 10 s that a topic that was gone is there again.
        ("topic.metadata.refresh.interval.ms", "10000"),
    ] {
        if client.get(name).is_none() {
            client.set(name, value);
        }
    }
    client
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("max.in.flight.requests.per.connection", "5")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", i32::MAX.to_string())
        .set("delivery.report.only.error", "false")
        .set("allow.auto.create.topics", "false")
        // Where Java's producers put the same key.
        .set("partitioner", "murmur2_random")
        .set("compression.type", config.compression.name())
        .set("linger.ms", config.linger.as_millis().to_string())
        .set("batch.size", config.batch_bytes.to_string())
        .set("message.max.bytes", config.record_bytes_max.to_string());
    Ok(client)
}

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the settings do not make a kafka producer: {0}")]
    Settings(String),
    #[error("the producer's thread cannot be started")]
    Thread(#[source] io::Error),
}

impl Producer {
    /// Starts without waiting for Kafka.
    pub(crate) fn start(config: ClientConfig, deliveries: Arc<Deliveries>) -> Result<Self, Error> {
        let inner = create(&config, &deliveries).map_err(|error| Error::Settings(describe(&error)))?;
        let gate = RwLock::new(Gate::Open(inner));
        let shared = Arc::new(Shared { config, gate, deliveries, number: AtomicU64::new(0) });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("bridge-producer".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands over a record, whose fate settles one part of `slot`. False if it has settled already,
    /// because the record cannot be stored.
    pub(crate) fn send(&self, hook: Call, stream: &str, record: &Record, slot: Arc<Slot>) -> bool {
        let shared = &self.shared;
        let number = shared.number.fetch_add(1, Ordering::Relaxed);
        let (bytes, sent_at) = (record.bytes(), Instant::now());
        let in_flight = Box::new(InFlight { hook, number, bytes, sent_at, slot, attempts: 0 });
        let mut headers = OwnedHeaders::new_with_capacity(record.headers().len());
        for (key, value) in record.headers() {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let ready = BaseRecord::with_opaque_to(stream, in_flight)
            .key(record.key.as_slice())
            .payload(record.value.as_slice())
            .timestamp(record.ts as i64)
            .headers(headers);
        shared.deliveries.metrics.sent(bytes);
        match &*shared.gate.read().unwrap_or_else(PoisonError::into_inner) {
            Gate::Open(inner) => shared.hand_over(inner, ready),
            Gate::Replacing => {
                shared.deliveries.wait(waiting(ready));
                true
            }
            Gate::Closed => {
                shared.deliveries.settle(&ready.delivery_opaque, Err(closed()));
                false
            }
        }
    }

    /// Whether records reach the client library, or wait for a new producer.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.shared.gate.read().unwrap_or_else(PoisonError::into_inner), Gate::Open(_))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.deliveries.close();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic on the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

type Ready<'a> = BaseRecord<'a, [u8], [u8], Box<InFlight>>;

fn create(config: &ClientConfig, deliveries: &Arc<Deliveries>) -> KafkaResult<Inner> {
    config.create_with_context(Context(Arc::clone(deliveries)))
}

fn closed() -> Fault {
    Fault::transient("the bridge is closed")
}

fn waiting(ready: Ready<'_>) -> Waiting {
    Waiting {
        stream: ready.topic.to_owned(),
        key: ready.key.unwrap_or_default().to_vec(),
        value: ready.payload.unwrap_or_default().to_vec(),
        headers: ready.headers.unwrap_or_default(),
        ts: ready.timestamp.unwrap_or_default(),
        in_flight: ready.delivery_opaque,
    }
}

impl Shared {
    fn hand_over(&self, inner: &Inner, ready: Ready<'_>) -> bool {
        let Err((error, ready)) = inner.send(ready) else { return true };
        if let (Fault::Transient { .. }, Some((_, why))) = (fault(&error), inner.client().fatal_error()) {
            self.deliveries.break_down(&why);
            self.deliveries.wait(waiting(ready));
            return true;
        }
        self.deliveries.give_up(ready.topic, &ready.delivery_opaque, &error);
        false
    }

    /// Runs until the bridge is closed.
    fn run(&self) {
        let (mut pause, mut replaced_at) = (PAUSE, None::<Instant>);
        let mut delivered_at = None;
        while !self.deliveries.is_closing() {
            if let Gate::Open(inner) = &*self.gate.read().unwrap_or_else(PoisonError::into_inner) {
                self.settle_from(inner, &mut delivered_at);
            }
            self.deliveries.metrics.outage(!self.deliveries.link.is_up());
            if self.deliveries.is_broken() {
                let is_soon = replaced_at.is_some_and(|at| at.elapsed() < SOON);
                pause = if is_soon { PAUSE_MAX.min(pause * 2) } else { PAUSE };
                self.replace(pause);
                replaced_at = Some(Instant::now());
            }
        }
        let old = self.swap(Gate::Closed);
        self.end(old, Duration::ZERO);
        for waiting in self.deliveries.take_waiting() {
            self.deliveries.settle(&waiting.in_flight, Err(closed()));
        }
    }

    /// Settles what has been delivered. The first after a pause settle as they come; from then on
    /// they gather, so that neither this thread nor the connections are woken for each.
    fn settle_from(&self, inner: &Inner, delivered_at: &mut Option<Instant>) {
        let delivered = || self.deliveries.delivered.load(Ordering::Relaxed);
        let before = delivered();
        if delivered_at.is_some_and(|at| at.elapsed() < POLL) {
            thread::sleep(GATHER);
            let begun = Instant::now();
            loop {
                let last = delivered();
                // One event of the library, if there is one: what a request has stored.
                inner.poll(Duration::ZERO);
                if delivered() == last || begun.elapsed() > POLL {
                    break;
                }
            }
        } else {
            // All events until the time is over.
            inner.poll(POLL);
        }
        if delivered() != before {
            *delivered_at = Some(Instant::now());
        }
    }

    fn replace(&self, pause: Duration) {
        self.deliveries.metrics.replacements.inc();
        let old = self.swap(Gate::Replacing);
        self.end(old, DRAIN);
        let fresh = loop {
            thread::park_timeout(pause);
            if self.deliveries.is_closing() {
                return;
            }
            match create(&self.config, &self.deliveries) {
                Ok(fresh) => break fresh,
                Err(error) => error!(error = describe(&error), "no new kafka producer, trying again"),
            }
        };
        self.deliveries.mend();
        // Nobody sends while the gate is held for writing.
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.deliveries.take_waiting();
        info!(records = waiting.len(), "a new kafka producer takes over");
        for Waiting { stream, key, value, headers, ts, in_flight } in waiting {
            let ready = BaseRecord::with_opaque_to(&stream, in_flight)
                .key(key.as_slice())
                .payload(value.as_slice())
                .timestamp(ts)
                .headers(headers);
            self.hand_over(&fresh, ready);
        }
        *gate = Gate::Open(fresh);
    }

    fn swap(&self, gate: Gate) -> Option<Inner> {
        let mut current = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *current, gate) {
            Gate::Open(inner) => Some(inner),
            Gate::Replacing | Gate::Closed => None,
        }
    }

    /// Ends a producer that gets no more records: what it has not sent is given back, what it has
    /// sent is answered within `drain` or given back as well.
    fn end(&self, old: Option<Inner>, drain: Duration) {
        let Some(old) = old else { return };
        let until = Instant::now() + drain;
        while old.in_flight_count() > 0 && Instant::now() < until && !self.deliveries.is_closing() {
            // Each time: an unanswered request puts its records back into the queue.
            old.purge(PurgeConfig::default().queue());
            old.poll(POLL);
        }
        let until = Instant::now() + PURGE;
        while old.in_flight_count() > 0 && Instant::now() < until {
            old.purge(PurgeConfig::default().queue().inflight());
            old.poll(POLL);
        }
        if old.in_flight_count() > 0 {
            error!(records = old.in_flight_count(), "the client library did not give records back");
        }
    }
}

//! One membership of the consumer group: a thread that polls, from joining to leaving.
//!
//! Assigned partitions go on where Postgres says, by one call of `assign` in the callback. If that
//! cannot be found out in time, nothing is assigned and the membership ends; so it does when a lane
//! is fenced, and when Kafka has deleted what comes next. The reader begins another one.
//!
//! Revoked partitions are given up only after their lanes have ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::health::Place;
use super::lanes::{Close, Lanes};
use super::plan::Plan;
use super::progress::Progress;
use super::reader::Shared;
use super::statistics::Statistics;
use super::store::Kept;
use super::{Record, Service};
use crate::fault::Fault;
use crate::kit::clock;
use crate::kit::kafka::client::describe;

/// How long one look for records takes; the bound for noticing that it is time to end.
const POLL: Duration = Duration::from_millis(100);
/// How long Kafka may take to say what it keeps of a partition.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(5);
/// How long Postgres may take to say where partitions go on.
const POSTGRES_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a membership ends.
#[derive(Debug)]
pub(super) enum End {
    /// The process ends.
    Shutdown,
    /// Another one is to begin: what has failed.
    Rejoin(String),
    /// Kafka has deleted what comes next. What was read is stored first, then the next membership
    /// finds out what is missing.
    OutOfRange,
    /// Another one would end as well: a bug.
    Failed(String),
}

/// The first reason to end.
#[derive(Debug, Default)]
pub(super) struct Ending(Mutex<Option<End>>);

impl Ending {
    pub(super) fn set(&self, end: End) {
        self.lock().get_or_insert(end);
    }

    fn take(&self) -> Option<End> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<End>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the client library calls back, on the polling thread.
struct Context<S: Service> {
    shared: Arc<Shared<S>>,
    runtime: Handle,
    ending: Arc<Ending>,
    progress: Arc<Progress>,
    lanes: Mutex<Lanes<S>>,
    /// The latest, until it is looked at.
    statistics: Mutex<Option<Statistics>>,
    /// Calls so far: a poll during which there was none and that found nothing found all read.
    calls: AtomicU64,
}

type Consumer<S> = BaseConsumer<Context<S>>;

/// Is a member until `token` is cancelled or something ends it. Blocks; `runtime` is where lanes
/// work.
pub(super) fn run<S: Service>(shared: Arc<Shared<S>>, runtime: Handle, token: &CancellationToken) -> End {
    let (ending, progress) = (Arc::new(Ending::default()), Arc::new(Progress::default()));
    let lanes = Lanes::new(Arc::clone(&shared), runtime.clone(), Arc::clone(&ending), Arc::clone(&progress));
    let streams = shared.streams.clone();
    let config = shared.client.clone();
    let context = Context {
        shared,
        runtime,
        ending,
        progress,
        lanes: Mutex::new(lanes),
        statistics: Mutex::new(None),
        calls: AtomicU64::new(0),
    };
    let names: Vec<&str> = streams.iter().map(String::as_str).collect();
    let consumer: KafkaResult<Consumer<S>> = config.create_with_context(context);
    let consumer = match consumer.and_then(|consumer| consumer.subscribe(&names).map(|()| consumer)) {
        Ok(consumer) => consumer,
        Err(error) => return End::Failed(format!("no kafka consumer: {}", describe(&error))),
    };
    let end = poll_until_end(&consumer, token);
    let how = if matches!(end, End::OutOfRange) { Close::WhenEmpty } else { Close::Soon };
    consumer.context().lanes().close(how);
    consumer.context().tell_kafka(&consumer);
    // Dropped, it leaves the group.
    end
}

fn poll_until_end<S: Service>(consumer: &Consumer<S>, token: &CancellationToken) -> End {
    let context = consumer.context();
    loop {
        if let Some(end) = context.ending.take() {
            return end;
        }
        if token.is_cancelled() {
            return End::Shutdown;
        }
        if context.lanes().has_panicked() {
            return End::Failed("a lane panicked".to_owned());
        }
        context.look_at_statistics(consumer);
        let has_ends = context.lanes().has_ends();
        let calls = context.calls.load(Ordering::Relaxed);
        match consumer.poll(if has_ends { Duration::ZERO } else { POLL }) {
            Some(Ok(message)) => context.accept(consumer, &message),
            Some(Err(error)) => context.poll_failed(&error),
            None if has_ends && calls == context.calls.load(Ordering::Relaxed) => context.lanes().tell_ends(),
            None => {}
        }
        context.resume(consumer);
    }
}

impl<S: Service> Context<S> {
    fn lanes(&self) -> MutexGuard<'_, Lanes<S>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, consumer: &Consumer<S>, message: &BorrowedMessage<'_>) {
        let mut lanes = self.lanes();
        // Not ours any more.
        let Some(stream) = lanes.stream(message.topic(), message.partition()) else { return };
        self.shared.records(&stream);
        let full = lanes.accept(record(stream, message));
        if let Some(number) = full {
            debug!(reader = self.shared.name, lane = number, "a lane is full, its partitions are paused");
            let partitions = partitions(&lanes.streams(number), number);
            if let Err(error) = consumer.pause(&partitions) {
                self.ending.set(End::Rejoin(format!("kafka: cannot pause: {}", describe(&error))));
            }
        }
    }

    fn resume(&self, consumer: &Consumer<S>) {
        let mut lanes = self.lanes();
        for number in lanes.take_relieved() {
            if let Err(error) = consumer.resume(&partitions(&lanes.streams(number), number)) {
                self.ending.set(End::Rejoin(format!("kafka: cannot resume: {}", describe(&error))));
            }
        }
    }

    fn poll_failed(&self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                self.ending.set(End::OutOfRange);
            }
            KafkaError::MessageConsumptionFatal(code) => {
                self.ending.set(End::Rejoin(format!("kafka: {code}")));
            }
            // The end of a partition is seen in the statistics, all else in `error` below.
            _ => {}
        }
    }

    fn look_at_statistics(&self, consumer: &Consumer<S>) {
        let statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(statistics) = statistics else { return };
        for ((stream, partition), next) in self.progress.all() {
            let known = statistics.partition(&stream, partition);
            if let Some(records) = known.and_then(|known| known.behind(next)) {
                self.shared.metrics.lag(&stream, partition, records);
            }
        }
        self.lanes().look_for_ends(&statistics, i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX));
        self.tell_kafka(consumer);
    }

    /// Tells Kafka how far we are, so that its own tools show the lag. Nothing rests on it.
    fn tell_kafka(&self, consumer: &Consumer<S>) {
        let mut offsets = TopicPartitionList::new();
        for ((stream, partition), next) in self.progress.take_untold() {
            // Fails for offsets below 0 only.
            let _ = offsets.add_partition_offset(&stream, partition, Offset::Offset(next));
        }
        if offsets.count() > 0
            && let Err(error) = consumer.commit(&offsets, CommitMode::Async)
        {
            debug!(reader = self.shared.name, error = describe(&error), "kafka was not told the offsets");
        }
    }

    /// Finds out where the partitions go on, and starts their lanes.
    fn assign(&self, consumer: &Consumer<S>, assigned: &TopicPartitionList) -> Result<(), End> {
        let mut kept = Vec::with_capacity(assigned.count());
        for element in assigned.elements() {
            let (stream, partition) = (Arc::<str>::from(element.topic()), element.partition());
            let (low, end) = consumer
                .fetch_watermarks(&stream, partition, KAFKA_TIMEOUT)
                .map_err(|error| End::Rejoin(format!("kafka: {stream}: {}", describe(&error))))?;
            kept.push(Kept { stream, partition, low, end });
        }
        let assign = async { timeout(POSTGRES_TIMEOUT, self.shared.store.assign(&kept)).await };
        let plans = match self.runtime.block_on(assign) {
            Ok(Ok(plans)) => plans,
            Ok(Err(Fault::Transient { why, .. })) => return Err(End::Rejoin(format!("postgres: {why}"))),
            Ok(Err(fault)) => return Err(End::Failed(format!("assignment: {fault}"))),
            Err(_) => return Err(End::Rejoin(format!("postgres: no answer within {POSTGRES_TIMEOUT:?}"))),
        };
        let mut starts = Vec::with_capacity(kept.len());
        let mut offsets = TopicPartitionList::new();
        let mut stuck = Vec::new();
        for (Kept { stream, partition, .. }, plan) in kept.into_iter().zip(plans) {
            let start = match plan {
                Plan::First(offset) | Plan::Start(offset) | Plan::Gap { to: offset, .. } => Some(offset),
                Plan::Stuck { stored, end } => {
                    stuck.push(self.stuck(&stream, partition, stored, end));
                    None
                }
            };
            if let Some(offset) = start {
                offsets
                    .add_partition_offset(&stream, partition, Offset::Offset(offset))
                    .map_err(|error| End::Failed(format!("{stream}: offset {offset}: {error}")))?;
            }
            starts.push((stream, partition, start));
        }
        self.lanes().open(&starts);
        self.shared.health.works(Place::Start);
        consumer.assign(&offsets).map_err(|error| End::Rejoin(format!("kafka: {}", describe(&error))))?;
        info!(reader = self.shared.name, partitions = starts.len(), "partitions assigned");
        self.shared.health.assigned(stuck);
        Ok(())
    }

    fn stuck(&self, stream: &str, partition: i32, stored: i64, end: i64) -> String {
        error!(%stream, partition, stored, end, "a partition ends before the stored offset and is not read");
        let schema = self.shared.schema;
        format!(
            "kafka: stream {stream} partition {partition} ends at {end}, before the stored offset {stored}: it \
             is not the stream that was read; to read it from its beginning, delete its row in \
             {schema}.consumer_offset and restart"
        )
    }

    fn revoke(&self, consumer: &Consumer<S>) {
        self.lanes().close(Close::Soon);
        self.tell_kafka(consumer);
        self.progress.clear();
        self.shared.metrics.forget_lag();
    }
}

impl<S: Service> ClientContext for Context<S> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.shared.link.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            Some(RDKafkaErrorCode::AutoOffsetReset) => debug!(reason, "kafka has deleted what comes next"),
            _ => self.shared.link.error(&error, reason),
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.shared.link.statistics(json);
        let statistics = Statistics::parse(json);
        if let Err(error) = &statistics {
            self.shared.link.complain("statistics", &format!("unknown form: {error}"));
        }
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics.ok();
    }
}

impl<S: Service> ConsumerContext for Context<S> {
    fn rebalance(&self, consumer: &Consumer<S>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.shared.metrics.rebalances.inc();
        let assigned = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, partitions)
        } else {
            self.revoke(consumer);
            consumer.unassign().map_err(|error| End::Rejoin(format!("kafka: {}", describe(&error))))
        };
        if let Err(end) = assigned {
            self.ending.set(end);
            if let Err(error) = consumer.unassign() {
                debug!(error = describe(&error), "kafka client does not take back an assignment");
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = result {
            debug!(reader = self.shared.name, error = describe(&error), "kafka was not told the offsets");
        }
    }
}

fn partitions(streams: &[Arc<str>], partition: i32) -> TopicPartitionList {
    let mut partitions = TopicPartitionList::new();
    for stream in streams {
        partitions.add_partition(stream, partition);
    }
    partitions
}

fn record(stream: Arc<str>, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        stream,
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().unwrap_or_default().to_vec(),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect(),
    }
}

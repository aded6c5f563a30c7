//! Reads streams from the beginning and hands out the records, without a consumer group.
//!
//! Tests look at what is stored, `lockctl records` and the demo show it. Assigned, not subscribed:
//! no group join to wait for, no offsets left behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::{Instant, sleep};

const METADATA_DEADLINE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(2);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Stream that it is in.
    pub stream: String,
    /// Partition of the stream.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Key, if there is one; not UTF-8 is shown as it can be.
    pub key: Option<String>,
    /// Headers by name.
    pub headers: BTreeMap<String, String>,
    /// Value as stored.
    pub value: Vec<u8>,
}

impl Record {
    /// A header's value, empty if the header is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The value as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.value)
            .with_context(|| format!("value of {}/{}@{}", self.stream, self.partition, self.offset))
    }
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest record that is kept.
    Beginning,
    /// With the first record stored after the reader was opened.
    End,
}

/// The offset behind the last record of each partition of some streams, which must exist.
pub async fn ends(
    bootstrap: &str,
    streams: &[impl AsRef<str>],
) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
    Ends::open(bootstrap, streams).await?.look().await
}

/// Looks where streams end, again and again.
#[derive(Clone)]
pub struct Ends {
    consumer: Arc<BaseConsumer>,
    partitions: Arc<[(String, i32)]>,
}

impl Ends {
    /// For these streams, which must exist.
    pub async fn open(bootstrap: &str, streams: &[impl AsRef<str>]) -> anyhow::Result<Self> {
        let bootstrap = bootstrap.to_owned();
        let streams: Vec<String> = streams.iter().map(|stream| stream.as_ref().to_owned()).collect();
        // Looking up metadata blocks.
        let open = move || {
            let consumer = consumer(&bootstrap)?;
            let mut all = Vec::new();
            for stream in streams {
                let count = partitions(&consumer, &stream, &bootstrap)?;
                all.extend((0..count).map(|partition| (stream.clone(), partition)));
            }
            Ok(Self { consumer: Arc::new(consumer), partitions: all.into() })
        };
        tokio::task::spawn_blocking(open).await?
    }

    /// The offset behind the last record of each partition.
    pub async fn look(&self) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
        let Self { consumer, partitions } = self.clone();
        // Looking up offsets blocks.
        let look = move || {
            let end = |(stream, partition): &(String, i32)| {
                let (_, end) = watermarks(&consumer, stream, *partition)?;
                Ok(((stream.clone(), *partition), end))
            };
            partitions.iter().map(end).collect()
        };
        tokio::task::spawn_blocking(look).await?
    }
}

/// Reads all partitions of some streams.
pub struct Reader {
    consumer: BaseConsumer,
    streams: Vec<String>,
}

impl Reader {
    /// Opens a reader; the streams must exist.
    pub async fn open(bootstrap: &str, streams: &[&str], from: From) -> anyhow::Result<Self> {
        let (bootstrap, streams) =
            (bootstrap.to_owned(), streams.iter().map(|&stream| stream.to_owned()).collect());
        // Looking up metadata and offsets blocks.
        tokio::task::spawn_blocking(move || Self::open_blocking(&bootstrap, streams, from)).await?
    }

    /// The next record, or none if none comes within `wait`.
    pub async fn next(&mut self, wait: Duration) -> anyhow::Result<Option<Record>> {
        let until = Instant::now() + wait;
        loop {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => return Ok(Some(record(&message))),
                // What librdkafka reports here it also retries: a broker that is away comes back.
                Some(Err(error)) => tracing::debug!(%error, streams = ?self.streams, "reading"),
                None if Instant::now() >= until => return Ok(None),
                None => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Reads until `enough` says so about all records read by this call.
    pub async fn read_until(
        &mut self,
        deadline: Duration,
        mut enough: impl FnMut(&[Record]) -> bool,
    ) -> anyhow::Result<Vec<Record>> {
        let until = Instant::now() + deadline;
        let mut records = Vec::new();
        while !enough(&records) {
            match self.next(until.saturating_duration_since(Instant::now())).await? {
                Some(record) => records.push(record),
                None => bail!(
                    "not enough in {} after {deadline:?}: {} records{}",
                    self.streams.join(", "),
                    records.len(),
                    records.last().map(|last| format!(", the last is {last:?}")).unwrap_or_default(),
                ),
            }
        }
        Ok(records)
    }

    /// Reads `count` records.
    pub async fn read(&mut self, count: usize, deadline: Duration) -> anyhow::Result<Vec<Record>> {
        self.read_until(deadline, |records| records.len() >= count).await
    }

    fn open_blocking(bootstrap: &str, streams: Vec<String>, from: From) -> anyhow::Result<Self> {
        let consumer = consumer(bootstrap)?;
        let mut assignment = TopicPartitionList::new();
        for stream in &streams {
            for partition in 0..partitions(&consumer, stream, bootstrap)? {
                let (low, high) = watermarks(&consumer, stream, partition)?;
                // A definite offset, so that nothing stored from now on is missed.
                let offset = Offset::Offset(if from == From::Beginning { low } else { high });
                assignment.add_partition_offset(stream, partition, offset)?;
            }
        }
        consumer.assign(&assignment)?;
        Ok(Self { consumer, streams })
    }
}

fn consumer(bootstrap: &str) -> anyhow::Result<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.auto.commit", "false")
        // librdkafka wants a group name even when it joins none.
        .set("group.id", "latchline-reader")
        .set("fetch.wait.max.ms", "10")
        .set("reconnect.backoff.max.ms", "500")
        // After a silence the development Kafka still owes answers to whoever asks nothing more.
        .set("socket.timeout.ms", "10000")
        .create()?;
    Ok(consumer)
}

/// How many partitions a stream has.
fn partitions(consumer: &BaseConsumer, stream: &str, bootstrap: &str) -> anyhow::Result<i32> {
    let metadata = consumer
        .fetch_metadata(Some(stream), METADATA_DEADLINE)
        .with_context(|| format!("look up stream {stream} at {bootstrap}"))?;
    match metadata.topics().first().map_or(0, |topic| topic.partitions().len()) {
        0 => bail!("there is no stream {stream} at {bootstrap}"),
        count => Ok(i32::try_from(count)?),
    }
}

/// The first and the next offset. A partition is without a leader for a moment after a restart or a
/// pause.
fn watermarks(consumer: &BaseConsumer, stream: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
    let until = std::time::Instant::now() + METADATA_DEADLINE;
    loop {
        match consumer.fetch_watermarks(stream, partition, METADATA_DEADLINE) {
            Err(error) if std::time::Instant::now() >= until => {
                return Err(error).with_context(|| format!("look up offsets of {stream}/{partition}"));
            }
            Err(_) => std::thread::sleep(LOOK_AGAIN_AFTER),
            Ok(offsets) => return Ok(offsets),
        }
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default()))).collect()
    });
    Record {
        stream: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text),
        headers: headers.unwrap_or_default(),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}

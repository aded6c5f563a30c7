//! A bridge with a development Kafka of its own, clients that call its hook, and a reader of what
//! was stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use latchline_bridge::config::{Config, Rule};
use latchline_bridge::{Bridge, StartError};
use latchline_shared::fault::Fault;
use latchline_shared::hook::{Call, Hook, PublishAnswer};
use latchline_shared::kit::kafka::development::DevelopmentKafka;
use latchline_shared::message::{Client, Message, MessageId, Protocol, Qos};
use latchline_shared::receipt::Receipt;
use latchline_shared::record::PublishRecord;
use prometheus_client::registry::Registry;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Deserialize;
use tokio::time::timeout;

pub(crate) const NODE: &str = "latchline@test";
pub(crate) const PARTITIONS: i32 = 4;

/// Long enough for anything that should happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Long enough to see that something does not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(700);

pub(crate) struct App {
    pub(crate) kafka: DevelopmentKafka,
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) bridge: Arc<Bridge>,
}

/// The default configuration for this Kafka, with patience for a test.
pub(crate) fn config(kafka: &DevelopmentKafka) -> Config {
    #[derive(Deserialize)]
    struct Broker {
        bridge: Config,
    }
    let mut config = toml::from_str::<Broker>(include_str!("../../../config/broker.toml")).unwrap().bridge;
    config.kafka.servers = kafka.bootstrap().to_owned();
    for (name, value) in
        [("socket.timeout.ms", "1000"), ("request.timeout.ms", "900"), ("reconnect.backoff.max.ms", "200")]
    {
        config.kafka.properties.insert(name.to_owned(), value.to_owned());
    }
    config
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let kafka =
            DevelopmentKafka::start(&[("message_state", PARTITIONS), ("message_command", PARTITIONS)])
                .unwrap();
        let mut config = config(&kafka);
        change(&mut config);
        for rule in &config.rules {
            kafka.create_topic(&rule.topic, PARTITIONS).ok();
        }
        let mut registry = Registry::default();
        let bridge = Bridge::start(&config, NODE, &mut registry).await.unwrap();
        Self { kafka, config, registry, bridge }
    }

    pub(crate) fn publish(&self, client: &Client, n: u64) -> Receipt {
        publish(&self.bridge, client, &format!("devices/{}/state", client.id), payload(n))
    }

    /// The text of the metric `name` with these labels.
    pub(crate) fn metric(&self, name: &str) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    }

    pub(crate) fn read(&self, stream: &str, is_enough: impl Fn(&[Stored]) -> bool) -> Vec<Stored> {
        read(self.kafka.bootstrap(), stream, is_enough)
    }
}

pub(crate) async fn start_error(config: &Config) -> StartError {
    Bridge::start(config, NODE, &mut Registry::default()).await.expect_err("the bridge does not start")
}

pub(crate) fn rule(hook: Call, filter: Option<&str>, topic: &str) -> Rule {
    Rule { hook, filter: filter.map(str::to_owned), topic: topic.to_owned() }
}

pub(crate) fn client(id: &str) -> Client {
    static SESSION: AtomicU64 = AtomicU64::new(1);
    Client {
        id: id.into(),
        username: "".into(),
        role: "lock".into(),
        protocol: Protocol::V5,
        peer: "127.0.0.1:50000".parse().unwrap(),
        session: SESSION.fetch_add(1, Ordering::Relaxed),
        sequence: Default::default(),
    }
}

pub(crate) fn message(client: &Client, topic: &str, payload: impl Into<Bytes>) -> Message {
    static MID: AtomicU64 = AtomicU64::new(1);
    Message {
        mid: MessageId(u128::from(MID.fetch_add(1, Ordering::Relaxed))),
        from: client.id.clone(),
        topic: topic.into(),
        payload: payload.into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        dup: false,
        packet_id: Some(1),
        properties: None,
        received_at: Instant::now(),
        expiry: None,
    }
}

pub(crate) fn payload(n: u64) -> String {
    format!("{{\"n\":{n},\"filling\":\"{}\"}}", "x".repeat(280))
}

pub(crate) fn publish(bridge: &Bridge, client: &Client, topic: &str, payload: impl Into<Bytes>) -> Receipt {
    match bridge.message_publish(client, &message(client, topic, payload)) {
        PublishAnswer::Accept(receipt) => receipt,
        PublishAnswer::Reject(..) | PublishAnswer::Absorb(_) => panic!("the bridge rejects nothing"),
    }
}

/// The result of a receipt that settles.
pub(crate) async fn settled(receipt: Receipt) -> Result<(), Fault> {
    timeout(DEADLINE, receipt).await.expect("the receipt settles")
}

pub(crate) async fn all_stored(receipts: Vec<Receipt>) {
    for receipt in receipts {
        assert_eq!(settled(receipt).await, Ok(()));
    }
}

/// Asserts that none of the receipts settles for a while.
pub(crate) async fn none_settles(receipts: &mut [Receipt]) {
    for (index, receipt) in receipts.iter_mut().enumerate() {
        // The first one gives the others time, too.
        let patience = if index == 0 { A_WHILE } else { Duration::ZERO };
        let result = timeout(patience, receipt).await;
        assert!(result.is_err(), "receipt {index} has settled: {result:?}");
    }
}

/// A record as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) timestamp: i64,
}

impl Stored {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {self:?}"))
    }

    /// The n of `{session}-{n}`.
    pub(crate) fn n(&self) -> u64 {
        self.header("seq").rsplit_once('-').unwrap().1.parse().unwrap()
    }

    pub(crate) fn published(&self) -> PublishRecord {
        serde_json::from_slice(&self.value).unwrap()
    }
}

/// Reads a stream from its beginning until the records are enough; panics after a deadline.
pub(crate) fn read(bootstrap: &str, stream: &str, is_enough: impl Fn(&[Stored]) -> bool) -> Vec<Stored> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let partitions = consumer.fetch_metadata(Some(stream), DEADLINE).unwrap().topics()[0].partitions().len();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(stream, partition as i32, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut records, until) = (Vec::new(), Instant::now() + DEADLINE);
    loop {
        assert!(Instant::now() < until, "not enough in {stream} after {DEADLINE:?}: {}", records.len());
        let Some(message) = consumer.poll(Duration::from_millis(50)) else {
            // Nothing more for the moment: worth a look.
            if is_enough(&records) {
                return records;
            }
            continue;
        };
        let message = message.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        records.push(Stored {
            partition: message.partition(),
            key: text(message.key().unwrap()),
            value: message.payload().unwrap().to_vec(),
            headers: message
                .headers()
                .unwrap()
                .iter()
                .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
                .collect(),
            timestamp: message.timestamp().to_millis().unwrap(),
        });
    }
}

/// How many records a stream has.
pub(crate) fn count(bootstrap: &str, stream: &str) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let highest = |partition| consumer.fetch_watermarks(stream, partition, DEADLINE).unwrap().1;
    (0..PARTITIONS).map(highest).sum()
}

/// Whether each client's records are there from 1 to `most`.
pub(crate) fn has_all(records: &[Stored], clients: usize, most: u64) -> bool {
    let seen: BTreeSet<_> = records.iter().map(|record| record.header("seq")).collect();
    seen.len() as u64 == clients as u64 * most
}

/// Asserts that each key's records came first in the order of their numbers, without a gap.
pub(crate) fn assert_in_order(records: &[Stored], most: u64) {
    let mut last: BTreeMap<&str, (i32, u64)> = BTreeMap::new();
    for record in records {
        let (partition, n) = last.entry(&record.key).or_insert((record.partition, 0));
        assert_eq!(*partition, record.partition, "{} has one partition", record.key);
        if record.n() > *n {
            assert_eq!(record.n(), *n + 1, "{} in order", record.key);
            *n += 1;
        }
    }
    assert!(last.values().all(|(_, n)| *n == most), "{last:?}");
}

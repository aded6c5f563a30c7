//! Readers against the development Kafka and a private Postgres. One small service serves all: its
//! effect is a row for each record.

mod effects;
mod faults;
mod offsets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_postgres::Transaction;
use tokio_util::sync::CancellationToken;

use super::config::Consumer;
use super::metrics::Metrics;
use super::reader::Reader;
use super::{Decoded, Gap, Poison, Record, Service};
use crate::fault::Fault;
use crate::kit::http::readiness::Readiness;
use crate::kit::kafka::client::Kafka;
use crate::kit::kafka::development::DevelopmentKafka;
use crate::kit::postgres::{Postgres, fault, testing};
use crate::kit::testing::eventually;

/// A join takes 3 s in the development Kafka, and the machine may be busy.
const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

const TABLES: &str = "
    create schema lab;
    create table lab.consumer_offset (
        stream text not null, partition int not null, next_offset bigint not null,
        updated_at timestamptz not null default now(), primary key (stream, partition)
    );
    create table lab.effect (
        id bigint generated always as identity, stream text not null, partition int not null,
        n bigint not null, value text not null check (value <> 'refuse')
    );
    create table lab.gap (stream text, partition int, first bigint, next bigint);
    create table lab.idle (lane int, at_ms bigint)";

/// Writes a row for each record. The value `poison` cannot be decoded, `refuse` cannot be stored,
/// `bug` and `panic` are what they say.
struct Probe {
    /// Each transaction needs one of its lane's.
    permits: [Semaphore; PARTITIONS as usize],
    is_entered: AtomicBool,
    commits: AtomicUsize,
    /// How often each lane was opened.
    opened: [AtomicUsize; PARTITIONS as usize],
}

impl Service for Probe {
    type Item = String;

    fn decode(&self, record: &Record) -> Result<String, Poison> {
        match String::from_utf8_lossy(&record.value).into_owned() {
            value if value == "poison" => Err(Poison { class: "bad", message: "as it says".to_owned() }),
            value => Ok(value),
        }
    }

    async fn store(
        &self,
        transaction: &Transaction<'_>,
        lane: i32,
        batch: &[Decoded<String>],
    ) -> Result<(), Fault> {
        assert!(self.opened[lane as usize].load(Ordering::SeqCst) > 0, "lane {lane} was not opened");
        self.is_entered.store(true, Ordering::SeqCst);
        let _permit = self.permits[lane as usize].acquire().await;
        for Decoded { record, item } in batch {
            assert_eq!(record.partition, lane);
            assert_ne!(item, "panic", "on purpose");
            if item == "bug" {
                return Err(Fault::Bug("on purpose".into()));
            }
            let value = item.get(..16).unwrap_or(item);
            let sql = "insert into lab.effect (stream, partition, n, value) values ($1, $2, $3, $4)";
            transaction
                .execute(sql, &[&&*record.stream, &lane, &record.offset, &value])
                .await
                .map_err(|error| fault::of(&error))?;
        }
        Ok(())
    }

    async fn idle(&self, transaction: &Transaction<'_>, lane: i32, now_ms: i64) -> Result<(), Fault> {
        let sql = "insert into lab.idle values ($1, $2)";
        transaction.execute(sql, &[&lane, &now_ms]).await.map(drop).map_err(|error| fault::of(&error))
    }

    async fn lost(&self, transaction: &Transaction<'_>, gap: &Gap) -> Result<(), Fault> {
        let sql = "insert into lab.gap values ($1, $2, $3, $4)";
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&&*gap.stream, &gap.partition, &gap.from, &gap.to];
        transaction.execute(sql, &row).await.map(drop).map_err(|error| fault::of(&error))
    }

    fn opened(&self, lane: i32) {
        self.opened[lane as usize].fetch_add(1, Ordering::SeqCst);
    }

    fn committed(&self, _: i32) {
        self.commits.fetch_add(1, Ordering::SeqCst);
    }
}

/// A Kafka with the streams `a` and `b`, and a database.
struct Lab {
    kafka: DevelopmentKafka,
    pool: Pool,
    producer: FutureProducer,
}

/// A running reader.
struct Member {
    service: Arc<Probe>,
    metrics: Metrics,
    registry: Registry,
    readiness: Readiness,
    token: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Lab {
    async fn new() -> Self {
        Self::with(&testing::database().await.unwrap()).await
    }

    async fn with(postgres: &Postgres) -> Self {
        let topics = [("a", PARTITIONS), ("b", PARTITIONS), ("a.lab.dlq", 1), ("b.lab.dlq", 1)];
        let kafka = DevelopmentKafka::start(&topics).unwrap();
        let pool = postgres.pool("lab", None).unwrap();
        pool.get().await.unwrap().batch_execute(TABLES).await.unwrap();
        let producer =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).set("linger.ms", "1").create();
        Self { kafka, pool, producer: producer.unwrap() }
    }

    fn settings(&self) -> Consumer {
        let mut kafka = Kafka::plaintext(self.kafka.bootstrap());
        for (name, value) in [("fetch.wait.max.ms", "10"), ("session.timeout.ms", "6000")] {
            kafka.properties.insert(name.to_owned(), value.to_owned());
        }
        Consumer::of_group("lab", kafka)
    }

    fn member(&self) -> Member {
        self.member_with(self.settings(), self.pool.clone(), Semaphore::MAX_PERMITS)
    }

    fn member_with(&self, settings: Consumer, pool: Pool, permits: usize) -> Member {
        let service = Arc::new(Probe {
            permits: [(); PARTITIONS as usize].map(|()| Semaphore::new(permits)),
            is_entered: AtomicBool::default(),
            commits: AtomicUsize::default(),
            opened: Default::default(),
        });
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let (readiness, token) = (Readiness::new(), CancellationToken::new());
        let reader = Reader {
            settings,
            name: "lab",
            schema: "lab",
            streams: vec!["a".to_owned(), "b".to_owned()],
            service: Arc::clone(&service),
            pool,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
        };
        let task = tokio::spawn(reader.run(token.clone()));
        Member { service, metrics, registry, readiness, token, task }
    }

    /// Writes records, one after the other, and returns when they are stored.
    async fn produce(&self, stream: &str, partition: i32, values: impl IntoIterator<Item: AsRef<str>>) {
        let mut stored = Vec::new();
        for value in values {
            let record = FutureRecord::to(stream).partition(partition).key("key").payload(value.as_ref());
            stored.push(self.producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
        for delivery in stored {
            delivery.await.unwrap().unwrap();
        }
    }

    /// Numbered values.
    async fn produce_many(&self, stream: &str, partition: i32, count: usize) {
        self.produce(stream, partition, (0..count).map(|n| n.to_string())).await;
    }

    async fn number(&self, query: &str) -> i64 {
        let Ok(client) = self.pool.get().await else { return -1 };
        client.query_one(query, &[]).await.and_then(|row| row.try_get(0)).unwrap_or(-1)
    }

    async fn execute(&self, statement: &str) {
        self.pool.get().await.unwrap().batch_execute(statement).await.unwrap();
    }

    /// Waits until a query gives a number.
    async fn until(&self, query: &str, expected: i64) {
        eventually(SOON, &format!("{expected} = {query}"), async || self.number(query).await == expected)
            .await;
    }

    async fn until_effects(&self, count: usize) {
        self.until("select count(*) from lab.effect", count as i64).await;
    }

    /// The offsets of one partition whose effects are stored, in the order of storing.
    async fn effects(&self, stream: &str, partition: i32) -> Vec<i64> {
        let sql = "select n from lab.effect where stream = $1 and partition = $2 order by id";
        let rows = self.pool.get().await.unwrap().query(sql, &[&stream, &partition]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

impl Member {
    fn reason(&self) -> String {
        self.readiness.reasons().remove("consumer").unwrap_or_default()
    }

    async fn until_ready(&self) {
        eventually(SOON, "a reader is ready", async || self.reason().is_empty()).await;
    }

    async fn until_reason(&self, expected: &str) {
        eventually(SOON, expected, async || self.reason().contains(expected)).await;
    }

    /// Waits until the metrics have this line.
    async fn until_metric(&self, line: &str) {
        let has_line = async || {
            let mut text = String::new();
            encode(&mut text, &self.registry).unwrap();
            text.lines().any(|own| own == line)
        };
        eventually(SOON, line, has_line).await;
    }

    /// Asks it to end, and waits until it has.
    async fn end(self) {
        self.token.cancel();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }

    /// Waits until it has failed.
    async fn failure(self) -> String {
        let end = tokio::time::timeout(SOON, self.task).await.unwrap().unwrap();
        format!("{:#}", end.unwrap_err())
    }
}

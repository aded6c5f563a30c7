//! Against the development Kafka and a private Postgres.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::publish::Outbox;
use super::table::Held;
use super::*;
use crate::kit::http::readiness::Readiness;
use crate::kit::kafka::development::{DevelopmentKafka, Stored};
use crate::kit::kafka::publisher::stream::Stream;
use crate::kit::kafka::publisher::tests::publisher;
use crate::kit::postgres::development::DevelopmentPostgres;
use crate::kit::postgres::{Postgres, testing};
use crate::kit::testing::{Seed, eventually};

const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;
const TABLE: &str = "lab.outbox";
const WAITING: &str = "select count(*) from lab.outbox where refused_at is null";

const DDL: &str = "
    create schema lab;
    create table lab.outbox (
        seq        bigint generated always as identity primary key,
        key        text        not null,
        value      bytea       not null,
        headers    jsonb       not null default '{}',
        created_at timestamptz not null default now(),
        refused_at timestamptz
    );
    create index outbox_waiting on lab.outbox (seq) where refused_at is null";

struct Lab {
    kafka: DevelopmentKafka,
    pool: Pool,
    commits: watch::Sender<u64>,
}

/// A running publisher.
struct Member {
    metrics: Metrics,
    readiness: Readiness,
    token: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Lab {
    async fn new() -> Self {
        Self::with(&testing::database().await.unwrap()).await
    }

    async fn with(postgres: &Postgres) -> Self {
        let kafka = DevelopmentKafka::start(&[("a", PARTITIONS), ("b", PARTITIONS)]).unwrap();
        Self::on(postgres, kafka).await
    }

    async fn on(postgres: &Postgres, kafka: DevelopmentKafka) -> Self {
        let pool = postgres.pool("lab", None).unwrap();
        pool.get().await.unwrap().batch_execute(DDL).await.unwrap();
        Self { kafka, pool, commits: watch::Sender::new(0) }
    }

    fn member(&self) -> Member {
        self.member_at(&self.kafka)
    }

    fn member_at(&self, kafka: &DevelopmentKafka) -> Member {
        let (readiness, token) = (Readiness::new(), CancellationToken::new());
        let outbox = Outbox {
            pool: self.pool.clone(),
            table: TABLE.to_owned(),
            publisher: publisher(kafka, Stream::like("a", "b")),
            condition: readiness.condition("outbox", "not yet looked at"),
            metrics: Metrics::default(),
            commits: self.commits.subscribe(),
        };
        let metrics = outbox.metrics.clone();
        let task = tokio::spawn(outbox.run(token.clone()));
        Member { metrics, readiness, token, task }
    }

    async fn write(&self, messages: &[Message]) {
        let mut client = self.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        insert(&transaction, TABLE, messages).await.unwrap();
        transaction.commit().await.unwrap();
        self.commits.send_modify(|count| *count += 1);
    }

    async fn number(&self, query: &str) -> i64 {
        let Ok(client) = self.pool.get().await else { return -1 };
        client.query_one(query, &[]).await.and_then(|row| row.try_get(0)).unwrap_or(-1)
    }

    async fn until(&self, query: &str, expected: i64) {
        eventually(SOON, &format!("{expected} = {query}"), async || self.number(query).await == expected)
            .await;
    }

    /// The values of each key in the order of their first copies, and how many copies there are.
    fn published(&self) -> (BTreeMap<String, Vec<String>>, usize) {
        let (mut first, mut copies) = (BTreeMap::<String, Vec<String>>::new(), 0);
        for partition in 0..PARTITIONS {
            for Stored { key, value, .. } in self.kafka.records("a", partition).unwrap() {
                let (values, value) = (first.entry(key).or_default(), String::from_utf8(value).unwrap());
                if !values.contains(&value) {
                    values.push(value);
                }
                copies += 1;
            }
        }
        (first, copies)
    }
}

impl Member {
    async fn end(self) {
        self.token.cancel();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }

    fn reason(&self) -> String {
        self.readiness.reasons().remove("outbox").unwrap_or_default()
    }
}

fn message(key: &str, value: impl ToString) -> Message {
    Message { key: key.to_owned(), value: value.to_string().into_bytes(), headers: Vec::new() }
}

#[tokio::test]
async fn rows_are_in_the_order_of_messages_or_not_at_all() {
    let lab = Lab::new().await;
    let headers = [("b", "2"), ("a", "ü\""), ("b", "3")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let mut messages: Vec<_> = (0..2_000).map(|n| message("k", n)).collect();
    messages[7].headers = headers.to_vec();
    lab.write(&[]).await;
    lab.write(&messages).await;
    let mut client = lab.pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    insert(&transaction, TABLE, &[message("k", "never")]).await.unwrap();
    transaction.rollback().await.unwrap();
    messages[7].headers = [("a", "ü\""), ("b", "3")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
    let held = Held::take(&lab.pool, TABLE).await.unwrap().unwrap();
    let rows = held.head(10_000, i64::MAX).await.unwrap();
    let found: Vec<_> = rows.into_iter().map(|row| row.message.unwrap()).collect();
    assert_eq!(found, messages);
}

#[tokio::test]
async fn a_batch_is_bounded_by_rows_and_by_bytes() {
    let lab = Lab::new().await;
    // 10 bytes each, with the key.
    lab.write(&(0..10).map(|_| message("k", "123456789")).collect::<Vec<_>>()).await;
    let held = Held::take(&lab.pool, TABLE).await.unwrap().unwrap();
    for (rows_max, bytes_max, expected) in [(4, 1_000, 4), (100, 1, 1), (100, 30, 3), (100, 31, 4)] {
        let rows = held.head(rows_max, bytes_max).await.unwrap();
        assert_eq!(rows.len(), expected, "{rows_max} {bytes_max}");
    }
}

#[tokio::test]
async fn one_holds_the_table_until_it_lets_go() {
    let lab = Lab::new().await;
    let held = Held::take(&lab.pool, TABLE).await.unwrap().unwrap();
    for _ in 0..20 {
        assert!(Held::take(&lab.pool, TABLE).await.unwrap().is_none());
    }
    // A table of the same name in another schema is another table.
    let client = lab.pool.get().await.unwrap();
    client.batch_execute("create table outbox (like lab.outbox)").await.unwrap();
    assert!(Held::take(&lab.pool, "outbox").await.unwrap().is_some());
    drop(held);
    let taken = async || Held::take(&lab.pool, TABLE).await.unwrap().is_some();
    eventually(SOON, "another one takes the table", taken).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_nothing_is_lost_and_keys_stay_in_order() {
    let mut random = Seed::of_this_run().random("whoever_dies_nothing_is_lost");
    let lab = Lab::new().await;
    let mut members = vec![lab.member(), lab.member()];
    let mut expected = BTreeMap::<String, Vec<String>>::new();
    for n in 0..60 {
        let messages: Vec<_> = (0..random.below(100))
            .map(|m| message(&format!("lock-{}", random.below(7)), format!("{n}.{m}")))
            .collect();
        for Message { key, value, .. } in &messages {
            expected.entry(key.clone()).or_default().push(String::from_utf8(value.clone()).unwrap());
        }
        lab.write(&messages).await;
        if random.chance(20) {
            // As if the process were gone: wherever it is.
            let dead = members.swap_remove(random.index(2));
            dead.task.abort();
            members.push(lab.member());
        }
    }
    lab.until(WAITING, 0).await;
    let (published, copies) = lab.published();
    assert_eq!(published, expected);
    let all = expected.values().map(Vec::len).sum::<usize>();
    assert!(copies >= all, "{copies} copies of {all}");
    for member in members {
        member.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_deaths_each_message_is_published_once() {
    let lab = Lab::new().await;
    let members = [lab.member(), lab.member()];
    for n in 0..50 {
        lab.write(&[message("k", 2 * n), message("k", 2 * n + 1)]).await;
    }
    lab.until(WAITING, 0).await;
    let expected = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(lab.published(), (BTreeMap::from([("k".to_owned(), expected)]), 100));
    let count = || members.iter().map(|member| member.metrics.published.get()).sum::<u64>();
    eventually(SOON, "all are counted", async || count() == 100).await;
    for member in members {
        assert_eq!(member.reason(), "");
        member.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_may_go_away_and_come_back() {
    let lab = Lab::new().await;
    let member = lab.member();
    lab.write(&[message("k", 0)]).await;
    lab.until(WAITING, 0).await;
    lab.kafka.go_down().unwrap();
    lab.write(&(1..1_000).map(|n| message("k", n)).collect::<Vec<_>>()).await;
    eventually(SOON, "the outage is seen", async || member.reason().starts_with("kafka: ")).await;
    assert_eq!(lab.number(WAITING).await, 999);
    lab.kafka.come_up().unwrap();
    lab.until(WAITING, 0).await;
    eventually(SOON, "the outage is over", async || member.reason().is_empty()).await;
    let expected = (0..1_000).map(|n| n.to_string()).collect();
    assert_eq!(lab.published().0, BTreeMap::from([("k".to_owned(), expected)]));
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_is_looked_for_before_there_is_anything_to_publish() {
    let kafka = DevelopmentKafka::start(&[("a", PARTITIONS)]).unwrap();
    let lab = Lab::on(&testing::database().await.unwrap(), kafka).await;
    let member = lab.member();
    let expected = "kafka: stream b is not there yet";
    eventually(SOON, expected, async || member.reason() == expected).await;
    lab.kafka.create_topic("b", PARTITIONS).unwrap();
    eventually(SOON, "it is ready", async || member.reason().is_empty()).await;
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_reach_kafka_leaves_it_to_others() {
    let lab = Lab::new().await;
    let away = DevelopmentKafka::start(&[]).unwrap();
    away.go_down().unwrap();
    let lonely = lab.member_at(&away);
    lab.write(&[message("k", 0)]).await;
    eventually(SOON, "the outage is seen", async || lonely.reason().starts_with("kafka: ")).await;
    let other = lab.member();
    lab.until(WAITING, 0).await;
    assert_eq!((lonely.metrics.published.get(), lab.published().1), (0, 1));
    other.end().await;
    lonely.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_go_away_and_come_back() {
    let mut server = DevelopmentPostgres::start().unwrap();
    let lab = Lab::with(&server.settings("postgres")).await;
    let member = lab.member();
    lab.write(&[message("k", 0)]).await;
    lab.until(WAITING, 0).await;
    server.stop();
    eventually(SOON, "the outage is seen", async || member.reason().starts_with("postgres: ")).await;
    server.resume().unwrap();
    eventually(SOON, "the outage is over", async || member.reason().is_empty()).await;
    lab.write(&[message("k", 1)]).await;
    lab.until(WAITING, 0).await;
    let expected = vec!["0".to_owned(), "1".to_owned()];
    assert_eq!(lab.published().0, BTreeMap::from([("k".to_owned(), expected)]));
    assert!(member.metrics.failures.get() > 0);
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_good_blocks_nobody() {
    let lab = Lab::new().await;
    lab.write(&[message("k", 0), message("k", "x".repeat(2_000_000)), message("k", 2)]).await;
    let client = lab.pool.get().await.unwrap();
    let unreadable = "insert into lab.outbox (key, value, headers) values ('k', '', '[1]')";
    client.batch_execute(unreadable).await.unwrap();
    lab.write(&[message("k", 4)]).await;
    let member = lab.member();
    lab.until(WAITING, 0).await;
    let expected = ["0", "2", "4"].map(str::to_owned).to_vec();
    assert_eq!(lab.published(), (BTreeMap::from([("k".to_owned(), expected)]), 3));
    assert_eq!(
        lab.number("select sum(seq)::bigint from lab.outbox where refused_at is not null").await,
        2 + 4
    );
    eventually(SOON, "both are counted", async || member.metrics.refused.get() == 2).await;
    assert_eq!(member.reason(), "");
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_not_there_is_a_bug() {
    let lab = Lab::new().await;
    lab.pool.get().await.unwrap().batch_execute("drop table lab.outbox").await.unwrap();
    let end = tokio::time::timeout(SOON, lab.member().task).await.unwrap().unwrap();
    let error = end.unwrap_err().to_string();
    assert!(error.starts_with("outbox lab.outbox: postgres: "), "{error}");
}

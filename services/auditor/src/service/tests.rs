//! Against a real server, in the role that the service has there.

use std::collections::BTreeMap;

use deadpool_postgres::{Object, Pool};
use latchline_shared::command::Action;
use latchline_shared::finding::FindingRecord;
use latchline_shared::kit::http::readiness::Readiness;
use latchline_shared::kit::kafka::client::Kafka;
use latchline_shared::kit::kafka::development::DevelopmentKafka;
use latchline_shared::kit::kafka::publisher::Publisher;
use latchline_shared::kit::kafka::publisher::stream::Stream;
use latchline_shared::kit::outbox::publish::Outbox;
use latchline_shared::kit::postgres::Role;
use latchline_shared::kit::testing::eventually;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::event::Row;
use crate::history::tests::{database, rows};
use crate::judge::tests::acts::{
    Act, LANE, LOCK, START_MS, command, delivered, keys, record, records, settings, short, state, state_with,
    streams,
};

/// An auditor, its database, and the database's owner.
struct App {
    auditor: Auditor,
    registry: Registry,
    pool: Pool,
    owner: Client,
}

const SOON: Duration = Duration::from_secs(30);
const LANE_NUMBER: i32 = LANE as i32;

impl App {
    async fn start() -> Self {
        let (postgres, owner) = database().await;
        let mut registry = Registry::default();
        let auditor = Auditor::new(settings(), streams(), keys(), Metrics::new(&mut registry)).announcing();
        let pool = postgres.pool("tests", Some(Role("latchline_auditor"))).unwrap();
        Self { auditor, registry, pool, owner }
    }

    async fn client(&self) -> Object {
        self.pool.get().await.unwrap()
    }

    async fn store(&self, batch: &[Decoded<Item>]) {
        let mut client = self.client().await;
        let transaction = client.transaction().await.unwrap();
        self.auditor.store(&transaction, LANE_NUMBER, batch).await.unwrap();
        transaction.commit().await.unwrap();
        self.auditor.committed(LANE_NUMBER);
    }

    async fn idle(&self, after_ms: i64) {
        let mut client = self.client().await;
        let transaction = client.transaction().await.unwrap();
        self.auditor.idle(&transaction, LANE_NUMBER, START_MS + after_ms).await.unwrap();
        transaction.commit().await.unwrap();
        self.auditor.committed(LANE_NUMBER);
    }

    async fn rows(&self) -> Vec<Row> {
        rows(&self.owner, LANE).await
    }

    async fn history(&self) -> Vec<String> {
        self.rows().await.iter().map(|row| short(&row.event)).collect()
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("select count(*) from auditor.{table}");
        self.owner.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Puts the whole past so far back.
    async fn age(&self, days: i32) {
        let sql = format!(
            "update auditor.nonce set first_at = first_at - interval '{days} days',
                 expires_at = expires_at - interval '{days} days';
             update auditor.process set updated_at = updated_at - interval '{days} days'"
        );
        self.owner.batch_execute(&sql).await.unwrap();
    }
}

fn unlock(process_id: &str, nonce: &str) -> String {
    command(LOCK, Action::Unlock, process_id, nonce, START_MS)
}

#[tokio::test]
async fn a_batch_that_was_rolled_back_is_judged_as_if_it_were_new() {
    let app = App::start().await;
    let batch = records(&[(0, delivered(&unlock("p1", "nonce001"), 1)), (900, state("p1", "unlock", 1))]);
    let mut client = app.client().await;
    let transaction = client.transaction().await.unwrap();
    app.auditor.store(&transaction, LANE_NUMBER, &batch).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(app.history().await, [""; 0]);
    app.store(&batch).await;
    assert_eq!(app.history().await, ["command ok", "result ok"]);
    let mut metrics = String::new();
    encode(&mut metrics, &app.registry).unwrap();
    assert!(metrics.contains("judge_verdicts_total{kind=\"command\",verdict=\"ok\"} 1"), "{metrics}");
    assert!(metrics.contains("judge_results_total{outcome=\"ok\"} 1"), "{metrics}");
    assert_eq!(*app.auditor.commits().borrow(), 1);
}

/// What is to be published: verdict and findings, and the place in the chain.
async fn announced(app: &App) -> Vec<(String, i64)> {
    let rows = app.owner.query("select key, value from auditor.outbox order by seq", &[]).await.unwrap();
    let told = |row: &tokio_postgres::Row| {
        let record: FindingRecord = serde_json::from_slice(row.get(1)).unwrap();
        assert_eq!((row.get::<_, &str>(0), record.chain_id), (record.client_id.as_str(), LANE));
        (format!("{} {}", record.verdict, record.findings.join("+")).trim().to_owned(), record.seq)
    };
    rows.iter().map(told).collect()
}

#[tokio::test]
async fn what_is_wrong_is_announced_with_the_transaction_that_finds_it() {
    let app = App::start().await;
    let gap = Gap { stream: "message_state".into(), partition: LANE_NUMBER, from: 5, to: 9 };
    let batch = records(&[
        (0, delivered(&unlock("p1", "nonce001"), 1)),
        (900, state("p1", "unlock", 1)),
        (1_000, delivered(&unlock("p2", "nonce001"), 2)),
        (2_000, delivered(&unlock("p3", "nonce003"), 3)),
    ]);
    let announcements = app.auditor.announced().unwrap();
    let mut client = app.client().await;
    let transaction = client.transaction().await.unwrap();
    app.auditor.store(&transaction, LANE_NUMBER, &batch).await.unwrap();
    app.auditor.lost(&transaction, &gap).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(announced(&app).await, []);
    assert!(!announcements.has_changed().unwrap());

    app.store(&batch).await;
    assert!(announcements.has_changed().unwrap());
    app.idle(90_000).await;
    let transaction = client.transaction().await.unwrap();
    app.auditor.lost(&transaction, &gap).await.unwrap();
    transaction.commit().await.unwrap();
    let expected = [("nonce_conflict", 3), ("no_result", 5), ("log_truncated", 6)];
    assert_eq!(announced(&app).await, expected.map(|(words, seq)| (words.to_owned(), seq)));
}

#[tokio::test]
async fn without_a_stream_nothing_is_announced() {
    let mut app = App::start().await;
    app.auditor = Auditor::new(settings(), streams(), keys(), Metrics::new(&mut Registry::default()));
    app.store(&records(&[(0, delivered("nonsense", 1))])).await;
    assert_eq!(app.history().await, ["command malformed"]);
    assert_eq!(app.count("outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_on_the_stream_when_it_is_committed() {
    let kafka = DevelopmentKafka::start(&[("message_state", 6), ("audit_finding", 6)]).unwrap();
    let app = App::start().await;
    let (readiness, token) = (Readiness::new(), CancellationToken::new());
    let config = Kafka::plaintext(kafka.bootstrap()).client_config("tests").unwrap();
    let outbox = Outbox {
        pool: app.pool.clone(),
        table: findings::TABLE.to_owned(),
        publisher: Publisher::new("tests", config, Stream::like("audit_finding", "message_state")).unwrap(),
        condition: readiness.condition("findings", "not yet looked at"),
        metrics: latchline_shared::kit::outbox::metrics::Metrics::default(),
        commits: app.auditor.announced().unwrap(),
    };
    let publishing = tokio::spawn(outbox.run(token.clone()));
    let payload = unlock("p1", "nonce001");
    app.store(&records(&[(0, delivered(&payload, 1)), (70_000, delivered(&payload, 2))])).await;
    assert_eq!(app.history().await, ["command ok", "command replay"]);
    eventually(SOON, "all is published", async || app.count("outbox").await == 0).await;
    let stored: Vec<_> =
        (0..6).flat_map(|partition| kafka.records("audit_finding", partition).unwrap()).collect();
    let [record] = &stored[..] else { panic!("{stored:?}") };
    let finding: FindingRecord = serde_json::from_slice(&record.value).unwrap();
    assert_eq!((record.key.as_str(), finding.client_id.as_str()), (LOCK, LOCK));
    assert_eq!((finding.verdict.as_str(), finding.severity.as_str()), ("replay", "critical"));
    assert_eq!((finding.at, finding.chain_id, finding.seq), (START_MS + 70_000, LANE, 2));
    assert!(readiness.reasons().is_empty());
    token.cancel();
    publishing.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_read_back_is_what_was_written() {
    let app = App::start().await;
    let payload = unlock("p1", "nonce001");
    let again = |from: &str, mid, dup| {
        let (receiver, from, lock) = (LOCK.to_owned(), from.to_owned(), LOCK.to_owned());
        Act::Deliver { receiver, from, lock, payload: payload.clone(), mid, dup }
    };
    let acts = [
        (0, delivered(&payload, 1)),
        (1, state("p1", "unlock", 1)),
        (10, again("backend", 1, false)),
        (20, again("backend", 2, true)),
        (30, again("eve", 4, true)),
        (40, delivered(&unlock("p2", "nonce001"), 5)),
        (50, delivered(&unlock("p1", "nonce002"), 6)),
        (60, state("p1", "unlock", 1)),
        (70, state("p1", "unlock", 0)),
        (80, state("p1", "unlock", 0)),
    ];
    // Each in a transaction of its own.
    for record in records(&acts) {
        app.store(&[record]).await;
    }
    let expected = [
        "command ok",
        "result ok",
        "command duplicate",
        "command retransmit",
        "command replay",
        "command nonce_conflict",
        "command ok process_id_reuse",
        "change",
    ];
    assert_eq!(app.history().await, expected);
    // And all in one.
    let other = App::start().await;
    other.store(&records(&acts)).await;
    assert_eq!(other.history().await, expected);
}

#[tokio::test]
async fn sixty_heartbeats_are_one_result_and_write_nothing() {
    let app = App::start().await;
    app.store(&records(&[(0, delivered(&unlock("p1", "nonce001"), 1))])).await;
    for minute in 0..60 {
        app.store(&[record(&state("p1", "unlock", 1), START_MS + 900 + minute * 60_000, minute)]).await;
    }
    assert_eq!(app.history().await, ["command ok", "result ok"]);
    assert_eq!(
        (app.count("process").await, app.count("lock_state").await, app.count("lane").await),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_result_that_is_missing_is_told_once() {
    let app = App::start().await;
    app.store(&records(&[(0, delivered(&unlock("p1", "nonce001"), 1)), (0, state("", "", 0))])).await;
    app.idle(34_999).await;
    assert_eq!(app.history().await, ["command ok", "change"], "records may be on their way");
    app.idle(35_001).await;
    app.idle(36_000).await;
    assert_eq!(app.history().await, ["command ok", "change", "finding no_result"]);
    let row = app.rows().await.pop().unwrap();
    assert_eq!((row.event.occurred_at_ms, row.event.place.stream.as_str()), (START_MS + 30_000, ""));
    // Late, but the result.
    app.store(&[record(&state("p1", "unlock", 1), START_MS + 40_000, 1)]).await;
    app.idle(90_000).await;
    assert_eq!(app.history().await.split_off(3), ["result ok"]);
}

#[tokio::test]
async fn a_result_may_come_before_its_command() {
    let app = App::start().await;
    app.store(&records(&[(0, state("p1", "unlock", 1)), (1, state("p2", "unlock", 1))])).await;
    app.store(&[record(&delivered(&unlock("p1", "nonce001"), 1), START_MS + 100, 0)]).await;
    app.idle(60_000).await;
    let expected = ["result ok", "result ok", "command ok", "finding orphan_result"];
    assert_eq!(app.history().await, expected);
    assert_eq!(app.rows().await[3].event.process_id.as_deref(), Some("p2"));
}

#[tokio::test]
async fn a_report_that_speaks_for_another_changes_nothing() {
    let app = App::start().await;
    let Act::State { payload, .. } = state("p1", "unlock", 1) else { panic!("a state") };
    let forged = Act::State { publisher: "eve".to_owned(), lock: LOCK.to_owned(), payload };
    app.store(&records(&[(0, delivered(&unlock("p1", "nonce001"), 1)), (10, forged)])).await;
    assert_eq!(app.history().await, ["command ok", "finding identity_mismatch"]);
    assert_eq!(app.count("lock_state").await, 0);
    app.store(&[record(&state("p1", "unlock", 0), START_MS + 20, 2)]).await;
    assert_eq!(app.history().await.pop().unwrap(), "result failed", "the lock's own word counts");
}

#[tokio::test]
async fn no_text_makes_postgres_refuse() {
    let app = App::start().await;
    let long = "x".repeat(3_000);
    let deliver = |receiver: &str, from: &str, lock: &str, payload: &str| Act::Deliver {
        receiver: receiver.to_owned(),
        from: from.to_owned(),
        lock: lock.to_owned(),
        payload: payload.to_owned(),
        mid: 0,
        dup: false,
    };
    let signed_of_long = command(&long, Action::Lock, "p1", "nonce001", START_MS);
    app.store(&records(&[
        (0, deliver("a\0", "b\0", "c\0", "nonsense\0")),
        (1, deliver(&long, &long, &long, &signed_of_long)),
        (2, state_with("\\u0000", "\\u0000", 1, "")),
        (3, state_with(&long, "unlock", 0, "")),
        (4, Act::State { publisher: "\0".to_owned(), lock: "\0".to_owned(), payload: "\0".to_owned() }),
        // Years beyond every calendar.
        (5, delivered(&command(LOCK, Action::Lock, "p1", "nonce001", 9_007_199_254_740_991_000), 1)),
    ]))
    .await;
    let expected = [
        "command malformed unexpected_receiver",
        "command ok",
        "change",
        "result failed",
        "finding invalid_report",
        "command future",
    ];
    assert_eq!(app.history().await, expected);
    assert_eq!(app.count("nonce").await, 2);
}

#[tokio::test]
async fn what_is_over_is_forgotten_but_for_what_heartbeats_repeat() {
    let app = App::start().await;
    let batch = [
        (0, delivered(&unlock("p1", "nonce001"), 1)),
        (10, state("p1", "unlock", 1)),
        (20, delivered(&unlock("p2", "nonce002"), 2)),
        (30, state("p2", "unlock", 1)),
    ];
    app.store(&records(&batch)).await;
    app.age(29).await;
    *app.auditor.cleaned_at.lock().unwrap() = None;
    app.idle(100_000).await;
    assert_eq!((app.count("nonce").await, app.count("process").await), (0, 2));
    app.age(2).await;
    *app.auditor.cleaned_at.lock().unwrap() = None;
    app.idle(101_000).await;
    let left: String =
        app.owner.query_one("select process_id from auditor.process", &[]).await.unwrap().get(0);
    assert_eq!(left, "p2");
    app.store(&[record(&state("p2", "unlock", 1), START_MS + 110_000, 4)]).await;
    assert_eq!(app.history().await.len(), 4, "a heartbeat is no result, however old its process is");
}

#[tokio::test]
async fn a_gap_in_the_stream_is_history() {
    let app = App::start().await;
    let mut client = app.client().await;
    let transaction = client.transaction().await.unwrap();
    let gap = Gap { stream: "message_state".into(), partition: LANE_NUMBER, from: 5, to: 9 };
    app.auditor.lost(&transaction, &gap).await.unwrap();
    transaction.commit().await.unwrap();
    let rows = app.rows().await;
    assert_eq!(short(&rows[0].event), "finding log_truncated");
    assert_eq!((rows[0].event.place.offset, rows[0].event.severity.name()), (5, "critical"));
}

#[tokio::test]
async fn other_keys_count_for_what_is_read_from_then_on() {
    let app = App::start().await;
    let record = records(&[(0, delivered(&unlock("p1", "nonce001"), 1))]).pop().unwrap().record;
    app.auditor.set_keys(Keys::default());
    let item = app.auditor.decode(&record).unwrap();
    app.store(&[Decoded { record, item }]).await;
    assert_eq!(app.history().await, ["command unverifiable"]);
}

#[tokio::test]
async fn five_hundred_commands_in_one_batch() {
    let app = App::start().await;
    let mut acts: BTreeMap<i64, Act> = BTreeMap::new();
    for n in 0..500 {
        let payload = unlock(&format!("p{n}"), &format!("nonce{n:03}"));
        acts.insert(n, delivered(&payload, 1));
    }
    let batch = records(&acts.into_iter().collect::<Vec<_>>());
    app.store(&batch).await;
    assert_eq!((app.count("nonce").await, app.count("process").await), (500, 500));
    assert_eq!(app.rows().await.len(), 500);
}

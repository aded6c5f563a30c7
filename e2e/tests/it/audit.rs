//! The auditor as a process: every record is in its history once, whatever dies.

use std::process::Command;
use std::time::Duration;

use latchline_e2e::feed::{Feed, Scene};
use latchline_e2e::kafka::Kafka;
use latchline_e2e::stack::audit::{Audit, LISTENERS};
use latchline_e2e::stack::program::Program;
use latchline_e2e::stack::secrets::Secrets;
use latchline_e2e::stack::{COMMANDS, PARTITIONS, REJECTED, STATES};
use latchline_shared::kit::clock;
use latchline_shared::kit::testing::{Random, Seed, eventually};
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::support::{self, DEADLINE};

const LOCKS: u64 = 500;
/// Longest wait for many thousand records.
const LONG: Duration = Duration::from_secs(240);
/// A member that was killed is missed after this time at most; Kafka's shortest.
const SESSION_TIMEOUT: &str =
    r#"{ "fetch.wait.max.ms" = "10", "session.timeout.ms" = "6000", "heartbeat.interval.ms" = "1000" }"#;

/// Feeds scenes and knows how many records there are.
struct Source {
    feed: Feed,
    secrets: Secrets,
    scenes: u64,
}

impl Source {
    async fn open(kafka: &Kafka) -> Self {
        for stream in [STATES, COMMANDS, REJECTED] {
            kafka.create_stream(stream, PARTITIONS).await.unwrap();
        }
        let feed = Feed::open(&kafka.bootstrap()).unwrap();
        Self { feed, secrets: Secrets::random().unwrap(), scenes: 0 }
    }

    /// Puts the next `count` commands and their results into the streams.
    fn play(&mut self, count: u64) {
        for n in self.scenes..self.scenes + count {
            let lock = format!("{:017}", n % LOCKS);
            let scene = Scene { lock: &lock, n, ts_ms: clock::unix_ms() };
            self.feed.send(COMMANDS, &scene.command(&self.secrets.master).unwrap()).unwrap();
            self.feed.send(STATES, &scene.result()).unwrap();
        }
        self.scenes += count;
        self.feed.flush().unwrap();
    }

    fn records(&self) -> i64 {
        i64::try_from(self.scenes * 2).unwrap()
    }
}

async fn events(client: &Client) -> i64 {
    let sum = "select coalesce(sum(seq), 0)::bigint from auditor.chain_head where chain_id <> 32767";
    client.query_one(sum, &[]).await.unwrap().get(0)
}

async fn eventually_all(client: &Client, source: &Source) {
    eventually(LONG, "every record is an event", async || events(client).await >= source.records()).await;
}

/// Every record is there once, judged rightly, and the chains are whole.
async fn check(audit: &Audit, client: &Client, source: &Source) {
    let rows = client
        .query(
            "select kind, verdict, count(*), count(distinct (k_topic, k_partition, k_offset)),
                    count(*) filter (where cardinality(findings) > 0)
             from auditor.event where chain_id <> 32767 group by kind, verdict order by kind",
            &[],
        )
        .await
        .unwrap();
    let found: Vec<(String, String, i64, i64, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect();
    let half = source.records() / 2;
    let expected = |kind: &str| (kind.to_owned(), "ok".to_owned(), half, half, 0);
    assert_eq!(found, [expected("command"), expected("result")]);
    let gaps = "select count(*) from (
        select h.chain_id from auditor.chain_head h join auditor.event e using (chain_id)
        group by h.chain_id, h.seq
        having h.seq <> count(*) or min(e.seq) <> 1 or count(distinct e.seq) <> count(*)) as broken";
    assert_eq!(client.query_one(gaps, &[]).await.unwrap().get::<_, i64>(0), 0, "chains with gaps");
    let verified = verify(audit, &[]);
    assert!(verified.status.success(), "{verified:?}");
}

fn verify(audit: &Audit, arguments: &[&str]) -> std::process::Output {
    let mut command: Command = audit.auditor.command().unwrap();
    command.arg("verify").args(arguments).output().unwrap()
}

async fn restart(program: &mut Program) {
    program.kill().unwrap();
    program.start(&LISTENERS).await.unwrap();
}

/// `kill -9` fifty times during 100,000 records, while a second instance comes and goes.
#[tokio::test(flavor = "multi_thread")]
async fn killed_fifty_times_it_forgets_and_repeats_nothing() {
    const KILLS: u64 = 50;
    let Some(kafka) = support::chosen().await else { return };
    let mut random: Random = Seed::of_this_run().random("killed_fifty_times");
    let mut source = Source::open(&kafka).await;
    let settings = [("consumer.kafka.properties", SESSION_TIMEOUT), ("consumer.instance_id", "one")];
    let mut audit = Audit::start(&kafka, &source.secrets, &settings).await.unwrap();
    let mut second = audit.another(&[("consumer.instance_id", "")]).unwrap();
    for program in [&mut audit.auditor, &mut second] {
        // Members that vanish, and connections that are cut, are what this is about.
        program.expect("membership");
        program.expect("kafka");
    }
    let client = audit.connect().await.unwrap();
    for kill in 0..KILLS {
        let before = events(&client).await;
        source.play(1_000);
        let progress = i64::try_from(random.below(1_500)).unwrap() + 1;
        eventually(LONG, "some progress", async || events(&client).await >= before + progress).await;
        match kill % 10 {
            3 => second.start(&LISTENERS).await.unwrap(),
            5 => restart(&mut second).await,
            8 => second.stop().await.unwrap(),
            _ => {}
        }
        restart(&mut audit.auditor).await;
    }
    eventually_all(&client, &source).await;
    check(&audit, &client, &source).await;
    audit.auditor.stop().await.unwrap();
}

/// Postgres is away for a minute: the auditor waits, says why it is not ready, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_postgres() {
    const OUTAGE: Duration = Duration::from_secs(60);
    let kafka = support::development().await;
    let mut source = Source::open(&kafka).await;
    let mut audit = Audit::start(&kafka, &source.secrets, &[]).await.unwrap();
    for announced in ["postgres", "Postgres", "checkpoints are not made"] {
        audit.auditor.expect(announced);
    }
    let client = audit.connect().await.unwrap();
    source.play(500);
    eventually_all(&client, &source).await;
    drop(client);

    audit.postgres.stop();
    let stopped_at = Instant::now();
    while stopped_at.elapsed() < OUTAGE {
        source.play(50);
        let ready = audit.get("/readyz").await.unwrap();
        let (status, text) = (ready.status().as_u16(), ready.text().await.unwrap());
        if status == 503 {
            assert!(text.contains("postgres"), "{text}");
        } else {
            assert!(stopped_at.elapsed() < Duration::from_secs(15), "ready without Postgres: {text}");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    audit.postgres.resume().unwrap();
    let client = audit.connect().await.unwrap();
    eventually_all(&client, &source).await;
    eventually(DEADLINE, "it is ready again", async || {
        audit.get("/readyz").await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    check(&audit, &client, &source).await;
    audit.auditor.stop().await.unwrap();
}

/// What a superuser does to the history is found and located.
#[tokio::test(flavor = "multi_thread")]
async fn tampering_is_located() {
    let kafka = support::development().await;
    let mut source = Source::open(&kafka).await;
    let mut audit = Audit::start(&kafka, &source.secrets, &[]).await.unwrap();
    // It says so when a chain contradicts its checkpoint.
    audit.auditor.expect("checkpoint");
    let client = audit.connect().await.unwrap();
    source.play(200);
    eventually_all(&client, &source).await;
    check(&audit, &client, &source).await;

    let victim =
        "(chain_id, seq) = (select chain_id, seq from auditor.event where seq = 7 order by chain_id limit 1)";
    let chain: i16 = client
        .query_one(&format!("select chain_id from auditor.event where {victim}"), &[])
        .await
        .unwrap()
        .get(0);
    let change =
        format!("update auditor.event set raw = set_byte(raw, 10, get_byte(raw, 10) # 1) where {victim}");
    assert_eq!(client.execute(&change, &[]).await.unwrap(), 1);
    check_located(&audit, &[], &format!("chain {chain}: row 7:"));

    client.execute(&change, &[]).await.unwrap();
    // Whoever cuts off a chain's end, and its head with it, has the notes against him.
    let covered = async || {
        let size = "select coalesce(max(size), 0) from auditor.checkpoint where chain_id = $1 and 'file' = any (published_to)";
        client.query_one(size, &[&chain]).await.unwrap().get::<_, i64>(0)
    };
    eventually(DEADLINE, "the end is signed", async || covered().await >= 10).await;
    let cut = format!(
        "delete from auditor.event where chain_id = {chain} and seq > 8;
         update auditor.chain_head h set seq = 8, chain_hash = e.chain_hash, detail_hash = e.detail_hash
         from auditor.event e where h.chain_id = {chain} and e.chain_id = {chain} and e.seq = 8;
         delete from auditor.checkpoint where chain_id = {chain}"
    );
    client.batch_execute(&cut).await.unwrap();
    assert!(verify(&audit, &[]).status.success(), "nobody can tell without the notes");
    let (notes, key) = (audit.notes().display().to_string(), audit.verifier().unwrap());
    check_located(&audit, &["--checkpoint", &notes, "--key", &key], &format!("chain {chain}: row 9:"));
    drop(audit);
}

fn check_located(audit: &Audit, arguments: &[&str], expected: &str) {
    let verified = verify(audit, arguments);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains(expected), "{said}");
}

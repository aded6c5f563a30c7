//! The notifier as a process: who wants to hear of it hears of it, once, whatever dies.

use std::collections::BTreeSet;
use std::time::Duration;

use latchline_e2e::feed::{self, Feed, Report, Scene};
use latchline_e2e::stack::STATES;
use latchline_e2e::stack::monitor::Monitor;
use latchline_e2e::stack::notifier::{LISTENERS, NO_LIMITS, Notifier, User};
use latchline_e2e::stack::program::Program;
use latchline_shared::kit::clock;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use latchline_shared::kit::testing::{Random, Seed, eventually};
use tokio_postgres::Client;

use crate::support::{self, DEADLINE};

const SAMPLE: &[u8] = br#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
const SAMPLE_LOCK: &str = "10083618796833171";
/// Longest wait for many thousand messages.
const LONG: Duration = Duration::from_secs(300);
fn user(n: u64, lock: &str) -> User {
    User { id: format!("user-{n}"), phone: 9_000_000_000 + n, locks: vec![lock.to_owned()] }
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_result_is_one_mail_and_one_sms() {
    let kafka = support::development().await;
    let mut notifier = Notifier::start(&kafka, &[user(1, SAMPLE_LOCK)], &[]).await.unwrap();
    let client = notifier.connect().await.unwrap();
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let now_ms = clock::unix_ms();
    // What a heartbeat repeats is no second result.
    for heartbeat in 0..=60 {
        feed.send(STATES, &feed::report(SAMPLE_LOCK, SAMPLE, now_ms + heartbeat)).unwrap();
    }
    feed.flush().unwrap();
    let read = "select coalesce(sum(next_offset), 0)::bigint from consumer_offset";
    eventually(DEADLINE, "all are read", async || count(&client, read).await == 61).await;
    let sent = "select count(*) from notification where status = 'sent'";
    eventually(DEADLINE, "both are sent", async || count(&client, sent).await == 2).await;
    assert_eq!(count(&client, "select count(*) from notification").await, 2);

    let mails = notifier.mail.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["user-1@example.com"]);
    let mail = String::from_utf8(mails[0].raw.clone()).unwrap();
    for part in
        ["Auto-Submitted: auto-generated", "To: user-1@example.com", "Front door", "multipart/alternative"]
    {
        assert!(mail.contains(part), "{part} is not in {mail}");
    }
    let sms = notifier.sms.requests();
    assert_eq!(sms.len(), 1);
    let body = sms[0].json();
    assert_eq!(body["to"], "+819000000001");
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("Front door") && text.contains("83"), "{text}");
    assert!(text.encode_utf16().count() <= 70, "{text}");

    let list = notifier.json("/v1/notifications?client_id=10083618796833171").await.unwrap();
    let list = list["notifications"].as_array().unwrap();
    let addresses: BTreeSet<&str> = list.iter().map(|one| one["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["+81******0001", "u***@example.com"].into());
    for one in list {
        assert_eq!((one["event_type"].as_str(), one["status"].as_str()), (Some("unlocked"), Some("sent")));
        assert_eq!(one["process_id"], "7802441525528958");
        let path = format!("/v1/notifications/{}", one["id"].as_str().unwrap());
        let attempts = notifier.json(&path).await.unwrap()["attempts"].clone();
        assert_eq!(attempts.as_array().unwrap().len(), 1);
        assert_eq!(attempts[0]["outcome"], "accepted");
    }
    notifier.notifier.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_monitor_raises_and_ends_is_told() {
    let kafka = support::development().await;
    let mut monitor = Monitor::start(&kafka, "", &[]).await.unwrap();
    let mut notifier = Notifier::start(&kafka, &[user(1, "jammed")], &[]).await.unwrap();
    let client = notifier.connect().await.unwrap();
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let now_ms = clock::unix_ms();
    let told = "select coalesce(string_agg(concat_ws(' ', event_type, severity, facts ->> 'change'), ', '
            order by facts ->> 'at_ms'), '') from notification where channel = 'email' and status = 'sent'";
    let mut expected = Vec::new();
    for (n, (lock_state, change)) in [(2, "raised"), (0, "returned_to_normal")].into_iter().enumerate() {
        feed.send(STATES, &Report { lock_state, ..Report::of("jammed", now_ms + n as u64) }.record())
            .unwrap();
        feed.flush().unwrap();
        expected.push(format!("lock_fault critical {change}"));
        eventually(DEADLINE, change, async || {
            client.query_one(told, &[]).await.unwrap().get::<_, String>(0) == expected.join(", ")
        })
        .await;
    }
    assert_eq!(notifier.arrivals().unwrap().len(), 4);
    monitor.monitor.stop().await.unwrap();
    notifier.notifier.stop().await.unwrap();
}

/// Another process in the place of one that was killed. It waits for nobody whom Kafka still takes
/// for alive: the offsets are in Postgres.
fn fresh(notifier: &Notifier, n: u64) -> Program {
    let group = format!("latchline-notifier-{n}");
    let mut program = notifier.another(&[("consumer.group", &group)]).unwrap();
    // Members that vanish are what this is about, and attempts whose end nobody saw.
    program.expect("kafka");
    program.expect("ambiguous");
    program
}

/// `kill -9` fifty times while 10,000 results are worked off.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_macros, reason = "how much was ambiguous is worth knowing")]
async fn killed_fifty_times_it_loses_nothing_and_repeats_only_what_was_ambiguous() {
    const KILLS: u64 = 50;
    const LOCKS: u64 = 500;
    const RESULTS: u64 = 10_000;
    let kafka = support::development().await;
    let lock = |n: u64| format!("{:017}", n % LOCKS);
    let users: Vec<User> = (0..LOCKS).map(|n| user(n, &lock(n))).collect();
    let mut settings = NO_LIMITS.to_vec();
    // A lease is as long as an attempt may take.
    settings.push(("email.send_timeout_ms", "2000"));
    let postgres = tokio::task::spawn_blocking(DevelopmentPostgres::start).await.unwrap().unwrap();
    let mut notifier = Notifier::prepare(postgres, &kafka, &users, &settings).await.unwrap();
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let now_ms = clock::unix_ms();
    for n in 0..RESULTS {
        feed.send(STATES, &Scene { lock: &lock(n), n, ts_ms: now_ms }.result()).unwrap();
    }
    feed.flush().unwrap();

    let mut random: Random = Seed::of_this_run().random("killed_fifty_times_notify");
    notifier.notifier.start(&LISTENERS).await.unwrap();
    let client = notifier.connect().await.unwrap();
    let arrived = |notifier: &Notifier| notifier.mail.counts().accepted + notifier.sms.count();
    let mut latest: Option<Program> = None;
    for kill in 0..KILLS {
        let more = random.below(2 * RESULTS / KILLS);
        let wanted = (arrived(&notifier) + more).min(2 * RESULTS);
        eventually(LONG, "some progress", async || arrived(&notifier) >= wanted).await;
        match &mut latest {
            Some(program) => program.kill().unwrap(),
            None => notifier.notifier.kill().unwrap(),
        }
        let mut next = fresh(&notifier, kill);
        next.start(&LISTENERS).await.unwrap();
        latest = Some(next);
    }
    let open = "select count(*) from notification where status in ('pending', 'sending')";
    let all = "select count(*) from notification";
    eventually(LONG, "all is worked off", async || {
        count(&client, all).await == 2 * RESULTS as i64 && count(&client, open).await == 0
    })
    .await;
    latest.unwrap().stop().await.unwrap();

    // One for each result and channel, and each arrived.
    let each =
        "select count(*) from (select distinct client_id, process_id, channel from notification) as each";
    assert_eq!(count(&client, each).await, 2 * RESULTS as i64);
    let rows =
        client.query("select id::text, status, ambiguous, attempts from notification", &[]).await.unwrap();
    let mut arrivals = notifier.arrivals().unwrap();
    let mut repeated = 0;
    for row in rows {
        let (id, status): (&str, &str) = (row.get(0), row.get(1));
        let (ambiguous, attempts): (i32, i32) = (row.get(2), row.get(3));
        let times = arrivals.remove(id).map_or(0, |times| times.len());
        assert_eq!(status, "sent", "{id}");
        assert!(times >= 1, "{id} is lost");
        assert!(
            times <= 1 + ambiguous as usize,
            "{id} came {times} times, {ambiguous} attempts were ambiguous"
        );
        assert!(attempts > ambiguous, "{id}: {attempts} attempts, {ambiguous} ambiguous");
        repeated += times - 1;
    }
    assert!(arrivals.is_empty(), "nobody knows of {arrivals:?}");
    let ambiguous = count(&client, "select count(*) from attempt where outcome = 'ambiguous'").await;
    assert!(ambiguous > 0, "no attempt was interrupted: nothing was tried");
    assert_eq!(count(&client, "select sum(ambiguous)::bigint from notification").await, ambiguous);
    assert_eq!(count(&client, "select count(*) from attempt where outcome = 'started'").await, 0);
    println!("{KILLS} kills: {ambiguous} attempts were ambiguous, {repeated} messages came again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_away_loses_nothing_and_repeats_nothing() {
    const RESULTS: u64 = 200;
    let kafka = support::development().await;
    let mut settings = NO_LIMITS.to_vec();
    settings.extend([("retry.breaker_open_ms", "500"), ("retry.cap_ms", "1000"), ("retry.base_ms", "100")]);
    let mut notifier = Notifier::start(&kafka, &[user(1, "a")], &settings).await.unwrap();
    notifier.notifier.expect("relay");
    let client = notifier.connect().await.unwrap();
    notifier.mail.stop().await;
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let now_ms = clock::unix_ms();
    for n in 0..RESULTS {
        feed.send(STATES, &Scene { lock: "a", n, ts_ms: now_ms }.result()).unwrap();
    }
    feed.flush().unwrap();
    let sms = "select count(*) from notification where channel = 'sms' and status = 'sent'";
    eventually(LONG, "SMS do not wait for mails", async || count(&client, sms).await == RESULTS as i64).await;
    let open = async || {
        let providers = notifier.json("/v1/providers").await.unwrap();
        providers.to_string().contains("open")
    };
    eventually(DEADLINE, "the relay is left alone", open).await;
    notifier.mail.start_again().await.unwrap();
    let mail = "select count(*) from notification where channel = 'email' and status = 'sent'";
    eventually(LONG, "all mails are sent", async || count(&client, mail).await == RESULTS as i64).await;
    let arrivals = notifier.arrivals().unwrap();
    assert!(arrivals.values().all(|times| times.len() == 1));
    assert_eq!(arrivals.len() as u64, 2 * RESULTS);
    notifier.notifier.stop().await.unwrap();
}

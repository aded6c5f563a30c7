//! The monitor as a process: no alarm is lost, none is false after a restart, whatever dies.

use std::collections::BTreeSet;
use std::time::Duration;

use latchline_e2e::feed::{self, Feed, Report};
use latchline_e2e::kafka::Kafka;
use latchline_e2e::kafka::reader::{From, Reader};
use latchline_e2e::stack::monitor::{LISTENERS, Monitor};
use latchline_e2e::stack::program::Program;
use latchline_e2e::stack::{ALARMS, FINDINGS, STATES};
use latchline_shared::kit::clock;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use latchline_shared::kit::testing::{Random, Seed, eventually};
use tokio_postgres::Client;

use crate::support::{self, DEADLINE};

const SAMPLE: &[u8] = br#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
const SAMPLE_LOCK: &str = "10083618796833171";
/// Longest wait for many thousand records.
const LONG: Duration = Duration::from_secs(240);
const MINUTE_MS: u64 = 60_000;
/// 2026-01-01: of what is so old, nothing is still going on.
const PAST_MS: u64 = 1_767_225_600_000;
/// Nothing is done by the clock, but for the ends of delays.
const NO_CLOCK: [(&str, &str); 3] = [
    ("alarms.escalate_after_s", "315360000"),
    ("alarms.announce_every_s", "315360000"),
    ("alarms.expire_after_s", "315360000"),
];
const NO_SILENCE: &str =
    "[device_offline]\nwatch_s = 1000000\nseverity = \"off\"\n[fleet_connectivity]\nseverity = \"off\"\n";

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn applied(client: &Client) -> i64 {
    count(client, "select coalesce(sum(next_offset), 0)::bigint from consumer_offset").await
}

/// Alarms that were raised, as `lock type`.
async fn raised(client: &Client) -> BTreeSet<String> {
    let rows = client.query("select concat_ws(' ', client_id, type) from alarm", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn dump(client: &Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// All that follows from records.
async fn dumps(client: &Client) -> [Vec<String>; 3] {
    [
        dump(client, "select (to_jsonb(t) - 'created_at')::text from lock_current t order by client_id").await,
        dump(client, "select (to_jsonb(t) - 'created_at')::text from alarm t order by id").await,
        dump(
            client,
            "select (to_jsonb(t) - '{xid,seq,created_at}'::text[])::text from alarm_event t order by alarm_id, no",
        )
        .await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_become_the_present_state_and_alarms_on_the_stream() {
    // The sample, ten of one lock, two alarms, three that cannot be believed.
    const SENT: i64 = 16;
    let kafka = support::development().await;
    let mut monitor = Monitor::start(&kafka, "", &[]).await.unwrap();
    let client = monitor.connect().await.unwrap();
    let mut reader = Reader::open(&kafka.bootstrap(), &[ALARMS], From::Beginning).await.unwrap();
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let now_ms = clock::unix_ms();
    let at = |report: u64| now_ms - (10 - report) * MINUTE_MS;
    feed.send(STATES, &feed::report(SAMPLE_LOCK, SAMPLE, now_ms)).unwrap();
    for n in 0..10 {
        let battery = if n < 7 { 18.0 } else { 9.5 };
        feed.send(STATES, &Report { battery, ..Report::of("drained", at(n)) }.record()).unwrap();
    }
    feed.send(STATES, &Report { lock_state: 2, ..Report::of("jammed", at(0)) }.record()).unwrap();
    feed.send(STATES, &Report { more: ",\"alarm\":6", ..Report::of("forced", at(0)) }.record()).unwrap();
    // What cannot be believed moves nothing.
    for wrong in ["900", "\"NaN\"", "null"] {
        let payload = Report::of("odd", at(1)).payload().replace("90.0", wrong);
        feed.send(STATES, &feed::report("odd", payload.as_bytes(), at(1))).unwrap();
    }
    feed.flush().unwrap();
    // The records lie in several partitions: that all alarms are there does not say that all is applied.
    eventually(DEADLINE, "all records are applied", async || applied(&client).await == SENT).await;
    let expected = [
        "drained battery_critical",
        "drained battery_low",
        "forced door_forced",
        "jammed lock_fault",
        "odd invalid_report",
    ];
    eventually(DEADLINE, "all alarms are raised", async || {
        raised(&client).await.iter().map(String::as_str).eq(expected)
    })
    .await;
    let told: BTreeSet<String> = reader
        .read(expected.len(), DEADLINE)
        .await
        .unwrap()
        .iter()
        .map(|record| {
            let value = record.json().unwrap();
            assert_eq!((value["change"].as_str(), value["to"].as_str()), (Some("raised"), Some("active")));
            assert_eq!(record.key.as_deref(), value["client_id"].as_str());
            format!("{} {}", value["client_id"].as_str().unwrap(), value["type"].as_str().unwrap())
        })
        .collect();
    assert!(told.iter().map(String::as_str).eq(expected), "{told:?}");
    let sql = "select concat_ws(' ', lock_state, lock_state_raw, battery, version, online)
        from lock_current where client_id = $1";
    let row = client.query_one(sql, &[&SAMPLE_LOCK]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "unlocked 1 83.4 1.1 t");
    let odd = client.query_one(sql, &[&"odd"]).await.unwrap();
    assert_eq!(odd.get::<_, &str>(0), "locked 0 1.1 t", "no battery is better than a wrong one");
    monitor.monitor.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_survives_a_restart_and_ends_on_time() {
    const DELAY_MS: u64 = 15_000;
    let kafka = support::development().await;
    let rules = "[left_unlocked]\ndelay_s = 15\n";
    let mut monitor = Monitor::start(&kafka, rules, &[]).await.unwrap();
    let client = monitor.connect().await.unwrap();
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let unlocked_ms = clock::unix_ms();
    feed.send(STATES, &Report { lock_state: 1, ..Report::of("a", unlocked_ms) }.record()).unwrap();
    feed.flush().unwrap();
    let pending = "select count(*) from lock_current where pending_at is not null";
    eventually(DEADLINE, "the delay runs", async || count(&client, pending).await == 1).await;
    monitor.monitor.kill().unwrap();
    assert!(clock::unix_ms() < unlocked_ms + DELAY_MS, "too slow to kill it in time");
    let mut again = fresh(&monitor, 1);
    again.start(&LISTENERS).await.unwrap();
    eventually(DEADLINE, "the alarm is raised", async || raised(&client).await.contains("a left_unlocked"))
        .await;
    let raised_ms = count(&client, "select (extract(epoch from raised_at) * 1000)::bigint from alarm").await;
    assert_eq!(u64::try_from(raised_ms).unwrap(), unlocked_ms + DELAY_MS);
    let late_ms = clock::unix_ms() - (unlocked_ms + DELAY_MS);
    assert!(late_ms < 15_000, "raised {late_ms} ms after its time");
    again.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_hour_away_is_no_silence_of_the_locks() {
    const LOCKS: u64 = 1_000;
    const DEAD: u64 = 10;
    // Only what would make the test slow is shorter; silence is what it is.
    let rules = "[device_offline]\nwatch_s = 10\nhold_s = 3\n";
    let kafka = support::development().await;
    let mut monitor = Monitor::start(&kafka, NO_SILENCE, &[]).await.unwrap();
    let client = monitor.connect().await.unwrap();
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let now_ms = clock::unix_ms();
    let report = |minute: u64, alive: std::ops::Range<u64>| {
        for n in alive {
            let at_ms = now_ms - (31 - minute) * MINUTE_MS;
            feed.send(STATES, &Report::of(&format!("lock-{n:04}"), at_ms).record()).unwrap();
        }
        feed.flush().unwrap();
    };
    report(0, 0..LOCKS);
    let known = "select count(*) from lock_current";
    eventually(DEADLINE, "all locks are known", async || count(&client, known).await == LOCKS as i64).await;
    monitor.monitor.stop().await.unwrap();
    for minute in 1..=31 {
        report(minute, if minute < 10 { 0..LOCKS } else { DEAD..LOCKS });
    }
    std::fs::write(monitor.rules(), rules).unwrap();
    monitor.monitor.start(&LISTENERS).await.unwrap();
    let offline = "select count(*) from alarm where type = 'device_offline'";
    eventually(DEADLINE, "the dead locks alarm", async || count(&client, offline).await == DEAD as i64).await;
    // By then the others have been watched for as long.
    let expected: BTreeSet<String> = (0..DEAD).map(|n| format!("lock-{n:04} device_offline")).collect();
    assert_eq!(raised(&client).await, expected);
    assert_eq!(count(&client, "select count(*) from lock_current where not online").await, DEAD as i64);
    monitor.monitor.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_repeated_records_roll_nothing_back() {
    let kafka = support::development().await;
    let mut monitor = Monitor::start(&kafka, NO_SILENCE, &NO_CLOCK).await.unwrap();
    let client = monitor.connect().await.unwrap();
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let jam = Report { lock_state: 2, battery: 50.0, ..Report::of("a", PAST_MS + 2 * MINUTE_MS) }.record();
    feed.send(STATES, &jam).unwrap();
    feed.flush().unwrap();
    eventually(DEADLINE, "it is applied", async || applied(&client).await == 1).await;
    let before = dumps(&client).await;
    for minute in 0..2 {
        let late = Report { lock_state: 1, battery: 5.0, ..Report::of("a", PAST_MS + minute * MINUTE_MS) };
        feed.send(STATES, &late.record()).unwrap();
    }
    feed.send_again(STATES, &jam).unwrap();
    feed.flush().unwrap();
    eventually(DEADLINE, "all are read", async || applied(&client).await == 4).await;
    assert_eq!(dumps(&client).await, before);
    monitor.monitor.stop().await.unwrap();
}

/// Another process in the place of one that was killed. It waits for nobody whom Kafka still takes
/// for alive: the offsets are in Postgres.
fn fresh(monitor: &Monitor, n: u64) -> Program {
    let group = format!("latchline-monitor-{n}");
    let mut program = monitor.another(&[("consumer.group", &group)]).unwrap();
    // Members that vanish are what this is about.
    program.expect("kafka");
    program
}

/// What some locks report in a minute: most are well, some are not.
fn minute(feed: &Feed, minute: u64, locks: u64) {
    for n in 0..locks {
        let (lock, at_ms) = (format!("{n:017}"), PAST_MS + minute * MINUTE_MS + n);
        let well = Report::of(&lock, at_ms);
        let since = (minute + n) % 40;
        let process = format!("{}", minute / 4);
        let report = match n % 10 {
            0 => Report { battery: 45.0 - minute as f32 * 0.2, ..well },
            1 if since < 5 => Report { lock_state: 2, ..well },
            2 if since < 25 => Report { lock_state: 1, ..well },
            3 if since < 3 => Report { lock_state: 7 + i64::from(since == 2), ..well },
            4 if since < 4 => Report { more: ",\"door_state\":5", ..well },
            5 => Report { process_id: &process, action: "unlock", lock_state: i64::from(since < 20), ..well },
            6 if since < 2 => Report { more: ",\"alarm\":5", ..well },
            7 if since < 6 => Report { lock_state: 5, battery: 70.0, ..well },
            _ => well,
        };
        let record = match n % 10 {
            8 if since < 4 => feed::report(&lock, b"nonsense", at_ms),
            _ => report.record(),
        };
        feed.send(STATES, &record).unwrap();
        match (n + minute) % 97 {
            0 => feed.send_again(STATES, &record).unwrap(),
            1 => feed.send(STATES, &Report::of(&lock, at_ms - 90_000).record()).unwrap(),
            2 => feed.send(STATES, &feed::report(&lock, b"nonsense", at_ms + 1)).unwrap(),
            _ => {}
        }
    }
    feed.flush().unwrap();
}

/// `kill -9` fifty times during 200,000 reports, beside a monitor that nobody disturbs.
///
/// All of them are there from the beginning: a monitor that had read all there is would take the
/// wall clock for theirs, and delays would end before the reports that belong to them.
#[tokio::test(flavor = "multi_thread")]
async fn killed_fifty_times_it_raises_what_it_would_have_raised() {
    const KILLS: u64 = 50;
    const LOCKS: u64 = 1_000;
    const MINUTES: u64 = 200;
    /// The development Kafka keeps 5 MiB of each.
    const PARTITIONS: i32 = 32;
    let kafka = support::development().await;
    for stream in [STATES, FINDINGS] {
        kafka.create_stream(stream, PARTITIONS).await.unwrap();
    }
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    (0..MINUTES).for_each(|n| minute(&feed, n, LOCKS));
    let mut random: Random = Seed::of_this_run().random("killed_fifty_times_alarms");
    let mut smooth = start(&kafka, "smooth").await;
    let mut disturbed = start(&kafka, "disturbed").await;
    let (calm, client) = (smooth.connect().await.unwrap(), disturbed.connect().await.unwrap());
    let all = i64::try_from(LOCKS * MINUTES).unwrap();
    let mut latest: Option<Program> = None;
    for kill in 0..KILLS {
        let progress = i64::try_from(random.below(LOCKS * MINUTES / KILLS)).unwrap();
        let wanted = (applied(&client).await + progress).min(all);
        eventually(LONG, "some progress", async || applied(&client).await >= wanted).await;
        match &mut latest {
            Some(program) => program.kill().unwrap(),
            None => disturbed.monitor.kill().unwrap(),
        }
        let mut next = fresh(&disturbed, kill);
        next.start(&LISTENERS).await.unwrap();
        latest = Some(next);
    }
    let pending = "select count(*) from lock_current where pending_at is not null";
    for client in [&calm, &client] {
        eventually(LONG, "all is read", async || applied(client).await >= all).await;
    }
    eventually(LONG, "both have read the same, and no delay runs", async || {
        applied(&calm).await == applied(&client).await
            && count(&calm, pending).await + count(&client, pending).await == 0
    })
    .await;
    let [expected, found] = [dumps(&calm).await, dumps(&client).await];
    let kinds = dump(&calm, "select distinct type from alarm order by 1").await;
    assert_eq!(
        kinds,
        [
            "battery_critical",
            "battery_drop",
            "battery_low",
            "door_ajar",
            "invalid_report",
            "left_unlocked",
            "lock_fault",
            "not_fully_locked",
            "stuck_moving",
            "tamper",
            "unlock_failed"
        ]
    );
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.len(), found.len());
        if let Some((expected, found)) =
            expected.iter().zip(found).find(|(expected, found)| expected != found)
        {
            panic!("undisturbed: {expected}\ndisturbed:   {found}");
        }
    }
    latest.unwrap().stop().await.unwrap();
    smooth.monitor.stop().await.unwrap();
}

async fn start(kafka: &Kafka, group: &str) -> Monitor {
    let postgres = tokio::task::spawn_blocking(DevelopmentPostgres::start).await.unwrap().unwrap();
    let mut settings = NO_CLOCK.to_vec();
    settings.extend([("consumer.group", group), ("streams.alarms", "")]);
    Monitor::start_on(postgres, kafka, NO_SILENCE, &settings).await.unwrap()
}

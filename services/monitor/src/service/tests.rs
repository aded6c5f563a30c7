//! Against a real server, in the role that the service has there.

use latchline_shared::alarm::AlarmType;
use latchline_shared::kit::postgres::testing::Database;
use latchline_shared::message::Qos;
use latchline_shared::record::{Publish, write_publish};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_postgres::Client;

use super::*;
use crate::migrations::tests::database;

const LANE: i32 = 3;
/// 2026-01-01, long ago: silence does not count in a lane that reads this.
const START_MS: i64 = 1_767_225_600_000;
const LOCK: &str = "10083618796833171";
const STATES: &str = "message_state";
const FINDINGS: &str = "audit_finding";

struct App {
    monitor: Monitor,
    registry: Registry,
    database: Database,
    owner: deadpool_postgres::Object,
}

impl App {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    async fn start_with(rules: Option<std::path::PathBuf>) -> Self {
        let mut registry = Registry::default();
        let streams = Streams {
            states: STATES.to_owned(),
            findings: Some(FINDINGS.to_owned()),
            alarms: Some("lock_alarm".to_owned()),
        };
        let profiles = serde_json::from_value(json!({ "default": "reference", "locks": [] })).unwrap();
        let alarms = Context { outbox: Some("outbox".to_owned()), ..Context::default() };
        let rules = Arc::new(LiveRules::open(rules).unwrap());
        let config = Config { streams, profiles, grace: Duration::from_secs(5), alarms, rules };
        let monitor = Monitor::new(config, Metrics::new(&mut registry, Arc::default()));
        let database = database().await;
        let owner = database.owner.get().await.unwrap();
        Self { monitor, registry, database, owner }
    }

    fn decoded(&self, stream: &str, offset: i64, value: Vec<u8>) -> Decoded<Item> {
        let (stream, headers) = (stream.into(), Vec::new());
        let record =
            Record { stream, partition: LANE, offset, timestamp_ms: None, key: None, value, headers };
        let item = self.monitor.decode(&record).unwrap();
        Decoded { record, item }
    }

    /// A report, so many seconds after the start.
    fn report(&self, offset: i64, lock: &str, second: i64, battery: f32, lock_state: i64) -> Decoded<Item> {
        let payload = format!(
            r#"{{"process_id":"","action":"heartbeat","battery":{battery},"lock_state":{lock_state},"version":1.10,"client_id":"{lock}"}}"#
        );
        let mut value = Vec::new();
        let publish = Publish {
            publisher: lock,
            username: "",
            topic: &format!("devices/{lock}/state"),
            payload: payload.as_bytes(),
            qos: Qos::AtLeastOnce,
            node: "n",
            ts: (START_MS + second * 1_000).try_into().unwrap(),
        };
        write_publish(&mut value, &publish);
        self.decoded(STATES, offset, value)
    }

    async fn try_store(&self, batch: &[Decoded<Item>]) -> Result<(), Fault> {
        let mut client = self.database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        self.monitor.store(&transaction, LANE, batch).await?;
        transaction.commit().await.map_err(|error| Fault::transient(error.to_string()))?;
        self.monitor.committed(LANE);
        Ok(())
    }

    async fn store(&self, batch: &[Decoded<Item>]) {
        self.try_store(batch).await.unwrap();
    }

    async fn idle(&self, now_ms: i64) {
        let mut client = self.database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        self.monitor.idle(&transaction, LANE, now_ms).await.unwrap();
        transaction.commit().await.unwrap();
        self.monitor.committed(LANE);
    }

    async fn dump(&self) -> Vec<String> {
        dump(&self.owner).await
    }

    async fn changes(&self) -> Vec<String> {
        let sql = "select concat_ws(' ', client_id, type, change, to_state, extract(epoch from at)::bigint)
            from alarm_event e join alarm a on a.id = e.alarm_id order by at, client_id, type, e.no";
        let start = START_MS / 1_000;
        let rows = self.owner.query(sql, &[]).await.unwrap();
        let tell = |text: String| {
            let (rest, at) = text.rsplit_once(' ').unwrap();
            format!("{rest} +{}", at.parse::<i64>().unwrap() - start)
        };
        rows.iter().map(|row| tell(row.get(0))).collect()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// All that follows from records.
async fn dump(client: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    for sql in [
        "select (to_jsonb(t) - 'created_at')::text from lock_current t order by client_id",
        "select (to_jsonb(t) - 'created_at')::text from battery_day t order by client_id, day",
        "select (to_jsonb(t) - 'created_at')::text from alarm t order by id",
        "select (to_jsonb(t) - '{created_at,xid,seq}'::text[])::text from alarm_event t order by alarm_id, no",
        "select key || convert_from(value, 'utf8') from outbox order by 1",
    ] {
        lines.extend(client.query(sql, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
    }
    lines
}

/// A story of some locks: batteries drain, bolts jam, doors stay open, hours pass.
fn story(app: &App) -> Vec<Decoded<Item>> {
    let mut records = Vec::new();
    for minute in 0..180 {
        for (n, lock) in ["a", "b", "c"].into_iter().enumerate() {
            let battery = if lock == "a" { 40.0 - minute as f32 * 0.2 } else { 90.0 };
            let state = match (lock, minute) {
                ("b", 30..50) => 2,
                ("c", 20..150) => 1,
                _ => 0,
            };
            let (offset, second) = (minute * 3 + n as i64, minute * 60 + n as i64);
            records.push(app.report(offset, lock, second, battery, state));
        }
    }
    records
}

#[tokio::test]
async fn the_present_state_is_kept() {
    let app = App::start().await;
    app.store(&[app.report(0, LOCK, 0, 83.4, 1), app.report(1, "b", 0, 50.0, 0)]).await;
    app.store(&[app.report(2, LOCK, 60, 83.3, 0)]).await;
    let sql = "select lock_state, lock_state_raw, battery::text, version, last_offset, online, partition,
        extract(epoch from since)::bigint * 1000 from lock_current where client_id = $1";
    let row = app.owner.query_one(sql, &[&LOCK]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1), row.get::<_, &str>(2)), ("locked", 0, "83.3"));
    assert_eq!((row.get::<_, &str>(3), row.get::<_, i64>(4), row.get::<_, bool>(5)), ("1.10", 2, true));
    assert_eq!((row.get::<_, i32>(6), row.get::<_, i64>(7)), (LANE, START_MS + 60_000));
    let lane = app.owner.query_one("select locks, offline, version from lane", &[]).await.unwrap();
    assert_eq!((lane.get::<_, i64>(0), lane.get::<_, i64>(1), lane.get::<_, i64>(2)), (2, 0, 2));
}

#[tokio::test]
async fn late_and_duplicate_reports_change_nothing() {
    let app = App::start().await;
    let mut again = app.report(3, LOCK, 60, 50.0, 0);
    let Item::Report(reported) = &mut again.item else { panic!("a report") };
    reported.is_dup = true;
    app.store(&[app.report(0, LOCK, 60, 50.0, 0)]).await;
    let before = app.dump().await;
    app.store(&[app.report(1, LOCK, 59, 5.0, 2), app.report(2, LOCK, 0, 5.0, 2), again]).await;
    assert_eq!(app.dump().await, before);
    let metrics = app.metrics();
    for line in ["applied\"} 1", "late\"} 2", "duplicate\"} 1", "mismatched\"} 0"] {
        assert!(metrics.contains(&format!("reports_total{{outcome=\"{line}\n")), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn who_speaks_for_another_changes_nothing() {
    let app = App::start().await;
    app.store(&[app.report(0, LOCK, 0, 50.0, 0)]).await;
    let before = app.dump().await;
    let mut forged = app.report(1, LOCK, 60, 5.0, 2);
    let Item::Report(reported) = &mut forged.item else { panic!("a report") };
    reported.is_of_one_lock = false;
    app.store(&[forged]).await;
    assert_eq!(app.dump().await, before);
    assert!(app.metrics().contains("reports_total{outcome=\"mismatched\"} 1\n"));
}

#[tokio::test]
async fn where_batches_end_and_who_reads_them_makes_no_difference() {
    let whole = App::start().await;
    whole.store(&story(&whole)).await;
    let expected = whole.dump().await;
    for alarm in [
        "a battery_low raised",
        "a battery_critical raised",
        "b lock_fault raised",
        "c left_unlocked worsened",
    ] {
        assert!(whole.changes().await.iter().any(|change| change.starts_with(alarm)), "{alarm}");
    }
    let (apart, again) = (App::start().await, App::start().await);
    for (n, chunk) in story(&apart).chunks(7).enumerate() {
        apart.store(chunk).await;
        // As after a restart, or when another instance had the lane.
        if n % 5 == 0 {
            apart.monitor.opened(LANE);
        }
    }
    assert_eq!(apart.dump().await, expected);
    for record in story(&again) {
        again.store(&[record]).await;
    }
    assert_eq!(again.dump().await, expected);
}

#[tokio::test]
async fn memory_is_never_ahead_of_postgres() {
    let smooth = App::start().await;
    for chunk in story(&smooth).chunks(10) {
        smooth.store(chunk).await;
    }
    // Fails at a statement in the middle, at the last one, or at the commit.
    let guards = [
        "create trigger guard before insert or update on lock_current for each row execute function refuse()",
        "create trigger guard before insert on alarm_event for each row execute function refuse()",
        "create constraint trigger guard after insert or update on lock_current deferrable initially deferred
            for each row execute function refuse()",
    ];
    for guard in guards {
        let app = App::start().await;
        let function = "create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'on purpose'; end $$";
        app.owner.batch_execute(function).await.unwrap();
        let mut failures = 0;
        for (n, chunk) in story(&app).chunks(10).enumerate() {
            if n % 3 == 0 {
                app.owner.batch_execute(guard).await.unwrap();
                failures += usize::from(app.try_store(chunk).await.is_err());
                let table = if guard.contains("alarm_event") { "alarm_event" } else { "lock_current" };
                app.owner.batch_execute(&format!("drop trigger guard on {table}")).await.unwrap();
                if guard.contains("alarm_event") && failures == 0 {
                    // It went through: there was no alarm in it.
                    continue;
                }
            }
            let _ = app.try_store(chunk).await;
        }
        assert!(failures > 0, "{guard}");
        if !guard.contains("alarm_event") {
            assert_eq!(app.dump().await, smooth.dump().await, "{guard}");
        }
    }
}

#[tokio::test]
async fn what_was_never_committed_is_not_believed() {
    let app = App::start().await;
    app.store(&[app.report(0, LOCK, 0, 50.0, 0)]).await;
    let before = app.dump().await;
    let mut client = app.database.pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    app.monitor.store(&transaction, LANE, &[app.report(1, LOCK, 60, 50.0, 2)]).await.unwrap();
    transaction.rollback().await.unwrap();
    // The kit passes over a record that Postgres refused at the commit, and says that this was done.
    app.monitor.committed(LANE);
    let refused = app.try_store(&[app.report(2, LOCK, 120, 50.0, 0)]).await;
    assert!(matches!(refused, Err(Fault::Transient { .. })), "{refused:?}");
    assert_eq!(app.dump().await, before);
    app.store(&[app.report(2, LOCK, 120, 50.0, 0)]).await;
    assert_eq!(app.changes().await, [""; 0], "the fault never happened");
}

#[tokio::test]
async fn a_delay_ends_by_the_clock_if_nothing_more_is_said() {
    let app = App::start().await;
    app.store(&[app.report(0, LOCK, 0, 50.0, 1)]).await;
    app.idle(START_MS + 604_000).await;
    assert_eq!(app.changes().await, [""; 0], "records may be on their way");
    app.monitor.opened(LANE);
    app.idle(START_MS + 605_000).await;
    app.idle(START_MS + 606_000).await;
    assert_eq!(app.changes().await, [format!("{LOCK} left_unlocked raised active +600")]);
    assert_eq!(*app.monitor.commits().borrow(), 1);
    // Another lock's reports are a clock, too.
    let other = App::start().await;
    other.store(&[other.report(0, LOCK, 0, 50.0, 1)]).await;
    other.monitor.opened(LANE);
    other.store(&[other.report(1, "b", 605, 50.0, 0)]).await;
    assert_eq!(other.changes().await, app.changes().await);
}

#[tokio::test]
async fn silence_counts_only_after_a_watch_without_break() {
    let app = App::start().await;
    app.store(&[app.report(0, LOCK, 0, 50.0, 0)]).await;
    let idle = async |seconds: std::ops::Range<i64>| {
        for second in seconds {
            app.idle(START_MS + second * 1_000).await;
        }
    };
    // Half an hour away, and not yet a minute back.
    idle(1_800..1_860).await;
    assert_eq!(app.owner.query_one("select offline from lane", &[]).await.unwrap().get::<_, i64>(0), 0);
    // Another begins anew.
    app.monitor.opened(LANE);
    idle(1_860..1_920).await;
    assert_eq!(app.changes().await, [""; 0]);
    idle(1_920..1_960).await;
    assert_eq!(app.changes().await, [format!("{LOCK} device_offline raised active +1950")]);
    let row =
        app.owner.query_one("select offline, lost, live_since is not null from lane", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, bool>(2)), (1, 1, true));
}

#[tokio::test]
async fn a_finding_raises_the_alarm_of_its_lock() {
    let app = App::start().await;
    let finding = |offset, verdict: &str, words: &[&str]| {
        let value = json!({"client_id": LOCK, "at": START_MS, "kind": "command", "verdict": verdict,
            "findings": words, "severity": "critical", "chain_id": 3, "seq": offset});
        app.decoded(FINDINGS, offset, value.to_string().into_bytes())
    };
    app.store(&[finding(0, "replay", &[]), finding(1, "ok", &["no_result", "quite_new"])]).await;
    assert_eq!(
        app.changes().await,
        [
            format!("{LOCK} command_no_result raised active +0"),
            format!("{LOCK} security_replay raised active +0")
        ]
    );
    assert!(AlarmType::SecurityReplay.is_momentary());
    let metrics = app.metrics();
    assert!(
        metrics.contains("findings_total 2\n") && metrics.contains("unknown_words_total 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn other_thresholds_count_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.toml");
    std::fs::write(&file, "").unwrap();
    let app = App::start_with(Some(file.clone())).await;
    app.store(&[app.report(0, LOCK, 0, 50.0, 1)]).await;
    app.idle(START_MS + 100_000).await;
    assert_eq!(app.changes().await, [""; 0]);
    std::fs::write(&file, "[left_unlocked]\ndelay_s = 30\n").unwrap();
    app.monitor.config.rules.reload().unwrap();
    app.idle(START_MS + 101_000).await;
    assert_eq!(app.changes().await, [format!("{LOCK} left_unlocked raised active +30")]);
}

//! A live monitor on the development Kafka and a private Postgres, what people and the clock do to its
//! alarms, and rebuilds of it.

use latchline_shared::alarm::{Origin, Severity};
use latchline_shared::kit::config;
use latchline_shared::kit::kafka::development::DevelopmentKafka;
use latchline_shared::kit::kafka::publisher::stream::{Cleanup, Partitions, Stream};
use latchline_shared::kit::kafka::publisher::{Outgoing, Publisher};
use latchline_shared::kit::postgres::testing::Database;
use latchline_shared::kit::testing::eventually;
use latchline_shared::message::Qos;
use latchline_shared::record::{Publish, write_publish};
use serde_json::json;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::alarm::act::act;
use crate::alarm::apply::apply;
use crate::alarm::lifecycle::Act;
use crate::alarm::sweep::{SweepSettings, sweep};
use crate::migrations::SCHEMA;
use crate::migrations::tests::database;
use crate::rule::live::LiveRules;
use crate::service::{self, Config, Monitor};
use crate::settings::DEFAULT_TOML;
use crate::signal::{Located, Place, Signal, What};

const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 2;
const STATES: &str = "message_state";
const FINDINGS: &str = "audit_finding";
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

struct App {
    settings: Settings,
    database: Database,
    publishers: [Publisher; 2],
    token: CancellationToken,
    reading: JoinHandle<anyhow::Result<()>>,
    /// Last: the others use it.
    _kafka: DevelopmentKafka,
}

impl App {
    async fn start() -> Self {
        let letters = [STATES, FINDINGS].map(|stream| format!("{stream}.monitor.dlq"));
        let topics = [(STATES, PARTITIONS), (FINDINGS, PARTITIONS), (&letters[0], 1), (&letters[1], 1)];
        let kafka = DevelopmentKafka::start(&topics).unwrap();
        let env = [
            ("CONSUMER__KAFKA__SERVERS", kafka.bootstrap()),
            ("CONSUMER__KAFKA__PROPERTIES", r#"{ "fetch.wait.max.ms" = "10" }"#),
        ];
        let env = env.map(|(key, value)| (format!("LATCHLINE_MONITOR__{key}"), value.to_owned()));
        let mut settings: Settings =
            config::load(DEFAULT_TOML, None, "LATCHLINE_MONITOR", env.into_iter()).unwrap();
        let database = database().await;
        settings.postgres.server = database.postgres.clone();
        let publishers = [STATES, FINDINGS].map(|name| {
            let config = settings.consumer.kafka.client_config("tests").unwrap();
            let partitions = Partitions::Fixed(PARTITIONS);
            let stream =
                Stream { name: name.to_owned(), partitions, cleanup: Cleanup::Delete, replication: 1 };
            Publisher::new("tests", config, stream).unwrap()
        });
        let config = Config {
            streams: settings.streams.clone(),
            profiles: settings.profiles.clone(),
            grace: settings.alarms.grace,
            alarms: settings.context(),
            rules: Arc::new(LiveRules::open(None).unwrap()),
        };
        let mut registry = Registry::default();
        let alarms = Arc::new(crate::alarm::sweep::metrics::Metrics::new(&mut registry));
        let monitor = Monitor::new(config, service::metrics::Metrics::new(&mut registry, alarms));
        let reader = Reader {
            settings: settings.consumer.clone(),
            name: "monitor",
            schema: SCHEMA.name,
            streams: settings.streams.read(),
            service: Arc::new(monitor),
            pool: database.pool.clone(),
            metrics: Metrics::new(&mut registry),
            readiness: Readiness::new(),
        };
        let token = CancellationToken::new();
        let reading = tokio::spawn(reader.run(token.clone()));
        Self { settings, database, publishers, token, reading, _kafka: kafka }
    }

    async fn stop(self) {
        self.token.cancel();
        self.reading.await.unwrap().unwrap();
    }

    async fn publish(&self, stream: &str, records: &[(String, Vec<u8>)]) {
        let publisher = &self.publishers[usize::from(stream == FINDINGS)];
        let records: Vec<Outgoing<'_>> =
            records.iter().map(|(key, value)| Outgoing { key, value, headers: &[] }).collect();
        for result in publisher.publish_batch(&records, SOON).await {
            result.unwrap();
        }
    }

    /// Waits until so many records were read, and the clocks of the lanes have moved behind them.
    async fn has_read(&self, records: i64) {
        let client = self.database.owner.get().await.unwrap();
        let read = "select coalesce(sum(next_offset), 0)::bigint from consumer_offset";
        let has = async || client.query_one(read, &[]).await.unwrap().get::<_, i64>(0) == records;
        eventually(SOON, "all is read", has).await;
        let now_ms = self.now_ms();
        let evaluated = "select count(*) from lane where extract(epoch from evaluated_at) * 1000 > $1::bigint::numeric - 5000";
        let is = async || {
            client.query_one(evaluated, &[&now_ms]).await.unwrap().get::<_, i64>(0) == i64::from(PARTITIONS)
        };
        eventually(SOON, "delays have ended", is).await;
    }

    fn now_ms(&self) -> i64 {
        clock::unix_ms().try_into().unwrap()
    }

    async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        self.database.owner.get().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn execute(&self, sql: &str) {
        self.database.owner.get().await.unwrap().batch_execute(sql).await.unwrap();
    }

    async fn alarm(&self, lock: &str, kind: &str) -> Uuid {
        self.one(&format!(
            "select id from alarm where client_id = '{lock}' and type = '{kind}' order by raised_at limit 1"
        ))
        .await
    }

    async fn act(&self, lock: &str, kind: &str, what: Act) {
        let id = self.alarm(lock, kind).await;
        let mut client = self.database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let context = self.settings.context();
        act(&transaction, &context, id, what, "duty", Some("seen"), self.now_ms()).await.unwrap();
        transaction.commit().await.unwrap();
    }

    /// At a time to come, at which the lanes have kept up for long.
    async fn sweep(&self, now_ms: i64) {
        self.execute(
            "insert into lane (partition, version, evaluated_at, live_since, locks, offline, lost, updated_at)
             values (99, 1, '2020-01-01', '2020-01-01', 0, 0, 0, 'infinity')",
        )
        .await;
        let mut client = self.database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let fleet = LiveRules::open(None).unwrap().current().fleet().clone();
        let settings = SweepSettings { context: self.settings.context(), fleet };
        assert!(sweep(&transaction, &settings, now_ms).await.unwrap().is_ours);
        transaction.commit().await.unwrap();
        self.execute("delete from lane where partition = 99").await;
    }

    /// A clock sees that this lock is silent.
    async fn offline(&self, lock: &str) {
        let signal = Signal {
            alarm: AlarmType::DeviceOffline,
            at_ms: self.now_ms(),
            what: What::Begin(Severity::Warning),
            value: json!({}),
            origin: Origin::Clock,
        };
        let located = Located { client_id: lock.to_owned(), place: Place::default(), signal };
        let mut client = self.database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        apply(&transaction, &self.settings.context(), vec![located]).await.unwrap();
        transaction.commit().await.unwrap();
    }

    async fn rebuild(&self, keep: bool) -> Report {
        let arguments = RebuildArguments { schema: "monitor_rebuild".to_owned(), keep };
        rebuild(&arguments, &self.settings, &mut Vec::new()).await.unwrap()
    }
}

fn report(lock: &str, at_ms: i64, battery: f64, lock_state: i64) -> (String, Vec<u8>) {
    let payload = format!(
        r#"{{"process_id":"","action":"heartbeat","battery":{battery:.1},"lock_state":{lock_state},"version":1.10,"client_id":"{lock}"}}"#
    );
    said(lock, at_ms, &payload)
}

fn said(lock: &str, at_ms: i64, payload: &str) -> (String, Vec<u8>) {
    let mut value = Vec::new();
    let publish = Publish {
        publisher: lock,
        username: "",
        topic: &format!("devices/{lock}/state"),
        payload: payload.as_bytes(),
        qos: Qos::AtLeastOnce,
        node: "n",
        ts: at_ms.try_into().unwrap(),
    };
    write_publish(&mut value, &publish);
    (lock.to_owned(), value)
}

fn finding(lock: &str, at_ms: i64, verdict: &str, words: &[&str]) -> (String, Vec<u8>) {
    // A chain for each lock: what comes twice in a chain is taken once.
    let chain_id = lock.bytes().map(i16::from).sum::<i16>();
    let value = json!({ "client_id": lock, "at": at_ms, "kind": "command", "verdict": verdict, "findings": words,
        "severity": "critical", "chain_id": chain_id, "seq": at_ms, "publisher": "\u{0} is a bad name" });
    (lock.to_owned(), value.to_string().into_bytes())
}

/// Five hours in which batteries drain, bolts jam and doors stay open.
fn day(start_ms: i64) -> Vec<(String, Vec<u8>)> {
    let mut records = Vec::new();
    for minute in 0..300 {
        let at_ms = start_ms + minute * MINUTE_MS;
        let drained = 40.0 - minute as f64 * 0.1;
        records.push(report("low", at_ms, drained, 0));
        records.push(report("quiet", at_ms, drained, 0));
        records.push(report("jam", at_ms, 90.0, if minute % 100 > 50 { 2 } else { 0 }));
        records.push(report("open", at_ms, 90.0, i64::from(minute > 100)));
        records.push(report("wide", at_ms, 90.0, i64::from(minute > 100)));
        records.push(if minute % 50 > 45 { said("mad", at_ms, "{") } else { report("mad", at_ms, 50.0, 0) });
        // Older than what came before.
        records.push(report("low", at_ms - 30_000, 5.0, 2));
    }
    records
}

#[tokio::test]
async fn a_rebuild_equals_what_is_live_and_tells_what_does_not() {
    let app = App::start().await;
    let now_ms = app.now_ms();
    let start_ms = now_ms - 6 * HOUR_MS;
    app.execute(
        "insert into silence (id, matchers, starts_at, ends_at, created_by, comment) values
            ('00000000-0000-0000-0000-000000000007', '[{\"name\":\"client_id\",\"value\":\"quiet\"}]',
            '2020-01-01', '2090-01-01', 'duty', 'known')",
    )
    .await;
    let mut states = day(start_ms);
    states.push(("low".to_owned(), b"nonsense".to_vec()));
    let findings = [
        finding("jam", start_ms, "replay", &[]),
        finding("jam", start_ms + HOUR_MS, "replay", &["unexpected_receiver"]),
        finding("low", start_ms, "ok", &["no_result"]),
        finding("never heard of", start_ms, "bad_signature", &[]),
    ];
    app.publish(STATES, &states).await;
    app.publish(FINDINGS, &findings).await;
    let mut count = (states.len() + findings.len()) as i64;
    app.has_read(count).await;

    app.act("low", "battery_low", Act::Shelve { until_ms: now_ms + HOUR_MS }).await;
    app.act("open", "left_unlocked", Act::Acknowledge).await;
    app.act("open", "left_unlocked", Act::Comment).await;
    app.act("wide", "left_unlocked", Act::Clear).await;
    app.act("jam", "security_replay", Act::Acknowledge).await;
    app.act("jam", "security_replay", Act::Comment).await;
    app.act("mad", "invalid_report", Act::Comment).await;
    app.offline("quiet").await;
    app.sweep(now_ms + 20 * MINUTE_MS).await;

    let later_ms = app.now_ms();
    let states: Vec<_> = (0..4)
        .flat_map(|second| {
            let at_ms = later_ms + second * 1_000;
            [("low", 80.0, 0), ("quiet", 15.0, 2), ("jam", 90.0, 0), ("open", 90.0, 0), ("wide", 90.0, 0)]
                .map(|(lock, battery, state)| report(lock, at_ms, battery, state))
        })
        .collect();
    let findings =
        [finding("jam", later_ms, "replay", &[]), finding("never heard of", later_ms, "stale", &[])];
    app.publish(STATES, &states).await;
    app.publish(FINDINGS, &findings).await;
    count += (states.len() + findings.len()) as i64;
    app.has_read(count).await;
    app.sweep(now_ms + 48 * HOUR_MS).await;
    app.act("never heard of", "security_bad_signature", Act::Acknowledge).await;

    for change in
        ["escalated", "expired", "announced", "shelved", "unshelved", "cleared", "commented", "worsened"]
    {
        let many: i64 = app.one(&format!("select count(*) from alarm_event where change = '{change}'")).await;
        assert!(many > 0, "the story has nothing {change}");
    }
    let suppressed: i64 =
        app.one("select count(*) from alarm_event where suppressed_by like 'silence:%'").await;
    assert!(suppressed > 0);
    let outbox: i64 = app.one("select count(*) from outbox").await;

    let same = app.rebuild(true).await;
    assert!(same.is_equal() && same.notes.is_empty(), "{same:#?}");
    for table in &same.tables {
        assert!(table.live > 0 && table.live == table.rebuilt, "{table:?}");
    }
    let told: i64 = app
        .one("select (select count(*) from monitor_rebuild.outbox) + (select count(*) from monitor_rebuild.webhook)")
        .await;
    assert_eq!((told, app.one::<i64>("select count(*) from outbox").await), (0, outbox));
    assert_eq!(app.rebuild(false).await.kept, None);
    let schemas = "select count(*) from pg_namespace where nspname = 'monitor_rebuild'";
    assert_eq!(app.one::<i64>(schemas).await, 0);

    different(&app).await;
    app.stop().await;
}

/// Somebody changes what is live.
async fn different(app: &App) {
    let (jam, open, wide, low) = (
        app.alarm("jam", "lock_fault").await,
        app.alarm("open", "left_unlocked").await,
        app.alarm("wide", "left_unlocked").await,
        app.alarm("low", "battery_low").await,
    );
    let offline = app.alarm("quiet", "device_offline").await;
    let added = Uuid::from_u128(1);
    for (wrong, table, expected) in [
        (format!("update alarm set severity = 'minor' where id = '{jam}'"), "alarm", format!("{jam} of lock jam lock_fault: severity is \"minor\", rebuilt \"critical\"")),
        (format!("update alarm_event set at = at + interval '1 s' where alarm_id = '{open}' and no = 1"), "alarm_event", format!("1 raised of alarm {open}: at is ")),
        (format!("delete from alarm_event where alarm_id = '{wide}' and change = 'cleared'"), "alarm_event", format!("of alarm {wide}")),
        (
            format!(
                "insert into alarm select '{added}', client_id, type, severity, 'closed', false, raised_at, last_at, cleared_at,
                    now(), null, null, null, 1, value, 0, null, false, changed_at, null, 0 from alarm where id = '{low}'"
            ),
            "alarm",
            format!("{added} of lock low battery_low: live, but not rebuilt"),
        ),
        ("update lock_current set battery = 55 where client_id = 'open'".to_owned(), "lock_current", "open: battery is 55, rebuilt 90".to_owned()),
        ("update battery_day set hours[1] = 5, hours[2] = 5, hours[3] = 5 where client_id = 'low'".to_owned(), "battery_day", "hours is".to_owned()),
        (format!("update alarm set state = 'closed', closed_at = now() where id = '{offline}'"), "copied alarms", format!("{offline} of lock quiet device_offline: its events")),
    ] {
        app.execute(&wrong).await;
        let report = app.rebuild(false).await;
        let found = report.tables.iter().find(|other| other.name == table).unwrap();
        assert!(found.different > 0, "{wrong}: {report:#?}");
        assert!(found.examples.iter().any(|example| example.contains(&expected)), "{expected}: {report:#?}");
        assert_eq!(report.kept.as_deref(), Some("monitor_rebuild"));
    }
}

#[tokio::test]
async fn what_is_live_goes_on_meanwhile() {
    let app = App::start().await;
    let start_ms = app.now_ms() - 6 * HOUR_MS;
    app.publish(STATES, &day(start_ms)).await;
    let client = app.database.owner.get().await.unwrap();
    let begun = "select coalesce(sum(next_offset), 0)::bigint from consumer_offset";
    eventually(SOON, "it reads", async || client.query_one(begun, &[]).await.unwrap().get::<_, i64>(0) > 0)
        .await;
    let publishing = async {
        for second in 0..i64::MAX {
            let at_ms = app.now_ms();
            let state = i64::from(second % 2 == 0) * 2;
            app.publish(STATES, &[report("jam", at_ms, 90.0, state), report("open", at_ms, 9.0, 0)]).await;
        }
    };
    let report = tokio::select! {
        () = publishing => unreachable!("nobody publishes for so long"),
        report = app.rebuild(false) => report,
    };
    assert!(report.is_equal(), "{report:#?}");
    assert!(report.tables[0].live > 0 && report.tables[2].live > 0, "{report:#?}");
    app.stop().await;
}

#[tokio::test]
async fn a_schema_of_somebody_else_is_not_touched() {
    let database = database().await;
    let owner = database.owner.get().await.unwrap();
    owner.batch_execute("create schema other; create table other.mine (n int)").await.unwrap();
    let pool = database.postgres.pool_in("tests", None, "other").unwrap();
    let refused = Shadow::make(&pool, "other").await.err().unwrap().to_string();
    assert!(refused.contains("not made by a rebuild"), "{refused}");
    owner.batch_execute("select from other.mine").await.unwrap();
    let shadow = Shadow::make(&database.owner, "shadow").await.unwrap();
    let refused = Shadow::make(&database.owner, "shadow").await.err().unwrap().to_string();
    assert!(refused.contains("another rebuild is at work"), "{refused}");
    drop(shadow);
}

#[tokio::test]
async fn what_kafka_has_deleted_is_told() {
    let app = App::start().await;
    let records = day(app.now_ms() - 6 * HOUR_MS);
    for _ in 0..20 {
        app.publish(STATES, &records).await;
    }
    app.has_read(20 * records.len() as i64).await;
    let report = app.rebuild(false).await;
    let told = |note: &String| {
        note.starts_with("message_state: partition ") && note.ends_with("older records are gone")
    };
    assert!(report.notes.iter().any(told), "{report:#?}");
    app.stop().await;
}

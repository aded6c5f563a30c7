//! Against a real server, in the role that the service has there.

mod alarms;
mod limits;
mod results;

use latchline_shared::kit::config;
use latchline_shared::kit::postgres::testing::Database;
use latchline_shared::message::Qos;
use latchline_shared::record::{Publish, write_publish};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::migrations::tests::database;
use crate::settings::{DEFAULT_TOML, Settings};

const LANE: i32 = 3;
const LOCK: &str = "10083618796833171";
const STATES: &str = "message_state";
const ALARMS: &str = "lock_alarm";

/// A user who wants mails and messages, and one who hears of what others left alone.
const PEOPLE: &str = "
    insert into users (id, name, locale, time_zone) values
        ('taro', 'Taro', 'ja', 'Asia/Tokyo'), ('ops', 'Ops', 'en', 'UTC');
    insert into lock_member (client_id, user_id, lock_name, tier) values
        ('10083618796833171', 'taro', '玄関', 0), ('*', 'ops', '', 1);
    insert into contact (id, user_id, channel, address, status) values
        ('00000000-0000-0000-0000-000000000001', 'taro', 'email', 'taro@example.com', 'active'),
        ('00000000-0000-0000-0000-000000000002', 'taro', 'sms', '+819012341234', 'active'),
        ('00000000-0000-0000-0000-000000000003', 'taro', 'sms', '+819012341235', 'unverified'),
        ('00000000-0000-0000-0000-000000000004', 'ops', 'email', 'ops@example.com', 'active');
    insert into preference (user_id, client_id, event_type, channel, enabled, min_severity) values
        ('taro', '*', '*', 'sms', true, 'info');";

pub(super) struct App {
    pub(super) intake: Intake,
    registry: Registry,
    pub(super) database: Database,
    pub(super) owner: deadpool_postgres::Object,
}

impl App {
    pub(super) async fn start() -> Self {
        let database = database().await;
        let owner = database.owner.get().await.unwrap();
        owner.batch_execute(PEOPLE).await.unwrap();
        let (intake, registry) = intake();
        Self { intake, registry, database, owner }
    }

    /// As another process that begins where this one ended.
    fn restart(&mut self) {
        (self.intake, self.registry) = intake();
    }

    pub(super) fn decoded(&self, stream: &str, offset: i64, value: Vec<u8>) -> Decoded<Item> {
        let (stream, headers) = (stream.into(), Vec::new());
        let record =
            Record { stream, partition: LANE, offset, timestamp_ms: None, key: None, value, headers };
        let item = self.intake.decode(&record).unwrap();
        Decoded { record, item }
    }

    /// The reference report, of this lock and process, so many seconds ago.
    pub(super) fn report(&self, lock: &str, process_id: &str, lock_state: i64, ago_s: i64) -> Decoded<Item> {
        let payload = format!(
            r#"{{   "process_id": "{process_id}",   "action": "unlock",   "battery": 83.4,   "lock_state": {lock_state},   "version": 1.1,   "client_id": "{lock}" }}"#
        );
        let mut value = Vec::new();
        let (topic, payload) = (format!("devices/{lock}/state"), payload.as_bytes());
        let ts = (now().as_millisecond() - ago_s * 1_000).try_into().unwrap();
        let (qos, node) = (Qos::AtLeastOnce, "n");
        write_publish(
            &mut value,
            &Publish { publisher: lock, username: "", topic: &topic, payload, qos, node, ts },
        );
        self.decoded(STATES, 0, value)
    }

    pub(super) fn alarm(&self, edit: impl FnOnce(&mut Value)) -> Decoded<Item> {
        let at = now().as_millisecond() - 1_000;
        let mut alarm = json!({
            "event_id": "1151b2e5-a77d-5a4c-a82d-25ce339979a3", "alarm_id": "830f383c-1f2b-548e-bcdf-4964a31da4d2",
            "no": 1, "client_id": LOCK, "type": "tamper", "severity": "critical", "change": "raised",
            "from": null, "to": "active", "at": at, "raised_at": at, "origin": "report", "actor": "monitor",
            "cause": {}, "value": {"state": 1}, "count": 1, "level": 0, "notify": true, "suppressed_by": null,
        });
        edit(&mut alarm);
        self.decoded(ALARMS, 0, alarm.to_string().into_bytes())
    }

    pub(super) async fn store(&self, batch: &[Decoded<Item>]) {
        let mut client = self.database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        self.intake.store(&transaction, LANE, batch).await.unwrap();
        transaction.commit().await.unwrap();
        self.intake.committed(LANE);
    }

    /// All notifications, each in a line.
    pub(super) async fn told(&self) -> Vec<String> {
        let sql = "select concat_ws(' ', event_type, severity, user_id, channel, address, status,
                split_part(digest, '|', 2)) from notification order by 1";
        self.owner.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub(super) async fn count(&self, sql: &str) -> i64 {
        self.owner.query_one(&format!("select count(*) from {sql}"), &[]).await.unwrap().get(0)
    }

    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(super) fn assert_metrics(&self, lines: &[&str]) {
        let metrics = self.metrics();
        for line in lines {
            assert!(metrics.contains(&format!("{line}\n")), "{line}\n{metrics}");
        }
    }
}

fn intake() -> (Intake, Registry) {
    let settings: Settings = config::load(DEFAULT_TOML, None, "NONE", std::iter::empty()).unwrap();
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let config = Config { rules: settings.rules(), streams: settings.streams, profiles: settings.profiles };
    (Intake::new(config, metrics), registry)
}

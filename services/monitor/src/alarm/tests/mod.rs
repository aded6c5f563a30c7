//! Against a real server: signals, people and the clock at the same alarms.

mod clock;
mod crowd;
mod lives;
mod people;
mod plans;
mod words;

use deadpool_postgres::{Object, Pool};
use latchline_shared::alarm::{AlarmRecord, AlarmType, Change, Origin, Severity, State};
use latchline_shared::kit::postgres::testing::Database;
use serde_json::json;
use uuid::Uuid;

use super::act::{ActError, act};
use super::apply::apply;
use super::lifecycle::Act;
use super::sweep::prune::{Pruned, prune};
use super::sweep::{SweepSettings, Swept, sweep};
use super::{Alarm, Applied, Context, Event, Timing, store};
use crate::migrations::tests::database;
use crate::rule::load::Rules;
use crate::signal::{Located, Place, Signal, What};

/// 2026-03-01.
pub(super) const START_MS: i64 = 1_772_323_200_000;
pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// A database with our tables.
pub(super) struct Lab {
    pub(super) pool: Pool,
    pub(super) owner: Pool,
    pub(super) context: Context,
}

impl Lab {
    pub(super) async fn start() -> Self {
        let Database { pool, owner, .. } = database().await;
        let context = Context { outbox: Some("outbox".to_owned()), webhook: true, timing: Timing::default() };
        Self { pool, owner, context }
    }

    pub(super) async fn client(&self) -> Object {
        self.pool.get().await.unwrap()
    }

    pub(super) async fn apply(&self, signals: Vec<Located>) -> Applied {
        let mut client = self.client().await;
        let transaction = client.transaction().await.unwrap();
        let applied = apply(&transaction, &self.context, signals).await.unwrap();
        transaction.commit().await.unwrap();
        applied
    }

    pub(super) async fn act(&self, id: Uuid, what: Act, at_ms: i64) -> Result<(Alarm, Event), ActError> {
        let mut client = self.client().await;
        let transaction = client.transaction().await.unwrap();
        let done = act(&transaction, &self.context, id, what, "duty", Some("seen"), at_ms).await;
        transaction.commit().await.unwrap();
        done
    }

    pub(super) async fn sweep(&self, now_ms: i64) -> Swept {
        let mut client = self.client().await;
        let transaction = client.transaction().await.unwrap();
        let fleet = Rules::load(None).unwrap().fleet().clone();
        let settings = SweepSettings { context: self.context.clone(), fleet };
        let swept = sweep(&transaction, &settings, now_ms).await.unwrap();
        transaction.commit().await.unwrap();
        swept
    }

    pub(super) async fn prune(&self, now_ms: i64) -> Pruned {
        let mut client = self.client().await;
        let transaction = client.transaction().await.unwrap();
        let pruned = prune(&transaction, now_ms).await.unwrap();
        transaction.commit().await.unwrap();
        pruned
    }

    pub(super) async fn alarms(&self) -> Vec<Alarm> {
        let select = format!("select {} from alarm order by client_id, type, raised_at, id", store::COLUMNS);
        let rows = self.client().await.query(&select, &[]).await.unwrap();
        rows.iter().map(|row| store::alarm(row).unwrap()).collect()
    }

    pub(super) async fn events(&self) -> Vec<Event> {
        let select = format!("select {} from alarm_event order by xid, seq", store::EVENT_COLUMNS);
        let rows = self.client().await.query(&select, &[]).await.unwrap();
        rows.iter().map(|row| store::event(row).unwrap()).collect()
    }

    pub(super) async fn records(&self) -> Vec<AlarmRecord> {
        let rows = self.client().await.query("select value from outbox order by seq", &[]).await.unwrap();
        rows.iter().map(|row| serde_json::from_slice(row.get(0)).unwrap()).collect()
    }

    /// A lane that keeps up since this time, and always writes.
    pub(super) async fn live_since(&self, at_ms: i64) {
        self.execute(&format!(
            "insert into lane (partition, version, evaluated_at, live_since, locks, offline, lost, updated_at)
             values (9, 1, now(), to_timestamp({at_ms} / 1000.0), 0, 0, 0, 'infinity')
             on conflict (partition) do update set live_since = excluded.live_since"
        ))
        .await;
    }

    pub(super) async fn execute(&self, sql: &str) {
        self.owner.get().await.unwrap().batch_execute(sql).await.unwrap();
    }
}

/// A signal of a record, which is at the place of its time.
pub(super) fn signal(lock: &str, alarm: AlarmType, what: What, at_ms: i64) -> Located {
    Located {
        client_id: lock.to_owned(),
        place: Place { stream: "message_state".into(), partition: 0, offset: at_ms - START_MS },
        signal: Signal {
            alarm,
            at_ms,
            what,
            value: json!({ "at": at_ms - START_MS }),
            origin: Origin::Report,
        },
    }
}

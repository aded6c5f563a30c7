//! Changes of alarms: those of one alarm in order, and those of all as they were written.
//!
//! As written means by transaction and number, and only what no later row can come before: whoever
//! asks on from the last key sees each change once, whenever it was committed.

use latchline_shared::kit::api::view;
use std::fmt;

use latchline_shared::alarm::{AlarmType, Severity};
use latchline_shared::kit::api::page::{self, Page};
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::postgres::statement::Statement;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::alarms::words;
use crate::alarm::id;

const COLUMNS: &str = "event.alarm_id, event.no, alarm.client_id, alarm.type, event.severity, \
     event.change, event.from_state, event.to_state, event.at, alarm.raised_at, event.origin, event.actor, \
     event.cause, event.value, event.notify, event.suppressed_by, event.xid::text::bigint, event.seq";

/// How many changes one page looks at: so a filter that lets little through takes no longer.
const LOOK_ROWS: i64 = 10_000;

/// A change of an alarm.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub struct ChangeView {
    /// Its id (UUID), the same as in the stream `lock_alarm`.
    pub id: String,
    /// Id of the alarm (UUID).
    pub alarm_id: String,
    /// Number of the change, from 1 without gap for each alarm.
    pub no: i32,
    /// The lock; none if it is an alarm of the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What is wrong.
    #[serde(rename = "type")]
    pub alarm_type: String,
    /// How bad it was then.
    pub severity: String,
    /// What happened: `raised`, `repeated`, `worsened`, `returned_to_normal`, `acknowledged`, …
    pub change: String,
    /// State before; none if the alarm was raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// State after.
    pub to: String,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// When the alarm was raised.
    #[schema(format = DateTime)]
    pub raised_at: String,
    /// `report`, `finding`, `clock` or `operator`.
    pub origin: String,
    /// Who: the name of a token, or `monitor`.
    pub actor: String,
    /// Why: what is known of it, by origin.
    #[schema(value_type = Object)]
    pub cause: Value,
    /// What was looked at, by type.
    #[schema(value_type = Object)]
    pub value: Value,
    /// Whether somebody should be told.
    pub notify: bool,
    /// Why nobody is told though somebody usually is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed_by: Option<String>,
}

/// Place of a change in the order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Transaction.
    #[serde(deserialize_with = "transaction")]
    pub xid: i64,
    /// Number.
    pub seq: i64,
}

fn transaction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let xid = i64::deserialize(deserializer)?;
    if xid < 0 { Err(D::Error::custom("no transaction")) } else { Ok(xid) }
}

/// Whose changes a stream shows. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// What is wrong.
    pub alarm_type: Option<AlarmType>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// The lock.
    pub client_id: Option<String>,
}

impl Filter {
    /// Out of the parameters of a request.
    pub fn take(params: &mut Params) -> Self {
        Self {
            alarm_type: params.word("type", &words(AlarmType::ALL, AlarmType::name)),
            severity: params.word("severity", &words(Severity::ALL, Severity::name)),
            client_id: params.text("client_id"),
        }
    }
}

/// In one spelling, so that the same question is the same text.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "changes {self:?}")
    }
}

/// The changes of one alarm behind number `after`.
pub async fn of_alarm(
    client: &(impl GenericClient + Sync),
    alarm_id: Uuid,
    after: i32,
    limit: usize,
) -> Result<Page<ChangeView>, Error> {
    let mut statement = Statement::default();
    statement
        .push(&format!("select {COLUMNS} from alarm_event event join alarm on alarm.id = event.alarm_id"));
    let alarm_id = statement.bind(alarm_id, Type::UUID);
    let after = statement.bind(after, Type::INT4);
    statement.push(&format!(" where event.alarm_id = {alarm_id} and event.no > {after} order by event.no"));
    page::read(client, statement, limit, of_row).await
}

/// What was written behind a place, and how far was looked.
pub async fn as_written(
    client: &(impl GenericClient + Sync),
    filter: &Filter,
    after: Option<Key>,
    limit: usize,
) -> Result<(Vec<(Key, ChangeView)>, Option<Key>), Error> {
    // Asked first: all that is older than this is done now, so the statement that follows sees it.
    let horizon = horizon(client).await?;
    // Also asked first: what is removed meanwhile must not make this look further than it is told.
    let until = last_looked_at(client, after, horizon).await?;
    let statement = statement(filter, after, until, horizon);
    let keyed = |row: &Row| Ok((Key { xid: row.try_get(16)?, seq: row.try_get(17)? }, of_row(row)?));
    let found = page::read(client, statement, limit, keyed).await?;
    let next = if found.has_more {
        found.rows.last().map(|(key, _)| *key)
    } else {
        // All that was looked at has been seen, whether or not the filter let it through: up to the
        // last of a full look, or else everything before the horizon.
        until.or(after.max(Some(before(horizon))))
    };
    Ok((found.rows, next))
}

/// The last change that a page looks at, if it does not look at all there are.
async fn last_looked_at(
    client: &(impl GenericClient + Sync),
    after: Option<Key>,
    horizon: i64,
) -> Result<Option<Key>, Error> {
    let mut statement = Statement::default();
    statement.push("select event.xid::text::bigint, event.seq from alarm_event event");
    settled(&mut statement, after, None, horizon);
    let skipped = statement.bind(LOOK_ROWS - 1, Type::INT8);
    statement.push(&format!(" offset {skipped} limit 1"));
    let row = client.query_typed_opt(&statement.text, &statement.values()).await?;
    row.map(|row| Ok(Key { xid: row.try_get(0)?, seq: row.try_get(1)? })).transpose()
}

/// Goes on with what is settled behind a place, up to another, in order.
fn settled(statement: &mut Statement, after: Option<Key>, until: Option<Key>, horizon: i64) {
    statement.push(" where true");
    statement.and("event.xid < ", horizon, Type::INT8, "::text::xid8");
    for (sign, place) in [(">", after), ("<=", until)] {
        if let Some(Key { xid, seq }) = place {
            let xid = statement.bind(xid, Type::INT8);
            let left = format!("(event.xid, event.seq) {sign} ({xid}::text::xid8, ");
            statement.and(&left, seq, Type::INT8, ")");
        }
    }
    statement.push(" order by event.xid, event.seq");
}

/// The statement of [`as_written`], without its limit.
pub fn statement(filter: &Filter, after: Option<Key>, until: Option<Key>, horizon: i64) -> Statement {
    let mut statement = Statement::default();
    statement.push(&format!("select {COLUMNS} from (select * from alarm_event event"));
    settled(&mut statement, after, until, horizon);
    let look_rows = statement.bind(LOOK_ROWS, Type::INT8);
    statement.push(&format!(" limit {look_rows}) event join alarm on alarm.id = event.alarm_id where true"));
    if let Some(alarm_type) = filter.alarm_type {
        statement.and("alarm.type = ", alarm_type.name(), Type::TEXT, "");
    }
    if let Some(severity) = filter.severity {
        statement.and("event.severity = ", severity.name(), Type::TEXT, "");
    }
    if let Some(client_id) = &filter.client_id {
        statement.and("alarm.client_id = ", client_id.clone(), Type::TEXT, "");
    }
    statement.push(" order by event.xid, event.seq");
    statement
}

/// The oldest transaction that still runs, anywhere on the server: what is older is there or never
/// will be.
async fn horizon(client: &(impl GenericClient + Sync)) -> Result<i64, Error> {
    let sql = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
    client.query_typed_one(sql, &[]).await?.try_get(0)
}

/// The place behind everything that is settled now.
pub async fn now(client: &(impl GenericClient + Sync)) -> Result<Key, Error> {
    Ok(before(horizon(client).await?))
}

/// Before everything that this transaction and later ones write: numbers begin with 1.
fn before(xid: i64) -> Key {
    Key { xid, seq: 0 }
}

fn of_row(row: &Row) -> Result<ChangeView, Error> {
    let alarm_id: Uuid = row.try_get(0)?;
    let no: i32 = row.try_get(1)?;
    Ok(ChangeView {
        id: id::event(alarm_id, no).to_string(),
        alarm_id: alarm_id.to_string(),
        no,
        client_id: view::given(row.try_get(2)?),
        alarm_type: row.try_get(3)?,
        severity: row.try_get(4)?,
        change: row.try_get(5)?,
        from: row.try_get(6)?,
        to: row.try_get(7)?,
        at: view::time(row.try_get(8)?),
        raised_at: view::time(row.try_get(9)?),
        origin: row.try_get(10)?,
        actor: row.try_get(11)?,
        cause: row.try_get(12)?,
        value: row.try_get(13)?,
        notify: row.try_get(14)?,
        suppressed_by: row.try_get(15)?,
    })
}

//! The present state of locks, and what their rules wait for.

use latchline_shared::kit::api::view;
use std::fmt;

use jiff::Timestamp;
use latchline_shared::alarm::{Severity, State};
use latchline_shared::kit::api::cursor::{Text, Time};
use latchline_shared::kit::api::page::{self, Page};
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::postgres::statement::Statement;
use latchline_shared::lock_state::LockState;
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};
use tracing::error;
use utoipa::ToSchema;

use super::alarms::{FLAG, words};
use crate::lock::Lock;
use crate::lock::memory::Memory;
use crate::rule::load::Rules;

/// Rows that one page looks at: a filter without an index finds little among a million locks.
pub const SCAN_MAX: i64 = 10_000;

const COLUMNS: &str = "client_id, lock_state, lock_state_raw, since, battery, battery_at, version, \
     last_report_at, online, online_since, pending_at, partition, last_offset";

/// A lock as it is now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lock)]
pub struct LockView {
    /// Its id.
    pub client_id: String,
    /// `locked`, `unlocked`, `fault`, …
    pub lock_state: String,
    /// The state as the lock said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_state_raw: Option<i64>,
    /// Since when it is so.
    #[schema(format = DateTime)]
    pub since: String,
    /// Percent, the last value that made sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery: Option<f64>,
    /// When that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub battery_at: Option<String>,
    /// Version of its reports, as it says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it reported last.
    #[schema(format = DateTime)]
    pub last_report_at: String,
    /// Whether it is not silent.
    pub online: bool,
    /// Since when it is so.
    #[schema(format = DateTime)]
    pub online_since: String,
    /// When the first delay ends that is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub pending_at: Option<String>,
    /// Partition of the stream of its reports.
    pub partition: i32,
    /// Offset of its last report.
    pub last_offset: i64,
}

/// Which locks. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// The state.
    pub state: Option<LockState>,
    /// Whether it is not silent.
    pub is_online: Option<bool>,
    /// The battery, in percent.
    pub battery_below: Option<f32>,
    /// Whether a delay is running.
    pub is_pending: Option<bool>,
}

impl Filter {
    /// Out of the parameters of a request.
    pub fn take(params: &mut Params) -> Self {
        Self {
            state: params.word("state", &words(&LockState::ALL, LockState::name)),
            is_online: params.word("online", &FLAG),
            battery_below: params.parsed("battery_below", |text| {
                let percent = text.parse::<f32>().ok().filter(|percent| (0.0..=100.0).contains(percent));
                percent.ok_or_else(|| "must be a number from 0 to 100".to_owned())
            }),
            is_pending: params.word("pending", &FLAG),
        }
    }

    /// Whether rows are left out that an index does not tell apart.
    fn is_sparse(&self) -> bool {
        self.battery_below.is_some() || self.is_online == Some(true) || self.is_pending == Some(false)
    }
}

/// In one spelling, so that the same question is the same text.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "locks {self:?}")
    }
}

/// Reads a page, ordered by id, and where the next begins.
pub async fn read(
    client: &(impl GenericClient + Sync),
    filter: &Filter,
    after: Option<&Text>,
    limit: usize,
) -> Result<(Vec<LockView>, Option<Text>), Error> {
    let scanned = scanned(filter, after);
    let found = page::read(client, statement(filter, after), limit, of_row).await?;
    let next = if found.has_more {
        found.rows.last().map(|last| Text(last.client_id.clone()))
    } else if filter.is_sparse() {
        // The page ends with what was looked at, even if nothing of it was found.
        let mut last = scanned;
        last.push(&format!(" offset {} limit 1", SCAN_MAX - 1));
        let row = client.query_typed_opt(&last.text, &last.values()).await?;
        row.map(|row| row.try_get("client_id")).transpose()?.map(Text)
    } else {
        None
    };
    Ok((found.rows, next))
}

/// The statement of a page, without its limit.
pub fn statement(filter: &Filter, after: Option<&Text>) -> Statement {
    let mut statement = scanned(filter, after);
    if !filter.is_sparse() {
        return statement;
    }
    statement.text = format!("select * from ({} limit {SCAN_MAX}) scanned where true", statement.text);
    if let Some(percent) = filter.battery_below {
        statement.and("battery < ", percent, Type::FLOAT4, "");
    }
    if filter.is_online == Some(true) {
        statement.push(" and online");
    }
    if filter.is_pending == Some(false) {
        statement.push(" and pending_at is null");
    }
    statement.push(" order by client_id");
    statement
}

/// What indexes tell apart.
fn scanned(filter: &Filter, after: Option<&Text>) -> Statement {
    let mut statement = Statement::default();
    statement.push(&format!("select {COLUMNS} from lock_current where true"));
    if let Some(Text(after)) = after {
        statement.and("client_id > ", after.clone(), Type::TEXT, "");
    }
    if let Some(state) = filter.state {
        statement.and("lock_state = ", state.name(), Type::TEXT, "");
    }
    if filter.is_online == Some(false) {
        statement.push(" and not online");
    }
    if filter.is_pending == Some(true) {
        statement.push(" and pending_at is not null");
    }
    statement.push(" order by client_id");
    statement
}

/// One lock.
pub async fn one(client: &(impl GenericClient + Sync), client_id: &str) -> Result<Option<Known>, Error> {
    let select = format!("select {COLUMNS}, memory from lock_current where client_id = $1");
    let row = client.query_typed_opt(&select, &[(&client_id, Type::TEXT)]).await?;
    row.as_ref().map(known).transpose()
}

/// A lock as it is now, for people and for the rules.
#[derive(Debug)]
pub struct Known {
    /// For people.
    pub view: LockView,
    /// When the first delay ends that is running.
    pub pending_at: Option<Timestamp>,
    /// For the rules; none if what they remember cannot be read, which is logged.
    lock: Option<Lock>,
}

/// A condition whose delay is running: no alarm yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pending {
    /// The lock.
    pub client_id: String,
    /// What will be wrong.
    #[serde(rename = "type")]
    pub alarm_type: &'static str,
    /// How bad it will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<&'static str>,
    /// `pending`.
    pub state: &'static str,
    /// Since when it is so.
    #[schema(format = DateTime)]
    pub since: String,
    /// When the alarm will be raised.
    #[schema(format = DateTime)]
    pub due_at: String,
}

impl Known {
    /// Its conditions whose delays are running.
    pub fn pending(&self, rules: &Rules) -> Vec<Pending> {
        let rules = rules.of(&self.view.client_id);
        let time = |ms| Timestamp::from_millisecond(ms).map(view::time).unwrap_or_default();
        let pending = self.lock.iter().flat_map(|lock| lock.pending(rules));
        pending
            .map(|pending| Pending {
                client_id: self.view.client_id.clone(),
                alarm_type: pending.alarm.name(),
                severity: rules.severity(pending.alarm).map(Severity::name),
                state: State::Pending.name(),
                since: time(pending.since_ms),
                due_at: time(pending.due_ms),
            })
            .collect()
    }

    /// Its place in the order of what is due.
    pub fn pending_key(&self) -> Option<PendingKey> {
        Some((Time(self.pending_at?), Text(self.view.client_id.clone())))
    }
}

/// Place of a lock in the order of what is due.
pub type PendingKey = (Time, Text);

/// Locks of which a delay is running, those that are due first first.
pub async fn pending(
    client: &(impl GenericClient + Sync),
    client_id: Option<&str>,
    after: Option<&PendingKey>,
    limit: usize,
) -> Result<Page<Known>, Error> {
    page::read(client, pending_statement(client_id, after), limit, known).await
}

/// The statement of [`pending`], without its limit.
pub fn pending_statement(client_id: Option<&str>, after: Option<&PendingKey>) -> Statement {
    let mut statement = Statement::default();
    statement.push(&format!("select {COLUMNS}, memory from lock_current where pending_at is not null"));
    if let Some(client_id) = client_id {
        statement.and("client_id = ", client_id.to_owned(), Type::TEXT, "");
    }
    if let Some((Time(due_at), Text(last))) = after {
        let due_at = statement.bind(*due_at, Type::TIMESTAMPTZ);
        statement.and(&format!("(pending_at, client_id) > ({due_at}, "), last.clone(), Type::TEXT, ")");
    }
    statement.push(" order by pending_at, client_id");
    statement
}

fn known(row: &Row) -> Result<Known, Error> {
    let view = of_row(row)?;
    let memory = serde_json::from_value::<Memory>(row.try_get("memory")?);
    let memory = memory.inspect_err(|error| {
        error!(client_id = view.client_id, %error, "what the rules remember cannot be read");
    });
    let ms = |name| row.try_get::<_, Timestamp>(name).map(Timestamp::as_millisecond);
    let lock = match memory {
        Ok(memory) => Some(Lock {
            state: LockState::from_name(&view.lock_state).unwrap_or(LockState::Unknown),
            state_raw: view.lock_state_raw,
            since_ms: ms("since")?,
            battery: row.try_get("battery")?,
            battery_at_ms: row.try_get::<_, Option<_>>("battery_at")?.map(Timestamp::as_millisecond),
            last_report_at_ms: ms("last_report_at")?,
            last_offset: view.last_offset,
            online: view.online,
            online_since_ms: ms("online_since")?,
            memory,
        }),
        Err(_) => None,
    };
    Ok(Known { view, pending_at: row.try_get("pending_at")?, lock })
}

fn of_row(row: &Row) -> Result<LockView, Error> {
    Ok(LockView {
        client_id: row.try_get(0)?,
        lock_state: row.try_get(1)?,
        lock_state_raw: row.try_get(2)?,
        since: view::time(row.try_get(3)?),
        // To a tenth, as it was said: an f32 has no 20.1.
        battery: row.try_get::<_, Option<f32>>(4)?.map(|percent| (f64::from(percent) * 10.0).round() / 10.0),
        battery_at: row.try_get::<_, Option<_>>(5)?.map(view::time),
        version: row.try_get(6)?,
        last_report_at: view::time(row.try_get(7)?),
        online: row.try_get(8)?,
        online_since: view::time(row.try_get(9)?),
        pending_at: row.try_get::<_, Option<_>>(10)?.map(view::time),
        partition: row.try_get(11)?,
        last_offset: row.try_get(12)?,
    })
}

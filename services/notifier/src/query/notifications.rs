//! Notifications by filter, the newest first; one of them; its attempts.

use latchline_shared::kit::api::view::time;
use std::fmt;

use jiff::Timestamp;
use latchline_shared::kit::api::cursor::{Id, Time};
use latchline_shared::kit::api::page::{self, Page};
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::postgres::statement::Statement;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};
use uuid::Uuid;

use super::view::{self, AttemptView, ContentView, NOTIFICATION_COLUMNS, NotificationView};
use crate::event::{Channel, EventType, Severity};
use crate::status::Status;

/// Which notifications. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Who is told.
    pub user_id: Option<String>,
    /// The lock.
    pub client_id: Option<String>,
    /// How.
    pub channel: Option<Channel>,
    /// Where it stands.
    pub status: Option<Status>,
    /// What happened.
    pub event_type: Option<EventType>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// Of which result.
    pub process_id: Option<String>,
    /// Of which alarm.
    pub alarm_id: Option<Uuid>,
    /// Written from then.
    pub from: Option<Timestamp>,
    /// Written before then.
    pub to: Option<Timestamp>,
}

/// Place of a notification in the list.
pub type Key = (Time, Id);

impl Filter {
    /// Out of the parameters of a request.
    pub fn take(params: &mut Params) -> Self {
        let events: Vec<_> = EventType::all().map(|event| (event.name(), event)).collect();
        let filter = Self {
            user_id: params.text("user_id"),
            client_id: params.text("client_id"),
            channel: params.word("channel", &words(Channel::ALL, Channel::name)),
            status: params.word("status", &words(Status::ALL, Status::name)),
            event_type: params.word("event_type", &events),
            severity: params.word("severity", &words(Severity::ALL, Severity::name)),
            process_id: params.text("process_id"),
            alarm_id: params
                .parsed("alarm_id", |text| Uuid::parse_str(text).map_err(|_| "must be a UUID".to_owned())),
            from: params.time("from"),
            to: params.time("to"),
        };
        if filter.from.zip(filter.to).is_some_and(|(from, to)| from >= to) {
            params.problem("from", "must be before to");
        }
        filter
    }
}

/// Words and what they stand for.
fn words<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|one| (name(*one), *one)).collect()
}

/// In one spelling, so that the same question is the same text.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "notifications {self:?}")
    }
}

/// Reads a page.
pub async fn read(
    client: &(impl GenericClient + Sync),
    filter: &Filter,
    after: Option<Key>,
    limit: usize,
) -> Result<Page<(Key, NotificationView)>, Error> {
    let keyed = |row: &Row| {
        let key = (Time(row.try_get("created_at")?), Id(row.try_get("id")?));
        Ok((key, view::notification(row)?))
    };
    page::read(client, statement(filter, after), limit, keyed).await
}

/// The statement of a page, without its limit.
pub fn statement(filter: &Filter, after: Option<Key>) -> Statement {
    let mut statement = Statement::default();
    statement.push(&format!("select {NOTIFICATION_COLUMNS} from notification where true"));
    for (column, text) in [
        ("user_id", filter.user_id.as_deref()),
        ("client_id", filter.client_id.as_deref()),
        ("process_id", filter.process_id.as_deref()),
        ("channel", filter.channel.map(Channel::name)),
        ("status", filter.status.map(Status::name)),
        ("event_type", filter.event_type.map(EventType::name)),
        ("severity", filter.severity.map(Severity::name)),
    ] {
        if let Some(text) = text {
            statement.and(&format!("{column} = "), text.to_owned(), Type::TEXT, "");
        }
    }
    if let Some(alarm_id) = filter.alarm_id {
        statement.and("alarm_id = ", alarm_id, Type::UUID, "");
    }
    if let Some(from) = filter.from {
        statement.and("created_at >= ", from, Type::TIMESTAMPTZ, "");
    }
    if let Some(to) = filter.to {
        statement.and("created_at < ", to, Type::TIMESTAMPTZ, "");
    }
    if let Some((Time(created_at), Id(id))) = after {
        let created_at = statement.bind(created_at, Type::TIMESTAMPTZ);
        statement.and(&format!("(created_at, id) < ({created_at}, "), id, Type::UUID, ")");
    }
    statement.push(" order by created_at desc, id desc");
    statement
}

/// One notification, and what it tells.
pub async fn one(
    client: &(impl GenericClient + Sync),
    id: Uuid,
) -> Result<Option<(NotificationView, ContentView)>, Error> {
    let select = format!(
        "select {NOTIFICATION_COLUMNS}, locale, time_zone, facts - 'code' as facts \
         from notification where id = $1"
    );
    let row = client.query_typed_opt(&select, &[(&id, Type::UUID)]).await?;
    row.map(|row| {
        let content = ContentView {
            locale: row.try_get("locale")?,
            time_zone: row.try_get("time_zone")?,
            facts: row.try_get("facts")?,
        };
        Ok((view::notification(&row)?, content))
    })
    .transpose()
}

/// The attempts to deliver a notification behind number `after`.
pub async fn attempts(
    client: &(impl GenericClient + Sync),
    id: Uuid,
    after: i32,
    limit: usize,
) -> Result<Page<AttemptView>, Error> {
    let mut statement = Statement::default();
    statement.push("select n, provider, started_at, ms, outcome, code, excerpt from attempt where true");
    statement.and("notification_id = ", id, Type::UUID, "");
    statement.and("n > ", after, Type::INT4, "");
    statement.push(" order by n");
    let of_row = |row: &Row| {
        Ok(AttemptView {
            n: row.try_get(0)?,
            provider: row.try_get(1)?,
            started_at: time(row.try_get(2)?),
            ms: row.try_get(3)?,
            outcome: row.try_get(4)?,
            code: row.try_get(5)?,
            excerpt: row.try_get(6)?,
        })
    };
    page::read(client, statement, limit, of_row).await
}

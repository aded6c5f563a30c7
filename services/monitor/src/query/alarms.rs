//! Alarms by filter, newest or oldest first.

use std::fmt;

use jiff::Timestamp;
use latchline_shared::alarm::{AlarmType, Severity, State};
use latchline_shared::kit::api::cursor::{Id, Time};
use latchline_shared::kit::api::page::{self, Page};
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::postgres::statement::Statement;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient};
use uuid::Uuid;

use super::view::{self, ALARM_COLUMNS, AlarmView};

/// Which alarms, and in which order. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Where it stands.
    pub state: Option<State>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// At least this bad.
    pub min_severity: Option<Severity>,
    /// What is wrong.
    pub alarm_type: Option<AlarmType>,
    /// The lock.
    pub client_id: Option<String>,
    /// Whether it is not closed.
    pub is_open: Option<bool>,
    /// Raised from then.
    pub since: Option<Timestamp>,
    /// Raised before then.
    pub until: Option<Timestamp>,
    /// In which order.
    pub order: Order,
}

/// An order of alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Those that were raised last first.
    #[default]
    Descending,
    /// Those that were raised first first.
    Ascending,
}

impl Order {
    /// Their words.
    pub const WORDS: [(&str, Self); 2] = [("desc", Self::Descending), ("asc", Self::Ascending)];
}

/// Place of an alarm in either order.
pub type Key = (Time, Id);

impl Filter {
    /// Out of the parameters of a request.
    pub fn take(params: &mut Params) -> Self {
        let filter = Self {
            state: params.word("state", &words(State::ALL, State::name)),
            severity: params.word("severity", &words(Severity::ALL, Severity::name)),
            min_severity: params.word("min_severity", &words(Severity::ALL, Severity::name)),
            alarm_type: params.word("type", &words(AlarmType::ALL, AlarmType::name)),
            client_id: params.text("client_id"),
            is_open: params.word("open", &FLAG),
            since: params.time("since"),
            until: params.time("until"),
            order: params.word("order", &Order::WORDS).unwrap_or_default(),
        };
        if filter.since.zip(filter.until).is_some_and(|(since, until)| since >= until) {
            params.problem("since", "must be before until");
        }
        let of_a_lock = Self { state: filter.state, client_id: filter.client_id.clone(), ..Self::default() };
        if filter.state == Some(State::Pending) && filter != of_a_lock {
            params.problem("state", "pending goes with client_id, limit and after only");
        }
        filter
    }
}

/// `true` and `false`, where neither is the default.
pub const FLAG: [(&str, bool); 2] = [("true", true), ("false", false)];

/// Words and what they stand for.
pub fn words<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|one| (name(*one), *one)).collect()
}

/// In one spelling, so that the same question is the same text.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alarms {self:?}")
    }
}

/// Reads a page.
pub async fn read(
    client: &(impl GenericClient + Sync),
    filter: &Filter,
    after: Option<Key>,
    limit: usize,
) -> Result<Page<(Key, AlarmView)>, Error> {
    let keyed = |row: &tokio_postgres::Row| {
        let key = (Time(row.try_get("raised_at")?), Id(row.try_get("id")?));
        Ok((key, view::alarm(row)?))
    };
    page::read(client, statement(filter, after), limit, keyed).await
}

/// One alarm.
pub async fn one(client: &(impl GenericClient + Sync), id: Uuid) -> Result<Option<AlarmView>, Error> {
    let select = format!("select {ALARM_COLUMNS} from alarm where id = $1");
    let row = client.query_typed_opt(&select, &[(&id, Type::UUID)]).await?;
    row.as_ref().map(view::alarm).transpose()
}

/// The open alarms of one lock; there are at most as many as there are types.
pub async fn open_of(client: &(impl GenericClient + Sync), client_id: &str) -> Result<Vec<AlarmView>, Error> {
    let select = format!(
        "select {ALARM_COLUMNS} from alarm where client_id = $1 and state <> 'closed' \
         order by raised_at desc, id desc"
    );
    let rows = client.query_typed(&select, &[(&client_id, Type::TEXT)]).await?;
    rows.iter().map(view::alarm).collect()
}

/// The statement of a page, without its limit.
pub fn statement(filter: &Filter, after: Option<Key>) -> Statement {
    let mut statement = Statement::default();
    statement.push(&format!("select {ALARM_COLUMNS} from alarm where true"));
    if let Some(client_id) = &filter.client_id {
        statement.and("client_id = ", client_id.clone(), Type::TEXT, "");
    }
    for (column, word) in [
        ("type", filter.alarm_type.map(AlarmType::name)),
        ("state", filter.state.map(State::name)),
        ("severity", filter.severity.map(Severity::name)),
    ] {
        if let Some(word) = word {
            statement.and(&format!("{column} = "), word, Type::TEXT, "");
        }
    }
    if let Some(least) = filter.min_severity {
        let bad_enough = Severity::ALL.iter().filter(|severity| **severity >= least);
        let names: Vec<_> = bad_enough.map(|severity| severity.name()).collect();
        statement.and("severity = any(", names, Type::TEXT_ARRAY, ")");
    }
    // Said in the words of the partial index.
    let is_open = filter.is_open.or(filter.state.map(|state| state != State::Closed));
    match is_open {
        Some(true) => statement.push(" and state <> 'closed'"),
        Some(false) => statement.push(" and state = 'closed'"),
        None => {}
    }
    if let Some(since) = filter.since {
        statement.and("raised_at >= ", since, Type::TIMESTAMPTZ, "");
    }
    if let Some(until) = filter.until {
        statement.and("raised_at < ", until, Type::TIMESTAMPTZ, "");
    }
    let (comparison, direction) = match filter.order {
        Order::Descending => ("<", " desc"),
        Order::Ascending => (">", ""),
    };
    if let Some((Time(raised_at), Id(id))) = after {
        let raised_at = statement.bind(raised_at, Type::TIMESTAMPTZ);
        statement.and(&format!("(raised_at, id) {comparison} ({raised_at}, "), id, Type::UUID, ")");
    }
    statement.push(&format!(" order by raised_at{direction}, id{direction}"));
    statement
}

//! Silences: what somebody does not want to hear of until when.
//!
//! A silence has matchers on the lock, the type and the severity, all of which must match; a `*` at
//! the end of a value stands for any rest. It is read with each batch of changes, so there is a
//! bound on how many are on or to come. Ending one early is an update: the row says who had it made,
//! and for how long it really was.

use std::time::Duration;

use jiff::Timestamp;
use latchline_shared::alarm::{AlarmType, Severity};
use latchline_shared::fault::Fault;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::store::{failed, time};
use super::{Alarm, id};

/// How long one may be.
pub const LENGTH_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);
/// How many may be on or to come.
pub const COUNT_MAX: i64 = 1_000;
/// Matchers of one: each name once.
const MATCHERS_MAX: usize = 3;
/// Bytes of a matcher's value.
const VALUE_BYTES_MAX: usize = 256;
const COLUMNS: &str = "id, matchers, starts_at, ends_at, created_by, comment";

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// From who made it when, and the matchers.
    pub id: Uuid,
    /// All must match.
    pub matchers: Vec<Matcher>,
    /// From then on.
    pub starts_at_ms: i64,
    /// Until just before.
    pub ends_at_ms: i64,
    /// Who.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// What an alarm must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// What of it.
    pub name: Name,
    /// The word; with `*` at its end, the begin of it.
    pub value: String,
}

latchline_shared::words! {
    /// What a matcher looks at.
    Name {
        /// The lock; empty for the fleet.
        ClientId = "client_id",
        /// What is wrong.
        Type = "type",
        /// How bad it is.
        Severity = "severity",
    }
}

/// Why a silence is not made.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There are too many.
    #[error("there are {COUNT_MAX} silences already")]
    TooMany,
    /// Postgres.
    #[error("a silence cannot be written")]
    Fault(#[from] Fault),
}

impl Matcher {
    fn matches(&self, alarm: &Alarm) -> bool {
        let word = match self.name {
            Name::ClientId => alarm.client_id.as_str(),
            Name::Type => alarm.alarm_type.name(),
            Name::Severity => alarm.severity.name(),
        };
        self.matches_word(word)
    }

    fn matches_word(&self, word: &str) -> bool {
        match self.value.strip_suffix('*') {
            Some(begin) => word.starts_with(begin),
            None => word == self.value,
        }
    }

    fn problem(&self) -> Option<String> {
        let (name, value) = (self.name, &self.value);
        if value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
            return Some(format!(
                "matcher {name}: at most {VALUE_BYTES_MAX} bytes without control characters"
            ));
        }
        if value.trim_end_matches('*').len() + 1 < value.len() || value.trim_end_matches('*').contains('*') {
            return Some(format!("matcher {name}: * is possible at the end only"));
        }
        let is_possible = match name {
            Name::ClientId => true,
            Name::Type => AlarmType::ALL.iter().any(|word| self.matches_word(word.name())),
            Name::Severity => Severity::ALL.iter().any(|word| self.matches_word(word.name())),
        };
        (!is_possible).then(|| format!("matcher {name}: there is no {value}"))
    }
}

impl Silence {
    /// A silence that makes sense.
    pub fn new(
        matchers: Vec<Matcher>,
        starts_at_ms: i64,
        ends_at_ms: i64,
        created_by: &str,
        comment: &str,
        now_ms: i64,
    ) -> Result<Self, Refused> {
        let invalid = |why: &str| Err(Refused::Invalid(why.to_owned()));
        let is_double = |name| matchers.iter().filter(|matcher: &&Matcher| matcher.name == name).count() > 1;
        if matchers.is_empty()
            || matchers.len() > MATCHERS_MAX
            || Name::ALL.iter().any(|name| is_double(*name))
        {
            return invalid("a silence has one to three matchers, each of another name");
        }
        if let Some(problem) = matchers.iter().find_map(Matcher::problem) {
            return Err(Refused::Invalid(problem));
        }
        let length_ms = ends_at_ms.saturating_sub(starts_at_ms);
        if length_ms <= 0 || i128::from(length_ms) > LENGTH_MAX.as_millis() as i128 {
            return invalid("a silence ends after its start, at most 366 days later");
        }
        if ends_at_ms <= now_ms || time(starts_at_ms).is_none() || time(ends_at_ms).is_none() {
            return invalid("a silence ends in the future");
        }
        if comment.trim().is_empty() {
            return invalid("a silence needs a comment");
        }
        let id = id::silence(
            created_by,
            now_ms,
            &serde_json::json!([&matchers, starts_at_ms, ends_at_ms]).to_string(),
        );
        let (created_by, comment) = (created_by.to_owned(), comment.to_owned());
        Ok(Self { id, matchers, starts_at_ms, ends_at_ms, created_by, comment })
    }

    /// Whether it is on at this time.
    pub fn is_on(&self, at_ms: i64) -> bool {
        (self.starts_at_ms..self.ends_at_ms).contains(&at_ms)
    }

    /// Whether it is about this alarm.
    pub fn matches(&self, alarm: &Alarm) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(alarm))
    }
}

/// Writes it. The same one again changes nothing.
pub async fn create(transaction: &Transaction<'_>, silence: &Silence, now_ms: i64) -> Result<(), Refused> {
    let count = "select count(*) from silence where ends_at > $1";
    let row = transaction.query_typed(count, &[(&time(now_ms), Type::TIMESTAMPTZ)]).await.map_err(failed)?;
    let count: i64 = row.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
    if count >= COUNT_MAX {
        return Err(Refused::TooMany);
    }
    let insert =
        format!("insert into silence ({COLUMNS}) values ($1, $2, $3, $4, $5, $6) on conflict do nothing");
    transaction
        .execute_typed(
            &insert,
            &[
                (&silence.id, Type::UUID),
                (&Json(&silence.matchers), Type::JSON),
                (&time(silence.starts_at_ms), Type::TIMESTAMPTZ),
                (&time(silence.ends_at_ms), Type::TIMESTAMPTZ),
                (&silence.created_by, Type::TEXT),
                (&silence.comment, Type::TEXT),
            ],
        )
        .await
        .map_err(failed)?;
    Ok(())
}

/// Those that end after this, the first to end first.
pub async fn list(transaction: &Transaction<'_>, after_ms: i64) -> Result<Vec<Silence>, Fault> {
    let select = format!("select {COLUMNS} from silence where ends_at > $1 order by ends_at, id");
    let rows =
        transaction.query_typed(&select, &[(&time(after_ms), Type::TIMESTAMPTZ)]).await.map_err(failed)?;
    rows.iter().map(silence).collect()
}

/// Ends it now, if it is still on or to come; none if there is no such silence. One that was to
/// come never is on.
pub async fn expire(transaction: &Transaction<'_>, id: Uuid, now_ms: i64) -> Result<Option<Silence>, Fault> {
    let update = format!(
        "update silence set ends_at = least(ends_at, $2), starts_at = least(starts_at, ends_at, $2)
         where id = $1 returning {COLUMNS}"
    );
    let rows = transaction
        .query_typed(&update, &[(&id, Type::UUID), (&time(now_ms), Type::TIMESTAMPTZ)])
        .await
        .map_err(failed)?;
    rows.first().map(silence).transpose()
}

fn silence(row: &Row) -> Result<Silence, Fault> {
    let Json(matchers) = row.try_get(1).map_err(failed)?;
    let ms = |index: usize| row.try_get::<_, Timestamp>(index).map(Timestamp::as_millisecond).map_err(failed);
    Ok(Silence {
        id: row.try_get(0).map_err(failed)?,
        matchers,
        starts_at_ms: ms(2)?,
        ends_at_ms: ms(3)?,
        created_by: row.try_get(4).map_err(failed)?,
        comment: row.try_get(5).map_err(failed)?,
    })
}

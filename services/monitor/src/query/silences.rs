//! Silences: who does not want to hear of what until when.

use jiff::Timestamp;
use latchline_shared::kit::api::cursor::{Id, Time};
use latchline_shared::kit::api::page::{self, Page};
use latchline_shared::kit::api::view;
use latchline_shared::kit::postgres::statement::Statement;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};
use utoipa::ToSchema;
use uuid::Uuid;

const COLUMNS: &str = "id, matchers, starts_at, ends_at, created_by, comment, created_at";

/// A silence: while it lasts, nobody is told of the alarms that match all of its matchers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Silence)]
pub struct SilenceView {
    /// Its id (UUID).
    pub id: String,
    /// What must match: a list of `{"name", "value"}`.
    #[schema(value_type = Vec<Object>)]
    pub matchers: Value,
    /// From then.
    #[schema(format = DateTime)]
    pub starts_at: String,
    /// Until then.
    #[schema(format = DateTime)]
    pub ends_at: String,
    /// `pending`, `active` or `expired`.
    pub state: &'static str,
    /// Whose it is: the name of a token.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// Place of a silence in its order.
pub type Key = (Time, Id);

/// Reads a page, those that end last first. `is_expired` chooses.
pub async fn read(
    client: &(impl GenericClient + Sync),
    is_expired: Option<bool>,
    after: Option<Key>,
    now: Timestamp,
    limit: usize,
) -> Result<Page<(Key, SilenceView)>, Error> {
    let mut statement = Statement::default();
    statement.push(&format!("select {COLUMNS} from silence where true"));
    match is_expired {
        Some(true) => statement.and("ends_at <= ", now, Type::TIMESTAMPTZ, ""),
        Some(false) => statement.and("ends_at > ", now, Type::TIMESTAMPTZ, ""),
        None => {}
    }
    if let Some((Time(ends_at), Id(id))) = after {
        let ends_at = statement.bind(ends_at, Type::TIMESTAMPTZ);
        statement.and(&format!("(ends_at, id) < ({ends_at}, "), id, Type::UUID, ")");
    }
    statement.push(" order by ends_at desc, id desc");
    let keyed = |row: &Row| {
        let key = (Time(row.try_get("ends_at")?), Id(row.try_get("id")?));
        Ok((key, of_row(row, now)?))
    };
    page::read(client, statement, limit, keyed).await
}

/// One silence.
pub async fn one(
    client: &(impl GenericClient + Sync),
    id: Uuid,
    now: Timestamp,
) -> Result<Option<SilenceView>, Error> {
    let select = format!("select {COLUMNS} from silence where id = $1");
    let row = client.query_typed_opt(&select, &[(&id, Type::UUID)]).await?;
    row.map(|row| of_row(&row, now)).transpose()
}

fn of_row(row: &Row, now: Timestamp) -> Result<SilenceView, Error> {
    let (starts_at, ends_at): (Timestamp, Timestamp) = (row.try_get(2)?, row.try_get(3)?);
    let state = if ends_at <= now {
        "expired"
    } else if starts_at > now {
        "pending"
    } else {
        "active"
    };
    Ok(SilenceView {
        id: row.try_get::<_, Uuid>(0)?.to_string(),
        matchers: row.try_get(1)?,
        starts_at: view::time(starts_at),
        ends_at: view::time(ends_at),
        state,
        created_by: row.try_get(4)?,
        comment: row.try_get(5)?,
        created_at: view::time(row.try_get(6)?),
    })
}

//! Users by id, and what they want.

use jiff::civil::Time;
use latchline_shared::kit::api::cursor::Text;
use latchline_shared::kit::api::page::{self, Page};
use latchline_shared::kit::api::view;
use latchline_shared::kit::postgres::statement::Statement;
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};
use utoipa::ToSchema;

use crate::directory::PreferenceFields;
use crate::event::{Channel, Severity};

const COLUMNS: &str = "id, name, locale, time_zone, created_at, updated_at";

/// Somebody who is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Language of the messages.
    pub locale: String,
    /// IANA name.
    pub time_zone: String,
    /// When it was put in.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was put last.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Reads a page.
pub async fn read(
    client: &(impl GenericClient + Sync),
    after: Option<Text>,
    limit: usize,
) -> Result<Page<UserView>, Error> {
    page::read(client, statement(after), limit, of_row).await
}

/// The statement of a page, without its limit.
pub fn statement(after: Option<Text>) -> Statement {
    let mut statement = Statement::default();
    statement.push(&format!("select {COLUMNS} from users where true"));
    if let Some(Text(id)) = after {
        statement.and("id > ", id, Type::TEXT, "");
    }
    statement.push(" order by id");
    statement
}

/// One user.
pub async fn one(client: &(impl GenericClient + Sync), id: &str) -> Result<Option<UserView>, Error> {
    let select = format!("select {COLUMNS} from users where id = $1");
    let row = client.query_typed_opt(&select, &[(&id, Type::TEXT)]).await?;
    row.as_ref().map(of_row).transpose()
}

fn of_row(row: &Row) -> Result<UserView, Error> {
    Ok(UserView {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        locale: row.try_get(2)?,
        time_zone: row.try_get(3)?,
        created_at: view::time(row.try_get(4)?),
        updated_at: view::time(row.try_get(5)?),
    })
}

/// What a user wants, all of it: what was put in was a list that is not too long. What this version
/// has no word for is left out.
pub async fn preferences(
    client: &(impl GenericClient + Sync),
    user_id: &str,
) -> Result<Vec<PreferenceFields>, Error> {
    let select = "select client_id, event_type, channel, enabled, min_severity, quiet_from, quiet_to, digest_s \
         from preference where user_id = $1 order by client_id, event_type, channel";
    let rows = client.query_typed(select, &[(&user_id, Type::TEXT)]).await?;
    let of_row = |row: &Row| {
        let (channel, min_severity) =
            (Channel::from_name(row.try_get(2)?), Severity::from_name(row.try_get(4)?));
        let Some((channel, min_severity)) = channel.zip(min_severity) else { return Ok(None) };
        let time_of_day = |time: Time| time.strftime("%H:%M").to_string();
        Ok(Some(PreferenceFields {
            client_id: row.try_get(0)?,
            event_type: row.try_get(1)?,
            channel,
            enabled: row.try_get(3)?,
            min_severity,
            quiet_from: row.try_get::<_, Option<_>>(5)?.map(time_of_day),
            quiet_to: row.try_get::<_, Option<_>>(6)?.map(time_of_day),
            digest_s: row.try_get(7)?,
        }))
    };
    rows.iter().filter_map(|row| of_row(row).transpose()).collect()
}

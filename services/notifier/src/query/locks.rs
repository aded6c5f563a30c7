//! Which locks a user has, and which users a lock.

use latchline_shared::kit::api::cursor::Text;
use latchline_shared::kit::api::page::{self, Page};
use latchline_shared::kit::api::view;
use latchline_shared::kit::postgres::statement::Statement;
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};
use utoipa::ToSchema;

/// A user of a lock.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub struct MemberView {
    /// The lock; `*`: every lock, and what concerns none.
    pub client_id: String,
    /// The user.
    pub user_id: String,
    /// What this user calls the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_name: Option<String>,
    /// Told from this level of escalation on.
    pub tier: i16,
    /// Since when.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// Whose side is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// The locks of this user, by their ids.
    User(String),
    /// The users of this lock, by their ids; those of every lock are not among them.
    Lock(String),
}

/// Reads a page.
pub async fn read(
    client: &(impl GenericClient + Sync),
    side: &Side,
    after: Option<Text>,
    limit: usize,
) -> Result<Page<MemberView>, Error> {
    page::read(client, statement(side, after), limit, of_row).await
}

/// The statement of a page, without its limit.
pub fn statement(side: &Side, after: Option<Text>) -> Statement {
    let mut statement = Statement::default();
    statement.push("select client_id, user_id, lock_name, tier, created_at from lock_member where true");
    let (of, id, by) = match side {
        Side::User(id) => ("user_id", id, "client_id"),
        Side::Lock(id) => ("client_id", id, "user_id"),
    };
    statement.and(&format!("{of} = "), id.clone(), Type::TEXT, "");
    if let Some(Text(after)) = after {
        statement.and(&format!("{by} > "), after, Type::TEXT, "");
    }
    statement.push(&format!(" order by {by}"));
    statement
}

/// What a lock is to a user.
pub async fn one(
    client: &(impl GenericClient + Sync),
    client_id: &str,
    user_id: &str,
) -> Result<Option<MemberView>, Error> {
    let select = "select client_id, user_id, lock_name, tier, created_at from lock_member \
         where client_id = $1 and user_id = $2";
    let row = client.query_typed_opt(select, &[(&client_id, Type::TEXT), (&user_id, Type::TEXT)]).await?;
    row.as_ref().map(of_row).transpose()
}

fn of_row(row: &Row) -> Result<MemberView, Error> {
    Ok(MemberView {
        client_id: row.try_get(0)?,
        user_id: row.try_get(1)?,
        lock_name: view::given(row.try_get(2)?),
        tier: row.try_get(3)?,
        created_at: view::time(row.try_get(4)?),
    })
}

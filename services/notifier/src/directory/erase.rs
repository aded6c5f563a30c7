//! People and contacts go: what was to be told to them is not told, and of what was told, the
//! addresses, the facts and what providers said are erased. That something was told, when, and how that
//! ended, stays.
//!
//! Invariant: a notification without an address was erased; all others have one. So what was erased is
//! not looked at again.
//!
//! What is being sent just now cannot be called back. It expires, so that it is not sent again, and
//! whoever sends it still writes down how that ended.

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

/// How much is erased in one transaction.
pub const PART_ROWS: i64 = 10_000;

/// Whose notifications, and which word says why they are not told.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The user.
    pub user_id: &'a str,
    /// Those of this contact only.
    pub contact_id: Option<Uuid>,
}

impl Whose<'_> {
    fn reason(&self) -> &'static str {
        if self.contact_id.is_some() { "contact_deleted" } else { "user_deleted" }
    }
}

/// Erases the next part; whether that was all.
pub async fn notifications(transaction: &Transaction<'_>, whose: Whose<'_>) -> Result<bool, Error> {
    // One order for all who hold rows of a contact: none waits for another in a circle.
    let update = "with part as materialized (select id from notification \
             where user_id = $1 and ($2::uuid is null or contact_id = $2) and address <> '' \
             order by contact_id, id limit $4 for update), \
         said as (update attempt set excerpt = null from part \
             where notification_id = part.id and excerpt is not null) \
         update notification set \
             address = '', facts = '{}', \
             status = case status when 'pending' then 'suppressed' else status end, \
             reason = case status when 'pending' then $3 else reason end, \
             settled_at = case status when 'pending' then now() else settled_at end, \
             expires_at = case status when 'sending' then least(expires_at, now()) else expires_at end \
         from part where notification.id = part.id";
    let Whose { user_id, contact_id } = whose;
    let erased = transaction
        .execute_typed(
            update,
            &[
                (&user_id, Type::TEXT),
                (&contact_id, Type::UUID),
                (&whose.reason(), Type::TEXT),
                (&PART_ROWS, Type::INT8),
            ],
        )
        .await?;
    Ok(i64::try_from(erased).unwrap_or(i64::MAX) < PART_ROWS)
}

/// Takes a user or a contact out, and erases what was written since the parts before; whether it was there.
pub async fn all(transaction: Transaction<'_>, whose: Whose<'_>) -> Result<bool, Error> {
    let was_there = match whose.contact_id {
        Some(id) => contact(&transaction, whose.user_id, id).await?,
        None => user(&transaction, whose.user_id).await?,
    };
    // Nobody writes more now.
    while !notifications(&transaction, whose).await? {}
    transaction.commit().await?;
    Ok(was_there)
}

/// Takes a user out, with contacts, locks and preferences; whether there was one.
async fn user(transaction: &Transaction<'_>, user_id: &str) -> Result<bool, Error> {
    let delete = "delete from users where id = $1";
    Ok(transaction.execute_typed(delete, &[(&user_id, Type::TEXT)]).await? > 0)
}

/// Takes a contact out; whether there was one.
async fn contact(transaction: &Transaction<'_>, user_id: &str, contact_id: Uuid) -> Result<bool, Error> {
    let delete = "delete from contact where user_id = $1 and id = $2";
    Ok(transaction.execute_typed(delete, &[(&user_id, Type::TEXT), (&contact_id, Type::UUID)]).await? > 0)
}

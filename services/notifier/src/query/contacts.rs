//! Contacts of a user; there are never many.

use latchline_shared::kit::api::view;
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};
use utoipa::ToSchema;
use uuid::Uuid;

const COLUMNS: &str = "id, channel, address, status, bounces, bounced_at, verified_at, created_at";

/// Where a user is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Contact)]
pub struct ContactView {
    /// Its id (UUID).
    pub id: String,
    /// `email`, `sms` or `webhook`.
    pub channel: String,
    /// The address.
    pub address: String,
    /// `unverified`, `active` or `bounced`.
    pub status: String,
    /// Refusals since the last message that arrived.
    pub bounces: i32,
    /// When it was refused for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub bounced_at: Option<String>,
    /// When it was verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub verified_at: Option<String>,
    /// When it was put in.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// Those of a user.
pub async fn of_user(client: &(impl GenericClient + Sync), user_id: &str) -> Result<Vec<ContactView>, Error> {
    let select = format!("select {COLUMNS} from contact where user_id = $1 order by channel, address");
    let rows = client.query_typed(&select, &[(&user_id, Type::TEXT)]).await?;
    rows.iter().map(of_row).collect()
}

/// One of a user.
pub async fn one(
    client: &(impl GenericClient + Sync),
    user_id: &str,
    id: Uuid,
) -> Result<Option<ContactView>, Error> {
    let select = format!("select {COLUMNS} from contact where user_id = $1 and id = $2");
    let row = client.query_typed_opt(&select, &[(&user_id, Type::TEXT), (&id, Type::UUID)]).await?;
    row.as_ref().map(of_row).transpose()
}

fn of_row(row: &Row) -> Result<ContactView, Error> {
    Ok(ContactView {
        id: row.try_get::<_, Uuid>(0)?.to_string(),
        channel: row.try_get(1)?,
        address: row.try_get(2)?,
        status: row.try_get(3)?,
        bounces: row.try_get(4)?,
        bounced_at: row.try_get::<_, Option<_>>(5)?.map(view::time),
        verified_at: row.try_get::<_, Option<_>>(6)?.map(view::time),
        created_at: view::time(row.try_get(7)?),
    })
}

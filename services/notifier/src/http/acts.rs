//! `POST /v1/notifications/{id}/retry` and `/v1/notifications/test`: what people do about
//! notifications. Each is one transaction that wakes delivery when it is committed.

use latchline_shared::kit::api::params::{not_found, uuid};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use latchline_shared::kit::api::body::JsonBody;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use tracing::info;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Shared, State, conflict, too_many, user_id};
use crate::directory::enqueue::enqueue;
use crate::event::{EventType, Facts};
use crate::query::view::NotificationView;
use crate::query::{contacts, notifications};
use crate::route::rate::Rate;
use crate::status::Status;

/// How long what is tried again has, at least.
const RETRY_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// How long a test makes sense.
const TEST_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// What nobody tries again: it was told.
const TOLD: [Status; 3] = [Status::Sent, Status::Delivered, Status::Digested];

/// Tries again to deliver a notification that was given up.
///
/// It is due now, and has at least an hour from now; what was answered with "later" before does not
/// count. The receiver knows a second copy by its id.
#[utoipa::path(post, path = "/v1/notifications/{id}/retry", tag = "notifications",
    params(("id" = String, Path, description = "The notification")),
    responses((status = 200, body = NotificationView),
              (status = 404, description = "there is no such notification"),
              (status = 409, description = "not as it stands; says why")))]
pub(super) async fn retry(
    Extract(state): Shared,
    caller: Caller,
    Path(notification): Path<String>,
) -> Result<Json<NotificationView>, Problem> {
    let notification = uuid(&notification, "notification")?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    let held = hold(&transaction, notification).await.map_err(Failure::from)?;
    let held = held.ok_or_else(|| not_found("notification"))?;
    held.refusal().map_or(Ok(()), |why| Err(conflict(why)))?;
    release(&transaction, notification).await.map_err(Failure::from)?;
    let view = notifications::one(&transaction, notification).await.map_err(Failure::from)?;
    super::commit(transaction).await?;
    info!(actor = %caller.name, notification = %notification, was = held.status, "a notification is tried again");
    view.map(|(view, _)| Json(view)).ok_or_else(|| not_found("notification"))
}

/// What decides whether a notification can be tried again.
struct Held {
    status: String,
    event_type: String,
    is_erased: bool,
    /// Whether the user may still be told of the lock.
    is_member: bool,
    /// None: the contact is not there any more.
    contact: Option<String>,
}

impl Held {
    fn refusal(&self) -> Option<String> {
        let Self { status, event_type, is_erased, is_member, contact } = self;
        let known = Status::from_name(status);
        if known.is_none_or(|status| !status.is_final() || TOLD.contains(&status)) {
            return Some(format!("the notification is {status}"));
        }
        if EventType::from_name(event_type) == Some(EventType::Verification) {
            return Some("the code is not good any more: ask for another one".to_owned());
        }
        match contact.as_deref() {
            None => Some("the contact was deleted".to_owned()),
            Some(_) if *is_erased => Some("the address was erased".to_owned()),
            Some(_) if !is_member => Some("the user is no user of the lock any more".to_owned()),
            Some("active") => None,
            Some(status) => Some(format!("the contact is {status}")),
        }
    }
}

async fn hold(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<Held>, Error> {
    let select = "select status, event_type, address = '', \
             (select contact.status from contact where contact.id = notification.contact_id), \
             event_type = 'test' or event_type = 'digest' and client_id = '' or exists ( \
                 select from lock_member where lock_member.user_id = notification.user_id \
                     and lock_member.client_id in (notification.client_id, '*')) \
         from notification where id = $1 for update";
    let row = transaction.query_typed_opt(select, &[(&id, Type::UUID)]).await?;
    row.map(|row| {
        Ok(Held {
            status: row.try_get(0)?,
            event_type: row.try_get(1)?,
            is_erased: row.try_get(2)?,
            contact: row.try_get(3)?,
            is_member: row.try_get(4)?,
        })
    })
    .transpose()
}

async fn release(transaction: &Transaction<'_>, id: Uuid) -> Result<(), Error> {
    let update = "with released as ( \
             update notification set status = 'pending', reason = null, failures = 0, due_at = now(), \
                 digest = null, lease_owner = null, lease_until = null, settled_at = null, \
                 expires_at = greatest(expires_at, now() + $2 * interval '1 second') \
             where id = $1 returning channel) \
         select pg_notify('latchline_notifier', channel) from released";
    let lifetime_s = RETRY_LIFETIME.as_secs_f64();
    transaction.query_typed(update, &[(&id, Type::UUID), (&lifetime_s, Type::FLOAT8)]).await?;
    Ok(())
}

/// Where a test goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTest {
    /// The user.
    user_id: String,
    /// One of the user's contacts (UUID).
    contact_id: String,
}

/// A notification that is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Enqueued {
    /// Its id (UUID): `GET /v1/notifications/{id}` says what becomes of it.
    pub(super) notification_id: String,
}

/// Sends a test to a contact, whatever its user prefers, at the rate at which one address may be told.
#[utoipa::path(post, path = "/v1/notifications/test", tag = "notifications", request_body = NewTest,
    responses((status = 202, body = Enqueued), (status = 404, description = "there is no such contact"),
              (status = 409, description = "the contact is not verified, or bounced; says which"),
              (status = 429, description = "the contact got too many messages lately",
               headers(("Retry-After" = i64, description = "seconds until the next may be sent")))))]
pub(super) async fn test(
    Extract(state): Shared,
    caller: Caller,
    JsonBody(new): JsonBody<NewTest>,
) -> Result<Response, Problem> {
    let user_id = user_id("body: user_id", new.user_id)?;
    let contact = uuid(&new.contact_id, "contact")?;
    let id = match state.send_test(&user_id, contact).await? {
        Ok(id) => id,
        Err(wait) => return Ok(too_many("the contact got too many messages lately", wait)),
    };
    info!(actor = %caller.name, user = user_id, notification = %id, "a test is sent");
    Ok((StatusCode::ACCEPTED, Json(Enqueued { notification_id: id.to_string() })).into_response())
}

impl State {
    /// Sends a test; or when the next may be sent.
    async fn send_test(&self, user_id: &str, contact_id: Uuid) -> Result<Result<Uuid, Duration>, Problem> {
        let mut client = self.tables.client().await?;
        let transaction = self.tables.writing(&mut client).await?;
        let contact = contacts::one(&transaction, user_id, contact_id).await.map_err(Failure::from)?;
        let contact = contact.ok_or_else(|| not_found("contact"))?;
        if contact.status != "active" {
            return Err(conflict(format!("the contact is {}", contact.status)));
        }
        if let Some(wait) = take(&transaction, self.api.rate, contact_id).await.map_err(Failure::from)? {
            return Ok(Err(wait));
        }
        let facts = Facts { at_ms: Timestamp::now().as_millisecond(), ..Facts::default() };
        let id = enqueue(&transaction, contact_id, EventType::Test, &facts, TEST_LIFETIME).await?;
        super::commit(transaction).await?;
        Ok(Ok(id))
    }
}

/// Takes from the bucket of a contact, which the lanes take from as well; if it is empty, how long to wait.
async fn take(
    transaction: &Transaction<'_>,
    rate: Rate,
    contact_id: Uuid,
) -> Result<Option<Duration>, Error> {
    let now = Timestamp::now();
    let upsert = "insert into rate (key, full_at) values ($1, $2) \
         on conflict (key) do update set full_at = rate.full_at returning full_at";
    let key = contact_id.to_string();
    let values = [(&key as _, Type::TEXT), (&now as _, Type::TIMESTAMPTZ)];
    let full_at: Timestamp = transaction.query_typed_one(upsert, &values).await?.try_get(0)?;
    let Some(after) = rate.take(full_at, now) else {
        let one = Duration::from_secs(60) / rate.per_minute.max(1);
        let until = full_at.duration_since(now).unsigned_abs();
        return Ok(Some(until.saturating_sub(one * rate.burst.saturating_sub(1))));
    };
    let update = "update rate set full_at = $2 where key = $1";
    transaction.execute_typed(update, &[(&key, Type::TEXT), (&after, Type::TIMESTAMPTZ)]).await?;
    Ok(None)
}

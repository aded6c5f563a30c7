//! `/v1/users/{id}/contacts`: where a user is told, and the codes that show that the user is there.

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use latchline_shared::kit::api::body::JsonBody;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::params::{bad, not_found, uuid};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;
use uuid::Uuid;

use super::acts::Enqueued;
use super::{Shared, State, conflict, too_many, user_id, wrong};
use crate::directory::erase::Whose;
use crate::directory::secret::Secret;
use crate::directory::store::Refused;
use crate::directory::{Contact, ContactFields, store};
use crate::event::Channel;
use crate::query::contacts::{self, ContactView};
use crate::query::users;
use crate::verification::{self, Sending, Verdict};

/// The contacts of a user: there are at most 20.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Contacts {
    /// The contacts.
    contacts: Vec<ContactView>,
}

/// Contacts of a user.
#[utoipa::path(get, path = "/v1/users/{id}/contacts", tag = "contacts",
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, body = Contacts), (status = 404, description = "there is no such user")))]
pub(super) async fn list(Extract(state): Shared, Path(id): Path<String>) -> Result<Json<Contacts>, Problem> {
    let id = user_id("id", id)?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    users::one(&transaction, &id).await.map_err(Failure::from)?.ok_or_else(|| not_found("user"))?;
    let contacts = contacts::of_user(&transaction, &id).await.map_err(Failure::from)?;
    Ok(Json(Contacts { contacts }))
}

/// A contact that was just put in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeContact {
    #[serde(flatten)]
    contact: ContactView,
    /// Of a webhook: the key of its signatures (Standard Webhooks). It is not shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// The notification that takes the code there (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_id: Option<String>,
}

/// Adds a contact, and sends a code to it.
///
/// Nothing else is told there until the code was given back. The same contact again stays as it is,
/// and gets no other code. An address that got one just now, or too many today, gets none, and there is
/// no `notification_id`.
#[utoipa::path(post, path = "/v1/users/{id}/contacts", tag = "contacts", request_body = ContactFields,
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, body = MadeContact, description = "it was there"),
              (status = 201, body = MadeContact, description = "put in"),
              (status = 404, description = "there is no such user"),
              (status = 409, description = "the user has as many contacts as one may have")))]
pub(super) async fn add(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(fields): JsonBody<ContactFields>,
) -> Result<(StatusCode, Json<MadeContact>), Problem> {
    let id = user_id("id", id)?;
    let mut problems = Vec::new();
    let contact = Contact::new(&id, &fields, &state.api.choices, "body: ", &mut problems)
        .ok_or_else(|| wrong(&problems))?;
    let secret = (contact.channel() == Channel::Webhook).then(Secret::random).transpose()?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    let contact_id = contact.id();
    let is_new = store::add_contact(&transaction, &contact, secret.as_ref()).await.map_err(refused)?;
    let sending = match is_new {
        true => Some(verification::send(&transaction, &id, contact_id).await?),
        false => None,
    };
    let view = contacts::one(&transaction, &id, contact_id).await.map_err(Failure::from)?;
    super::commit(transaction).await?;
    let contact = view.ok_or_else(|| not_found("contact"))?;
    let notification_id = match sending {
        Some(Sending::Enqueued(id)) => Some(id.to_string()),
        _ => None,
    };
    info!(actor = %caller.name, user = id, contact = %contact_id, is_new, "a contact was put in");
    let secret = secret.filter(|_| is_new).map(|secret| secret.text());
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(MadeContact { contact, secret, notification_id })))
}

/// Takes a contact out.
///
/// What was to be told there is not told, and of what was told, addresses and facts are erased.
#[utoipa::path(delete, path = "/v1/users/{id}/contacts/{contact}", tag = "contacts",
    params(("id" = String, Path, description = "The user"),
           ("contact" = String, Path, description = "The contact")),
    responses((status = 204, description = "it is gone"),
              (status = 404, description = "there is no such contact")))]
pub(super) async fn remove(
    Extract(state): Shared,
    caller: Caller,
    Path((user, contact)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let user = user_id("id", user)?;
    let contact = uuid(&contact, "contact")?;
    state.contact(&user, contact).await?;
    let whose = Whose { user_id: &user, contact_id: Some(contact) };
    let was_there = state.take_out(whose).await?;
    info!(actor = %caller.name, user, contact = %contact, "a contact was taken out");
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(not_found("contact")) }
}

/// What was read at the contact.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    /// Six digits.
    #[schema(pattern = "^[0-9]{6}$")]
    code: String,
}

/// Gives back the code: the contact is verified, and things are told there.
///
/// A wrong one is answered with 400, which says how many tries are left. A code is good for 15 minutes and 5
/// tries; of an address, 15 wrong ones a day are taken.
#[utoipa::path(post, path = "/v1/users/{id}/contacts/{contact}/verify", tag = "contacts", request_body = Code,
    params(("id" = String, Path, description = "The user"),
           ("contact" = String, Path, description = "The contact")),
    responses((status = 200, body = ContactView),
              (status = 404, description = "there is no such contact"),
              (status = 409, description = "it is verified, or no code is good now; says which"),
              (status = 429, description = "there were too many wrong ones of this address today",
               headers(("Retry-After" = i64, description = "seconds until the next may be tried")))))]
pub(super) async fn verify(
    Extract(state): Shared,
    caller: Caller,
    Path((user, contact)): Path<(String, String)>,
    JsonBody(Code { code }): JsonBody<Code>,
) -> Result<Response, Problem> {
    let user = user_id("id", user)?;
    let contact = uuid(&contact, "contact")?;
    if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad("body: code: must be six digits"));
    }
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    let verdict = verification::verify(&transaction, &user, contact, &code).await.map_err(Failure::from)?;
    // A wrong code counts as well.
    super::commit(transaction).await?;
    match verdict {
        Verdict::Right => {
            info!(actor = %caller.name, user, contact = %contact, "a contact is verified");
            Ok(Json(state.contact(&user, contact).await?).into_response())
        }
        Verdict::NoContact => Err(not_found("contact")),
        Verdict::Verified => Err(conflict("the contact is verified already")),
        Verdict::NoCode => {
            Err(conflict("no code is good now: it is too old, or there were too many tries; ask for another"))
        }
        Verdict::TooMany(wait) => Ok(too_many("there were too many wrong codes of this address", wait)),
        Verdict::Wrong(left) => Err(bad(format!("body: code: is wrong, tries left: {left}"))),
    }
}

/// Sends another code, which is good instead of the one before; at most once a minute, and five a day to
/// one address.
///
/// An address of which 15 wrong ones came today gets none: nobody may give it back. A contact that bounced
/// gets another chance by this.
#[utoipa::path(post, path = "/v1/users/{id}/contacts/{contact}/code", tag = "contacts",
    params(("id" = String, Path, description = "The user"),
           ("contact" = String, Path, description = "The contact")),
    responses((status = 202, body = Enqueued),
              (status = 404, description = "there is no such contact"),
              (status = 409, description = "it is verified"),
              (status = 429, description = "a code was sent just now, or too many codes or wrong ones \
                were of this address today; says which",
               headers(("Retry-After" = i64, description = "seconds until the next may be sent")))))]
pub(super) async fn code(
    Extract(state): Shared,
    caller: Caller,
    Path((user, contact)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let user = user_id("id", user)?;
    let contact = uuid(&contact, "contact")?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    let sending = verification::send(&transaction, &user, contact).await?;
    super::commit(transaction).await?;
    match sending {
        Sending::Enqueued(id) => {
            info!(actor = %caller.name, user, contact = %contact, "a code is sent");
            let enqueued = Enqueued { notification_id: id.to_string() };
            Ok((StatusCode::ACCEPTED, Json(enqueued)).into_response())
        }
        Sending::NoContact => Err(not_found("contact")),
        Sending::Verified => Err(conflict("the contact is verified already")),
        Sending::TooSoon(wait) => Ok(too_many("a code was sent just now", wait)),
        Sending::TooMany(wait) => Ok(too_many("there were too many codes for this address", wait)),
    }
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::NoUser => not_found("user"),
        Refused::TooManyContacts => conflict(refused.to_string()),
        Refused::Postgres(error) => Failure::from(error).into(),
    }
}

impl State {
    /// One contact.
    async fn contact(&self, user: &str, contact: Uuid) -> Result<ContactView, Problem> {
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        let view = contacts::one(&transaction, user, contact).await.map_err(Failure::from)?;
        view.ok_or_else(|| not_found("contact"))
    }
}

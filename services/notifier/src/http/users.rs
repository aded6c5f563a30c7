//! `/v1/users`: who is told.

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use latchline_shared::kit::api::body::JsonBody;
use latchline_shared::kit::api::cursor::{self, Text};
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::page::{self, Place};
use latchline_shared::kit::api::params::{Params, not_found};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use serde::Serialize;
use tokio_postgres::error::SqlState;
use tracing::info;
use utoipa::ToSchema;

use super::openapi::UserParameters;
use super::{Pairs, Shared, State, user_id, wrong};
use crate::directory::erase::{self, Whose};
use crate::directory::{User, UserFields, store};
use crate::query::users::{self, UserView};

const QUESTION: &str = "users";

/// A page of users, by id.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Users {
    /// The users.
    users: Vec<UserView>,
    /// What to give as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// Users, by id.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(UserParameters),
    responses((status = 200, body = Users,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`")))))]
pub(super) async fn list(Extract(state): Shared, uri: Uri, Query(pairs): Pairs) -> Result<Response, Problem> {
    let mut params = Params::new(pairs.clone());
    let limit = page::limit(&mut params);
    let after = page::after(&mut params, QUESTION);
    params.finish()?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let page = users::read(&transaction, after, limit).await.map_err(Failure::from)?;
    let next = page.end().map(|user| cursor::encode(QUESTION, &Text(user.id.clone())));
    Ok(Place { uri, pairs }.answer(Users { users: page.rows, next: next.clone() }, next.as_deref()))
}

/// One user.
#[utoipa::path(get, path = "/v1/users/{id}", tag = "users",
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, body = UserView), (status = 404, description = "there is no such user")))]
pub(super) async fn show(Extract(state): Shared, Path(id): Path<String>) -> Result<Json<UserView>, Problem> {
    let id = user_id("id", id)?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let user = users::one(&transaction, &id).await.map_err(Failure::from)?;
    user.map(Json).ok_or_else(|| not_found("user"))
}

/// Puts a user in, or changes one.
///
/// The id is the caller's choice: 1 to 128 of `A-Z a-z 0-9 . _ : -`, not dots alone. It stays in what was
/// told when the user goes: it must not be an address.
#[utoipa::path(put, path = "/v1/users/{id}", tag = "users", request_body = UserFields,
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, body = UserView, description = "changed"),
              (status = 201, body = UserView, description = "put in")))]
pub(super) async fn put(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(fields): JsonBody<UserFields>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let id = user_id("id", id)?;
    let mut problems = Vec::new();
    let user = User::new(&id, fields, &state.api.choices, "body: ", &mut problems)
        .ok_or_else(|| wrong(&problems))?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    let is_new = store::put_user(&transaction, &user).await.map_err(Failure::from)?;
    let view = users::one(&transaction, &id).await.map_err(Failure::from)?;
    super::commit(transaction).await?;
    info!(actor = %caller.name, user = id, is_new, "a user was put in");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    view.map(|view| (status, Json(view))).ok_or_else(|| not_found("user"))
}

/// Takes a user out.
///
/// Contacts, locks and preferences go with it; what was to be told is not told, and of what was told,
/// addresses and facts are erased.
#[utoipa::path(delete, path = "/v1/users/{id}", tag = "users",
    params(("id" = String, Path, description = "The user")),
    responses((status = 204, description = "it is gone"),
              (status = 404, description = "there is no such user")))]
pub(super) async fn remove(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = user_id("id", id)?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    users::one(&transaction, &id).await.map_err(Failure::from)?.ok_or_else(|| not_found("user"))?;
    drop(transaction);
    drop(client);
    let whose = Whose { user_id: &id, contact_id: None };
    let was_there = state.take_out(whose).await?;
    info!(actor = %caller.name, user = id, "a user was taken out");
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(not_found("user")) }
}

impl State {
    /// Takes a user or a contact out; whether it was there.
    ///
    /// Whoever delivers holds a notification and then its contact, and we the other way round, which Postgres
    /// ends as a deadlock: it is done again, once.
    pub(super) async fn take_out(&self, whose: Whose<'_>) -> Result<bool, Failure> {
        self.erase(whose).await?;
        let mut client = self.tables.client().await?;
        let mut is_first = true;
        loop {
            let transaction = self.tables.writing(&mut client).await?;
            match erase::all(transaction, whose).await {
                Err(error) if is_first && error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
                    is_first = false;
                }
                ended => return Ok(ended?),
            }
        }
    }

    /// Erases what was told, part by part, each of them done whatever becomes of the next: whoever asks
    /// again after a time-out goes on from there.
    async fn erase(&self, whose: Whose<'_>) -> Result<(), Failure> {
        let mut client = self.tables.client().await?;
        loop {
            let transaction = self.tables.writing(&mut client).await?;
            let is_done = erase::notifications(&transaction, whose).await?;
            super::commit(transaction).await?;
            if is_done {
                return Ok(());
            }
        }
    }
}

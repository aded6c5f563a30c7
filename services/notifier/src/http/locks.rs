//! `/v1/users/{id}/locks` and `/v1/locks/{client_id}/members`: whose lock it is.

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
use tracing::info;
use utoipa::ToSchema;

use super::openapi::MemberParameters;
use super::{Pairs, Shared, State, client_id, user_id, wrong};
use crate::directory::store::{self, Refused};
use crate::directory::{Member, MemberFields};
use crate::query::locks::{self, MemberView, Side};
use crate::query::users;

/// A page of users of locks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Members {
    /// Who, and which lock.
    members: Vec<MemberView>,
    /// What to give as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// Locks of a user, by id.
#[utoipa::path(get, path = "/v1/users/{id}/locks", tag = "locks",
    params(("id" = String, Path, description = "The user"), MemberParameters),
    responses((status = 200, body = Members,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`"))),
              (status = 404, description = "there is no such user")))]
pub(super) async fn of_user(
    Extract(state): Shared,
    uri: Uri,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let id = user_id("id", id)?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    users::one(&transaction, &id).await.map_err(Failure::from)?.ok_or_else(|| not_found("user"))?;
    drop(transaction);
    drop(client);
    state.members(Side::User(id), Place { uri, pairs }).await
}

/// Users of a lock, by id.
///
/// With `*`, those of every lock; they are not among those of a lock. A lock that nobody has is not
/// known here: the list is empty.
#[utoipa::path(get, path = "/v1/locks/{client_id}/members", tag = "locks",
    params(("client_id" = String, Path, description = "The lock, or `*`"), MemberParameters),
    responses((status = 200, body = Members,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`")))))]
pub(super) async fn members(
    Extract(state): Shared,
    uri: Uri,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let id = client_id(id)?;
    state.members(Side::Lock(id), Place { uri, pairs }).await
}

/// Makes somebody a user of a lock, or changes what the lock is to them.
#[utoipa::path(put, path = "/v1/locks/{client_id}/members/{user_id}", tag = "locks",
    request_body = MemberFields,
    params(("client_id" = String, Path, description = "The lock, or `*`: every lock, and what concerns none"),
           ("user_id" = String, Path, description = "The user")),
    responses((status = 200, body = MemberView, description = "changed"),
              (status = 201, body = MemberView, description = "put in"),
              (status = 404, description = "there is no such user")))]
pub(super) async fn put(
    Extract(state): Shared,
    caller: Caller,
    Path((lock, user)): Path<(String, String)>,
    JsonBody(fields): JsonBody<MemberFields>,
) -> Result<(StatusCode, Json<MemberView>), Problem> {
    let (lock, user) = (client_id(lock)?, user_id("user_id", user)?);
    let mut problems = Vec::new();
    let member = Member::new(&lock, &user, fields, "body: ", &mut problems);
    let member = member.ok_or_else(|| wrong(&problems))?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    let is_new = store::put_member(&transaction, &member).await.map_err(|refused| match refused {
        Refused::Postgres(error) => Failure::from(error).into(),
        Refused::NoUser | Refused::TooManyContacts => not_found("user"),
    })?;
    let view = locks::one(&transaction, &lock, &user).await.map_err(Failure::from)?;
    super::commit(transaction).await?;
    info!(actor = %caller.name, user, lock, is_new, "a lock has a user");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    view.map(|view| (status, Json(view))).ok_or_else(|| not_found("member"))
}

/// Somebody is no user of a lock any more.
///
/// What waits to be told to them of that lock is not told.
#[utoipa::path(delete, path = "/v1/locks/{client_id}/members/{user_id}", tag = "locks",
    params(("client_id" = String, Path, description = "The lock, or `*`"),
           ("user_id" = String, Path, description = "The user")),
    responses((status = 204, description = "it is done"),
              (status = 404, description = "they were none")))]
pub(super) async fn remove(
    Extract(state): Shared,
    caller: Caller,
    Path((lock, user)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (lock, user) = (client_id(lock)?, user_id("user_id", user)?);
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    let was_there = store::remove_member(&transaction, &lock, &user).await.map_err(Failure::from)?;
    super::commit(transaction).await?;
    info!(actor = %caller.name, user, lock, was_there, "a lock has a user no more");
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(not_found("member")) }
}

impl State {
    async fn members(&self, side: Side, place: Place) -> Result<Response, Problem> {
        let mut params = Params::new(place.pairs.clone());
        let limit = page::limit(&mut params);
        let question = format!("members {side:?}");
        let after = page::after(&mut params, &question);
        params.finish()?;
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        let page = locks::read(&transaction, &side, after, limit).await.map_err(Failure::from)?;
        let next = page.end().map(|member| {
            let key = match side {
                Side::User(_) => &member.client_id,
                Side::Lock(_) => &member.user_id,
            };
            cursor::encode(&question, &Text(key.clone()))
        });
        Ok(place.answer(Members { members: page.rows, next: next.clone() }, next.as_deref()))
    }
}

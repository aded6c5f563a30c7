//! `/v1/users/{id}/preferences`: what a user wants to be told of, and when.

use axum::Json;
use axum::extract::{Path, State as Extract};
use latchline_shared::kit::api::body::JsonBody;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::params::not_found;
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::{Shared, user_id, wrong};
use crate::directory::{Preference, PreferenceFields, store};
use crate::query::users;

/// What a user wants: at most 1000 choices, one for each lock, type of event and channel.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Preferences {
    /// The choices. The one that says most holds as a whole: lock before type of event. Without any, the
    /// defaults of the configuration.
    #[schema(max_items = 1000)]
    preferences: Vec<PreferenceFields>,
}

/// What a user wants, all of it.
#[utoipa::path(get, path = "/v1/users/{id}/preferences", tag = "users",
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, body = Preferences), (status = 404, description = "there is no such user")))]
pub(super) async fn show(
    Extract(state): Shared,
    Path(id): Path<String>,
) -> Result<Json<Preferences>, Problem> {
    let id = user_id("id", id)?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    users::one(&transaction, &id).await.map_err(Failure::from)?.ok_or_else(|| not_found("user"))?;
    let preferences = users::preferences(&transaction, &id).await.map_err(Failure::from)?;
    Ok(Json(Preferences { preferences }))
}

/// Sets what a user wants: this, and nothing of what was there before.
#[utoipa::path(put, path = "/v1/users/{id}/preferences", tag = "users", request_body = Preferences,
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, body = Preferences), (status = 404, description = "there is no such user")))]
pub(super) async fn put(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(Preferences { preferences }): JsonBody<Preferences>,
) -> Result<Json<Preferences>, Problem> {
    let id = user_id("id", id)?;
    let mut problems = Vec::new();
    let list = Preference::list(preferences, "body: ", &mut problems).ok_or_else(|| wrong(&problems))?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    if !store::hold(&transaction, &id).await.map_err(Failure::from)? {
        return Err(not_found("user"));
    }
    store::clear_preferences(&transaction, &id).await.map_err(Failure::from)?;
    store::put_preferences(&transaction, &id, &list).await.map_err(Failure::from)?;
    let preferences = users::preferences(&transaction, &id).await.map_err(Failure::from)?;
    super::commit(transaction).await?;
    info!(actor = %caller.name, user = id, count = preferences.len(), "preferences were set");
    Ok(Json(Preferences { preferences }))
}

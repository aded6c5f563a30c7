//! `/v1/rules`: the rules in force, and reading them anew.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::http::problem::Problem;
use serde_json::Value;
use tracing::{error, info};

use super::{Pairs, Shared};

/// The rules in force, with overrides.
///
/// The document `config/monitor-rules.toml`, changed by the file of the settings.
#[utoipa::path(get, path = "/v1/rules", tag = "rules",
    responses((status = 200, body = Object), (status = 503, description = "there was no answer in time")))]
pub(super) async fn show(Extract(state): Shared, Query(pairs): Pairs) -> Result<Json<Value>, Problem> {
    Params::new(pairs).finish()?;
    Ok(Json(state.api.rules.document()))
}

/// Reads the file of the rules anew.
///
/// A file with anything wrong is refused as a whole, and what was in force stays. Needs the scope
/// `admin`.
#[utoipa::path(post, path = "/v1/rules/reload", tag = "rules",
    responses((status = 200, body = Object),
              (status = 422, description = "the file is refused; says all that is wrong with it"),
              (status = 503, description = "there was no answer in time")))]
pub(super) async fn reload(Extract(state): Shared, Query(pairs): Pairs) -> Result<Json<Value>, Problem> {
    Params::new(pairs).finish()?;
    let rules = Arc::clone(&state.api.rules);
    // Blocks on the disk.
    let reloaded = tokio::task::spawn_blocking(move || rules.reload()).await;
    match reloaded.map_err(|error| Problem::from(anyhow::Error::new(error)))? {
        Ok(()) => {
            info!("rules reloaded");
            Ok(Json(state.api.rules.document()))
        }
        Err(problems) => {
            error!(error = %problems, "rules are refused, the old stay");
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problems.0.join("; ")))
        }
    }
}

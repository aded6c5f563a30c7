//! `GET /v1/fleet`: all locks together.

use axum::Json;
use axum::extract::{Query, State as Extract};
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::params::Params;
use latchline_shared::kit::http::problem::Problem;

use super::{Pairs, Shared};
use crate::query::fleet::{self, FleetView};

/// How many locks there are and how many are silent, and whether the alarm of the fleet is open.
#[utoipa::path(get, path = "/v1/fleet", tag = "locks", responses((status = 200, body = FleetView)))]
pub(super) async fn show(Extract(state): Shared, Query(pairs): Pairs) -> Result<Json<FleetView>, Problem> {
    Params::new(pairs).finish()?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    Ok(Json(fleet::read(&transaction).await.map_err(Failure::from)?))
}

//! `GET /v1/locks…`: the present state of locks.

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::Uri;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use latchline_shared::kit::api::cursor;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::page::{self, Place};
use latchline_shared::kit::api::params::{self, Params, bad, not_found};
use latchline_shared::kit::api::view;
use latchline_shared::kit::http::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::{BatteryParameters, LockParameters};
use super::{Pairs, Shared};
use crate::query::alarms;
use crate::query::battery::{self, BatteryHour};
use crate::query::locks::{self, Filter, LockView, Pending};
use crate::query::view::AlarmView;

/// The longest time of a battery's history.
const BATTERY_MAX: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The time if none is asked for.
const BATTERY_DEFAULT: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A page of locks, by their ids.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Locks {
    /// The locks.
    locks: Vec<LockView>,
    /// What to give as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// Locks as they are now.
///
/// A page looks at 10,000 locks at most, so with `battery_below`, `online=true` or `pending=false`
/// it may have fewer than `limit`, even none, and still a `next`.
#[utoipa::path(get, path = "/v1/locks", tag = "locks", params(LockParameters),
    responses((status = 200, body = Locks,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`")))))]
pub(super) async fn list(Extract(state): Shared, uri: Uri, Query(pairs): Pairs) -> Result<Response, Problem> {
    let mut params = Params::new(pairs.clone());
    let filter = Filter::take(&mut params);
    let limit = page::limit(&mut params);
    let question = filter.to_string();
    let after = page::after(&mut params, &question);
    params.finish()?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let page = locks::read(&transaction, &filter, after.as_ref(), limit).await;
    let (locks, next) = page.map_err(Failure::from)?;
    let next = next.map(|next| cursor::encode(&question, &next));
    Ok(Place { uri, pairs }.answer(Locks { locks, next: next.clone() }, next.as_deref()))
}

/// A lock and what is wrong with it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OneLock {
    #[serde(flatten)]
    lock: LockView,
    /// Conditions whose delay is running.
    pending: Vec<Pending>,
    /// Its open alarms, newest first.
    alarms: Vec<AlarmView>,
}

/// One lock, with its open alarms.
#[utoipa::path(get, path = "/v1/locks/{id}", tag = "locks",
    params(("id" = String, Path, description = "The lock")),
    responses((status = 200, body = OneLock), (status = 404, description = "it has never reported")))]
pub(super) async fn show(
    Extract(state): Shared,
    Path(client_id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<OneLock>, Problem> {
    Params::new(pairs).finish()?;
    let client_id = params::id("id", client_id)?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let lock = locks::one(&transaction, &client_id).await.map_err(Failure::from)?;
    let lock = lock.ok_or_else(|| not_found("lock"))?;
    let alarms = alarms::open_of(&transaction, &client_id).await.map_err(Failure::from)?;
    let pending = lock.pending(&state.api.rules.current());
    Ok(Json(OneLock { lock: lock.view, pending, alarms }))
}

/// How the battery of a lock was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Battery {
    /// The lock.
    client_id: String,
    /// Percent now.
    #[serde(skip_serializing_if = "Option::is_none")]
    battery: Option<f64>,
    /// When that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    battery_at: Option<String>,
    /// From then.
    #[schema(format = DateTime)]
    from: String,
    /// Before then.
    #[schema(format = DateTime)]
    to: String,
    /// The hours in which it said something, the first first.
    hours: Vec<BatteryHour>,
}

/// The battery of a lock, hour by hour.
///
/// At most 90 days, the last 14 unless more is asked for. An hour is there once it is over and the
/// lock has reported again.
#[utoipa::path(get, path = "/v1/locks/{id}/battery", tag = "locks",
    params(("id" = String, Path, description = "The lock"), BatteryParameters),
    responses((status = 200, body = Battery), (status = 404, description = "it has never reported")))]
pub(super) async fn battery(
    Extract(state): Shared,
    Path(client_id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<Battery>, Problem> {
    let mut params = Params::new(pairs);
    let (from, to) = (params.time("from"), params.time("to"));
    params.finish()?;
    let client_id = params::id("id", client_id)?;
    let to = to.unwrap_or_else(Timestamp::now);
    let from = from.or_else(|| to.checked_sub(BATTERY_DEFAULT).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let length = to.duration_since(from);
    if length <= SignedDuration::ZERO || length > BATTERY_MAX {
        return Err(bad("from: must be before to, at most 90 days"));
    }
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let lock = locks::one(&transaction, &client_id).await.map_err(Failure::from)?;
    let lock = lock.ok_or_else(|| not_found("lock"))?.view;
    let hours = battery::read(&transaction, &client_id, from, to).await.map_err(Failure::from)?;
    let (from, to) = (view::time(from), view::time(to));
    Ok(Json(Battery { client_id, battery: lock.battery, battery_at: lock.battery_at, from, to, hours }))
}

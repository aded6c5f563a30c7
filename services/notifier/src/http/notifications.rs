//! `GET /v1/notifications` and `/v1/notifications/{id}`.

use axum::extract::{Path, Query, State as Extract};
use axum::http::Uri;
use axum::response::Response;
use latchline_shared::kit::api::cursor;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::page::{self, LIMIT_MAX, Place};
use latchline_shared::kit::api::params::{Params, not_found, uuid};
use latchline_shared::kit::http::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::{AttemptParameters, NotificationParameters};
use super::{Pairs, Shared};
use crate::query::notifications::{self, Filter};
use crate::query::view::{AttemptView, ContentView, NotificationView};

/// A page of notifications, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Notifications {
    /// The notifications.
    notifications: Vec<NotificationView>,
    /// What to give as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// Notifications, the newest first.
///
/// All of them, unless a filter says otherwise; addresses are masked. Follow `next`, or `Link` with
/// `rel="next"`, for more.
#[utoipa::path(get, path = "/v1/notifications", tag = "notifications", params(NotificationParameters),
    responses((status = 200, body = Notifications,
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
    let page = notifications::read(&transaction, &filter, after, limit).await.map_err(Failure::from)?;
    let next = page.end().map(|(key, _)| cursor::encode(&question, key));
    let notifications = page.rows.into_iter().map(|(_, notification)| notification).collect();
    Ok(Place { uri, pairs }.answer(Notifications { notifications, next: next.clone() }, next.as_deref()))
}

/// A notification with its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NotificationHistory {
    #[serde(flatten)]
    notification: NotificationView,
    #[serde(flatten)]
    content: ContentView,
    /// What was done to deliver it, from the beginning.
    attempts: Vec<AttemptView>,
    /// What to give as `after` for more of it; null if there is no more.
    next: Option<i32>,
}

/// One notification, with its attempts.
#[utoipa::path(get, path = "/v1/notifications/{id}", tag = "notifications",
    params(("id" = String, Path, description = "The notification"), AttemptParameters),
    responses((status = 200, body = NotificationHistory,
               headers(("Link" = String, description = "more attempts, `rel=\"next\"`"))),
              (status = 404, description = "there is no such notification")))]
pub(super) async fn show(
    Extract(state): Shared,
    uri: Uri,
    Path(notification): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let mut params = Params::new(pairs.clone());
    let limit = params.number("limit", 1..=LIMIT_MAX).unwrap_or(LIMIT_MAX) as usize;
    let after = params.number("after", 0..=i64::from(i32::MAX)).unwrap_or_default();
    params.finish()?;
    let notification = uuid(&notification, "notification")?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let found = notifications::one(&transaction, notification).await.map_err(Failure::from)?;
    let (view, content) = found.ok_or_else(|| not_found("notification"))?;
    let after = i32::try_from(after).unwrap_or(i32::MAX);
    let page = notifications::attempts(&transaction, notification, after, limit).await;
    let page = page.map_err(Failure::from)?;
    let next = page.end().map(|last| last.n);
    let link = next.map(|next| next.to_string());
    let history = NotificationHistory { notification: view, content, attempts: page.rows, next };
    Ok(Place { uri, pairs }.answer(history, link.as_deref()))
}

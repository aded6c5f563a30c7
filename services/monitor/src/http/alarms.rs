//! `GET /v1/alarms` and `/v1/alarms/{id}`.

use axum::extract::{Path, Query, State as Extract};
use axum::http::Uri;
use axum::response::Response;
use latchline_shared::alarm::State as AlarmState;
use latchline_shared::kit::api::cursor;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::page::{self, LIMIT_MAX, Place};
use latchline_shared::kit::api::params::{Params, not_found, uuid};
use latchline_shared::kit::http::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::{AlarmParameters, ChangeParameters};
use super::{Pairs, Shared, State};
use crate::query::alarms::{self, Filter};
use crate::query::changes::{self, ChangeView};
use crate::query::locks::{self, Pending};
use crate::query::view::AlarmView;

/// A page of alarms.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alarms {
    /// The alarms.
    alarms: Vec<AlarmView>,
    /// With `state=pending`: conditions whose delay is running, in the place of alarms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Vec<Pending>>,
    /// What to give as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// Alarms, by when they were raised.
///
/// All of them, open and closed, unless a filter says otherwise. Follow `next`, or `Link` with
/// `rel="next"`, for more. `state=pending` lists conditions whose delay is running, those that are
/// due first first; it goes with `client_id`, `limit` (of locks) and `after` only.
#[utoipa::path(get, path = "/v1/alarms", tag = "alarms", params(AlarmParameters),
    responses((status = 200, body = Alarms,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`")))))]
pub(super) async fn list(Extract(state): Shared, uri: Uri, Query(pairs): Pairs) -> Result<Response, Problem> {
    let mut params = Params::new(pairs.clone());
    let filter = Filter::take(&mut params);
    let limit = page::limit(&mut params);
    let question = filter.to_string();
    let page = if filter.state == Some(AlarmState::Pending) {
        let after = page::after(&mut params, &question);
        params.finish()?;
        state.pending(&filter, after, limit, &question).await?
    } else {
        let after = page::after(&mut params, &question);
        params.finish()?;
        state.alarms(&filter, after, limit, &question).await?
    };
    let next = page.next.clone();
    Ok(Place { uri, pairs }.answer(page, next.as_deref()))
}

/// An alarm with its history.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlarmHistory {
    #[serde(flatten)]
    alarm: AlarmView,
    /// What happened to it, from the beginning.
    changes: Vec<ChangeView>,
    /// What to give as `after` for more of it; null if there is no more.
    next: Option<i32>,
}

/// One alarm, with its history.
#[utoipa::path(get, path = "/v1/alarms/{id}", tag = "alarms",
    params(("id" = String, Path, description = "The alarm"), ChangeParameters),
    responses((status = 200, body = AlarmHistory,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`"))),
              (status = 404, description = "there is no such alarm")))]
pub(super) async fn show(
    Extract(state): Shared,
    uri: Uri,
    Path(alarm_id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, Problem> {
    let mut params = Params::new(pairs.clone());
    let limit = params.number("limit", 1..=LIMIT_MAX).unwrap_or(LIMIT_MAX) as usize;
    let after = params.number("after", 0..=i64::from(i32::MAX)).unwrap_or_default();
    params.finish()?;
    let alarm_id = uuid(&alarm_id, "alarm")?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let alarm = alarms::one(&transaction, alarm_id).await.map_err(Failure::from)?;
    let alarm = alarm.ok_or_else(|| not_found("alarm"))?;
    let after = i32::try_from(after).unwrap_or(i32::MAX);
    let page = changes::of_alarm(&transaction, alarm_id, after, limit).await.map_err(Failure::from)?;
    let next = page.end().map(|last| last.no);
    let link = next.map(|next| next.to_string());
    Ok(Place { uri, pairs }.answer(AlarmHistory { alarm, changes: page.rows, next }, link.as_deref()))
}

impl State {
    async fn alarms(
        &self,
        filter: &Filter,
        after: Option<alarms::Key>,
        limit: usize,
        question: &str,
    ) -> Result<Alarms, Failure> {
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        let page = alarms::read(&transaction, filter, after, limit).await?;
        let next = page.end().map(|(key, _)| cursor::encode(question, key));
        Ok(Alarms { alarms: page.rows.into_iter().map(|(_, alarm)| alarm).collect(), pending: None, next })
    }

    async fn pending(
        &self,
        filter: &Filter,
        after: Option<locks::PendingKey>,
        limit: usize,
        question: &str,
    ) -> Result<Alarms, Failure> {
        let mut client = self.tables.client().await?;
        let transaction = self.tables.reading(&mut client).await?;
        let page = locks::pending(&transaction, filter.client_id.as_deref(), after.as_ref(), limit).await?;
        let next = page.end().and_then(|lock| Some(cursor::encode(question, &lock.pending_key()?)));
        let rules = self.api.rules.current();
        let pending = page.rows.iter().flat_map(|lock| lock.pending(&rules)).collect();
        Ok(Alarms { alarms: Vec::new(), pending: Some(pending), next })
    }
}

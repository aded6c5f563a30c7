//! `/v1/silences`: who does not want to hear of what until when.

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use jiff::Timestamp;
use latchline_shared::kit::api::body::JsonBody;
use latchline_shared::kit::api::cursor;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::page::{self, Place};
use latchline_shared::kit::api::params::{Params, bad, not_found, uuid};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::acts::{after_ms, check_comment, time_ms};
use super::openapi::SilenceParameters;
use super::{Pairs, Shared, now_ms};
use crate::alarm::silence::{self, Matcher, Name, Refused, Silence};
use crate::query::alarms::FLAG;
use crate::query::silences::{self, SilenceView};

/// A page of silences, those that end last first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Silences {
    /// The silences.
    silences: Vec<SilenceView>,
    /// What to give as `after` for the next page; null if there is none.
    next: Option<String>,
}

/// Silences.
///
/// With `expired=false` those that last or are still to come.
#[utoipa::path(get, path = "/v1/silences", tag = "silences", params(SilenceParameters),
    responses((status = 200, body = Silences,
               headers(("Link" = String, description = "the next page, `rel=\"next\"`")))))]
pub(super) async fn list(Extract(state): Shared, uri: Uri, Query(pairs): Pairs) -> Result<Response, Problem> {
    let mut params = Params::new(pairs.clone());
    let is_expired = params.word("expired", &FLAG);
    let limit = page::limit(&mut params);
    let question = format!("silences {is_expired:?}");
    let after = page::after(&mut params, &question);
    params.finish()?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.reading(&mut client).await?;
    let page = silences::read(&transaction, is_expired, after, Timestamp::now(), limit).await;
    let page = page.map_err(Failure::from)?;
    let next = page.end().map(|(key, _)| cursor::encode(&question, key));
    let silences = page.rows.into_iter().map(|(_, silence)| silence).collect();
    Ok(Place { uri, pairs }.answer(Silences { silences, next: next.clone() }, next.as_deref()))
}

/// A silence to be made. One of `ends_at` and `seconds` must be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSilence {
    /// What must match: one to three, each of another name.
    #[schema(min_items = 1, max_items = 3)]
    matchers: Vec<NewMatcher>,
    /// From then; from now if it is not given.
    #[serde(default)]
    #[schema(format = DateTime)]
    starts_at: Option<String>,
    /// Until then: in the future, after its beginning, at most 366 days later.
    #[serde(default)]
    #[schema(format = DateTime)]
    ends_at: Option<String>,
    /// For so long from its beginning, at most 366 days; its end must be in the future.
    #[serde(default)]
    seconds: Option<i64>,
    /// Why; at most 4 KiB, and not blank.
    comment: String,
}

/// What an alarm must be like.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMatcher {
    /// `client_id`, `type` or `severity`.
    name: String,
    /// The word; with `*` at its end, and nowhere else, the begin of it. At most 256 bytes without
    /// control characters; a type or a severity must be one that there is.
    value: String,
}

/// Makes a silence.
#[utoipa::path(post, path = "/v1/silences", tag = "silences", request_body = NewSilence,
    responses((status = 201, body = SilenceView), (status = 409, description = "1,000 are on or to come")))]
pub(super) async fn create(
    Extract(state): Shared,
    caller: Caller,
    JsonBody(new): JsonBody<NewSilence>,
) -> Result<(StatusCode, Json<SilenceView>), Problem> {
    check_comment(&new.comment)?;
    let now_ms = now_ms();
    let silence = silence(new, &caller.name, now_ms)?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    silence::create(&transaction, &silence, now_ms).await.map_err(problem)?;
    let view = silences::one(&transaction, silence.id, Timestamp::now()).await.map_err(Failure::from)?;
    transaction.commit().await.map_err(Failure::from)?;
    let view = view.ok_or_else(|| not_found("silence"))?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Ends a silence now.
///
/// One that was to come never lasts; one that is over stays as it is.
#[utoipa::path(delete, path = "/v1/silences/{id}", tag = "silences",
    params(("id" = String, Path, description = "The silence")),
    responses((status = 200, body = SilenceView), (status = 404, description = "there is no such silence")))]
pub(super) async fn expire(
    Extract(state): Shared,
    caller: Caller,
    Path(silence_id): Path<String>,
) -> Result<Json<SilenceView>, Problem> {
    let silence_id = uuid(&silence_id, "silence")?;
    let mut client = state.tables.client().await?;
    let transaction = state.tables.writing(&mut client).await?;
    silence::expire(&transaction, silence_id, now_ms()).await.map_err(Failure::from)?;
    let view = silences::one(&transaction, silence_id, Timestamp::now()).await.map_err(Failure::from)?;
    transaction.commit().await.map_err(Failure::from)?;
    if let Some(silence) = &view {
        info!(actor = %caller.name, silence = %silence.id, "a silence is ended");
    }
    view.map(Json).ok_or_else(|| not_found("silence"))
}

fn silence(new: NewSilence, created_by: &str, now_ms: i64) -> Result<Silence, Problem> {
    let matcher = |matcher: NewMatcher| {
        let name = Name::from_name(&matcher.name);
        let name = name.ok_or_else(|| bad("body: matchers: a name is client_id, type or severity"))?;
        Ok::<_, Problem>(Matcher { name, value: matcher.value })
    };
    let matchers = new.matchers.into_iter().map(matcher).collect::<Result<_, _>>()?;
    let starts_at_ms = new.starts_at.map_or(Ok(now_ms), |text| time_ms("starts_at", &text))?;
    let ends_at_ms = match (new.ends_at, new.seconds) {
        (Some(text), None) => time_ms("ends_at", &text)?,
        (None, Some(seconds)) => after_ms(starts_at_ms, seconds),
        _ => return Err(bad("body: either ends_at or seconds must be given")),
    };
    Silence::new(matchers, starts_at_ms, ends_at_ms, created_by, &new.comment, now_ms).map_err(problem)
}

fn problem(refused: Refused) -> Problem {
    match refused {
        Refused::Invalid(why) => bad(format!("body: {why}")),
        Refused::TooMany => Problem::new(StatusCode::CONFLICT, refused.to_string()),
        Refused::Fault(fault) => Failure::from(fault).into(),
    }
}

//! `POST /v1/alarms/{id}/…`: what people do about an alarm. Each is one transaction, and each is on
//! record with the name of the token.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use jiff::{SignedDuration, Timestamp};
use latchline_shared::kit::api::body::JsonBody;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::params::{bad, not_found, uuid};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::Caller;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::{Shared, State, now_ms};
use crate::alarm::act::{ActError, act};
use crate::alarm::lifecycle::Act;
use crate::query::alarms;
use crate::query::view::AlarmView;

/// Longest comment.
const COMMENT_BYTES_MAX: usize = 4 * 1024;

/// Why. The body may be left out, and Content-Type with it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    /// For those who read the history; at most 4 KiB.
    #[serde(default)]
    comment: Option<String>,
}

/// Until when, and why. One of `until` and `seconds` must be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Shelf {
    /// Until then, at most 7 days from now.
    #[serde(default)]
    #[schema(format = DateTime)]
    until: Option<String>,
    /// For so long, at most 7 days.
    #[serde(default)]
    seconds: Option<i64>,
    /// For those who read the history; at most 4 KiB.
    #[serde(default)]
    comment: Option<String>,
}

/// A comment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Comment {
    /// At most 4 KiB, and not blank.
    text: String,
}

/// A body that may be left out.
pub(super) struct Optional<T>(T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Optional<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.headers().contains_key(CONTENT_TYPE) {
            return JsonBody::from_request(request, state).await.map(|JsonBody(body)| Self(body));
        }
        match Bytes::from_request(request, state).await {
            Ok(bytes) if bytes.is_empty() => Ok(Self(T::default())),
            _ => {
                let detail = "the body must be application/json, and Content-Type must say so";
                Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
            }
        }
    }
}

type Answer = Result<Json<AlarmView>, Problem>;

/// Takes an alarm on.
///
/// A latched alarm whose condition is over is closed.
#[utoipa::path(post, path = "/v1/alarms/{id}/ack", tag = "alarms", request_body = Why,
    params(("id" = String, Path, description = "The alarm")),
    responses((status = 200, body = AlarmView), (status = 404, description = "there is no such alarm"),
              (status = 409, description = "not as it stands; names the act and the state")))]
pub(super) async fn ack(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Optional(why): Optional<Why>,
) -> Answer {
    state.act(&caller, &id, Act::Acknowledge, why.comment).await
}

/// Gives an alarm back.
#[utoipa::path(post, path = "/v1/alarms/{id}/unack", tag = "alarms", request_body = Why,
    params(("id" = String, Path, description = "The alarm")),
    responses((status = 200, body = AlarmView), (status = 404, description = "there is no such alarm"),
              (status = 409, description = "not as it stands; names the act and the state")))]
pub(super) async fn unack(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Optional(why): Optional<Why>,
) -> Answer {
    state.act(&caller, &id, Act::Unacknowledge, why.comment).await
}

/// Keeps an alarm quiet for a while.
#[utoipa::path(post, path = "/v1/alarms/{id}/shelve", tag = "alarms", request_body = Shelf,
    params(("id" = String, Path, description = "The alarm")),
    responses((status = 200, body = AlarmView), (status = 404, description = "there is no such alarm"),
              (status = 409, description = "not as it stands; names the act and the state")))]
pub(super) async fn shelve(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(shelf): JsonBody<Shelf>,
) -> Answer {
    let until_ms = until_ms(&shelf)?;
    state.act(&caller, &id, Act::Shelve { until_ms }, shelf.comment).await
}

/// Ends the while in which an alarm is kept quiet.
#[utoipa::path(post, path = "/v1/alarms/{id}/unshelve", tag = "alarms", request_body = Why,
    params(("id" = String, Path, description = "The alarm")),
    responses((status = 200, body = AlarmView), (status = 404, description = "there is no such alarm"),
              (status = 409, description = "not as it stands; names the act and the state")))]
pub(super) async fn unshelve(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Optional(why): Optional<Why>,
) -> Answer {
    state.act(&caller, &id, Act::Unshelve, why.comment).await
}

/// Ends an alarm.
#[utoipa::path(post, path = "/v1/alarms/{id}/clear", tag = "alarms", request_body = Why,
    params(("id" = String, Path, description = "The alarm")),
    responses((status = 200, body = AlarmView), (status = 404, description = "there is no such alarm"),
              (status = 409, description = "not as it stands; names the act and the state")))]
pub(super) async fn clear(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Optional(why): Optional<Why>,
) -> Answer {
    state.act(&caller, &id, Act::Clear, why.comment).await
}

/// Writes a comment into the history of an alarm, also of a closed one.
#[utoipa::path(post, path = "/v1/alarms/{id}/comment", tag = "alarms", request_body = Comment,
    params(("id" = String, Path, description = "The alarm")),
    responses((status = 200, body = AlarmView), (status = 404, description = "there is no such alarm")))]
pub(super) async fn comment(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(comment): JsonBody<Comment>,
) -> Answer {
    state.act(&caller, &id, Act::Comment, Some(comment.text)).await
}

fn until_ms(shelf: &Shelf) -> Result<i64, Problem> {
    match (&shelf.until, shelf.seconds) {
        (Some(until), None) => time_ms("until", until),
        (None, Some(seconds)) => Ok(after_ms(now_ms(), seconds)),
        _ => Err(bad("body: either until or seconds must be given")),
    }
}

/// So long after a time; the end of time if there is no such time.
pub(super) fn after_ms(from_ms: i64, seconds: i64) -> i64 {
    let length_ms = SignedDuration::from_secs(seconds).as_millis();
    from_ms.saturating_add(i64::try_from(length_ms).unwrap_or(i64::MAX))
}

/// A time in a body.
pub(super) fn time_ms(name: &str, text: &str) -> Result<i64, Problem> {
    let form = "must be a time with offset as 2026-01-31T12:00:00Z (RFC 3339)";
    let time = text.parse::<Timestamp>().map_err(|_| bad(format!("body: {name}: {form}")))?;
    Ok(time.as_millisecond())
}

/// Refuses a comment that is too long.
pub(super) fn check_comment(comment: &str) -> Result<(), Problem> {
    if comment.len() > COMMENT_BYTES_MAX {
        return Err(bad(format!("body: a comment has at most {COMMENT_BYTES_MAX} bytes")));
    }
    Ok(())
}

impl State {
    async fn act(&self, caller: &Caller, alarm_id: &str, what: Act, comment: Option<String>) -> Answer {
        comment.as_deref().map_or(Ok(()), check_comment)?;
        let alarm_id = uuid(alarm_id, "alarm")?;
        let mut client = self.tables.client().await?;
        let transaction = self.tables.writing(&mut client).await?;
        let (context, comment) = (&self.api.context, comment.as_deref());
        let acted = act(&transaction, context, alarm_id, what, &caller.name, comment, now_ms()).await;
        acted.map_err(problem)?;
        let alarm = alarms::one(&transaction, alarm_id).await.map_err(Failure::from)?;
        transaction.commit().await.map_err(Failure::from)?;
        alarm.map(Json).ok_or_else(|| not_found("alarm"))
    }
}

fn problem(error: ActError) -> Problem {
    match error {
        ActError::NotFound => not_found("alarm"),
        ActError::Illegal(illegal) => Problem::new(StatusCode::CONFLICT, illegal.to_string()),
        ActError::Invalid(why) => bad(format!("body: {why}")),
        ActError::Fault(fault) => Failure::from(fault).into(),
    }
}

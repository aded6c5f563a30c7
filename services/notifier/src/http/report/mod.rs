//! Delivery reports: `GET` or `POST /v1/dlr/{gateway}`, from gateways, which have no token of ours but the
//! link that went with the message, or one of theirs (`channel::sms::report`).
//!
//! A report can come before the answer to its message, twice, late, or in any order: `store` has what
//! may follow what. 403: who reports has not shown what it should have; only who has learns by 404 that
//! there is no such message. Statuses that are not known are counted and taken, as asking again would not
//! change them.

mod metrics;
mod store;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::routing::get;
use deadpool_postgres::Pool;
use latchline_shared::kit::api::harden;
use latchline_shared::kit::http::problem::Problem;
use percent_encoding::percent_decode_str;
use serde_json::Value;

pub use self::metrics::Metrics;
use self::metrics::Result as Told;
use crate::channel::sms::gateway_settings::Meaning;
use crate::channel::sms::report::{Reporter, Reports, Shown};

/// Longest report.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Names and values, in order.
type Fields = Vec<(String, String)>;

pub(super) struct Desk {
    reports: Reports,
    pool: Pool,
    metrics: Metrics,
}

/// The route. The pool is its own; its connections act as the service.
pub fn routes(reports: Reports, pool: Pool, metrics: Metrics) -> Router {
    let desk = Arc::new(Desk { reports, pool, metrics });
    let routes = Router::new()
        .route("/v1/dlr/{gateway}", get(take).post(take))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk);
    harden(routes)
}

/// Takes a delivery report of an SMS gateway.
///
/// The parameters and the body are the gateway's. It shows no token of ours, but what was in the link that
/// went with the message, or a token that was agreed with it. The same report again changes nothing.
#[utoipa::path(method(get, post), path = "/v1/dlr/{gateway}", tag = "reports", security(()),
    params(("gateway" = String, Path, description = "The gateway, as the configuration calls it")),
    responses((status = 204, description = "taken, also if it changes nothing"),
              (status = 404, description = "there is no such gateway, or no such message"),
              (status = 413, description = "the body has more than 65,536 bytes"),
              (status = 500, description = "the database refuses what a report needs; the log says why")))]
pub(super) async fn take(
    State(desk): State<Arc<Desk>>,
    Path(gateway): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let Some(reporter) = desk.reports.of(&gateway) else {
        // Not by its name, which anybody can choose.
        desk.metrics.count("", Told::NoGateway);
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such gateway"));
    };
    let told = desk.tell(&gateway, reporter, request).await;
    let (result, answer) = match told {
        Ok(result) => (result, Ok(StatusCode::NO_CONTENT)),
        Err((result, problem)) => (result, Err(problem)),
    };
    desk.metrics.count(&gateway, result);
    answer
}

impl Desk {
    async fn tell(
        &self,
        gateway: &str,
        reporter: &Reporter,
        request: Request,
    ) -> Result<Told, (Told, Problem)> {
        let query = fields(request.uri().query().unwrap_or_default());
        let Some(shown) = reporter.shown(&query) else {
            let problem = Problem::new(StatusCode::FORBIDDEN, "this is not a link of ours");
            return Err((Told::Refused, problem));
        };
        let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
            (Told::Malformed, Problem::new(rejection.status(), "the body cannot be read"))
        })?;
        let (json, mut form) = read(&body).map_err(|why| (Told::Malformed, bad(why)))?;
        let mut all = query;
        all.append(&mut form);
        let report = reporter.read(&json, &all);
        let meaning = match report.meaning {
            None => return Ok(Told::UnknownStatus),
            Some(Meaning::None) => return Ok(Told::Nothing),
            Some(meaning) => meaning,
        };
        let subject = match (shown, &report.provider_id) {
            (Shown::Link(id), _) => store::Subject::Notification(id),
            (Shown::Token, Some(id)) => store::Subject::ProviderId(id.clone()),
            (Shown::Token, None) => return Err((Told::Malformed, bad("the message's id is not there"))),
        };
        let end = store::End { gateway, subject, meaning, provider_id: report.provider_id.as_deref() };
        match store::apply(&self.pool, &end).await {
            Ok(store::Applied::Changed) => Ok(match meaning {
                Meaning::Delivered => Told::Delivered,
                Meaning::Gone => Told::Gone,
                Meaning::Undelivered | Meaning::None => Told::Undelivered,
            }),
            Ok(store::Applied::Unchanged) => Ok(Told::Repeated),
            Ok(store::Applied::NoSuch) => {
                Err((Told::NoMessage, Problem::new(StatusCode::NOT_FOUND, "there is no such message")))
            }
            Err(failure) => Err((Told::Failed, failure.into())),
        }
    }
}

/// A body as JSON, or as the fields of a form; gateways do not always say which.
fn read(body: &[u8]) -> Result<(Value, Fields), &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    if text.contains('\0') || text.contains("\\u0000") {
        return Err("the body holds U+0000");
    }
    if text.trim_start().starts_with(['{', '[']) {
        let json = serde_json::from_str(text).map_err(|_| "the body is not JSON")?;
        return Ok((json, Vec::new()));
    }
    Ok((Value::Null, fields(text)))
}

/// The fields of a query or a form, in order; what is no UTF-8, and U+0000, is replaced.
fn fields(text: &str) -> Fields {
    let decode = |part: &str| {
        let spaced = part.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().replace('\0', "\u{fffd}")
    };
    let pairs = text.trim().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(n, v)| (decode(n), decode(v)))
        .collect()
}

fn bad(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, why)
}

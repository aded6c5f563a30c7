//! Errors of an HTTP API as `application/problem+json` (RFC 9457), so that every error has one
//! shape, also those that the framework makes itself.
//!
//! The text in a [`Problem`] is for the caller. What only we may know goes to the log.

use axum::body::to_bytes;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use tracing::error;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Longest text of an error response that is kept as detail.
const DETAIL_BYTES_MAX: usize = 4 * 1024;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// HTTP status.
    #[serde(serialize_with = "status_number")]
    pub status: StatusCode,
    /// The same for every problem of its kind.
    pub title: &'static str,
    /// What is wrong with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Problem {
    /// A problem with the status' own title.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let title = status.canonical_reason().unwrap_or("Error");
        Self { status, title, detail: (!detail.is_empty()).then_some(detail) }
    }
}

/// Our own failure: logged here, and the caller learns nothing about it.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        error!(error = format!("{error:#}"), "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(&self)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Makes a problem of an error that the framework answered in plain text (no such route, body too
/// large, not the JSON that was expected).
pub(super) async fn unify(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_plain = content_type.is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    if !(is_error && is_plain) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, DETAIL_BYTES_MAX).await.unwrap_or_default();
    let problem = Problem::new(status, String::from_utf8_lossy(&text)).into_response();
    let (problem, body) = problem.into_parts();
    // What goes with the status stays (`Allow`), and what layers added; not what described the text.
    let mut headers = parts.headers;
    headers.remove(CONTENT_LENGTH);
    headers.extend(problem.headers);
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (problem.status, headers);
    response
}

fn status_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

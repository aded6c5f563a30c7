//! What the HTTP API of a service is made of, beside the server and the tokens ([`super::http`]).
//!
//! A request's [`params`] and [`body`] are read strictly: what is misspelt, given twice or unknown
//! is refused, never ignored. What they ask is read within a limit of time ([`tables`]); every error
//! is a problem, and what Postgres says stays inside ([`failure`]). Rows go out in one form ([`view`])
//! and long answers in pages ([`page`], [`cursor`]). [`live`] is a stream of events, [`openapi`] the
//! description that is generated, served and committed.

pub mod body;
pub mod params;

pub mod failure;
pub mod tables;

pub mod cursor;
pub mod page;
pub mod view;

pub mod live;

pub mod openapi;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::kit::http::problem::Problem;

/// A place among those that may run at once, or 429.
pub fn permit(places: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    let permit = Arc::clone(places).try_acquire_owned();
    permit.map_err(|_| {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, format!("as many {what} as are allowed run already"))
    })
}

/// Tells browsers to show nothing but what these routes are meant to show, and to keep nothing.
pub fn harden(router: Router) -> Router {
    router.layer(from_fn(add_headers))
}

async fn add_headers(request: Request, next: Next) -> Response {
    let is_page = request.uri().path().starts_with(openapi::PAGE);
    let policy = if is_page {
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

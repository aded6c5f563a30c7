//! The admin routes, the same in every binary: `GET /livez`, `/readyz`, `/metrics`.
//!
//! They need no token and tell nothing about clients, but belong on a port that only the operators'
//! network reaches.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tracing::error;

use super::problem::Problem;
use super::readiness::Readiness;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize)]
struct Ready {
    ready: bool,
    /// Name of the check → why it is not ready.
    reasons: BTreeMap<&'static str, String>,
}

/// The admin routes. `livez` answers 200 as long as anything answers.
pub fn routes(registry: Arc<Registry>, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(async move || ready(&readiness)))
        .route("/metrics", get(async move || metrics(&registry)))
}

fn ready(readiness: &Readiness) -> Response {
    let reasons = readiness.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready: reasons.is_empty(), reasons })).into_response()
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be encoded");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "").into_response()
        }
    }
}

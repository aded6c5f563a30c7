//! The HTTP interface: questions about the history, for callers with a token of their own.
//!
//! | route | scope |
//! |---|---|
//! | `GET /v1/audit/events`, `/locks/{id}/timeline`, `/processes/{id}`, `/stats`, `/checkpoints`, `/stream` | read |
//! | `GET /v1/audit/export` | export |
//! | `GET /v1/audit/verify` | admin |
//! | `GET /openapi.json`, `/docs/` | none: they show no data |
//!
//! Each file has one route, with its types and its SQL. It has a pool of its own and a limit on the
//! time of a query, so that no question starves what writes history; exports and streams are
//! counted.

mod failure;
mod reads;

mod checkpoints;
mod events;
mod export;
mod process;
mod stats;
mod stream;
mod verify;

pub mod openapi;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use deadpool_postgres::Pool;
use latchline_shared::kit::api;
use latchline_shared::kit::api::tables::Tables;
use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::http::tokens::{Tokens, protect};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Reading history.
pub const READ: &str = "read";
/// Taking history away in files.
pub const EXPORT: &str = "export";
/// Work that takes the database's time.
pub const ADMIN: &str = "admin";
/// The scopes of a token.
pub const SCOPES: &[&str] = &[READ, EXPORT, ADMIN];

/// Verifications at once: each keeps a core busy.
const VERIFICATIONS_MAX: usize = 1;

/// What the routes need.
#[derive(Clone)]
pub struct Api {
    /// Connections of these routes alone, in the role of the service.
    pub pool: Pool,
    /// Who may ask.
    pub tokens: Arc<Tokens>,
    /// Changes when rows were written.
    pub commits: watch::Receiver<u64>,
    /// When streams and exports end.
    pub shutdown: CancellationToken,
    /// Bounds.
    pub limits: Limits,
}

/// The `[api]` table: bounds of the questions.
#[derive(Debug, Clone, Deserialize)]
pub struct Limits {
    /// How long one query may take.
    #[serde(rename = "query_timeout_ms", deserialize_with = "value::milliseconds")]
    pub query_timeout: Duration,
    /// How long an export may take, and its client's reading with it.
    #[serde(rename = "export_timeout_ms", deserialize_with = "value::milliseconds")]
    pub export_timeout: Duration,
    /// Exports at once; each has a connection to Postgres beside the pool's.
    pub exports_max: usize,
    /// Live streams at once.
    pub streams_max: usize,
    /// Most rows that one request verifies.
    pub verify_rows_max: usize,
}

impl Validate for Limits {
    fn problems(&self, problems: &mut Vec<String>) {
        for (name, is_zero) in [
            ("query_timeout_ms", self.query_timeout.is_zero()),
            ("export_timeout_ms", self.export_timeout.is_zero()),
            ("exports_max", self.exports_max == 0),
            ("streams_max", self.streams_max == 0),
            ("verify_rows_max", self.verify_rows_max == 0),
        ] {
            if is_zero {
                problems.push(format!("api.{name}: must not be 0"));
            }
        }
    }
}

/// What the handlers share.
struct State {
    api: Api,
    tables: Tables,
    exports: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    verifications: Arc<Semaphore>,
}

type Shared = axum::extract::State<Arc<State>>;

/// All routes.
pub fn routes(api: Api) -> Router {
    let tokens = Arc::clone(&api.tokens);
    let state = Arc::new(State {
        tables: Tables { pool: api.pool.clone(), query_timeout: api.limits.query_timeout },
        exports: Arc::new(Semaphore::new(api.limits.exports_max)),
        streams: Arc::new(Semaphore::new(api.limits.streams_max)),
        verifications: Arc::new(Semaphore::new(VERIFICATIONS_MAX)),
        api,
    });
    let read = Router::new()
        .route("/v1/audit/events", get(events::events))
        .route("/v1/audit/locks/{id}/timeline", get(events::timeline))
        .route("/v1/audit/processes/{process_id}", get(process::process))
        .route("/v1/audit/stats", get(stats::stats))
        .route("/v1/audit/checkpoints", get(checkpoints::checkpoints))
        .route("/v1/audit/stream", get(stream::stream));
    let export = Router::new().route("/v1/audit/export", get(export::export));
    let admin = Router::new().route("/v1/audit/verify", get(verify::verify));
    let routes = protect(read, Arc::clone(&tokens), READ)
        .merge(protect(export, Arc::clone(&tokens), EXPORT))
        .merge(protect(admin, tokens, ADMIN))
        .with_state(state)
        .merge(api::openapi::routes("auditor", openapi::description()));
    api::harden(routes)
}

#[cfg(test)]
mod tests;

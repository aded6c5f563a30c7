//! The HTTP interface: what is wrong with which lock, and what people do about it.
//!
//! | route | scope |
//! |---|---|
//! | `GET /v1/alarms`, `/alarms/{id}`, `/alarms/stream`, `/silences`, `/rules`, `/locks…`, `/fleet` | read |
//! | `POST /v1/alarms/{id}/ack`, `unack`, `shelve`, `unshelve`, `clear`, `comment` | operate |
//! | `POST /v1/silences`, `DELETE /v1/silences/{id}` | operate |
//! | `POST /v1/rules/reload` | admin |
//! | `GET /openapi.json`, `/docs/` | none: they show no data |
//!
//! Each file has the routes of one thing. The pool is the API's own and each query has a limit in
//! time, so that no question starves what writes alarms; streams are counted. What people do is one
//! transaction with its event and its records.

mod acts;
mod alarms;
mod fleet;
mod locks;
mod rules;
mod silences;
mod stream;

pub mod openapi;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post};
use deadpool_postgres::Pool;
use jiff::Timestamp;
use latchline_shared::kit::api::tables::Tables;
use latchline_shared::kit::api::{self, harden};
use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::http::tokens::{Tokens, protect};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::alarm::Context;
use crate::rule::live::LiveRules;

/// Looking.
pub const READ: &str = "read";
/// Doing something about alarms.
pub const OPERATE: &str = "operate";
/// Changing how the monitor works.
pub const ADMIN: &str = "admin";
/// The scopes of a token.
pub const SCOPES: &[&str] = &[READ, OPERATE, ADMIN];

type Pairs = axum::extract::Query<Vec<(String, String)>>;

/// What the routes need.
#[derive(Clone)]
pub struct Api {
    /// Connections of these routes alone, in the role of the service and with its search path.
    pub pool: Pool,
    /// Who may ask.
    pub tokens: Arc<Tokens>,
    /// What applies to all alarms.
    pub context: Arc<Context>,
    /// The rules in force.
    pub rules: Arc<LiveRules>,
    /// Changes when changes of alarms were written.
    pub commits: watch::Receiver<u64>,
    /// When streams end.
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
    /// Live streams at once.
    pub streams_max: usize,
}

impl Validate for Limits {
    fn problems(&self, problems: &mut Vec<String>) {
        for (name, is_zero) in
            [("query_timeout_ms", self.query_timeout.is_zero()), ("streams_max", self.streams_max == 0)]
        {
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
    streams: Arc<Semaphore>,
}

type Shared = axum::extract::State<Arc<State>>;

/// All routes.
pub fn routes(api: Api) -> Router {
    let tokens = Arc::clone(&api.tokens);
    let tables = Tables { pool: api.pool.clone(), query_timeout: api.limits.query_timeout };
    let streams = Arc::new(Semaphore::new(api.limits.streams_max));
    let state = Arc::new(State { api, tables, streams });
    let read = Router::new()
        .route("/v1/alarms", get(alarms::list))
        .route("/v1/alarms/stream", get(stream::stream))
        .route("/v1/alarms/{id}", get(alarms::show))
        .route("/v1/silences", get(silences::list))
        .route("/v1/rules", get(rules::show))
        .route("/v1/locks", get(locks::list))
        .route("/v1/locks/{id}", get(locks::show))
        .route("/v1/locks/{id}/battery", get(locks::battery))
        .route("/v1/fleet", get(fleet::show));
    let operate = Router::new()
        .route("/v1/alarms/{id}/ack", post(acts::ack))
        .route("/v1/alarms/{id}/unack", post(acts::unack))
        .route("/v1/alarms/{id}/shelve", post(acts::shelve))
        .route("/v1/alarms/{id}/unshelve", post(acts::unshelve))
        .route("/v1/alarms/{id}/clear", post(acts::clear))
        .route("/v1/alarms/{id}/comment", post(acts::comment))
        .route("/v1/silences", post(silences::create))
        .route("/v1/silences/{id}", delete(silences::expire));
    let admin = Router::new().route("/v1/rules/reload", post(rules::reload));
    let routes = protect(read, Arc::clone(&tokens), READ)
        .merge(protect(operate, Arc::clone(&tokens), OPERATE))
        .merge(protect(admin, tokens, ADMIN))
        .with_state(state)
        .merge(api::openapi::routes("monitor", openapi::description()));
    harden(routes)
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests;

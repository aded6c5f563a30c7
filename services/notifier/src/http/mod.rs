//! The HTTP interface: what was told to whom, and who wants to be told what.
//!
//! | route | scope |
//! |---|---|
//! | `GET /v1/notifications`, `/notifications/{id}`, `/providers`, `/templates` | read |
//! | `POST /v1/templates/preview` | read |
//! | `POST /v1/notifications/{id}/retry`, `/notifications/test` | operate |
//! | `/v1/users…`, `/v1/locks/{client_id}/members…` | admin: personal data, in full |
//! | `GET /openapi.json`, `/docs/` | none: they show no data |
//! | `/v1/dlr/{gateway}` | none: a signed link, or the gateway's token ([`report`]) |
//!
//! Each file has the routes of one thing. The pool is the API's own and each statement has a limit in
//! time (`api.query_timeout_ms`), so that no question starves what tells people; reports have a pool of
//! their own, and `postgres.statement_timeout_ms`. Whoever has not the scope `admin` sees no address in
//! full and no code, here and in errors; both are in no log.

mod acts;
mod contacts;
mod locks;
mod notifications;
mod preferences;
mod templates;
mod users;

pub mod openapi;
pub mod providers;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use deadpool_postgres::Pool;
use latchline_shared::kit::api::failure::Failure;
use latchline_shared::kit::api::params::bad;
use latchline_shared::kit::api::tables::Tables;
use latchline_shared::kit::api::{self, harden};
use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::kit::http::tokens::{Tokens, protect};
use serde::Deserialize;
use tokio_postgres::Transaction;

use crate::directory::Choices;
use crate::directory::check::{unfit_client_id, unfit_user_id};
use crate::route::rate::Rate;
use crate::template::Templates;

/// Looking.
pub const READ: &str = "read";
/// Doing something about notifications.
pub const OPERATE: &str = "operate";
/// People, with their addresses.
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
    /// The words.
    pub templates: Arc<Templates>,
    /// What users may choose.
    pub choices: Arc<Choices>,
    /// How providers are doing, as this process sees it.
    pub providers: providers::Watch,
    /// How many messages one address gets.
    pub rate: Rate,
    /// Bounds.
    pub limits: Limits,
}

/// The `[api]` table: bounds of the questions.
#[derive(Debug, Clone, Deserialize)]
pub struct Limits {
    /// How long one statement of a question may take.
    #[serde(rename = "query_timeout_ms", deserialize_with = "value::milliseconds")]
    pub query_timeout: Duration,
}

impl Validate for Limits {
    fn problems(&self, problems: &mut Vec<String>) {
        if self.query_timeout.is_zero() {
            problems.push("api.query_timeout_ms: must not be 0".to_owned());
        }
    }
}

/// What the handlers share.
struct State {
    api: Api,
    tables: Tables,
}

type Shared = axum::extract::State<Arc<State>>;

/// All routes for people. Reports of gateways come by routes of their own.
pub fn routes(api: Api) -> Router {
    let tokens = Arc::clone(&api.tokens);
    let tables = Tables { pool: api.pool.clone(), query_timeout: api.limits.query_timeout };
    let state = Arc::new(State { api, tables });
    let read = Router::new()
        .route("/v1/notifications", get(notifications::list))
        .route("/v1/notifications/{id}", get(notifications::show))
        .route("/v1/providers", get(providers::list))
        .route("/v1/templates", get(templates::list))
        .route("/v1/templates/preview", post(templates::preview));
    let operate = Router::new()
        .route("/v1/notifications/{id}/retry", post(acts::retry))
        .route("/v1/notifications/test", post(acts::test));
    let admin = Router::new()
        .route("/v1/users", get(users::list))
        .route("/v1/users/{id}", get(users::show).put(users::put).delete(users::remove))
        .route("/v1/users/{id}/contacts", get(contacts::list).post(contacts::add))
        .route("/v1/users/{id}/contacts/{contact}", delete(contacts::remove))
        .route("/v1/users/{id}/contacts/{contact}/verify", post(contacts::verify))
        .route("/v1/users/{id}/contacts/{contact}/code", post(contacts::code))
        .route("/v1/users/{id}/preferences", get(preferences::show).put(preferences::put))
        .route("/v1/users/{id}/locks", get(locks::of_user))
        .route("/v1/locks/{client_id}/members", get(locks::members))
        .route("/v1/locks/{client_id}/members/{user_id}", put(locks::put).delete(locks::remove));
    let routes = protect(read, Arc::clone(&tokens), READ)
        .merge(protect(operate, Arc::clone(&tokens), OPERATE))
        .merge(protect(admin, tokens, ADMIN))
        .with_state(state)
        .merge(api::openapi::routes("notifier", openapi::description()));
    harden(routes)
}

/// Writes what a transaction did.
async fn commit(transaction: Transaction<'_>) -> Result<(), Failure> {
    Ok(transaction.commit().await?)
}

/// The id of a user out of a path.
fn user_id(name: &str, text: String) -> Result<String, Problem> {
    unfit_user_id(&text).map_or(Ok(text), |why| Err(bad(format!("{name}: {why}"))))
}

/// The id of a lock out of a path.
fn client_id(text: String) -> Result<String, Problem> {
    unfit_client_id(&text).map_or(Ok(text), |why| Err(bad(format!("client_id: {why}"))))
}

/// 400 with all that is wrong with a body.
fn wrong(problems: &[String]) -> Problem {
    bad(problems.join("; "))
}

/// 409 with what stands in the way.
fn conflict(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::CONFLICT, why)
}

/// 429 with what there was too much of, and when to ask again.
fn too_many(why: &str, wait: Duration) -> Response {
    let wait_s = wait.as_secs() + 1;
    let detail = format!("{why}: ask again in {wait_s} seconds");
    let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait_s));
    response
}

#[cfg(test)]
mod tests;

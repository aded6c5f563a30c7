//! The real server in front of a real Postgres, asked as anybody would.

mod access;
mod acts;
mod alarms;
mod locks;
mod openapi;
mod plans;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::alarm::AlarmType;
use latchline_shared::kit::http::tokens::{self, Tokens};
use latchline_shared::kit::http::{Http, server};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Api, Limits, SCOPES, routes};
use crate::alarm::Context;
use crate::alarm::apply::apply;
use crate::migrations::tests::{Database, database};
use crate::rule::live::LiveRules;
use crate::signal::{Located, Place, Signal, What};

const SOON: Duration = Duration::from_secs(30);
/// When the tests' alarms begin: 2026-01-31T12:00:00Z.
const START_MS: i64 = 1_769_860_800_000;

/// A running interface with a database of its own.
struct App {
    /// In the role of the service.
    pool: Pool,
    /// As the owner.
    owner: Pool,
    base: String,
    client: reqwest::Client,
    /// A token with all scopes.
    secret: String,
    context: Arc<Context>,
    commits: watch::Sender<u64>,
    stop: CancellationToken,
    tokens: Arc<Tokens>,
    folder: TempDir,
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The detail of a problem.
    fn detail(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.body);
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// A text of each element of a list.
    fn texts(&self, list: &str, name: &str) -> Vec<String> {
        let json = self.json();
        let list = json[list].as_array().expect(&self.body).iter();
        list.map(|one| one[name].as_str().expect(&self.body).to_owned()).collect()
    }
}

fn limits() -> Limits {
    Limits { query_timeout: SOON, streams_max: 2 }
}

impl App {
    async fn start() -> Self {
        Self::start_within(limits()).await
    }

    async fn start_within(limits: Limits) -> Self {
        let Database { pool, owner, .. } = database().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = tokens::generate("tester", "read,operate,admin", SCOPES).unwrap();
        std::fs::write(&path, token.line).unwrap();
        let tokens = Arc::new(Tokens::open(&path, SCOPES).unwrap());
        let rules = folder.path().join("rules.toml");
        std::fs::write(&rules, "").unwrap();
        let context = Arc::new(Context { outbox: Some("outbox".to_owned()), ..Context::default() });
        let (commits, wake) = watch::channel(0);
        let stop = CancellationToken::new();
        let api = Api {
            pool: pool.clone(),
            tokens: Arc::clone(&tokens),
            context: Arc::clone(&context),
            rules: Arc::new(LiveRules::open(Some(rules)).unwrap()),
            commits: wake,
            shutdown: stop.clone(),
            limits,
        };
        let listener = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let http = Http {
            address: None,
            connections_max: 100,
            body_bytes_max: 16 * 1024,
            head_timeout: SOON,
            request_timeout: SOON,
        };
        tokio::spawn(server::serve(listener, routes(api), http, stop.clone()));
        let client = reqwest::Client::new();
        Self { pool, owner, base, client, secret: token.secret, context, commits, stop, tokens, folder }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.secret)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.timeout(SOON).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    async fn ask(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// An answer that must be good.
    async fn get(&self, path: &str) -> Answer {
        let answer = self.ask(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    async fn execute(&self, sql: &str) {
        self.owner.get().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// As a lane does it.
    async fn signal(&self, client_id: &str, alarm: AlarmType, at_ms: i64, what: What) {
        let place = Place { stream: "message_state".into(), partition: 0, offset: at_ms - START_MS };
        let origin = latchline_shared::alarm::Origin::Report;
        let signal = Signal { alarm, at_ms, what, value: json!({ "n": 1 }), origin };
        let located = Located { client_id: client_id.to_owned(), place, signal };
        let mut client = self.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        apply(&transaction, &self.context, vec![located]).await.unwrap();
        transaction.commit().await.unwrap();
        self.commits.send_modify(|count| *count += 1);
    }

    /// The id of the open alarm of a lock.
    async fn alarm_of(&self, client_id: &str) -> String {
        self.get(&format!("/v1/alarms?open=true&client_id={client_id}")).await.texts("alarms", "id").remove(0)
    }

    /// Alarms of many locks at once, one a second, the first of lock `first`.
    async fn fill(&self, first: i64, count: i64) {
        self.execute(&format!(
            "insert into alarm (id, client_id, type, severity, state, condition, raised_at, last_at, closed_at, \
                 count, value, level, no, told, changed_at) \
             select gen_random_uuid(), 'lock-' || n, \
                 (array['battery_low', 'lock_fault', 'left_unlocked', 'device_offline'])[n % 4 + 1], \
                 (array['warning', 'critical', 'warning', 'major'])[n % 4 + 1], \
                 case when n % 50 = 0 then 'active' else 'closed' end, n % 50 = 0, \
                 timestamptz '2026-01-01Z' + n / 3 * interval '3 seconds', timestamptz '2026-01-01Z', \
                 case when n % 50 = 0 then null else timestamptz '2026-03-01Z' end, 1, '{{}}', 0, 1, true, \
                 timestamptz '2026-01-01Z' \
             from generate_series({first}, {}) n",
            first + count - 1
        ))
        .await;
    }
}

//! The real server in front of a real Postgres, asked as anybody would.

mod access;
mod answers;
mod events;
mod export;
mod ingest;
mod openapi;
mod plans;
mod stream;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::kit::clock;
use latchline_shared::kit::http::tokens::{self, Tokens};
use latchline_shared::kit::http::{Http, server};
use latchline_shared::kit::postgres::{Role, migrate, testing};
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Api, Limits, SCOPES, routes};
use crate::event::{Direction, Event, Kind, Place, Severity};
use crate::history;
use crate::migrations::SCHEMA;

const SOON: Duration = Duration::from_secs(30);

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
    commits: watch::Sender<u64>,
    stop: CancellationToken,
    tokens: Arc<Tokens>,
    folder: TempDir,
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

    /// Chain and number of the events, leaving out reads.
    fn places(&self) -> Vec<(i64, i64)> {
        let json = self.json();
        let events = json["events"].as_array().expect(&self.body);
        let number = |event: &Value, name| event[name].as_i64().unwrap();
        let is_read = |event: &&Value| event["kind"] == "read";
        let places = events.iter().filter(|event| !is_read(event));
        places.map(|event| (number(event, "chain_id"), number(event, "seq"))).collect()
    }
}

fn limits() -> Limits {
    Limits {
        query_timeout: SOON,
        export_timeout: SOON,
        exports_max: 2,
        streams_max: 2,
        verify_rows_max: 10_000,
    }
}

impl App {
    async fn start() -> Self {
        Self::start_within(limits()).await
    }

    async fn start_within(limits: Limits) -> Self {
        let settings = testing::database().await.unwrap();
        let owner = settings.pool("tests", None).unwrap();
        migrate::migrate(&mut owner.get().await.unwrap(), SCHEMA.name, SCHEMA.migrations).await.unwrap();
        // The service makes months ahead; a transaction that makes one holds up all others.
        let months =
            "select auditor.ensure_month(now() - interval '1 month' * n) from generate_series(0, 1) n";
        owner.get().await.unwrap().batch_execute(months).await.unwrap();
        let pool = settings.pool("http", Some(Role("latchline_auditor"))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = tokens::generate("tester", "read,export,admin", SCOPES).unwrap();
        std::fs::write(&path, token.line).unwrap();
        let tokens = Arc::new(Tokens::open(&path, SCOPES).unwrap());
        let (commits, wake) = watch::channel(0);
        let stop = CancellationToken::new();
        let api = Api {
            pool: pool.clone(),
            tokens: Arc::clone(&tokens),
            commits: wake,
            shutdown: stop.clone(),
            limits,
        };
        let listener = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let http = Http {
            address: None,
            connections_max: 100,
            body_bytes_max: 1000,
            head_timeout: SOON,
            request_timeout: SOON,
        };
        tokio::spawn(server::serve(listener, routes(api), http, stop.clone()));
        let client = reqwest::Client::new();
        Self { pool, owner, base, client, secret: token.secret, commits, stop, tokens, folder }
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.secret)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.timeout(SOON).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    async fn ask(&self, path: &str) -> Answer {
        self.send(self.request(path)).await
    }

    /// An answer that must be good.
    async fn get(&self, path: &str) -> Answer {
        let answer = self.ask(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer
    }

    /// All pages from `path`, following `next` until there is none; `path` has a query.
    async fn walk(&self, path: &str) -> Vec<(i64, i64)> {
        let mut places = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("{path}{after}")).await;
            places.extend(page.places());
            let Some(next) = page.json()["next"].as_str().map(str::to_owned) else { return places };
            after = format!("&after={next}");
        }
    }

    async fn append(&self, chain_id: i16, events: Vec<Event>) {
        let mut client = self.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        history::append(&transaction, chain_id, events).await.unwrap();
        transaction.commit().await.unwrap();
        self.commits.send_modify(|count| *count += 1);
    }

    /// How many reads are on record.
    /// The reads on record, without the bound that depends on the clock.
    async fn reads(&self) -> Vec<(String, String, String, String)> {
        let select = "select publisher, action, client_id, reason from auditor.event \
             where chain_id = 32767 and kind = 'read' order by seq";
        let rows = self.owner.get().await.unwrap().query(select, &[]).await.unwrap();
        let query = |row: &tokio_postgres::Row| {
            let query: &str = row.get(3);
            query.split("&since_default=").next().unwrap().to_owned()
        };
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), query(row))).collect()
    }
}

/// A command that went well, `ago` milliseconds before the test's hour.
fn command(client_id: &str, at_ms: i64) -> Event {
    Event {
        occurred_at_ms: at_ms,
        direction: Direction::Downlink,
        kind: Kind::Command,
        client_id: client_id.to_owned(),
        process_id: Some(format!("process-{client_id}")),
        action: Some("unlock".to_owned()),
        publisher: Some("app".to_owned()),
        receiver: Some(client_id.to_owned()),
        verdict: "ok".to_owned(),
        severity: Severity::Info,
        raw: b"{}".to_vec(),
        place: Place { stream: "message_command".to_owned(), partition: 0, offset: 0 },
        ..Event::default()
    }
}

fn now_ms() -> i64 {
    clock::unix_ms() as i64
}

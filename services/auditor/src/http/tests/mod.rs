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

use std::ops::Deref;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::kit::api::testing::server::{Answer, SOON, Served};
use latchline_shared::kit::clock;
use latchline_shared::kit::postgres::{Role, migrate, testing};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::watch;

use super::{Api, Limits, SCOPES, routes};
use crate::event::{Direction, Event, Kind, Place, Severity};
use crate::history;
use crate::migrations::SCHEMA;

/// A running interface with a database of its own.
struct App {
    /// In the role of the service.
    pool: Pool,
    /// As the owner.
    owner: Pool,
    served: Served,
    commits: watch::Sender<u64>,
}

/// It is asked as the server that it is.
impl Deref for App {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

/// Chain and number of the events, leaving out reads.
fn places(answer: &Answer) -> Vec<(i64, i64)> {
    let json = answer.json();
    let events = json["events"].as_array().expect(&answer.body);
    let is_read = |event: &&Value| event["kind"] == "read";
    events.iter().filter(|event| !is_read(event)).map(place).collect()
}

/// Chain and number of an event.
fn place(event: &Value) -> (i64, i64) {
    (event["chain_id"].as_i64().unwrap(), event["seq"].as_i64().unwrap())
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
        let (commits, wake) = watch::channel(0);
        let served = Served::start(SCOPES, |tokens, shutdown| {
            routes(Api { pool: pool.clone(), tokens, commits: wake, shutdown, limits })
        });
        let served = served.await;
        Self { pool, owner, served, commits }
    }

    /// All pages from `path`, following `next` until there is none; `path` has a query.
    async fn walk(&self, path: &str) -> Vec<(i64, i64)> {
        let mut places = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("{path}{after}")).await;
            places.extend(self::places(&page));
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

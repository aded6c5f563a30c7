//! The real server in front of a real Postgres, asked as anybody would.

mod access;
mod acts;
mod alarms;
mod locks;
mod openapi;
mod plans;
mod stream;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::alarm::AlarmType;
use latchline_shared::kit::api::testing::server::{SOON, Served};
use latchline_shared::kit::postgres::testing::Database;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Api, Limits, SCOPES, routes};
use crate::alarm::Context;
use crate::alarm::apply::apply;
use crate::migrations::tests::database;
use crate::rule::live::LiveRules;
use crate::signal::{Located, Place, Signal, What};

/// When the tests' alarms begin: 2026-01-31T12:00:00Z.
const START_MS: i64 = 1_769_860_800_000;

/// A running interface with a database of its own.
struct App {
    /// In the role of the service.
    pool: Pool,
    /// As the owner.
    owner: Pool,
    served: Served,
    context: Arc<Context>,
    commits: watch::Sender<u64>,
    folder: TempDir,
}

/// It is asked as the server that it is.
impl Deref for App {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
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
        let rules = folder.path().join("rules.toml");
        std::fs::write(&rules, "").unwrap();
        let context = Arc::new(Context { outbox: Some("outbox".to_owned()), ..Context::default() });
        let (commits, wake) = watch::channel(0);
        let served = Served::start(SCOPES, |tokens, shutdown| {
            let (pool, context) = (pool.clone(), Arc::clone(&context));
            let rules = Arc::new(LiveRules::open(Some(rules)).unwrap());
            routes(Api { pool, tokens, context, rules, commits: wake, shutdown, limits })
        });
        let served = served.await;
        Self { pool, owner, served, context, commits, folder }
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

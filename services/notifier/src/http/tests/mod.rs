//! The real server in front of a real Postgres, asked as anybody would.

mod access;
mod acts;
mod contacts;
mod notifications;
mod openapi;
mod plans;
mod templates;
mod users;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::kit::api::testing::server::{SOON, Served};
use latchline_shared::kit::postgres::testing::Database;
use serde_json::{Value, json};

use super::providers::Provider;
use super::{Api, Limits, SCOPES, routes};
use crate::delivery::breaker::Condition;
use crate::directory::Choices;
use crate::event::Channel;
use crate::migrations::tests::database;
use crate::route::rate::Rate;
use crate::template::Templates;

/// A running interface with a database of its own.
struct App {
    /// In the role of the service.
    pool: Pool,
    /// As the owner.
    owner: Pool,
    served: Served,
}

/// It is asked as the server that it is.
impl Deref for App {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

fn limits() -> Limits {
    Limits { query_timeout: SOON }
}

fn providers() -> Vec<Provider> {
    vec![
        Provider { channel: Channel::Email, name: "relay".to_owned(), condition: Condition::Closed },
        Provider { channel: Channel::Sms, name: "gateway".to_owned(), condition: Condition::Open(SOON) },
    ]
}

impl App {
    async fn start() -> Self {
        Self::start_within(limits()).await
    }

    async fn start_within(limits: Limits) -> Self {
        let Database { pool, owner, .. } = database().await;
        let templates = Arc::new(Templates::load(None).unwrap());
        let choices = Arc::new(Choices::new(&templates, &[]).unwrap());
        let served = Served::start(SCOPES, |tokens, _| {
            routes(Api {
                pool: pool.clone(),
                tokens,
                templates,
                choices,
                providers: Arc::new(providers),
                rate: Rate { per_minute: 1, burst: 3 },
                limits,
            })
        });
        let served = served.await;
        Self { pool, owner, served }
    }

    async fn execute(&self, sql: &str) {
        self.owner.get().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// The first column of the first row, as a text.
    async fn value(&self, sql: &str) -> String {
        let row = self.owner.get().await.unwrap().query_one(sql, &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    async fn user(&self, id: &str) {
        let body = json!({"name": "Taro", "locale": "ja", "time_zone": "Asia/Tokyo"});
        let answer = self.put(&format!("/v1/users/{id}"), body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// Adds a contact and says what it was answered with.
    async fn contact(&self, user: &str, channel: &str, address: &str) -> Value {
        let body = json!({"channel": channel, "address": address});
        let answer = self.post(&format!("/v1/users/{user}/contacts"), body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    }

    /// A contact that needs no code any more; its id.
    async fn active_contact(&self, user: &str, channel: &str, address: &str) -> String {
        let contact = self.contact(user, channel, address).await["id"].as_str().unwrap().to_owned();
        self.execute(&format!("update contact set status = 'active' where id = '{contact}'")).await;
        self.execute(&format!("delete from notification where contact_id = '{contact}'")).await;
        contact
    }

    /// Notifications of many users and locks at once, one a second, the first with number `first`.
    async fn fill(&self, first: i64, count: i64) {
        self.execute(&format!(
            "insert into notification (id, event_type, severity, priority, client_id, process_id, alarm_id, \
                 alarm_no, user_id, contact_id, channel, address, locale, time_zone, facts, status, due_at, \
                 occurred_at, expires_at, created_at) \
             select lpad(to_hex(n), 32, '0')::uuid, (array['unlocked', 'battery_low', 'tamper'])[n % 3 + 1], \
                 (array['info', 'warning', 'critical'])[n % 3 + 1], 0, 'lock-' || n % 1000, \
                 case when n % 3 = 0 then 'process-' || n end, \
                 case when n % 3 > 0 then lpad(to_hex(n / 100), 32, '0')::uuid end, 1, \
                 'user-' || n % 500, lpad(to_hex(n % 500), 32, '0')::uuid, \
                 (array['email', 'sms', 'webhook'])[n % 3 + 1], \
                 (array['taro@example.com', '+819012341234', 'https://example.com/hook?key=hidden'])[n % 3 + 1], \
                 'ja', 'Asia/Tokyo', '{{\"client_id\": \"x\", \"code\": \"123456\"}}', \
                 case when n % 1000 = 7 then 'dead' when n % 1000 = 8 then 'pending' else 'sent' end, \
                 timestamptz '2026-01-01Z', timestamptz '2026-01-01Z', timestamptz '2026-01-02Z', \
                 timestamptz '2026-01-01Z' + n * interval '1 second' \
             from generate_series({first}::bigint, {}) n",
            first + count - 1
        ))
        .await;
    }
}

/// The id of a notification of [`App::fill`].
fn id_of(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

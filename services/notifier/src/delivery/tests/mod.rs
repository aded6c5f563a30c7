//! Delivery against a real Postgres, with providers that do as they are told; in `real` with real ones.

mod dispatch;
mod ends;
mod held;
mod leases;
mod plans;
mod real;

use std::time::Duration;

use jiff::Timestamp;
use latchline_shared::kit::postgres::testing::Database;
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::policy::Verdict;
use super::queue::settle::{End, Settled, settle};
use super::queue::{Attempt, Leased, Taken, Wish, lease};
use crate::channel::Answer;
use crate::event::Channel;
use crate::migrations::tests::database;
use crate::status::{Outcome, Status};

const LEASE: Duration = Duration::from_secs(60);

/// The tables, and short ways to fill and to read them.
pub(super) struct Lab {
    pub(super) database: Database,
}

/// A notification that is to be written; the default is an e-mail that is due.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) channel: Channel,
    pub(super) event_type: &'static str,
    pub(super) severity: &'static str,
    pub(super) contact: Uuid,
    pub(super) address: String,
    pub(super) due_in_s: f64,
    pub(super) expires_in_s: f64,
    pub(super) facts: Value,
}

impl Lab {
    pub(super) async fn start() -> Self {
        let lab = Self { database: database().await };
        lab.execute("insert into users (id, name, locale, time_zone) values ('u', 'U', 'en', 'UTC')", &[])
            .await;
        lab
    }

    pub(super) async fn execute(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> u64 {
        self.database.owner.get().await.unwrap().execute(sql, values).await.unwrap()
    }

    pub(super) async fn text(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> String {
        let row = self.database.owner.get().await.unwrap().query_one(sql, values).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    pub(super) async fn contact(&self, channel: Channel, status: &str) -> Uuid {
        let id = random_id();
        let insert = "insert into contact (id, user_id, channel, address, status, secret)
            values ($1, 'u', $2, $1::uuid::text, $3, 'key')";
        self.execute(insert, &[&id, &channel.name(), &status]).await;
        id
    }

    /// Writes it.
    pub(super) async fn insert(&self, row: &Row) -> Uuid {
        let id = random_id();
        let insert =
            "insert into notification (id, event_type, severity, priority, client_id, user_id, contact_id,
                channel, address, locale, time_zone, facts, status, due_at, occurred_at, expires_at)
            values ($1, $2, $3, $4, 'lock-1', 'u', $5, $6, $7, 'en', 'Asia/Tokyo', $8, 'pending',
                now() + $9 * interval '1 second', now(), now() + $10 * interval '1 second')";
        let priority = i16::from(row.severity == "critical");
        let values: [&(dyn ToSql + Sync); 10] = [
            &id,
            &row.event_type,
            &row.severity,
            &priority,
            &row.contact,
            &row.channel.name(),
            &row.address,
            &row.facts,
            &row.due_in_s,
            &row.expires_in_s,
        ];
        self.execute(insert, &values).await;
        id
    }

    /// An e-mail to a contact of its own.
    pub(super) async fn email(&self, severity: &'static str) -> Uuid {
        let contact = self.contact(Channel::Email, "active").await;
        self.insert(&Row { severity, ..row(contact) }).await
    }

    pub(super) async fn lease(&self, owner: &str, rows_max: usize, ordinary_max: usize) -> Taken {
        let (channel, provider) = (Channel::Email, "relay");
        let wish = Wish { channel, owner, provider, lease: LEASE, rows_max, ordinary_max };
        lease(&self.database.pool, wish).await.unwrap()
    }

    pub(super) async fn settle(
        &self,
        attempt: Attempt,
        owner: &str,
        answer: &Answer,
        verdict: Verdict,
    ) -> Settled {
        let took = Some(Duration::from_millis(7));
        let (owner, provider, answer) = (owner.to_owned(), "other".to_owned(), answer.clone());
        let end = End { attempt, owner, provider, took, answer, verdict };
        settle(&self.database.pool, &end).await.unwrap()
    }

    pub(super) async fn status(&self, id: Uuid) -> String {
        self.text("select status from notification where id = $1", &[&id]).await
    }

    /// The attempts of a notification: "number outcome code".
    pub(super) async fn attempts(&self, id: Uuid) -> String {
        let select = "select string_agg(n || ' ' || outcome || coalesce(' ' || code, ''), ', ' order by n)
            from attempt where notification_id = $1";
        self.text(select, &[&id]).await
    }
}

/// An e-mail of no great importance.
pub(super) fn row(contact: Uuid) -> Row {
    Row {
        channel: Channel::Email,
        event_type: "unlocked",
        severity: "info",
        contact,
        address: "taro@example.com".to_owned(),
        due_in_s: -1.0,
        expires_in_s: 3_600.0,
        facts: json!({ "client_id": "lock-1", "at_ms": 1 }),
    }
}

fn verdict(status: Status) -> Verdict {
    Verdict { status, failures: 1, ambiguous: 0, wait: Duration::from_secs(5), bounce: None }
}

fn answer(outcome: Outcome) -> Answer {
    Answer::new(outcome, "250", "OK")
}

fn ids(leased: &[Leased]) -> Vec<Uuid> {
    leased.iter().map(|row| row.attempt.id).collect()
}

fn random_id() -> Uuid {
    use std::hash::BuildHasher;
    let random = || u128::from(std::hash::RandomState::new().hash_one(Timestamp::now().as_nanosecond()));
    Uuid::from_u128(random() << 64 | random())
}

//! No dual writes: what a service wants to publish it writes as rows, in the transaction of the
//! effect ([`insert`]), and a task publishes them ([`publish::Outbox`]).
//!
//! Each service has a table of its own, made by a migration of its own:
//!
//! ```sql
//! create table outbox (
//!     seq        bigint generated always as identity primary key,
//!     key        text        not null,
//!     value      bytea       not null,
//!     headers    jsonb       not null default '{}', -- an object of strings
//!     created_at timestamptz not null default now(),
//!     refused_at timestamptz                        -- Kafka will never take it
//! );
//! create index outbox_waiting on outbox (seq) where refused_at is null;
//! ```
//!
//! The role that publishes needs `select, insert, update, delete` on it.
//!
//! Guarantees: a message whose transaction was committed is published at least once, one whose
//! transaction was rolled back never is. The first copies of the messages with one key are on the
//! stream in the order of their rows, whatever dies; a copy may come again at any later time, alone
//! or with those that followed it, so whoever reads drops what it has by an id in the message. A
//! message that Kafka refuses by itself (too large) does not block: it stays in the table with
//! `refused_at`, is counted and logged as an ERROR, and those behind it go on. Setting `refused_at`
//! to null tries it again.
//! Non-guarantees: order between keys; order of messages with one key that were written by
//! transactions that overlapped (their rows are numbered when written, not when committed); order
//! across a change of the stream's number of partitions.

pub mod metrics;
pub mod publish;

mod outage;
mod table;

use std::collections::BTreeMap;

use tokio_postgres::Transaction;

use crate::fault::Fault;
use crate::kit::postgres::fault;

/// Something to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Key of the record: messages with the same key stay in order.
    pub key: String,
    /// Value of the record.
    pub value: Vec<u8>,
    /// Headers of the record; of those with the same name only the last, in the order of names.
    pub headers: Vec<(String, String)>,
}

/// Writes messages into `table` ("auditor.outbox", or "outbox" with a search path) in the caller's
/// transaction, in order, by one statement however many. Without messages it does nothing.
pub async fn insert(transaction: &Transaction<'_>, table: &str, messages: &[Message]) -> Result<(), Fault> {
    if messages.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = messages.iter().map(|message| message.key.as_str()).collect();
    let values: Vec<&[u8]> = messages.iter().map(|message| message.value.as_slice()).collect();
    let headers: Vec<String> = messages.iter().map(|message| object(&message.headers)).collect();
    // Numbered in the order of `n`: identities are given out above the sort.
    let statement = format!(
        "insert into {table} (key, value, headers)
         select key, value, headers::jsonb
         from unnest($1::text[], $2::bytea[], $3::text[]) with ordinality as message (key, value, headers, n)
         order by n"
    );
    transaction
        .execute(&statement, &[&keys, &values, &headers])
        .await
        .map(drop)
        .map_err(|error| fault::of(&error))
}

/// Headers as an object of JSON.
fn object(headers: &[(String, String)]) -> String {
    let headers: BTreeMap<&str, &str> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    serde_json::json!(headers).to_string()
}

#[cfg(test)]
mod tests;

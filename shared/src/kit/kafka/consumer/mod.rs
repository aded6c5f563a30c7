//! Reading streams into Postgres: every record has its effect once, whatever dies.
//!
//! A [`Service`] says what a record means ([`Service::decode`]) and what its effect is
//! ([`Service::store`]). The kit does the rest. The unit of work is the **lane**: partition n of
//! all streams that are read, so that what one lock reported and what it was told is handled by one
//! task, in one transaction, in the order of each stream. Streams that are read together therefore
//! have the same number of partitions.
//!
//! Guarantees: the offset of a record is stored in the transaction of its effect, and only if
//! nobody else has stored a later one (a second instance that still believes in its assignment is
//! fenced: its transaction is rolled back). A record that cannot be read, or that Postgres refuses
//! by itself, goes to the dead-letter stream before it is passed over. Records that Kafka deleted
//! before they were read are reported, never jumped silently.
//! Non-guarantees: a dead letter may be written twice (its headers tell the place). A stream that
//! was deleted and made anew is noticed only while it is shorter than what was read of the old one.
//!
//! The way of a record: [`membership`] polls it on a thread, [`lanes`] queue it, a [`lane`] takes it
//! and the [`store`] writes it. [`plan`] has the decisions. [`reader`] begins one membership after
//! the other; it is what a service starts.

pub mod config;
pub mod envelope;
pub mod metrics;
pub mod reader;

mod membership;
mod statistics;

mod lane;
mod lanes;

mod deadletter;
mod plan;
mod store;

mod health;
mod progress;

use std::future::Future;
use std::sync::Arc;

use tokio_postgres::Transaction;

use crate::fault::Fault;

/// A record as it is in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its stream.
    pub stream: Arc<str>,
    /// Its partition, which is its lane.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its time in Unix milliseconds, if Kafka knows it.
    pub timestamp_ms: Option<i64>,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; empty if it has none.
    pub value: Vec<u8>,
    /// Its headers in their order; a header without value is empty.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The last header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(own, _)| own == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// A record, and what it was decoded to.
#[derive(Debug, Clone)]
pub struct Decoded<T> {
    /// The record as it is in Kafka.
    pub record: Record,
    /// What it means.
    pub item: T,
}

/// Why a record cannot be used: one word for the metric, and the rest for whoever looks at the dead
/// letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// One word from a fixed set.
    pub class: &'static str,
    /// What is wrong, and where.
    pub message: String,
}

/// Records that were deleted before they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The stream.
    pub stream: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset that is missing.
    pub from: i64,
    /// The offset behind the last one.
    pub to: i64,
}

/// What is done with the records of some streams.
pub trait Service: Send + Sync + 'static {
    /// What a record means.
    type Item: Send + Sync + 'static;

    /// Reads a record. Pure: the same record always means the same. What cannot be read is poison.
    fn decode(&self, record: &Record) -> Result<Self::Item, Poison>;

    /// Writes the effect of a lane's next records, in order, in the caller's transaction, which
    /// also stores their offsets. It is called again with the same records after a transient fault
    /// or a rollback; after a permanent one, with each record alone, so that the culprit is found.
    fn store(
        &self,
        transaction: &Transaction<'_>,
        lane: i32,
        batch: &[Decoded<Self::Item>],
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Called about once a second for a lane that has read all there is: time passes for it though
    /// nothing comes. `now_ms` is the wall clock.
    fn idle(
        &self,
        transaction: &Transaction<'_>,
        lane: i32,
        now_ms: i64,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Writes down that records are missing, in the transaction that passes over them.
    fn lost(
        &self,
        transaction: &Transaction<'_>,
        gap: &Gap,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Called before a lane reads anything, after the lane of that number that was there before has
    /// ended: what was kept in memory for it may be stale.
    fn opened(&self, _lane: i32) {}

    /// Called after a lane has ended, in whatever way: its partitions may be somebody else's now.
    fn closed(&self, _lane: i32) {}

    /// Called after a transaction of this lane was committed.
    fn committed(&self, _lane: i32) {}
}

#[cfg(test)]
mod tests;

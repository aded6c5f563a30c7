//! The bridge through its hook, against the development Kafka.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod app;

mod failure;
mod outage;
mod start;
mod store;

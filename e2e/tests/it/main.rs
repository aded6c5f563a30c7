//! End-to-end tests: real processes, real sockets, real Kafka.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod imports;
mod kafka;

//! End-to-end tests: real processes, real sockets, real Kafka.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod bench;
mod compose;
mod dashboard;
mod imports;
mod kafka;
mod load;
mod scale;
mod sender;
mod support;

mod alarms;
mod attack;
mod audit;
mod commands;
mod crash;
mod demo;
mod faults;
mod fleet;
mod notify;
mod order;
mod outage;
mod peers;
mod pipeline;
mod rebuild;
mod reference_hooks;
mod reference_records;
mod reference_samples;
mod stop;
mod tools;
mod whole;

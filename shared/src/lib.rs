//! What every part of Latchline agrees on.
//!
//! Pure and synchronous: ids, topics, messages, hooks, receipts, the memory budget, Kafka records,
//! signed commands, reports and the states of locks. Process scaffolding (configuration, telemetry, HTTP,
//! Kafka clients) is in [`kit`], behind features, so that a reader of the contracts never meets a
//! runtime.
//!
//! Glossary. An MQTT message has a **topic**; subscriptions have **filters**; a **client** has a
//! **session**; **ack** is MQTT's word only. A Kafka topic is a **stream**, what is stored there is
//! a **record**, and a hook's answer that settles later is a **receipt**. The device is a **lock**.

pub mod topic;

pub mod message;

pub mod budget;
pub mod fault;
pub mod receipt;

pub mod hook;
pub mod record;

pub mod finding;

pub mod command;
pub mod hex;
pub mod keys;

pub mod lock_state;
pub mod report;

pub mod text;

pub mod alarm;
pub mod words;

#[cfg(feature = "kit")]
pub mod kit;

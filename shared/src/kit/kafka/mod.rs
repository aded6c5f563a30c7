//! Kafka clients: settings, logs, topics, and the development Kafka.
//!
//! The only place, beside the bridge's producer, that names the client library.

pub mod client;
pub mod link;
pub mod publisher;
pub mod topics;

#[cfg(feature = "consumer")]
pub mod consumer;

pub mod development;

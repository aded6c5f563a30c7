//! An MQTT 3.1.1 and 5 broker with hooks whose acknowledgements wait for storage.
//!
//! Modules in the order of a message: [`listen`] accepts, [`packet`] decodes, [`connection`] serves,
//! [`session`] remembers, [`hooks`] decide, [`router`] finds the receivers, [`registry`] knows who is
//! there. [`broker`] is what they share, [`server`] starts and ends it all, [`assembly`] puts it
//! together. The library knows no Kafka: whatever stores a message is a hook.

pub mod listen;

pub mod packet;

pub mod connection;
pub mod session;

pub mod hooks;

pub mod router;

pub mod registry;

pub mod admin;
pub mod assembly;

pub mod broker;
pub mod config;
pub mod metrics;
pub mod reload;
pub mod server;
pub mod settings;

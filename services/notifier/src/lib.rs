//! The notifier: the users of a lock hear what happened to it, once, on the channel of their choice.
//!
//! The way of a record: `intake` reads it and asks the [`route`] (pure) who is told what, and writes
//! rows in the transaction that stores the offset; `digest` puts rows together that are told together;
//! `delivery` leases rows, fills the `template`, hands the message to a [`channel`], and writes down
//! how that ended.

pub mod address;
pub mod event;
pub mod status;

pub mod directory;
pub mod seed;
pub mod verification;

pub mod route;

pub mod digest;
pub mod intake;

pub mod channel;
pub mod delivery;
pub mod template;

pub mod http;
pub mod query;

pub mod prune;

pub mod commands;
pub mod migrations;
pub mod settings;
pub mod sink;

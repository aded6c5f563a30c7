//! The monitor: every lock's present state, and alarms that people can trust.
//!
//! No alarm is lost, none is false after a restart, and no outage becomes a storm. The way of a
//! report: `record` reads it, `lane` finds what is remembered of its lock, [`lock`] and [`rule`] say
//! pure and simple what follows ([`signal`]), `store` writes the present state, `alarm` turns
//! signals into changes of alarms; all in the transaction that stores the offset.

pub mod lock;
pub mod rule;
pub mod signal;

pub mod record;

pub mod lane;
pub mod service;
pub mod store;

pub mod alarm;
pub mod http;
pub mod query;
pub mod webhook;

pub mod migrations;
pub mod rebuild;

pub mod commands;
pub mod settings;

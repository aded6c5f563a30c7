//! The auditor: no forged or replayed command goes unseen, and history can be proved and queried.

pub mod chain;
pub mod event;
pub mod history;
pub mod ndjson;

pub mod keys;
pub mod verdict;

pub mod finding;
pub mod judge;
pub mod process;
pub mod record;

pub mod findings;
pub mod service;
pub mod store;

pub mod http;
pub mod query;

pub mod archive;
pub mod checkpoint;
pub mod note;
pub mod verify;

pub mod migrations;

pub mod commands;
pub mod settings;

//! The steps of the schema `auditor`.

use latchline_shared::kit::postgres::Role;
use latchline_shared::kit::postgres::migrate::Migration;

/// All of them, in order.
pub const MIGRATIONS: &[Migration] =
    &[Migration { name: "0001_history", sql: include_str!("../migrations/0001_history.sql") }];

/// The schema.
pub const SCHEMA: &str = "auditor";

/// What the service acts in: it may add to the history and cannot change it.
pub const ROLE: Role = Role("latchline_auditor");

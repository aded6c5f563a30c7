//! The steps of the schema `monitor`, and of its shadow.

use latchline_shared::kit::postgres::Role;
use latchline_shared::kit::postgres::migrate::Migration;

/// All of them, in order.
pub const MIGRATIONS: &[Migration] =
    &[Migration { name: "0001_alarms", sql: include_str!("../migrations/0001_alarms.sql") }];

/// The schema.
pub const SCHEMA: &str = "monitor";

/// What the service acts in.
pub const ROLE: Role = Role("latchline_monitor");

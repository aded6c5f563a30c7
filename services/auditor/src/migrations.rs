//! The steps of the schema `auditor`.

use latchline_shared::kit::postgres::Role;
use latchline_shared::kit::postgres::migrate::Migration;
use latchline_shared::kit::postgres::prepare::Schema;

/// The schema, and all of its steps in order.
pub const SCHEMA: Schema = Schema {
    name: "auditor",
    migrations: &[
        Migration { name: "0001_history", sql: include_str!("../migrations/0001_history.sql") },
        Migration { name: "0002_outbox", sql: include_str!("../migrations/0002_outbox.sql") },
    ],
    application: "latchline-auditor",
};

/// What the service acts in: it may add to the history and cannot change it.
pub const ROLE: Role = Role("latchline_auditor");

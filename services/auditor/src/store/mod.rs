//! Nonces, processes, states of locks and the time of lanes, in Postgres.
//!
//! Each function is a constant number of statements, however many records there are: keys and rows
//! go in as arrays. Statements are sent with their types, so that each is one round trip, and those
//! that do not depend on each other go out together.
//!
//! Invariant: nothing here is refused for a row that is there already; a lane's rows are written in
//! the order of their keys, so that two lanes that meet (by topics under a foreign key) wait for
//! each other at most in one direction.

mod clean;
mod load;
mod save;

pub use clean::clean;
pub use load::{load, load_due};
pub use save::save;

use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::Error;

/// Most deadlines that are looked at in one transaction; further ones come in the next.
pub const DUE_MAX: i64 = 1_000;

fn failed(error: Error) -> Fault {
    fault::of(&error)
}

/// Times of records are between 2000 and 2100; what a command says of itself may be none.
fn time(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}

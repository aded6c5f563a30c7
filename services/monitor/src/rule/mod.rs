//! The rules: small pure functions over what was observed, what is remembered of it, and a
//! threshold. A file for each family of alarms.
//!
//! Invariants: no clock, no I/O, no other lock. Of a condition a rule says that it begins or that
//! it ends; who calls it remembers which conditions hold ([`set::AlarmSet`]) and makes signals.

pub mod check;
pub mod live;
pub mod load;
pub mod set;
pub mod threshold;

pub mod battery;
pub mod bolt;
pub mod door;
pub mod finding;
pub mod fleet;
pub mod forecast;
pub mod presence;
pub mod report;
pub mod result;

/// Values of the same condition are told once in each such span of event time, in milliseconds.
pub const HOLD_MS: i64 = 600_000;

/// What an observation does to a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// It begins.
    Begin,
    /// It is over.
    End,
}

/// Whether two times are in different spans of [`HOLD_MS`].
pub fn is_new_span(before_ms: i64, at_ms: i64) -> bool {
    before_ms.div_euclid(HOLD_MS) != at_ms.div_euclid(HOLD_MS)
}

//! What the rules say of a lock, before anything is known of its alarms.
//!
//! A rule sees conditions begin and end. Whether that raises an alarm, or is one more time of an
//! alarm that is open, is decided under that alarm's lock.

use latchline_shared::alarm::{AlarmType, Origin, Severity};
use serde_json::Value;

/// A condition changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Which.
    pub alarm: AlarmType,
    /// When, in Unix milliseconds: of a delay, its end, whenever that was noticed.
    pub at_ms: i64,
    /// How.
    pub what: What,
    /// What was looked at, for people.
    pub value: Value,
    /// What said so.
    pub origin: Origin,
}

/// How a condition changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It began, and holds on.
    Begin(Severity),
    /// It was there for a moment.
    Occur(Severity),
    /// It has held for so long that it is worse.
    Worsen(Severity),
    /// It still holds; the value is a newer one.
    Hold,
    /// It is over.
    End,
}

/// A signal, whom it is about and what led to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// The lock; empty for the fleet.
    pub client_id: String,
    /// The record; of the clock, the last record of the lock.
    pub place: Place,
    /// The signal.
    pub signal: Signal,
}

/// Where a record is in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Stream; empty for what comes from none.
    pub stream: std::sync::Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

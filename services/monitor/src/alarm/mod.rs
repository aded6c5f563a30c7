//! Alarms: what signals, people and the clock make of them.
//!
//! [`lifecycle`] decides, pure: one row and one act give the changed row and an event. [`suppression`]
//! says why nobody should be told. [`desk`] holds the open alarms of some locks in memory and applies
//! what comes to them in order; [`store`] loads and writes them in bulk. Three ways lead there:
//! [`apply`] for the signals of a lane, [`act`] for people, [`sweep`] for the clock. [`replay`] goes all
//! of them once more.
//!
//! Invariants: one open alarm for each lock and type; its events are numbered without gap and ordered
//! in time; row, event and the records that tell of it are written in one transaction; nothing here
//! asks for the time, so the same signals make the same rows, wherever batches end.

pub mod act;
pub mod announce;
pub mod apply;
pub mod desk;
pub mod id;
pub mod lifecycle;
pub mod replay;
pub mod schedule;
pub mod silence;
pub mod store;
pub mod suppression;
pub mod sweep;

use std::collections::BTreeMap;
use std::time::Duration;

use latchline_shared::alarm::{AlarmType, Change, Origin, Severity, State};
use serde_json::Value;
use uuid::Uuid;

/// Who acts when it is nobody.
pub const MONITOR: &str = "monitor";
/// Whom an alarm of the fleet is about.
pub const FLEET: &str = "";

/// An alarm: one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// From lock, type, time and the record that raised it.
    pub id: Uuid,
    /// The lock; empty for the fleet.
    pub client_id: String,
    /// What is wrong.
    pub alarm_type: AlarmType,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands; never pending.
    pub state: State,
    /// Whether the condition holds.
    pub condition: bool,
    /// When it was raised.
    pub raised_at_ms: i64,
    /// When the condition was seen last.
    pub last_at_ms: i64,
    /// When the condition was over, if it is.
    pub cleared_at_ms: Option<i64>,
    /// When the alarm was.
    pub closed_at_ms: Option<i64>,
    /// When it was acknowledged, if it is.
    pub acked_at_ms: Option<i64>,
    /// By whom.
    pub acked_by: Option<String>,
    /// Until when nobody wants to hear of it.
    pub shelved_until_ms: Option<i64>,
    /// How often the condition came.
    pub count: i32,
    /// The last value that was looked at.
    pub value: Value,
    /// How often it was escalated.
    pub level: i16,
    /// When somebody should have been told last; none if nobody was since it became active or worse.
    pub announced_at_ms: Option<i64>,
    /// Whether somebody heard of it, however it was then, and not yet that it is over.
    pub told: bool,
    /// When its last event happened: none happens before.
    pub changed_at_ms: i64,
    /// When the sweep looks at it next; none: never.
    pub look_at_ms: Option<i64>,
    /// Number of its last event.
    pub no: i32,
}

impl Alarm {
    /// Whether it is not closed.
    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// When something that happens to it at this time is said to have happened: its events are
    /// ordered, whatever the clocks of those who act.
    pub fn ordered(&self, at_ms: i64) -> i64 {
        at_ms.max(self.changed_at_ms)
    }
}

/// A change of an alarm: one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Of which alarm.
    pub alarm_id: Uuid,
    /// From 1 without gap.
    pub no: i32,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// What happened.
    pub change: Change,
    /// State before; none if the alarm was raised.
    pub from: Option<State>,
    /// State after.
    pub to: State,
    /// Severity after.
    pub severity: Severity,
    /// What made the change.
    pub origin: Origin,
    /// Who.
    pub actor: String,
    /// Why, by origin: the record's place, somebody's comment.
    pub cause: Value,
    /// The last value that was looked at.
    pub value: Value,
    /// Whether somebody should be told.
    pub notify: bool,
    /// Why nobody should be told though somebody usually is.
    pub suppressed_by: Option<String>,
}

/// How long things may stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// An alarm that was told so long ago and nobody has acknowledged is escalated, once.
    pub escalate_after: Duration,
    /// A critical one is told again so often.
    pub announce_every: Duration,
    /// A cleared one that nobody has acknowledged is closed after so long.
    pub expire_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        Self {
            escalate_after: Duration::from_secs(15 * 60),
            announce_every: hours(24),
            expire_after: hours(24),
        }
    }
}

/// What applies to all alarms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The table whose rows go to the alarm stream; none: changes are not published.
    pub outbox: Option<String>,
    /// Whether there is a webhook that hears of them.
    pub webhook: bool,
    /// When the sweep has to look.
    pub timing: Timing,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events, by what happened.
    pub changes: BTreeMap<Change, u64>,
    /// How many of them somebody should be told.
    pub notifications: u64,
    /// Signals that changed nothing: of a condition that was over, or that nobody waits for any more.
    pub idle: u64,
}

impl Applied {
    fn of(events: &[Event], idle: u64) -> Self {
        let mut applied = Self { idle, ..Self::default() };
        for event in events {
            *applied.changes.entry(event.change).or_default() += 1;
            applied.notifications += u64::from(event.notify);
        }
        applied
    }

    /// The sum of both.
    pub fn add(&mut self, other: &Self) {
        for (change, count) in &other.changes {
            *self.changes.entry(*change).or_default() += count;
        }
        self.notifications += other.notifications;
        self.idle += other.idle;
    }
}

#[cfg(test)]
mod tests;

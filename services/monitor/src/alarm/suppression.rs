//! Why nobody should be told of an alarm: somebody shelved it, a silence matches it, or another
//! alarm says more. Pure.
//!
//! Only an alarm whose condition holds inhibits others: one that waits to be acknowledged says
//! nothing of what is wrong now.

use std::fmt;

use latchline_shared::alarm::{AlarmType, Change};
use uuid::Uuid;

use super::Alarm;
use super::silence::Silence;

/// A suppression may end without anybody's touching the alarm: it is looked at again after so long.
/// With a thousand looks in a sweep, which is a second, 100,000 suppressed ones leave room for others.
const LOOK_AGAIN_MS: i64 = 300_000;

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suppressed {
    /// Somebody does not want to hear of this alarm.
    Shelved {
        /// Until when.
        until_ms: i64,
    },
    /// Somebody does not want to hear of such alarms.
    Silence {
        /// Which one says so.
        id: Uuid,
        /// When it ends.
        ends_at_ms: i64,
    },
    /// An alarm that says more is open.
    Inhibited(AlarmType),
}

impl Suppressed {
    /// Whether nobody should be told of this change. That an alarm says more is no reason to leave
    /// those who heard of this one without its end.
    pub fn keeps_quiet(self, change: Change) -> bool {
        change != Change::ReturnedToNormal || !matches!(self, Self::Inhibited(_))
    }

    /// When this may have ended.
    pub fn look_at_ms(self, at_ms: i64) -> i64 {
        let again_ms = at_ms + LOOK_AGAIN_MS;
        match self {
            Self::Shelved { until_ms } => until_ms,
            Self::Silence { ends_at_ms, .. } => ends_at_ms.min(again_ms),
            Self::Inhibited(_) => again_ms,
        }
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shelved { .. } => formatter.write_str("shelved"),
            Self::Silence { id, .. } => write!(formatter, "silence:{id}"),
            Self::Inhibited(by) => write!(formatter, "inhibited:{by}"),
        }
    }
}

/// Whether, and why, nobody should be told of this alarm at this time. `holds` says whether the
/// condition of another alarm of the same lock holds.
pub fn of(
    alarm: &Alarm,
    at_ms: i64,
    silences: &[Silence],
    holds: impl Fn(AlarmType) -> bool,
    is_fleet_down: bool,
) -> Option<Suppressed> {
    if let Some(until_ms) = alarm.shelved_until_ms.filter(|until_ms| *until_ms > at_ms) {
        return Some(Suppressed::Shelved { until_ms });
    }
    if let Some(silence) = silences.iter().find(|silence| silence.is_on(at_ms) && silence.matches(alarm)) {
        return Some(Suppressed::Silence { id: silence.id, ends_at_ms: silence.ends_at_ms });
    }
    if let Some(by) = alarm.alarm_type.inhibited_by().iter().copied().find(|other| holds(*other)) {
        return Some(Suppressed::Inhibited(by));
    }
    (is_fleet_down && is_of_fleet(alarm.alarm_type))
        .then_some(Suppressed::Inhibited(AlarmType::FleetConnectivity))
}

/// Whether an outage of the fleet says more than an alarm of this type.
pub fn is_of_fleet(alarm_type: AlarmType) -> bool {
    matches!(alarm_type, AlarmType::DeviceOffline | AlarmType::CommandNoResult)
}

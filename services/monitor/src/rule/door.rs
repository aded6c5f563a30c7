//! Doors: forced, ajar, with the cover off, and with wrong codes.
//!
//! That a report has no `alarm` says that there is none, since no number does. That it has no
//! `door_state` says nothing: then the door is as it was.

use serde_json::{Value, json};

use super::Step;
use crate::lock::memory::Since;

/// Matter's `DoorState`.
const CLOSED: i64 = 1;
const FORCED_OPEN: i64 = 3;
const AJAR: i64 = 5;

/// Matter's `AlarmCode`.
const WRONG_CODE_LIMIT: i64 = 4;
const COVER_REMOVED: i64 = 5;
const DOOR_FORCED: i64 = 6;
const DOOR_AJAR: i64 = 7;

/// What a report and those before it say of the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Door {
    state: Option<i64>,
    alarm: Option<i64>,
}

impl Door {
    /// Lays a report over what is remembered.
    pub(crate) fn see(remembered: &mut u8, state: Option<i64>, alarm: Option<i64>) -> Self {
        if let Some(state) = state {
            // One that is not Matter's is a state like any other that is none of ours.
            *remembered = u8::try_from(state).map_or(u8::MAX, |state| state.saturating_add(1));
        }
        Self::remembered(*remembered, alarm)
    }

    /// What was said before, with an alarm of now.
    pub(crate) fn remembered(remembered: u8, alarm: Option<i64>) -> Self {
        Self { state: remembered.checked_sub(1).map(i64::from), alarm }
    }

    /// For people.
    pub(crate) fn value(self) -> Value {
        json!({ "door_state": self.state, "alarm": self.alarm })
    }

    pub(crate) fn forced(self) -> Step {
        held(self.state == Some(FORCED_OPEN) || self.alarm == Some(DOOR_FORCED))
    }

    pub(crate) fn tamper(self) -> Step {
        held(self.alarm == Some(COVER_REMOVED))
    }

    /// Whether wrong codes are reported now and were not before.
    pub(crate) fn wrong_code(self, before: &mut bool) -> bool {
        let now = self.alarm == Some(WRONG_CODE_LIMIT);
        let was = std::mem::replace(before, now);
        now && !was
    }

    /// Since when the door is ajar; once that is raised, since when it is closed.
    pub(crate) fn ajar(self, is_raised: bool, since: &mut Since, at_ms: i64) {
        let is_ajar = self.state == Some(AJAR) || self.alarm == Some(DOOR_AJAR);
        // A lock that does not tell its door's state has nothing but the alarm.
        let is_closed = !is_ajar && self.state.is_none_or(|state| state == CLOSED);
        let runs = if is_raised { is_closed } else { is_ajar };
        if runs { since.get_or_set(at_ms) } else { *since = Since::NONE }
    }
}

fn held(holds: bool) -> Step {
    if holds { Step::Begin } else { Step::End }
}

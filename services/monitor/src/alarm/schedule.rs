//! What time does to an alarm, and when somebody has to look. Pure.

use std::time::Duration;

use latchline_shared::alarm::{Severity, State};

use super::lifecycle::{self, Act};
use super::suppression::Suppressed;
use super::{Alarm, Timing};

/// What is due at this time, if something is: one act at a time, until nothing is. `live_ms`: what
/// was told before could not be told to anybody until then.
pub fn due(
    alarm: &Alarm,
    now_ms: i64,
    timing: &Timing,
    live_ms: i64,
    suppressed: Option<Suppressed>,
) -> Option<Act> {
    if alarm.is_open() && alarm.shelved_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
        return Some(Act::Unshelve);
    }
    match alarm.state {
        State::Cleared if expires_at(alarm, timing) <= now_ms => Some(Act::Expire),
        State::Active if suppressed.is_none() => {
            if alarm.announced_at_ms.is_none() {
                return Some(Act::Announce);
            }
            if escalates_at(alarm, timing, live_ms).is_some_and(|at_ms| at_ms <= now_ms) {
                return Some(Act::Escalate);
            }
            announces_at(alarm, timing).filter(|at_ms| *at_ms <= now_ms).map(|_| Act::Announce)
        }
        _ => None,
    }
}

/// When something is due next, or may be; none: never, unless somebody acts.
pub fn look_at(
    alarm: &Alarm,
    now_ms: i64,
    timing: &Timing,
    live_ms: i64,
    suppressed: Option<Suppressed>,
) -> Option<i64> {
    let of_state = match alarm.state {
        State::Cleared => Some(expires_at(alarm, timing)),
        State::Active => {
            let due_ms = match alarm.announced_at_ms {
                None => Some(now_ms),
                Some(_) => {
                    escalates_at(alarm, timing, live_ms).into_iter().chain(announces_at(alarm, timing)).min()
                }
            };
            // What is due while nobody should be told waits for the end of that.
            let ends_ms = suppressed.map(|suppressed| suppressed.look_at_ms(now_ms));
            due_ms.map(|due_ms| due_ms.max(ends_ms.unwrap_or(due_ms)))
        }
        State::Pending | State::Acknowledged | State::Closed => None,
    };
    let of_shelf = alarm.shelved_until_ms.filter(|_| alarm.is_open());
    of_state.into_iter().chain(of_shelf).min()
}

fn expires_at(alarm: &Alarm, timing: &Timing) -> i64 {
    after(alarm.cleared_at_ms.unwrap_or(alarm.changed_at_ms), timing.expire_after)
}

fn escalates_at(alarm: &Alarm, timing: &Timing, live_ms: i64) -> Option<i64> {
    let told_ms = alarm.announced_at_ms.filter(|_| lifecycle::can_escalate(alarm))?;
    Some(after(told_ms.max(live_ms), timing.escalate_after))
}

fn announces_at(alarm: &Alarm, timing: &Timing) -> Option<i64> {
    let told_ms = alarm.announced_at_ms.filter(|_| alarm.severity == Severity::Critical)?;
    Some(after(told_ms, timing.announce_every))
}

fn after(at_ms: i64, duration: Duration) -> i64 {
    at_ms.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

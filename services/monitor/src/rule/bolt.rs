//! Bolts: between their ends, on their way, blocked, left open, and of unknown state.
//!
//! A condition begins with its state and ends where the catalogue says; what is in between neither
//! ends it nor begins its delay anew. A bolt that is moved to and fro is still not locked.

use latchline_shared::lock_state::LockState;

use super::Step;
use crate::lock::memory::Since;

/// Since when nobody has locked again.
pub(crate) fn open(since: &mut Since, state: LockState, at_ms: i64) -> Step {
    match state {
        LockState::Unlocked | LockState::Unlatched => since.get_or_set(at_ms),
        LockState::Locked => return over(since),
        _ => {}
    }
    Step::Stay
}

/// Since when the bolt is between its ends, until it has arrived at one.
pub(crate) fn partial(since: &mut Since, state: LockState, at_ms: i64) -> Step {
    match state {
        LockState::NotFullyLocked => since.get_or_set(at_ms),
        state if is_at_an_end(state) => return over(since),
        _ => {}
    }
    Step::Stay
}

/// Since when the bolt is on its way.
pub(crate) fn moving(since: &mut Since, state: LockState, at_ms: i64) -> Step {
    match state {
        LockState::Locking | LockState::Unlocking => since.get_or_set(at_ms),
        _ => return over(since),
    }
    Step::Stay
}

/// Whether the motor is blocked.
pub(crate) fn fault(state: LockState) -> Step {
    match state {
        LockState::Fault => Step::Begin,
        state if is_at_an_end(state) => Step::End,
        _ => Step::Stay,
    }
}

/// So many reports of an unknown state in a row.
pub(crate) fn unknown(row: &mut u8, state: LockState, raise_reports: u8) -> Step {
    if state != LockState::Unknown {
        *row = 0;
        return Step::End;
    }
    *row = row.saturating_add(1);
    if *row < raise_reports { Step::Stay } else { Step::Begin }
}

fn is_at_an_end(state: LockState) -> bool {
    matches!(state, LockState::Locked | LockState::Unlocked | LockState::Unlatched)
}

fn over(since: &mut Since) -> Step {
    *since = Since::NONE;
    Step::End
}

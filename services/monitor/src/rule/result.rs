//! Results of commands: the first report of a process says how its command ended (contract,
//! section 1).

use latchline_shared::command::Action;
use latchline_shared::lock_state::LockState;
use latchline_shared::report::{Report, Said};

/// The result that a report is, if it is one: `process` is the hash of the last one's process.
pub(crate) fn result(process: &mut u64, report: &Report, state: LockState) -> Option<Said> {
    let action = report.answers()?;
    let hash = hash(&report.process_id);
    if std::mem::replace(process, hash) == hash {
        return None;
    }
    Some(outcome(report.result, state, action))
}

/// The lock's own word, or what its state tells.
fn outcome(said: Option<Said>, state: LockState, action: Action) -> Said {
    match said {
        Some(said) => said,
        None if state.is_success_of(action) => Said::Ok,
        None => Said::Failed,
    }
}

/// FNV-1a, and never 0, which means that there was none. It is kept in Postgres, so it must be the
/// same in each build; nobody gains by a collision but silence about a command of their own.
pub(crate) fn hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}

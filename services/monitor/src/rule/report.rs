//! Reports that cannot be read, or that have fields that make no sense.

use super::Step;
use super::threshold::Invalid;

/// One more at `at_ms`; `times` are those of the last ones, from old to new.
pub(crate) fn invalid(times: &mut Vec<i64>, at_ms: i64, rule: &Invalid) -> Step {
    forget(times, at_ms, rule);
    times.push(at_ms);
    if times.len() < usize::from(rule.raise_reports) {
        return Step::Stay;
    }
    let more = times.len() - usize::from(rule.raise_reports);
    times.drain(..more);
    Step::Begin
}

/// Removes those that are too old to count.
pub(crate) fn forget(times: &mut Vec<i64>, at_ms: i64, rule: &Invalid) {
    times.retain(|time| *time > at_ms.saturating_sub(rule.window_ms));
}

/// One more good report in a row.
pub(crate) fn good(is_raised: bool, row: &mut u8, rule: &Invalid) -> Step {
    *row = if is_raised { row.saturating_add(1) } else { 0 };
    if !is_raised || *row < rule.end_reports {
        return Step::Stay;
    }
    *row = 0;
    Step::End
}

//! Whether a lane could have heard a lock. Silence counts only while it could: as long as it keeps
//! up, without a break.
//!
//! Pure; times are of the wall clock, in Unix milliseconds.

/// A longer time without an evaluation is a break: nobody knows what happened meanwhile.
const BREAK_MAX_MS: i64 = 120_000;
/// A lane that still reads has caught up if its newest record is not older.
const CAUGHT_UP_MS: i64 = 60_000;
/// The end of a stream is told with the time at which it was seen, and waits behind a transaction for
/// as long as one may take.
const TOLD_LATE_MAX_MS: i64 = 60_000;
/// A lane that reads all the time looks at its clock so often.
const TICK_MS: i64 = 1_000;

/// A lane's view of the clock. A new one has seen nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watch {
    evaluated_at_ms: Option<i64>,
    live_since_ms: Option<i64>,
}

/// How far a lane has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// All there is.
    End,
    /// There may be more behind a record of this time, if there was any.
    Before(Option<i64>),
}

impl Watch {
    /// Whether it is time for another look.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.evaluated_at_ms.is_none_or(|at_ms| (now_ms - at_ms).abs() >= TICK_MS)
    }

    /// Looks at the clock.
    pub fn look(&mut self, now_ms: i64, position: Position) {
        let since_ms = self.evaluated_at_ms.map(|at_ms| now_ms - at_ms);
        if position == Position::End && since_ms.is_some_and(|ms| (-TOLD_LATE_MAX_MS..0).contains(&ms)) {
            // Somebody has looked since; no clock went back.
            return;
        }
        let is_caught_up = match position {
            Position::End => true,
            Position::Before(newest_ms) => newest_ms.is_some_and(|at_ms| now_ms - at_ms < CAUGHT_UP_MS),
        };
        // A clock that goes back was wrong, now or before.
        let is_unbroken =
            self.evaluated_at_ms.is_some_and(|at_ms| (0..=BREAK_MAX_MS).contains(&(now_ms - at_ms)));
        let kept = self.live_since_ms.filter(|_| is_unbroken);
        self.live_since_ms = is_caught_up.then_some(kept.unwrap_or(now_ms));
        self.evaluated_at_ms = Some(now_ms);
    }

    /// Since when it has kept up without a break; none if it does not.
    pub fn live_since_ms(&self) -> Option<i64> {
        self.live_since_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these seconds; since which second it is live afterwards.
    fn check(looks: &[(i64, Position)], expected: Option<i64>) {
        let mut watch = Watch::default();
        for (second, position) in looks {
            watch.look(second * 1_000, *position);
        }
        assert_eq!(watch.live_since_ms(), expected.map(|second| second * 1_000), "{looks:?}");
    }

    const fn at(second: i64) -> Position {
        Position::Before(Some(second * 1_000))
    }

    #[test]
    fn it_lives_from_when_it_has_caught_up() {
        check(&[], None);
        check(&[(1_000, at(900))], None);
        check(&[(1_000, Position::Before(None))], None);
        check(&[(1_000, at(900)), (1_001, at(942)), (1_002, at(1_002))], Some(1_001));
        check(&[(1_000, at(900)), (1_001, Position::End), (1_100, Position::End)], Some(1_001));
    }

    #[test]
    fn it_dies_when_it_falls_behind_and_begins_anew_after_a_break() {
        check(&[(1_000, Position::End), (1_001, at(900))], None);
        check(&[(1_000, Position::End), (1_001, at(900)), (1_002, Position::End)], Some(1_002));
        check(&[(1_000, Position::End), (1_120, Position::End)], Some(1_000));
        check(&[(1_000, Position::End), (1_121, Position::End)], Some(1_121));
        check(&[(1_000, Position::End), (939, Position::End)], Some(939));
        check(&[(1_000, Position::End), (999, at(999))], Some(999));
    }

    #[test]
    fn an_end_that_waited_behind_a_transaction_is_no_clock_that_went_back() {
        check(&[(1_000, Position::End), (999, Position::End), (1_001, Position::End)], Some(1_000));
        check(&[(1_000, Position::End), (1_060, at(1_060)), (1_001, Position::End)], Some(1_000));
    }

    #[test]
    fn it_looks_once_a_second() {
        let mut watch = Watch::default();
        assert!(watch.is_due(5_000));
        watch.look(5_000, Position::End);
        assert!(!watch.is_due(5_999) && watch.is_due(6_000) && watch.is_due(4_000));
    }
}

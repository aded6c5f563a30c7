//! How long to wait before another attempt. Pure.

use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long to wait after `attempt` attempts that failed: doubled each time, and between half and
/// all of that by `random`, so that those who failed together do not come back all at once.
pub fn pause(attempt: u32, random: u64) -> Duration {
    let whole = PAUSE.saturating_mul(1 << attempt.min(10)).min(PAUSE_MAX);
    whole / 2 + whole.mul_f64((random >> 32) as f64 / (u64::from(u32::MAX) + 1) as f64 / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        for (attempt, random, expected_ms) in
            [(0, 0, 50), (1, 0, 100), (3, 0, 400), (6, 0, 2_500), (u32::MAX, 0, 2_500), (0, 1 << 63, 75)]
        {
            assert_eq!(pause(attempt, random), Duration::from_millis(expected_ms), "{attempt} {random}");
        }
        assert!(pause(u32::MAX, u64::MAX) <= PAUSE_MAX);
    }
}

//! How much was told lately: the generic cell rate algorithm. What is kept of a bucket is the time at
//! which it is full again. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// So far may clocks of instances be apart.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

/// So many a minute, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In a minute; not 0.
    pub per_minute: u32,
    /// At once; not 0.
    pub burst: u32,
}

impl Rate {
    /// When the bucket will be full again if one more is taken from it now; `None` if it is empty.
    pub fn take(self, full_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let one = Duration::from_secs(60) / self.per_minute.max(1);
        let room = now.checked_add(one * self.burst).ok()?;
        // Nothing of ours is so far ahead: a clock, or the configuration, was another one.
        let is_foreign = full_at > room.checked_add(CLOCKS_APART_MAX).ok()?;
        let after = if is_foreign { now } else { full_at.max(now) }.checked_add(one).ok()?;
        (after <= room).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which of these seconds something is told.
    fn told(rate: Rate, seconds: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut full_at = Timestamp::UNIX_EPOCH;
        let mut take = |second: &i64| {
            let now = Timestamp::from_second(1_774_000_000 + second).unwrap();
            let after = rate.take(full_at, now);
            full_at = after.unwrap_or(full_at);
            after.is_some()
        };
        seconds.filter(|second| take(second)).collect()
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let rate = Rate { per_minute: 6, burst: 2 };
        assert_eq!(
            told(rate, [0, 0, 0, 5, 9, 10, 10, 19, 20, 100, 100, 100].into_iter()),
            [0, 0, 10, 20, 100, 100]
        );
        let one = Rate { per_minute: 60, burst: 1 };
        assert_eq!(told(one, [0, 0, 1, 1, 3].into_iter()), [0, 1, 3]);
    }

    #[test]
    fn over_long_the_rate_holds() {
        for (per_minute, burst) in [(10, 20), (6, 6), (1, 1), (30, 3), (7, 2)] {
            let count = told(Rate { per_minute, burst }, 0..3_600).len();
            let expected = (burst + per_minute * 60) as usize;
            assert!((expected - 1..=expected).contains(&count), "{per_minute} {burst}: {count}");
        }
    }

    #[test]
    fn a_clock_that_was_ahead_blocks_nobody_for_long() {
        let (rate, now) = (Rate { per_minute: 60, burst: 5 }, Timestamp::from_second(1_774_000_000).unwrap());
        let ahead = now + Duration::from_secs(1_000_000);
        for (full_at, expected) in
            [(ahead, true), (Timestamp::MAX, true), (now + Duration::from_secs(30), false)]
        {
            assert_eq!(rate.take(full_at, now).is_some(), expected, "{full_at}");
        }
        assert_eq!(Rate { per_minute: 0, burst: 1 }.take(now, now), Some(now + Duration::from_secs(60)));
    }
}

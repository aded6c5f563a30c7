//! How many messages a second a provider gets: a bucket of tokens, in memory. Pure: the caller says
//! what time it is.
//!
//! The bucket holds a second's worth, at least one, and is full at first.

use std::time::Duration;

use tokio::time::Instant;

/// The bucket of one provider.
#[derive(Debug)]
pub struct Pace {
    /// Tokens a second; 0: as many as there are takers.
    rate: u32,
    tokens: f64,
    at: Instant,
}

impl Pace {
    /// So many a second; 0: any number.
    pub fn new(rate: u32, now: Instant) -> Self {
        Self { rate, tokens: f64::from(rate), at: now }
    }

    /// How many may go now, or how long to wait for one.
    pub fn room(&self, now: Instant) -> Result<usize, Duration> {
        if self.rate == 0 {
            return Ok(usize::MAX);
        }
        let tokens = self.tokens_at(now);
        if tokens >= 1.0 {
            return Ok(tokens as usize);
        }
        // A little more than needed: a wait that ends just before the token is there would be in vain.
        Err(Duration::from_secs_f64((1.0 - tokens) / f64::from(self.rate)) + Duration::from_millis(1))
    }

    /// So many go. More than there is room for delays those that come after.
    pub fn take(&mut self, count: usize, now: Instant) {
        if self.rate != 0 {
            self.tokens = self.tokens_at(now) - count as f64;
            self.at = self.at.max(now);
        }
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let rate = f64::from(self.rate);
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + since * rate).min(rate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_has_its_number() {
        let start = Instant::now();
        let mut pace = Pace::new(2, start);
        assert_eq!(pace.room(start), Ok(2));
        pace.take(2, start);
        assert_eq!(pace.room(start), Err(Duration::from_millis(501)));
        assert_eq!(pace.room(start + Duration::from_millis(501)), Ok(1));
        assert_eq!(pace.room(start + Duration::from_secs(3_600)), Ok(2));
        assert_eq!(Pace::new(0, start).room(start), Ok(usize::MAX));
    }

    proptest! {
        #[test]
        fn no_time_has_more_than_its_share(
            rate in 1_u32..50,
            waits in prop::collection::vec(0_u64..3_000, 1..100),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut pace = Pace::new(rate, start);
            let mut gone = 0;
            for wait in waits {
                now += Duration::from_millis(wait);
                match pace.room(now) {
                    Ok(count) => {
                        pace.take(count, now);
                        gone += count;
                    }
                    Err(wait) => prop_assert!(pace.room(now + wait).is_ok()),
                }
                let share = f64::from(rate) * (1.0 + now.duration_since(start).as_secs_f64());
                prop_assert!(gone as f64 <= share + 0.001);
            }
        }
    }
}

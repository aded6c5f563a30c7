//! Wall clock. The only place that asks the system for the time of day; whatever measures how long
//! something takes uses `tokio::time::Instant`, which tests can pause.

use std::time::SystemTime;

/// Now, in Unix milliseconds; 0 while the clock stands before 1970.
pub fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_millisecond() {
        let year_2020 = 1_577_836_800_000;
        let year_2100 = 4_102_444_800_000;
        assert!((year_2020..year_2100).contains(&unix_ms()));
    }
}

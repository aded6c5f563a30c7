//! How many messages are under way to each host, so that one that takes its time does not take the
//! places of the others.
//!
//! What finds no place is given a turn: as far from the one before as the host needs for one message.
//! So a long queue of one host comes back row by row, not as a whole again and again.
//!
//! Invariant: a host is remembered while something is under way to it; there are no more than places.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// So long a host is thought to take, until it has shown how long.
const TOOK: Duration = Duration::from_secs(1);

/// What is under way, by host.
#[derive(Debug, Default)]
pub struct Crowd(HashMap<String, Line>);

#[derive(Debug)]
struct Line {
    busy: usize,
    /// For the last message.
    took: Duration,
    /// The last turn that was given.
    turn_at: Instant,
}

impl Crowd {
    /// Whether there is a place at a host that has `max`; else how long until it is this one's turn.
    pub fn room(&mut self, host: &str, max: usize, now: Instant) -> Result<(), Duration> {
        let Some(line) = self.0.get_mut(host).filter(|line| line.busy >= max) else { return Ok(()) };
        let step = line.took / u32::try_from(max).unwrap_or(u32::MAX).max(1);
        line.turn_at = line.turn_at.max(now) + step;
        Err(line.turn_at - now)
    }

    /// A message is on its way.
    pub fn begin(&mut self, host: &str, now: Instant) {
        match self.0.get_mut(host) {
            Some(line) => line.busy += 1,
            None => {
                self.0.insert(host.to_owned(), Line { busy: 1, took: TOOK, turn_at: now });
            }
        }
    }

    /// It is not any more.
    pub fn end(&mut self, host: &str, took: Duration) {
        let Some(line) = self.0.get_mut(host) else { return };
        (line.busy, line.took) = (line.busy.saturating_sub(1), took);
        if line.busy == 0 {
            self.0.remove(host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_so_many_places_and_turns_follow_each_other() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let ms = Duration::from_millis;
        for _ in 0..2 {
            assert_eq!(crowd.room("slow", 2, now), Ok(()));
            crowd.begin("slow", now);
        }
        assert_eq!(crowd.room("other", 2, now), Ok(()));
        assert_eq!(crowd.room("slow", 2, now), Err(ms(500)));
        assert_eq!(crowd.room("slow", 2, now), Err(ms(1_000)));
        // It has shown how long it takes.
        crowd.end("slow", ms(4_000));
        assert_eq!(crowd.room("slow", 2, now), Ok(()));
        crowd.begin("slow", now);
        assert_eq!(crowd.room("slow", 2, now + ms(900)), Err(ms(2_100)));
        // Turns that have passed are not made up for.
        assert_eq!(crowd.room("slow", 2, now + ms(60_000)), Err(ms(2_000)));
        crowd.end("slow", ms(1));
        crowd.end("slow", ms(1));
        assert!(crowd.0.is_empty());
    }
}

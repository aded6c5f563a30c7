//! Whether a provider is left alone. Pure: the caller says what time it is.
//!
//! Closed → failures come to the limit within the window → open → after a while half open: one attempt,
//! whose end closes it or opens it again. A success forgives one failure, so that a provider that does
//! most of its work is not left alone for the rest.
//!
//! Invariant: at most so many failures as the limit are remembered.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::settings::Settings;

/// The breaker of one provider.
#[derive(Debug)]
pub struct Breaker {
    failures_max: usize,
    within: Duration,
    open: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    /// When it failed, the oldest first.
    Closed { failures: VecDeque<Instant> },
    /// Nothing is sent until then.
    Open { until: Instant },
    /// One attempt is under way; whoever made it may have died, so another may be made then.
    Trying { trial: u64, until: Instant },
}

/// Leave for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// Of the one attempt while half open.
    trial: Option<u64>,
}

/// How a provider is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Messages are sent.
    Closed,
    /// One message at a time is tried.
    HalfOpen,
    /// No message is sent for so long.
    Open(Duration),
}

impl Breaker {
    /// A closed one.
    pub fn new(settings: &Settings) -> Self {
        Self {
            failures_max: settings.breaker_failures,
            within: settings.breaker_within,
            open: settings.breaker_open,
            state: State::Closed { failures: VecDeque::new() },
        }
    }

    /// How it is doing.
    pub fn condition(&self, now: Instant) -> Condition {
        match &self.state {
            State::Closed { .. } => Condition::Closed,
            State::Open { until } if *until > now => Condition::Open(*until - now),
            State::Open { .. } | State::Trying { .. } => Condition::HalfOpen,
        }
    }

    /// How many attempts may begin now, or when one may.
    pub fn room(&self, now: Instant) -> Result<usize, Duration> {
        match &self.state {
            State::Closed { .. } => Ok(usize::MAX),
            State::Open { until } | State::Trying { until, .. } if *until > now => Err(*until - now),
            State::Open { .. } | State::Trying { .. } => Ok(1),
        }
    }

    /// An attempt begins, if one may.
    pub fn begin(&mut self, now: Instant) -> Result<Leave, Duration> {
        self.room(now)?;
        let trial = match &self.state {
            State::Closed { .. } => return Ok(Leave { trial: None }),
            State::Open { .. } => 0,
            State::Trying { trial, .. } => trial.wrapping_add(1),
        };
        self.state = State::Trying { trial, until: now + self.open };
        Ok(Leave { trial: Some(trial) })
    }

    /// An attempt ended. What began before the breaker opened says nothing new.
    pub fn end(&mut self, leave: Leave, is_good: bool, now: Instant) {
        match (&mut self.state, leave.trial) {
            (State::Closed { failures }, None) if is_good => {
                failures.pop_front();
            }
            (State::Closed { failures }, None) => {
                failures.push_back(now);
                while failures.front().is_some_and(|at| now.duration_since(*at) > self.within) {
                    failures.pop_front();
                }
                if failures.len() >= self.failures_max {
                    self.state = State::Open { until: now + self.open };
                }
            }
            (State::Trying { trial, .. }, Some(ours)) if *trial == ours => {
                self.state = if is_good {
                    State::Closed { failures: VecDeque::new() }
                } else {
                    State::Open { until: now + self.open }
                };
            }
            _ => {}
        }
    }

    /// An attempt did not take place after all.
    pub fn cancel(&mut self, leave: Leave, now: Instant) {
        if let (State::Trying { trial, .. }, Some(ours)) = (&self.state, leave.trial)
            && *trial == ours
        {
            self.state = State::Open { until: now };
        }
    }

    /// Whether there is nothing to remember: it has not failed for long, or nobody has asked for it since
    /// it could be tried again.
    pub fn is_new(&self, now: Instant) -> bool {
        match &self.state {
            State::Closed { failures } => {
                failures.back().is_none_or(|at| now.duration_since(*at) > self.within)
            }
            State::Open { until } | State::Trying { until, .. } => now > *until + self.within,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::settings::tests::settings;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(breaker: &mut Breaker, now: Instant) {
        let leave = breaker.begin(now).unwrap();
        breaker.end(leave, false, now);
    }

    fn open(start: Instant) -> Breaker {
        let mut breaker = Breaker::new(&settings());
        (0..10).for_each(|_| fail(&mut breaker, start));
        assert_eq!(breaker.condition(start), Condition::Open(60 * SECOND));
        breaker
    }

    #[test]
    fn ten_failures_in_a_minute_open_it_and_one_success_closes_it() {
        let start = Instant::now();
        let mut breaker = open(start);
        assert_eq!(breaker.begin(start + 59 * SECOND), Err(SECOND));
        let later = start + 60 * SECOND;
        assert_eq!((breaker.condition(later), breaker.room(later)), (Condition::HalfOpen, Ok(1)));
        let leave = breaker.begin(later).unwrap();
        assert_eq!(breaker.begin(later), Err(60 * SECOND));
        breaker.end(leave, true, later);
        assert_eq!((breaker.condition(later), breaker.is_new(later)), (Condition::Closed, true));
    }

    #[test]
    fn a_trial_that_fails_opens_it_again() {
        let start = Instant::now();
        let mut breaker = open(start);
        let later = start + 61 * SECOND;
        let leave = breaker.begin(later).unwrap();
        breaker.end(leave, false, later + 5 * SECOND);
        assert_eq!(breaker.condition(later + 5 * SECOND), Condition::Open(60 * SECOND));
    }

    #[test]
    fn failures_far_apart_and_forgiven_ones_do_not_open_it() {
        let start = Instant::now();
        let mut breaker = Breaker::new(&settings());
        (0..100).for_each(|n| fail(&mut breaker, start + n * 7 * SECOND));
        assert_eq!(breaker.condition(start + 700 * SECOND), Condition::Closed);
        let mut breaker = Breaker::new(&settings());
        for _ in 0..100 {
            fail(&mut breaker, start);
            let leave = breaker.begin(start).unwrap();
            breaker.end(leave, true, start);
        }
        assert_eq!(breaker.condition(start), Condition::Closed);
    }

    #[test]
    fn what_began_before_says_nothing() {
        let start = Instant::now();
        let mut breaker = Breaker::new(&settings());
        let old = breaker.begin(start).unwrap();
        (0..10).for_each(|_| fail(&mut breaker, start));
        breaker.end(old, true, start);
        assert!(matches!(breaker.condition(start), Condition::Open(_)));
        let later = start + 60 * SECOND;
        breaker.begin(later).unwrap();
        breaker.end(old, true, later);
        breaker.end(old, false, later);
        assert_eq!(breaker.condition(later), Condition::HalfOpen);
    }

    #[test]
    fn a_trial_that_is_lost_or_called_off_is_followed_by_another() {
        let start = Instant::now();
        let mut breaker = open(start);
        let later = start + 60 * SECOND;
        let lost = breaker.begin(later).unwrap();
        let much_later = later + 60 * SECOND;
        let leave = breaker.begin(much_later).unwrap();
        breaker.end(lost, false, much_later);
        breaker.cancel(lost, much_later);
        assert_eq!(breaker.room(much_later), Err(60 * SECOND));
        breaker.cancel(leave, much_later);
        assert_eq!(breaker.room(much_later), Ok(1));
    }

    proptest! {
        #[test]
        fn it_never_stays_open_and_never_remembers_more_than_the_limit(
            steps in prop::collection::vec((0_u64..30, any::<bool>()), 0..200),
        ) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(&settings());
            for (seconds, is_good) in steps {
                now += Duration::from_secs(seconds);
                if let Ok(leave) = breaker.begin(now) {
                    breaker.end(leave, is_good, now);
                }
                if let State::Closed { failures } = &breaker.state {
                    prop_assert!(failures.len() < 10);
                }
                prop_assert!(breaker.room(now).err().is_none_or(|wait| wait <= 60 * SECOND));
                prop_assert!(breaker.room(now + 60 * SECOND).is_ok());
            }
        }
    }
}

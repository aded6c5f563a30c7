//! What follows from how an attempt ended. Pure.
//!
//! Only what a provider said of this message counts towards the end of the message; a provider that
//! cannot be talked to says nothing of it, so there the message's expiry is the end. It is the only end
//! of what is major or worse, too: a mail server that says "later" for an hour must not lose it. What may
//! have arrived is sent again only where a second copy is recognised, or does less harm than none, and
//! not for ever: a provider that takes everything and says nothing would deliver each copy. What a process
//! that died may have sent has no such bound; no provider is to blame.

use std::time::Duration;

use super::settings::Settings;
use crate::channel::{Answer, Bounce};
use crate::event::Severity;
use crate::status::{Outcome, Status};

/// What is critical waits no longer than this.
const CRITICAL_CAP: Duration = Duration::from_secs(60);
/// However long a provider wants to be left alone: after this share of the time that is left, it is asked
/// once more.
const LAST_CHANCE: f64 = 0.9;

/// Where a message stood when the attempt began, this attempt included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// Attempts.
    pub attempts: i32,
    /// Those that were answered with "later" before this one.
    pub failures: i32,
    /// Those that may have arrived before this one.
    pub ambiguous: i32,
    /// Whether what may have arrived is sent again.
    pub is_resent: bool,
    /// Whether it ended with the process that made it, so that the provider is not to blame.
    pub is_lost: bool,
    /// How bad it is.
    pub severity: Severity,
    /// Until it is not worth telling any more.
    pub left: Duration,
}

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Where it stands now.
    pub status: Status,
    /// Attempts that were answered with "later".
    pub failures: i32,
    /// Attempts that may have arrived.
    pub ambiguous: i32,
    /// With [`Status::Pending`]: until the next attempt.
    pub wait: Duration,
    /// What is to be remembered of the address.
    pub bounce: Option<Bounce>,
}

/// What follows. `random` is anywhere in the range of its type.
pub fn verdict(settings: &Settings, tried: Tried, answer: &Answer, random: u64) -> Verdict {
    let Tried { attempts, failures, ambiguous, is_resent, is_lost, severity, left } = tried;
    let ends = |status| Verdict { status, failures, ambiguous, wait: Duration::ZERO, bounce: None };
    let cap = cap(settings, severity == Severity::Critical);
    let wait = |power: i32| wait(settings.base, cap, power, left, answer.after, random);
    let failures_max = if severity < Severity::Major { settings.attempts_max } else { i32::MAX };
    match answer.outcome {
        Outcome::Accepted => ends(Status::Sent),
        Outcome::Permanent => Verdict { bounce: answer.bounce, ..ends(Status::Dead) },
        Outcome::Unavailable => again(ends(Status::Expired), wait(attempts.saturating_sub(1))),
        Outcome::Transient => {
            let failed = Verdict { failures: failures.saturating_add(1), ..ends(Status::Expired) };
            fails(failures_max, failed, wait(failures))
        }
        // What is still under way has no end; whoever asks has lost sight of it.
        Outcome::Ambiguous | Outcome::Started => {
            let ambiguous = ambiguous.saturating_add(1);
            let is_too_often = ambiguous >= settings.ambiguous_max && !is_lost;
            if !is_resent || is_too_often {
                return Verdict { ambiguous, ..ends(Status::Ambiguous) };
            }
            let failures = failures.saturating_add(1);
            let failed = Verdict { failures, ambiguous, ..ends(Status::Expired) };
            fails(failures_max, failed, wait(failures - 1))
        }
    }
}

/// How long a message waits whose turn is so far away, while others are under way to its host: as long as
/// another attempt may be away, and once more before the end.
pub fn away(settings: &Settings, is_critical: bool, turn: Duration, left: Duration) -> Duration {
    turn.min(cap(settings, is_critical)).min(left.mul_f64(LAST_CHANCE))
}

fn cap(settings: &Settings, is_critical: bool) -> Duration {
    if is_critical { settings.cap.min(CRITICAL_CAP) } else { settings.cap }
}

fn fails(failures_max: i32, failed: Verdict, wait: Option<Duration>) -> Verdict {
    if failed.failures >= failures_max {
        return Verdict { status: Status::Dead, ..failed };
    }
    again(failed, wait)
}

/// Another attempt after this wait, or the end that is given.
fn again(end: Verdict, wait: Option<Duration>) -> Verdict {
    match wait {
        Some(wait) => Verdict { status: Status::Pending, wait, ..end },
        None => end,
    }
}

/// Anything up to base · 2^power, the cap and what is left, so that those who failed together do not
/// come back together; not before what the provider asked for, but once more before the end. `None`: it is
/// too late.
fn wait(
    base: Duration,
    cap: Duration,
    power: i32,
    left: Duration,
    after: Option<Duration>,
    random: u64,
) -> Option<Duration> {
    let factor = 1_u32 << power.clamp(0, 20);
    let longest = base.saturating_mul(factor).min(cap).min(left);
    // 53 bits are all that a float tells apart; below 1, so that the wait ends before what is left.
    let wait = longest.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64);
    let wait = wait.max(after.unwrap_or_default().min(left.mul_f64(LAST_CHANCE)));
    (wait < left).then_some(wait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::settings::tests::settings;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const HALF: u64 = 1 << 63;

    fn first() -> Tried {
        let severity = Severity::Info;
        Tried {
            attempts: 1,
            failures: 0,
            ambiguous: 0,
            is_resent: true,
            is_lost: false,
            severity,
            left: HOUR,
        }
    }

    fn answer(outcome: Outcome) -> Answer {
        Answer::new(outcome, "x", "")
    }

    #[test]
    fn what_follows_from_an_end() {
        let late = Tried { attempts: 20, failures: 11, ..first() };
        let once = Tried { is_resent: false, ..first() };
        let major = Tried { severity: Severity::Major, ..late };
        let critical = Tried { severity: Severity::Critical, ..late };
        let silent = Tried { ambiguous: 2, ..first() };
        let over = Tried { left: Duration::ZERO, ..first() };
        for (tried, outcome, status, failures, ambiguous, wait_ms) in [
            (first(), Outcome::Accepted, Status::Sent, 0, 0, 0),
            (over, Outcome::Accepted, Status::Sent, 0, 0, 0),
            (first(), Outcome::Transient, Status::Pending, 1, 0, 1_000),
            (Tried { failures: 3, ..first() }, Outcome::Transient, Status::Pending, 4, 0, 8_000),
            (late, Outcome::Transient, Status::Dead, 12, 0, 0),
            (over, Outcome::Transient, Status::Expired, 1, 0, 0),
            (major, Outcome::Transient, Status::Pending, 12, 0, 450_000),
            (critical, Outcome::Transient, Status::Pending, 12, 0, 30_000),
            (critical, Outcome::Unavailable, Status::Pending, 11, 0, 30_000),
            (first(), Outcome::Unavailable, Status::Pending, 0, 0, 1_000),
            // Attempts lengthen the wait, but are not the end.
            (late, Outcome::Unavailable, Status::Pending, 11, 0, 450_000),
            (over, Outcome::Unavailable, Status::Expired, 0, 0, 0),
            (first(), Outcome::Permanent, Status::Dead, 0, 0, 0),
            (first(), Outcome::Ambiguous, Status::Pending, 1, 1, 1_000),
            (late, Outcome::Ambiguous, Status::Dead, 12, 1, 0),
            (over, Outcome::Ambiguous, Status::Expired, 1, 1, 0),
            (once, Outcome::Ambiguous, Status::Ambiguous, 0, 1, 0),
            (silent, Outcome::Ambiguous, Status::Ambiguous, 0, 3, 0),
            (Tried { is_lost: true, ..silent }, Outcome::Ambiguous, Status::Pending, 1, 3, 1_000),
            (once, Outcome::Started, Status::Ambiguous, 0, 1, 0),
        ] {
            let wait = Duration::from_millis(wait_ms);
            let expected = Verdict { status, failures, ambiguous, wait, bounce: None };
            assert_eq!(verdict(&settings(), tried, &answer(outcome), HALF), expected, "{tried:?} {outcome}");
        }
    }

    #[test]
    fn a_provider_can_ask_for_a_pause() {
        let later = |after| Answer { after: Some(after), ..answer(Outcome::Transient) };
        let minute = Duration::from_secs(60);
        assert_eq!(verdict(&settings(), first(), &later(minute), 0).wait, minute);
        // By then nobody wants to know.
        assert_eq!(verdict(&settings(), first(), &later(HOUR), 0).wait, 54 * minute);
        let tried = Tried { failures: 11, ..first() };
        assert_eq!(verdict(&settings(), tried, &later(HOUR), 0).status, Status::Dead);
    }

    #[test]
    fn only_a_refusal_is_held_against_the_address() {
        for outcome in Outcome::ALL.iter().copied() {
            let gone = Answer { bounce: Some(Bounce::Gone), ..answer(outcome) };
            let bounce = verdict(&settings(), first(), &gone, 0).bounce;
            assert_eq!(bounce.is_some(), outcome == Outcome::Permanent, "{outcome}");
        }
    }

    proptest! {
        #[test]
        fn a_message_ends(
            outcomes in prop::collection::vec((0..Outcome::ALL.len(), any::<u64>()), 200),
            is_resent in any::<bool>(),
        ) {
            let mut left = HOUR;
            let mut tried = Tried { is_resent, ..first() };
            for (outcome, random) in outcomes {
                let outcome = Outcome::ALL[outcome];
                let next = verdict(&settings(), Tried { left, ..tried }, &answer(outcome), random);
                prop_assert!(next.failures <= 12 && next.status != Status::Sending);
                if next.status != Status::Pending {
                    prop_assert_eq!(next.wait, Duration::ZERO);
                    return Ok(());
                }
                prop_assert!(next.wait < left && next.wait <= settings().cap);
                left -= next.wait;
                let Verdict { failures, ambiguous, .. } = next;
                tried = Tried { attempts: tried.attempts + 1, failures, ambiguous, ..tried };
            }
        }
    }
}

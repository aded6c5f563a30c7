//! Which faults come: drawn from a seed, without end. The same seed brings the same faults in the same
//! order, on every machine; what one does not permit is passed over there. When each happens, and what is
//! under way then, the machine decides.

use std::time::Duration;

use latchline_shared::kit::testing::Random;

use crate::chaos::trial::Trial;
use crate::checker::fault::Fault;
use crate::checker::ledger::Part;

/// Shorter than that, what others need may not be missed.
const AWAY_MIN_MS: u64 = 3_000;
const AWAY_MAX_MS: u64 = 8_000;
/// Longer than a session of a Kafka group, which is ten seconds here.
const PAUSE_MAX_MS: u64 = 13_000;

const PROGRAMS: [Part; 4] = [Part::Broker, Part::Auditor, Part::Monitor, Part::Notifier];
/// What can be killed and paused.
const PROCESSES: [Part; 6] =
    [Part::Broker, Part::Auditor, Part::Monitor, Part::Notifier, Part::Kafka, Part::Postgres];
/// What others need.
const NEEDED: [Part; 3] = [Part::Kafka, Part::Postgres, Part::Mail];

/// Who has data on a disk of its own.
const STORES: [Part; 2] = [Part::Kafka, Part::Postgres];
/// Whose clocks can be stepped (`stack::clocks` says why not the broker's).
const CLOCKS: [Part; 3] = [Part::Auditor, Part::Monitor, Part::Notifier];
/// Within what signers' and readers' clocks may differ by (30 s) nothing may change at all.
const STEP_MAX_S: u64 = 20;
/// Answers say the second: what is less may not be seen.
const STEP_MIN_S: u64 = 4;

/// What this machine permits beside kills, stops and pauses.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// Disks can be filled up.
    pub disks: bool,
    /// Clocks can be stepped.
    pub clocks: bool,
}

/// The faults of a run.
#[derive(Debug)]
pub struct Schedule {
    random: Random,
}

impl Schedule {
    /// Drawn from here.
    pub fn new(random: Random) -> Self {
        Self { random }
    }

    fn trial(&mut self) -> Trial {
        match self.random.below(14) {
            0..3 => Trial::Alone(Fault::Killed(*self.random.choose(&PROCESSES))),
            3..5 => Trial::Alone(self.pause()),
            5..7 => Trial::Alone(self.absence()),
            7..9 => Trial::Alone(self.full_disk()),
            9..11 => Trial::Alone(self.step()),
            _ => {
                let outer = match self.random.chance(30) {
                    true => self.full_disk(),
                    false => self.absence_of_needed(),
                };
                let after = self.between(0, u64::try_from(outer.lasts().as_millis()).unwrap_or(u64::MAX));
                Trial::While(outer, after, Fault::Killed(*self.random.choose(&PROGRAMS)))
            }
        }
    }

    fn full_disk(&mut self) -> Fault {
        Fault::Full(*self.random.choose(&STORES), self.between(AWAY_MIN_MS, AWAY_MAX_MS))
    }

    fn step(&mut self) -> Fault {
        let part = *self.random.choose(&CLOCKS);
        let seconds = (STEP_MIN_S + self.random.below(STEP_MAX_S - STEP_MIN_S + 1)) as i64;
        let seconds = if self.random.chance(50) { seconds } else { -seconds };
        Fault::Stepped(part, seconds, self.between(AWAY_MIN_MS, AWAY_MAX_MS))
    }

    fn pause(&mut self) -> Fault {
        Fault::Paused(*self.random.choose(&PROCESSES), self.between(1_000, PAUSE_MAX_MS))
    }

    fn absence(&mut self) -> Fault {
        if self.random.chance(60) {
            return self.absence_of_needed();
        }
        Fault::Stopped(*self.random.choose(&PROGRAMS), self.between(AWAY_MIN_MS, AWAY_MAX_MS))
    }

    fn absence_of_needed(&mut self) -> Fault {
        Fault::Stopped(*self.random.choose(&NEEDED), self.between(AWAY_MIN_MS, AWAY_MAX_MS))
    }

    fn between(&mut self, min_ms: u64, max_ms: u64) -> Duration {
        Duration::from_millis(min_ms + self.random.below(max_ms - min_ms + 1))
    }
}

impl Iterator for Schedule {
    type Item = Trial;

    fn next(&mut self) -> Option<Trial> {
        Some(self.trial())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use latchline_shared::kit::testing::Seed;

    use super::*;

    fn drawn(seed: u64) -> Vec<Trial> {
        Schedule::new(Random::new(Seed(seed))).take(1_000).collect()
    }

    #[test]
    fn a_seed_brings_the_same_again_and_another_something_else() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn everybody_is_struck_in_every_way_that_the_machine_permits() {
        for (disks, clocks, full, stepped) in [(true, true, 2, 3), (true, false, 2, 0), (false, false, 0, 0)]
        {
            let means = Means { disks, clocks };
            let mut trials = drawn(3);
            trials.retain(|trial| trial.is_possible(means));
            let seen = ways(&trials);
            let of_way = |way| seen.iter().filter(|(other, _)| *other == way).count();
            let counts = ["killed", "stopped", "paused", "full", "stepped"].map(of_way);
            assert_eq!(counts, [6, 7, 6, full, stepped], "{means:?}: {seen:?}");
        }
    }

    fn ways(trials: &[Trial]) -> BTreeSet<(&'static str, Part)> {
        let mut seen = BTreeSet::new();
        for trial in trials {
            let faults = match *trial {
                Trial::Alone(fault) => vec![fault],
                Trial::While(outer, after, inner) => {
                    assert_ne!(outer.part(), inner.part(), "{trial:?}");
                    assert!(after <= outer.lasts(), "{trial:?}");
                    vec![outer, inner]
                }
            };
            seen.extend(faults.iter().map(|fault| match fault {
                Fault::Killed(part) => ("killed", *part),
                Fault::Stopped(part, _) => ("stopped", *part),
                Fault::Paused(part, _) => ("paused", *part),
                Fault::Full(part, _) => ("full", *part),
                Fault::Stepped(part, ..) => ("stepped", *part),
            }));
        }
        seen
    }
}

//! Which faults come: drawn from a seed, without end. The same seed brings the same faults in the same
//! order; when each happens, and what is under way then, the machine decides.

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
    means: Means,
}

impl Schedule {
    /// Drawn from here.
    pub fn new(random: Random, means: Means) -> Self {
        Self { random, means }
    }

    fn trial(&mut self) -> Trial {
        match self.random.below(14) {
            0..3 => Trial::Alone(Fault::Killed(*self.random.choose(&PROCESSES))),
            3..5 => Trial::Alone(self.pause()),
            5..7 => Trial::Alone(self.absence()),
            7..9 if self.means.disks => Trial::Alone(self.full_disk()),
            9..11 if self.means.clocks => Trial::Alone(self.step()),
            _ => {
                let outer = match self.random.chance(30) && self.means.disks {
                    true => self.full_disk(),
                    false => self.absence_of_needed(),
                };
                Trial::While(outer, Fault::Killed(*self.random.choose(&PROGRAMS)))
            }
        }
    }

    fn full_disk(&mut self) -> Fault {
        Fault::Full(*self.random.choose(&STORES), self.between(AWAY_MIN_MS, AWAY_MAX_MS))
    }

    fn step(&mut self) -> Fault {
        let part = *self.random.choose(&CLOCKS);
        let seconds = 1 + self.random.below(STEP_MAX_S) as i64;
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

    const ALL: Means = Means { disks: true, clocks: true };

    fn drawn(seed: u64, means: Means) -> Vec<Trial> {
        Schedule::new(Random::new(Seed(seed)), means).take(1_000).collect()
    }

    #[test]
    fn a_seed_brings_the_same_again_and_another_something_else() {
        assert_eq!(drawn(1, ALL), drawn(1, ALL));
        assert_ne!(drawn(1, ALL), drawn(2, ALL));
    }

    #[test]
    fn everybody_is_struck_in_every_way_that_there_is() {
        for (means, full, stepped) in [(ALL, 2, 3), (Means { disks: false, clocks: false }, 0, 0)] {
            let seen = ways(&drawn(3, means));
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
                Trial::While(outer, inner) => {
                    assert_ne!(outer.part(), inner.part(), "{trial:?}");
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

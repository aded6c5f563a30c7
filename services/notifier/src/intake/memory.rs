//! Processes whose result was seen, so that heartbeats that repeat one cost no statement.
//!
//! A bounded set of keyed hashes in two generations: when the young one is full, it becomes the old
//! one, and what was not asked for since is forgotten. What is forgotten is asked of Postgres once more.
//! The key is random, so nobody can make up a process that hides another lock's result.
//!
//! Invariant: what is known here is in Postgres. What a transaction writes is told to it when that is
//! committed.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Most processes of one generation: as many locks have a lane to themselves, with 9 bytes each.
pub(super) const GENERATION_MAX: usize = 200_000;

/// See the file.
#[derive(Debug, Default)]
pub(super) struct Memory {
    random: RandomState,
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Memory {
    /// What a process of a lock is known by.
    pub(super) fn key(&self, lock: &str, process_id: &str) -> u64 {
        self.random.hash_one((lock, process_id))
    }

    /// Whether it is known. What is asked for stays.
    pub(super) fn knows(&mut self, key: u64) -> bool {
        if self.young.contains(&key) {
            return true;
        }
        let knows = self.old.contains(&key);
        if knows {
            self.learn(key);
        }
        knows
    }

    /// It is in Postgres.
    pub(super) fn learn(&mut self, key: u64) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key);
    }

    /// How many are known, at most.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_of_one_lock() {
        let mut memory = Memory::default();
        let key = memory.key("1", "7");
        memory.learn(key);
        assert!(memory.knows(memory.key("1", "7")));
        for (lock, process_id) in [("1", "8"), ("2", "7"), ("17", ""), ("", "17")] {
            let key = memory.key(lock, process_id);
            assert!(!memory.knows(key), "{lock} {process_id}");
        }
        let other = Memory::default();
        assert_ne!(other.key("1", "7"), key, "nobody can know the hash");
    }

    #[test]
    fn it_is_bounded_and_what_is_asked_for_stays() {
        let mut memory = Memory::default();
        let key = memory.key("1", "7");
        memory.learn(key);
        for n in 0..5 * GENERATION_MAX as u64 {
            memory.learn(n);
            if n % 100_000 == 0 {
                assert!(memory.knows(key), "{n}");
            }
        }
        assert!(memory.len() <= 2 * GENERATION_MAX && memory.len() > GENERATION_MAX / 2);
        assert!(!memory.knows(0), "nobody has asked");
        assert!(memory.knows(5 * GENERATION_MAX as u64 - 1));
    }
}

//! Stand-ins for a mail server, an SMS gateway and a webhook's receiver: they count, and misbehave as told.
//!
//! On real sockets, for the tests of this crate, the end-to-end tests and the demonstration. Each can
//! be stopped, which cuts its connections, and started again on the same port; what it has seen stays.
//!
//! Invariant: memory is bounded. The newest `keep_max` messages or requests are kept, fewer if they are
//! long ([`BYTES_EACH`]); all are counted.

mod port;

pub mod http;
pub mod smtp;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// As many bytes are kept as if every message or request had so many.
const BYTES_EACH: usize = 16 * 1024;

/// The newest `keep_max`, and how many there were.
///
/// Invariant: `bytes` is the sum of what is kept; it is at most `keep_max` times [`BYTES_EACH`], or
/// there is only one, the newest.
#[derive(Debug)]
pub struct Kept<T> {
    newest: VecDeque<(usize, T)>,
    bytes: usize,
    keep_max: usize,
    count: u64,
}

impl<T: Clone> Kept<T> {
    /// None yet.
    pub fn new(keep_max: usize) -> Self {
        Self { newest: VecDeque::new(), bytes: 0, keep_max, count: 0 }
    }

    /// Keeps one of so many bytes.
    pub fn push(&mut self, one: T, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
        self.newest.push_back((bytes, one));
        let bytes_max = self.keep_max.saturating_mul(BYTES_EACH);
        while self.newest.len() > self.keep_max || (self.newest.len() > 1 && self.bytes > bytes_max) {
            self.bytes -= self.newest.pop_front().map_or(0, |(bytes, _)| bytes);
        }
    }

    /// How many there ever were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All that are kept, the oldest first.
    pub fn all(&self) -> Vec<T> {
        self.newest.iter().map(|(_, one)| one.clone()).collect()
    }

    /// At most `limit` of them, the newest first. They are numbered from 1 in the order in which they
    /// came; those from number `before` on are left out.
    pub fn before(&self, before: u64, limit: usize) -> Vec<T> {
        let skip = self.count.saturating_sub(before.saturating_sub(1));
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.newest.iter().rev().skip(skip).take(limit).map(|(_, one)| one.clone()).collect()
    }
}

/// What a task that panicked has left is still a count.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let mut kept = Kept::new(3);
        for (one, bytes, expected) in [
            (1, 1, vec![1]),
            (2, 1, vec![1, 2]),
            (3, 1, vec![1, 2, 3]),
            (4, 1, vec![2, 3, 4]),
            (5, 3 * BYTES_EACH - 1, vec![4, 5]),
            (6, 2, vec![6]),
            (7, 100 * BYTES_EACH, vec![7]),
            (8, 0, vec![8]),
        ] {
            kept.push(one, bytes);
            assert_eq!(kept.all(), expected);
        }
        assert_eq!((kept.count(), kept.bytes), (8, 0));
    }

    #[test]
    fn a_part_is_asked_for_by_number() {
        let mut kept = Kept::new(3);
        assert_eq!(kept.before(u64::MAX, 10), Vec::<u64>::new());
        (1..=5).for_each(|number| kept.push(number, 1));
        for (before, limit, expected) in [
            (u64::MAX, 10, vec![5, 4, 3]),
            (6, 2, vec![5, 4]),
            (5, 10, vec![4, 3]),
            (4, 1, vec![3]),
            (3, 10, vec![]),
            (0, 10, vec![]),
            (6, 0, vec![]),
        ] {
            assert_eq!(kept.before(before, limit), expected, "{limit} before {before}");
        }
    }
}

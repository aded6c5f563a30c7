//! Stand-ins for a mail server, an SMS gateway and a webhook's receiver: they count, and misbehave as told.
//!
//! On real sockets, for the tests of this crate, the end-to-end tests and the demonstration. Each can
//! be stopped, which cuts its connections, and started again on the same port; what it has seen stays.
//!
//! Invariant: memory is bounded. The newest `keep_max` messages or requests are kept, all are counted.

mod port;

pub mod http;
pub mod smtp;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The newest `keep_max`, and how many there were.
#[derive(Debug)]
struct Kept<T> {
    newest: VecDeque<T>,
    keep_max: usize,
    count: u64,
}

impl<T: Clone> Kept<T> {
    fn new(keep_max: usize) -> Self {
        Self { newest: VecDeque::new(), keep_max, count: 0 }
    }

    fn push(&mut self, one: T) {
        self.count += 1;
        self.newest.push_back(one);
        if self.newest.len() > self.keep_max {
            self.newest.pop_front();
        }
    }

    fn all(&self) -> Vec<T> {
        self.newest.iter().cloned().collect()
    }
}

/// What a task that panicked has left is still a count.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A bound in bytes on what is in flight, shared by all connections.
//!
//! A [`Budget`] never refuses a byte that has already been read (that would lose it); it tells the
//! reader to pause. So the bound may be exceeded by at most one message per connection.
//!
//! Invariant: `used` is the sum of the bytes of all living permits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// A number of bytes that may be in flight at once.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, used: AtomicUsize::new(0), waiting: Mutex::default() })
    }

    /// Takes `bytes`, whether or not they fit; they return when the permit is dropped.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Permit {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Permit { budget: Arc::clone(self), bytes }
    }

    /// Bytes in flight.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// The bound in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Whether nothing more should be read.
    pub fn is_exhausted(&self) -> bool {
        self.used() >= self.bytes_max
    }

    /// Ready when there is room again.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_exhausted() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        waiting.push(cx.waker().clone());
        // Room may have come between the look and the registration; a release after this look
        // finds the waker.
        if self.is_exhausted() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.bytes_max && before - bytes < self.bytes_max {
            let waiting =
                std::mem::take(&mut *self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            for waker in waiting {
                waker.wake();
            }
        }
    }
}

/// Bytes taken from a [`Budget`] until dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Permit {
    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_returns_when_permits_are_dropped() {
        let budget = Budget::new(10);
        let cx = &mut Context::from_waker(Waker::noop());
        let first = budget.take(6);
        assert!(budget.poll_room(cx).is_ready());
        let second = budget.take(6);
        assert_eq!(budget.used(), 12);
        assert!(budget.poll_room(cx).is_pending());
        drop(second);
        assert!(budget.poll_room(cx).is_ready());
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}

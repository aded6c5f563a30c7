//! A bound in bytes on what is in flight, shared by all connections.
//!
//! A [`Budget`] never refuses a byte that has already been read (that would lose it); it tells the
//! reader to pause. So the bound may be exceeded by at most one message per connection.
//!
//! Invariant: `used` is the sum of the bytes of all living permits.
//! Invariant: `waiting` has at most one waker for each living [`Place`]. A waker keeps its task's
//! memory, and in a long outage clients come and go by the thousand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// A number of bytes that may be in flight at once.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    wakers: BTreeMap<u64, Waker>,
    last_place: u64,
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

    /// A place for somebody who will wait for room.
    pub fn place(self: &Arc<Self>) -> Place {
        Place { budget: Arc::clone(self), number: None }
    }

    fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.bytes_max && before - bytes < self.bytes_max {
            let wakers = std::mem::take(&mut self.waiting().wakers);
            for waker in wakers.into_values() {
                waker.wake();
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Where one task waits for room in a [`Budget`].
#[derive(Debug)]
pub struct Place {
    budget: Arc<Budget>,
    /// None until it has waited.
    number: Option<u64>,
}

impl Place {
    /// Ready when there is room.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.budget.is_exhausted() {
            return Poll::Ready(());
        }
        let mut waiting = self.budget.waiting();
        let number = *self.number.get_or_insert_with(|| {
            waiting.last_place += 1;
            waiting.last_place
        });
        waiting.wakers.insert(number, cx.waker().clone());
        // Room may have come between the look and the registration; a release after this look
        // finds the waker.
        if self.budget.is_exhausted() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // Dropped when the lock is not held any more: it may be the last of its task.
            let _waker = self.budget.waiting().wakers.remove(&number);
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
    use std::task::Wake;

    use super::*;

    #[test]
    fn room_returns_when_permits_are_dropped() {
        let budget = Budget::new(10);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut place = budget.place();
        let first = budget.take(6);
        assert!(place.poll_room(cx).is_ready());
        let second = budget.take(6);
        assert_eq!(budget.used(), 12);
        assert!(place.poll_room(cx).is_pending());
        drop(second);
        assert!(place.poll_room(cx).is_ready());
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_waits_is_woken_once_and_forgotten_when_gone() {
        #[derive(Default)]
        struct Count(AtomicUsize);

        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        let budget = Budget::new(10);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        let all = budget.take(10);
        let mut patient = budget.place();
        for _ in 0..100 {
            assert!(patient.poll_room(cx).is_pending());
            assert!(budget.place().poll_room(cx).is_pending());
        }
        assert_eq!(budget.waiting().wakers.len(), 1);
        drop(all);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        drop(patient);
        assert_eq!(Arc::strong_count(&count), 2, "a waker is left behind");
    }
}

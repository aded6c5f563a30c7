//! Where publishers wait for room in a [`Mailbox`].

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Inner, Mailbox, Pushed, enqueue};
use crate::session::delivery::Delivery;

/// Where a publisher waits for room in a [`Mailbox`]. Its turn is passed over when it is dropped.
#[derive(Debug)]
pub struct Place {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) number: u64,
}

impl Place {
    /// Whose room it is.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Ready when a push makes sense: it is its turn and there is room, or waiting is over.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.mailbox.lock();
        if self.number > inner.called {
            // It may have been drained since the push that found no room.
            self.mailbox.look_for_room(&mut inner);
        }
        if self.is_over(&inner) || self.is_next(&inner) {
            return Poll::Ready(());
        }
        // Whoever has been called in vain, since others were large, is called again, and all behind it.
        inner.called = inner.called.min(self.number - 1);
        inner.waiting.insert(self.number, cx.waker().clone());
        Poll::Pending
    }

    /// Queues a delivery if it is its turn and there is room; then the place is free for others.
    pub fn push(&self, delivery: Delivery) -> Pushed {
        let mut inner = self.mailbox.lock();
        if !self.is_over(&inner) {
            if !self.is_next(&inner) {
                return Pushed::Full(delivery);
            }
            inner.waiting.remove(&self.number);
            enqueue(inner, delivery);
            return Pushed::Queued;
        }
        inner.waiting.remove(&self.number);
        drop(inner);
        self.mailbox.push(delivery)
    }

    fn is_over(&self, inner: &Inner) -> bool {
        inner.lagging || !self.mailbox.is_online()
    }

    fn is_next(&self, inner: &Inner) -> bool {
        self.number <= inner.called && self.mailbox.has_room(inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Dropped when the lock is not held any more: it may be the last of its task.
        let _waker = self.mailbox.lock().waiting.remove(&self.number);
    }
}

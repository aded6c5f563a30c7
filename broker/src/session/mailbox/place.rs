//! Where a publisher waits until its delivery is in the queue of a [`Mailbox`].

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Mailbox, enqueue, turn_away};

/// A delivery that waits. It is taken out when this is dropped.
#[derive(Debug)]
pub struct Place {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) number: u64,
}

impl Place {
    /// Ready when the delivery waits no more: it is in the queue, or was dropped and counted.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.mailbox.lock();
        let Some(waiting) = inner.waiting.get_mut(&self.number) else { return Poll::Ready(()) };
        waiting.publisher.clone_from(cx.waker());
        Poll::Pending
    }

    /// It has waited for long enough: nobody shall wait for this receiver any more until it has drained
    /// half of its queue. How many deliveries were dropped, with those of others.
    pub fn give_up(&self) -> usize {
        let mut inner = self.mailbox.lock();
        // Rooms are not given away at once when they become free.
        self.mailbox.let_in(&mut inner);
        if !inner.waiting.contains_key(&self.number) {
            return 0;
        }
        inner.lagging = true;
        turn_away(&mut inner)
    }

    /// For those who cannot wait: takes what room there is, before those who can. Whether the delivery
    /// is in the queue; if not, it is dropped.
    pub fn push_ahead(self) -> bool {
        let mut inner = self.mailbox.lock();
        let Some(waiting) = inner.waiting.remove(&self.number) else { return true };
        if !self.mailbox.has_room(&inner) {
            return false;
        }
        let receiver = enqueue(&mut inner, waiting.delivery);
        drop(inner);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        true
    }

    /// Takes the delivery back, unless there is room for it. Whether it was taken back.
    pub fn withdraw(self) -> bool {
        self.mailbox.let_in(&mut self.mailbox.lock());
        self.take_out()
    }

    fn take_out(&self) -> bool {
        // Dropped when the lock is not held any more: its waker may be the last of its task.
        let waiting = self.mailbox.lock().waiting.remove(&self.number);
        waiting.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.take_out();
    }
}

//! The one part of a session that others touch: the queue of messages for it, signals to the
//! connection that serves it, and the list of its subscriptions.
//!
//! A publisher's task pushes, the receiver's task pops; the session itself never leaves its
//! connection's task. While nobody is connected the same queue is the offline queue.
//!
//! A full queue is handled by who is there: without a connection the message is dropped and
//! counted; with one, the publisher is held back at a [`Place`] of its own. Once half of the queue has
//! been drained, as many are called as there is room for, in the order in which they came, and nobody
//! else is let in while anybody waits: else those who happen to be awake would take each room that
//! becomes free, and others would wait in vain. A receiver that makes no room in time is marked as
//! lagging and loses messages (counted) until it has drained half of its queue, so that one stuck
//! receiver cannot hold back everybody again and again.
//!
//! Invariant: `bytes` is the sum of the queued deliveries' bytes.
//! Ordering: deliveries are popped in the order in which they were pushed.

mod place;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytestring::ByteString;
use latchline_shared::message::Qos;

use super::delivery::Delivery;
use super::subscriptions::Subscriptions;
pub use place::Place;

/// Number of a session, unique in the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// Bounds of a queue; the lower one holds.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Deliveries.
    pub messages_max: usize,
    /// Bytes of topics, payloads and properties, with what a queued delivery takes beside them.
    pub bytes_max: usize,
}

/// What the connection of a session shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Let what is in flight be acknowledged, then disconnect: the server stops.
    Shutdown,
    /// Disconnect: an administrator wants it.
    Kick,
    /// Disconnect: another connection came with the same client id.
    Takeover,
}

/// What came of a push.
#[derive(Debug)]
pub enum Pushed {
    /// It is in the queue.
    Queued,
    /// It was dropped, for this cause (a metric's label).
    Dropped(&'static str),
    /// There is no room, or others wait for it, but the receiver is connected: wait at a [`Place`].
    Full(Delivery),
}

/// What the connection finds in its mailbox.
#[derive(Debug, PartialEq, Eq)]
pub enum Mail {
    /// A signal to act on.
    Signal(Signal),
    /// At least one delivery may be popped.
    Deliveries,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Mailbox {
    key: SessionKey,
    client_id: ByteString,
    limits: QueueLimits,
    online: AtomicBool,
    inner: Mutex<Inner>,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Delivery>,
    bytes: usize,
    lagging: bool,
    signal: Option<Signal>,
    receiver: Option<Waker>,
    /// Those who wait for room, by the number of their place.
    waiting: BTreeMap<u64, Waker>,
    /// Numbers up to this one are taken.
    last_place: u64,
    /// Places up to this one have been called, and may push.
    called: u64,
}

impl Mailbox {
    /// An empty mailbox without a connection.
    pub fn new(key: SessionKey, client_id: ByteString, limits: QueueLimits) -> Self {
        Self {
            key,
            client_id,
            limits,
            online: AtomicBool::new(false),
            inner: Mutex::default(),
            subscriptions: Mutex::default(),
        }
    }

    /// Number of the session.
    pub fn key(&self) -> SessionKey {
        self.key
    }

    /// Client id of the session.
    pub fn client_id(&self) -> &ByteString {
        &self.client_id
    }

    /// The session's subscriptions. Only its own connection changes them.
    pub fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether a connection serves the session.
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// Queued deliveries.
    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A connection takes the session.
    pub fn set_online(&self) {
        let mut inner = self.lock();
        inner.signal = None;
        inner.lagging = false;
        self.online.store(true, Ordering::Release);
    }

    /// The connection is gone. QoS 0 is not kept for later (MQTT 5, section 4.1); returns how many
    /// deliveries that were.
    pub fn set_offline(&self) -> usize {
        let mut inner = self.lock();
        self.online.store(false, Ordering::Release);
        inner.receiver = None;
        inner.lagging = false;
        let before = inner.queue.len();
        inner.queue.retain(|delivery| delivery.qos != Qos::AtMostOnce);
        let dropped = before - inner.queue.len();
        inner.bytes = inner.queue.iter().map(Delivery::bytes).sum();
        inner.queue.shrink_to_fit();
        call(&mut inner, usize::MAX);
        dropped
    }

    /// Queues a delivery if there is room, and nobody waits for it.
    pub fn push(&self, delivery: Delivery) -> Pushed {
        let inner = self.lock();
        let online = self.online.load(Ordering::Acquire);
        if !online && delivery.qos == Qos::AtMostOnce {
            return Pushed::Dropped("offline_qos0");
        }
        if self.is_open(&inner) {
            enqueue(inner, delivery);
            return Pushed::Queued;
        }
        match (online, delivery.qos) {
            (false, _) => Pushed::Dropped("offline_queue_full"),
            (true, Qos::AtMostOnce) => Pushed::Dropped("slow_receiver_qos0"),
            (true, _) if inner.lagging => Pushed::Dropped("slow_receiver"),
            (true, _) => Pushed::Full(delivery),
        }
    }

    /// Queues a delivery that found the queue [full](Pushed::Full) and whose publisher cannot wait: if
    /// there is room, before those who wait for it. Whether it was queued.
    pub fn push_ahead(&self, delivery: Delivery) -> bool {
        let inner = self.lock();
        let has_room = self.has_room(&inner) && !inner.lagging;
        if has_room {
            enqueue(inner, delivery);
        }
        has_room
    }

    /// A place at the end of those who wait for room.
    pub fn place(self: &Arc<Self>) -> Place {
        let mut inner = self.lock();
        inner.last_place += 1;
        let number = inner.last_place;
        // Nobody else is let in from now on.
        inner.waiting.insert(number, Waker::noop().clone());
        drop(inner);
        Place { mailbox: Arc::clone(self), number }
    }

    /// Nobody shall wait for this receiver any more until it has drained half of its queue.
    pub fn set_lagging(&self) {
        let mut inner = self.lock();
        inner.lagging = true;
        call(&mut inner, usize::MAX);
    }

    /// Takes the next delivery.
    pub fn pop(&self) -> Option<Delivery> {
        let mut inner = self.lock();
        let delivery = inner.queue.pop_front()?;
        inner.bytes -= delivery.bytes();
        if inner.queue.is_empty() {
            // An idle connection holds no buffer.
            inner.queue = VecDeque::new();
        }
        self.look_for_room(&mut inner);
        Some(delivery)
    }

    /// Ready with a signal, or, while `wants_deliveries`, when there is something to pop.
    pub fn poll_mail(&self, cx: &mut Context<'_>, wants_deliveries: bool) -> Poll<Mail> {
        let mut inner = self.lock();
        if let Some(signal) = inner.signal.take() {
            return Poll::Ready(Mail::Signal(signal));
        }
        if wants_deliveries && !inner.queue.is_empty() {
            return Poll::Ready(Mail::Deliveries);
        }
        match &mut inner.receiver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Tells the connection what to do; a stronger signal replaces a weaker one.
    pub fn signal(&self, signal: Signal) {
        let receiver = {
            let mut inner = self.lock();
            inner.signal = inner.signal.max(Some(signal));
            inner.receiver.take()
        };
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Once half is drained, calls those for whom there is room.
    fn look_for_room(&self, inner: &mut Inner) {
        let QueueLimits { messages_max, bytes_max } = self.limits;
        if inner.queue.len() <= messages_max / 2 && inner.bytes <= bytes_max / 2 {
            inner.lagging = false;
            // Those who have been called have not pushed yet.
            let called = inner.waiting.range(..=inner.called).count();
            call(inner, (messages_max - inner.queue.len()).saturating_sub(called));
        }
    }

    fn is_open(&self, inner: &Inner) -> bool {
        self.has_room(inner) && inner.waiting.is_empty() && !inner.lagging
    }

    fn has_room(&self, inner: &Inner) -> bool {
        inner.queue.len() < self.limits.messages_max && inner.bytes < self.limits.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn enqueue(mut inner: MutexGuard<'_, Inner>, delivery: Delivery) {
    inner.bytes += delivery.bytes();
    inner.queue.push_back(delivery);
    let receiver = if inner.queue.len() == 1 { inner.receiver.take() } else { None };
    drop(inner);
    if let Some(receiver) = receiver {
        receiver.wake();
    }
}

/// Calls the next of those who wait, once each.
fn call(inner: &mut Inner, count: usize) {
    for (&number, waker) in inner.waiting.range(inner.called + 1..).take(count) {
        inner.called = number;
        waker.wake_by_ref();
    }
}

//! The one part of a session that others touch: the queue of messages for it, signals to the
//! connection that serves it, and the list of its subscriptions.
//!
//! A publisher's task pushes, the receiver's task pops; the session itself never leaves its
//! connection's task. While nobody is connected the same queue is the offline queue.
//!
//! A full queue is handled by who is there: without a connection the message is dropped and
//! counted; with one, the publisher is held back until there is room. A receiver that makes no room
//! in time is marked as lagging and loses messages (counted) until it has drained half of its
//! queue, so that one stuck receiver cannot hold back everybody again and again.
//!
//! Invariant: `bytes` is the sum of the queued deliveries' bytes.
//! Ordering: deliveries are popped in the order in which they were pushed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytestring::ByteString;
use latchline_shared::message::Qos;

use super::delivery::Delivery;
use super::subscriptions::Subscriptions;

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
    /// There is no room, but the receiver is connected: wait for room and push again.
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
    publishers: Vec<Waker>,
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
        wake_all(&mut inner.publishers);
        dropped
    }

    /// Queues a delivery if there is room.
    pub fn push(&self, delivery: Delivery) -> Pushed {
        let mut inner = self.lock();
        let online = self.online.load(Ordering::Acquire);
        if !online && delivery.qos == Qos::AtMostOnce {
            return Pushed::Dropped("offline_qos0");
        }
        if self.has_room(&inner) {
            inner.bytes += delivery.bytes();
            inner.queue.push_back(delivery);
            let receiver = if inner.queue.len() == 1 { inner.receiver.take() } else { None };
            drop(inner);
            if let Some(receiver) = receiver {
                receiver.wake();
            }
            return Pushed::Queued;
        }
        match (online, delivery.qos) {
            (false, _) => Pushed::Dropped("offline_queue_full"),
            (true, Qos::AtMostOnce) => Pushed::Dropped("slow_receiver_qos0"),
            (true, _) if inner.lagging => Pushed::Dropped("slow_receiver"),
            (true, _) => Pushed::Full(delivery),
        }
    }

    /// Ready when a push makes sense again: there is room, or waiting for it is over.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if self.has_room(&inner) || inner.lagging || !self.is_online() {
            return Poll::Ready(());
        }
        // A publisher that pings all the while looks often.
        if !inner.publishers.last().is_some_and(|last| last.will_wake(cx.waker())) {
            inner.publishers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Nobody shall wait for this receiver any more until it has drained half of its queue.
    pub fn set_lagging(&self) {
        let mut inner = self.lock();
        inner.lagging = true;
        wake_all(&mut inner.publishers);
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
        let half_empty =
            inner.queue.len() <= self.limits.messages_max / 2 && inner.bytes <= self.limits.bytes_max / 2;
        if half_empty {
            inner.lagging = false;
            wake_all(&mut inner.publishers);
        }
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

    fn has_room(&self, inner: &Inner) -> bool {
        inner.queue.len() < self.limits.messages_max && inner.bytes < self.limits.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn wake_all(wakers: &mut Vec<Waker>) {
    for waker in std::mem::take(wakers) {
        waker.wake();
    }
}

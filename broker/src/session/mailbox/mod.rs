//! The one part of a session that others touch: the queue of messages for it, signals to the
//! connection that serves it, and the list of its subscriptions.
//!
//! A publisher's task pushes, the receiver's task pops; the session itself never leaves its
//! connection's task. While nobody is connected the same queue is the offline queue.
//!
//! A full queue is handled by who is there: without a connection the message is dropped and
//! counted; with one, it waits here as well, and its publisher is held back at a [`Place`] until it is
//! in the queue. What waits gets in in the order in which it came, and nothing else before it: else
//! those who happen to be awake would take each room that becomes free, and others would wait in vain.
//!
//! A receiver that makes no room in time is marked as lagging and loses messages (counted) until it
//! has drained half of its queue, so that one stuck receiver cannot hold back everybody again and
//! again.
//!
//! Invariant: `bytes` is the sum of the queued deliveries' bytes.
//! Invariant: whoever lags has more than half of its queue to drain, and nothing waits for it.
//! Ordering: deliveries are popped in the order in which they were pushed.

mod place;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use latchline_shared::message::Qos;

use super::delivery::Delivery;
use super::subscriptions::Subscriptions;
pub use place::Place;

/// Rooms are given away together when half of the queue is drained, since each wakes a publisher; but
/// one by one, if what waits has waited for so long: a slow receiver may never get that far in time.
const PATIENCE: Duration = Duration::from_millis(100);

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
    /// There is no room, or others wait for it, but the receiver is connected: it waits here.
    Waits(Place),
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
    patience: Duration,
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
    /// What waits for room, by the number of its place.
    waiting: BTreeMap<u64, Waiting>,
    last_place: u64,
}

#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    since: Instant,
    publisher: Waker,
}

/// What a session lost when its connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Deliveries at QoS 0, which are not kept for later (MQTT 5, section 4.1).
    pub qos0: usize,
    /// Those that waited for room, of which there is none.
    pub queue_full: usize,
}

impl Mailbox {
    /// An empty mailbox without a connection.
    pub fn new(key: SessionKey, client_id: ByteString, limits: QueueLimits) -> Self {
        Self {
            key,
            client_id,
            limits,
            patience: PATIENCE,
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

    /// The connection is gone. What waits is kept, as far as there is room.
    pub fn set_offline(&self) -> Left {
        let mut inner = self.lock();
        self.online.store(false, Ordering::Release);
        inner.receiver = None;
        inner.lagging = false;
        let before = inner.queue.len();
        inner.queue.retain(|delivery| delivery.qos != Qos::AtMostOnce);
        let qos0 = before - inner.queue.len();
        inner.bytes = inner.queue.iter().map(Delivery::bytes).sum();
        self.let_in(&mut inner);
        let queue_full = turn_away(&mut inner);
        inner.queue.shrink_to_fit();
        Left { qos0, queue_full }
    }

    /// Queues a delivery if there is room, and nothing waits for it.
    pub fn push(self: &Arc<Self>, delivery: Delivery) -> Pushed {
        let mut inner = self.lock();
        let online = self.online.load(Ordering::Acquire);
        if !online && delivery.qos == Qos::AtMostOnce {
            return Pushed::Dropped("offline_qos0");
        }
        if self.is_overdue(&inner) {
            self.let_in(&mut inner);
        }
        if self.has_room(&inner) && inner.waiting.is_empty() && !inner.lagging {
            let receiver = enqueue(&mut inner, delivery);
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
            (true, _) => {
                inner.last_place += 1;
                let number = inner.last_place;
                let publisher = Waker::noop().clone();
                inner.waiting.insert(number, Waiting { delivery, since: Instant::now(), publisher });
                Pushed::Waits(Place { mailbox: Arc::clone(self), number })
            }
        }
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
        if self.is_half_empty(&inner) {
            inner.lagging = false;
            self.let_in(&mut inner);
        } else if self.is_overdue(&inner) {
            self.let_in(&mut inner);
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

    /// Queues what waits, in its order, as far as there is room.
    fn let_in(&self, inner: &mut Inner) {
        while self.has_room(inner)
            && let Some((_, Waiting { delivery, publisher, .. })) = inner.waiting.pop_first()
        {
            if let Some(receiver) = enqueue(inner, delivery) {
                receiver.wake();
            }
            publisher.wake();
        }
    }

    /// Whether something has waited for too long for half to be drained first.
    fn is_overdue(&self, inner: &Inner) -> bool {
        inner.waiting.first_key_value().is_some_and(|(_, first)| first.since.elapsed() >= self.patience)
    }

    fn is_half_empty(&self, inner: &Inner) -> bool {
        let QueueLimits { messages_max, bytes_max } = self.limits;
        inner.queue.len() <= messages_max / 2 && inner.bytes <= bytes_max / 2
    }

    fn has_room(&self, inner: &Inner) -> bool {
        inner.queue.len() < self.limits.messages_max && inner.bytes < self.limits.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Appends a delivery; whom to wake.
#[must_use]
fn enqueue(inner: &mut Inner, delivery: Delivery) -> Option<Waker> {
    inner.bytes += delivery.bytes();
    inner.queue.push_back(delivery);
    if inner.queue.len() == 1 { inner.receiver.take() } else { None }
}

/// Drops what waits; how much that was.
fn turn_away(inner: &mut Inner) -> usize {
    let waiting = std::mem::take(&mut inner.waiting);
    let count = waiting.len();
    waiting.into_values().for_each(|waiting| waiting.publisher.wake());
    count
}

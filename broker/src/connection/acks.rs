//! Acknowledgements, or records of events, that wait for their receipts.
//!
//! Acknowledgements leave in the order in which the messages arrived (contract, section 3), so only
//! the front of the queue is ever polled: a receipt that settles early waits for those before it,
//! and only the front wakes the connection.
//!
//! Invariant: `bytes` is the sum of the waiting entries' bytes and of what the entries themselves
//! take, so that no packet, however small, waits for nothing.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use latchline_shared::fault::Fault;
use latchline_shared::hook::Refusal;
use latchline_shared::receipt::Receipt;

/// What an entry takes in the queue.
pub(super) const ENTRY_BYTES: usize = 128;

/// What is sent when a receipt has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckKind {
    /// Nothing: QoS 0, or an event that nobody waits for.
    None,
    /// The end of the connection: the message was refused, and the protocol has no other answer.
    End,
    /// PUBACK.
    Puback(NonZeroU16),
    /// PUBREC.
    Pubrec(NonZeroU16),
    /// PUBREC for a repetition: the message was taken when it came first.
    PubrecAgain(NonZeroU16),
}

/// One entry: an acknowledgement, its reason, and what it waits for.
#[derive(Debug)]
pub(super) struct PendingAck {
    /// What is sent.
    pub kind: AckKind,
    /// Why the message was refused, if it was.
    pub refusal: Option<Refusal>,
    /// What it waits for.
    pub receipt: Receipt,
    /// Bytes that count for the connection's bound.
    pub bytes: usize,
    /// When the packet arrived, if the time to its acknowledgement is measured.
    pub received_at: Option<Instant>,
}

impl PendingAck {
    /// An entry that only keeps its bytes counted until the receipt has settled.
    pub(super) fn event(receipt: Receipt, bytes: usize) -> Self {
        Self { kind: AckKind::None, refusal: None, receipt, bytes, received_at: None }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct AckQueue {
    entries: VecDeque<PendingAck>,
    bytes: usize,
    /// Waiting PUBACKs, for the Receive Maximum.
    pubacks: usize,
}

impl AckQueue {
    /// Appends an entry.
    pub(super) fn push(&mut self, entry: PendingAck) {
        self.bytes += entry.bytes + ENTRY_BYTES;
        self.pubacks += usize::from(matches!(entry.kind, AckKind::Puback(_)));
        self.entries.push_back(entry);
    }

    /// Bytes that wait for storage.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries that wait.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// PUBACKs that wait.
    pub(super) fn pubacks(&self) -> usize {
        self.pubacks
    }

    /// Packet ids of messages that were taken on this connection and whose PUBRECs wait.
    pub(super) fn pubrecs(&self) -> impl Iterator<Item = NonZeroU16> {
        self.entries.iter().filter_map(|entry| match entry.kind {
            AckKind::Pubrec(packet_id) => Some(packet_id),
            _ => None,
        })
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The front entry, when its receipt has settled, with how; pending while the queue is empty
    /// too, since then nothing can become ready by itself.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(PendingAck, Result<(), Fault>)> {
        let Some(front) = self.entries.front_mut() else {
            return Poll::Pending;
        };
        let result = ready!(Pin::new(&mut front.receipt).poll(cx));
        let entry = self.entries.pop_front().expect("the front was just polled");
        self.bytes -= entry.bytes + ENTRY_BYTES;
        self.pubacks -= usize::from(matches!(entry.kind, AckKind::Puback(_)));
        if self.entries.is_empty() {
            // An idle connection holds no buffer.
            self.entries = VecDeque::new();
        }
        Poll::Ready((entry, result))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn entries_leave_in_order_of_arrival() {
        let mut queue = AckQueue::default();
        let cx = &mut Context::from_waker(Waker::noop());
        let (first, first_slot) = Receipt::open(1);
        let (second, second_slot) = Receipt::open(1);
        for (id, receipt) in [(1, first), (2, second)] {
            let kind = AckKind::Puback(NonZeroU16::new(id).unwrap());
            queue.push(PendingAck { kind, refusal: None, receipt, bytes: 10, received_at: None });
        }
        second_slot.settle(Ok(()));
        assert!(queue.poll_next(cx).is_pending(), "the second overtook the first");
        assert_eq!((queue.bytes(), queue.pubacks()), (2 * (10 + ENTRY_BYTES), 2));
        first_slot.settle(Ok(()));
        for id in [1, 2] {
            let Poll::Ready((entry, Ok(()))) = queue.poll_next(cx) else { panic!("{id} is not ready") };
            assert_eq!(entry.kind, AckKind::Puback(NonZeroU16::new(id).unwrap()));
        }
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
    }
}

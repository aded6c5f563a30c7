//! What a client sends while its last message waits for a receiver without room.
//!
//! Its acknowledgements and pings are taken out of turn: if they waited too, two clients that flood
//! each other, or one that floods itself, would each wait for the acknowledgements of the other.
//! Everything else waits here, in order.
//!
//! Invariant: `bytes` is at least what the packets take, with the read buffers that they are slices
//! of; it is bounded by `inflight_bytes_per_connection`, above which nothing more is read.

use std::collections::VecDeque;

use super::end::End;
use crate::packet::types::Incoming;

/// Packets in the order received, and the end of the stream, if it has come behind them.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    packets: VecDeque<Incoming>,
    bytes: usize,
    end: Option<End>,
}

impl Deferred {
    /// Whether the packet need not wait for its turn.
    pub(super) fn is_urgent(packet: &Incoming) -> bool {
        match packet {
            Incoming::Puback(_) | Incoming::Pubrec(_) | Incoming::Pubcomp(_) | Incoming::Pingreq => true,
            Incoming::Connect(_)
            | Incoming::Publish(_)
            | Incoming::Pubrel(_)
            | Incoming::Subscribe(_)
            | Incoming::Unsubscribe(_)
            | Incoming::Disconnect(_)
            | Incoming::Auth => false,
        }
    }

    /// Appends a packet.
    pub(super) fn push(&mut self, packet: Incoming) {
        self.bytes += size_of::<Incoming>();
        self.packets.push_back(packet);
    }

    /// Bytes were read, of which a part may stay here.
    pub(super) fn add_read(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// The next packet.
    pub(super) fn pop(&mut self) -> Option<Incoming> {
        self.packets.pop_front()
    }

    /// Whether no packet waits.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// What it counts for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing more comes behind the packets.
    pub(super) fn set_end(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Whether nothing more comes that counts: the stream is at its end, or the client has said
    /// goodbye.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some() || matches!(self.packets.back(), Some(Incoming::Disconnect(_)))
    }

    /// The end behind the packets.
    pub(super) fn into_end(self) -> Option<End> {
        self.end
    }
}

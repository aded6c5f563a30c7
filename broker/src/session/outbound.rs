//! The window of QoS 1 and 2 deliveries to one client (MQTT 5, sections 4.3, 4.4 and 4.9).
//!
//! Entries stay in the order of their first sending, from PUBLISH to PUBACK or PUBCOMP. After a
//! reconnect all of them are sent again in that order before anything new.
//!
//! Invariants: packet ids in the window are unique; entries before `resend_from` have been sent on
//! this connection, those behind it have not; `in_air` counts the former.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use latchline_shared::message::Qos;

use super::delivery::Delivery;

/// See the module's documentation.
#[derive(Debug)]
pub struct Outbound {
    entries: VecDeque<Entry>,
    resend_from: usize,
    last_id: u16,
    window: u16,
}

/// One delivery that is not complete.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Packet id, kept over reconnects.
    pub packet_id: NonZeroU16,
    /// What is delivered.
    pub delivery: Delivery,
    /// Whether it has been sent on an earlier connection.
    pub dup: bool,
    /// How far it has come.
    pub phase: Phase,
}

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// PUBLISH was sent: PUBACK or PUBREC is awaited.
    Published,
    /// PUBREC came and PUBREL was sent: PUBCOMP is awaited (QoS 2).
    Released,
}

/// What a PUBREC means.
#[derive(Debug)]
pub enum Pubrec<'a> {
    /// The first for this delivery: the receiver has the message.
    First(&'a Entry),
    /// It came again; PUBREL is due again.
    Again,
    /// No delivery has this packet id.
    NotFound,
}

impl Outbound {
    /// An empty window of `window` deliveries.
    pub fn new(window: u16) -> Self {
        Self { entries: VecDeque::new(), resend_from: 0, last_id: 0, window }
    }

    /// Begins a new connection with a window of its own: everything incomplete is sent again.
    pub fn resume(&mut self, window: u16) {
        self.window = window;
        self.resend_from = 0;
        for entry in &mut self.entries {
            entry.dup = true;
        }
    }

    /// Whether one more delivery may be in the air.
    pub fn has_room(&self) -> bool {
        self.resend_from < usize::from(self.window)
    }

    /// Whether something from an earlier connection is still to be sent again.
    pub fn has_resends(&self) -> bool {
        self.resend_from < self.entries.len()
    }

    /// Incomplete deliveries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is incomplete.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The next delivery to send again, if there is one and the window has room.
    pub fn next_resend(&mut self) -> Option<&Entry> {
        if !self.has_room() {
            return None;
        }
        let entry = self.entries.get(self.resend_from)?;
        self.resend_from += 1;
        Some(entry)
    }

    /// The packet id that [`Self::sent`] will use.
    ///
    /// # Panics
    /// If all 65,535 ids are in use, which the window prevents.
    pub fn next_id(&self) -> NonZeroU16 {
        let mut id = self.last_id;
        for _ in 0..=u16::MAX {
            id = id.wrapping_add(1);
            if let Some(packet_id) = NonZeroU16::new(id)
                && self.position(packet_id).is_none()
            {
                return packet_id;
            }
        }
        unreachable!("the window is smaller than the number of packet ids")
    }

    /// Notes that a delivery has been sent with the id from [`Self::next_id`]. Nothing may be left
    /// to send again: new deliveries come behind old ones.
    pub fn sent(&mut self, packet_id: NonZeroU16, delivery: Delivery) {
        debug_assert!(!self.has_resends() && self.has_room());
        self.last_id = packet_id.get();
        self.entries.push_back(Entry { packet_id, delivery, dup: false, phase: Phase::Published });
        self.resend_from += 1;
    }

    /// PUBACK: the QoS 1 delivery that is complete now.
    pub fn puback(&mut self, packet_id: NonZeroU16) -> Option<Entry> {
        let position = self.position(packet_id)?;
        let entry = &self.entries[position];
        (entry.delivery.qos == Qos::AtLeastOnce && position < self.resend_from).then(|| self.remove(position))
    }

    /// PUBREC with success.
    pub fn pubrec(&mut self, packet_id: NonZeroU16) -> Pubrec<'_> {
        let Some(position) = self.position(packet_id).filter(|&p| p < self.resend_from) else {
            return Pubrec::NotFound;
        };
        let entry = &mut self.entries[position];
        match (entry.delivery.qos, entry.phase) {
            (Qos::ExactlyOnce, Phase::Published) => {
                entry.phase = Phase::Released;
                Pubrec::First(entry)
            }
            (Qos::ExactlyOnce, Phase::Released) => Pubrec::Again,
            _ => Pubrec::NotFound,
        }
    }

    /// PUBREC with a failure: the receiver does not want the message.
    pub fn refused(&mut self, packet_id: NonZeroU16) -> Option<Entry> {
        let position = self.position(packet_id).filter(|&p| p < self.resend_from)?;
        (self.entries[position].phase == Phase::Published).then(|| self.remove(position))
    }

    /// PUBCOMP: the QoS 2 delivery that is complete now.
    pub fn pubcomp(&mut self, packet_id: NonZeroU16) -> Option<Entry> {
        let position = self.position(packet_id).filter(|&p| p < self.resend_from)?;
        (self.entries[position].phase == Phase::Released).then(|| self.remove(position))
    }

    fn position(&self, packet_id: NonZeroU16) -> Option<usize> {
        self.entries.iter().position(|entry| entry.packet_id == packet_id)
    }

    fn remove(&mut self, position: usize) -> Entry {
        self.resend_from -= usize::from(position < self.resend_from);
        let entry = self.entries.remove(position).expect("the position was just found");
        if self.entries.is_empty() {
            // An idle connection holds no buffer.
            self.entries = VecDeque::new();
        }
        entry
    }
}

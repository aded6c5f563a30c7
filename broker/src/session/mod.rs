//! What the broker remembers of one client: pure and synchronous, without sockets or clocks.
//!
//! A [`Session`] lives in the task of the connection that serves it and is parked in the registry
//! while there is none. Only its [`mailbox::Mailbox`] is shared with others.

pub mod delivery;
pub mod mailbox;
pub mod outbound;
pub mod subscriptions;

#[cfg(test)]
mod generated;
#[cfg(test)]
mod model;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;

use latchline_shared::message::Qos;

use delivery::Delivery;
use outbound::Outbound;

/// The session state of MQTT 5, section 4.1, that only its own connection needs.
#[derive(Debug)]
pub struct Session {
    /// Deliveries that are not complete.
    pub outbound: Outbound,
    /// Packet ids of QoS 2 messages from the client that were taken and not yet released. A PUBLISH
    /// with such an id is a repetition (MQTT 5, section 4.3.3). `true`: it came on this connection.
    received: BTreeMap<NonZeroU16, bool>,
    /// How many of them came on this connection.
    received_now: usize,
    /// Retained messages still to be sent for new subscriptions.
    pub replay: VecDeque<Delivery>,
}

impl Session {
    /// A new session whose client takes `window` deliveries at once.
    pub fn new(window: u16) -> Self {
        Self {
            outbound: Outbound::new(window),
            received: BTreeMap::new(),
            received_now: 0,
            replay: VecDeque::new(),
        }
    }

    /// Goes on with a new connection.
    pub fn resume(&mut self, window: u16) {
        self.outbound.resume(window);
        // Receive Maximum begins anew (MQTT 5, section 3.3.4).
        self.received.values_mut().for_each(|now| *now = false);
        self.received_now = 0;
    }

    /// The connection is gone. QoS 0 is not kept for later; returns how many deliveries that were.
    pub fn park(&mut self) -> usize {
        let before = self.replay.len();
        self.replay.retain(|delivery| delivery.qos != Qos::AtMostOnce);
        self.replay.shrink_to_fit();
        before - self.replay.len()
    }

    /// Deliveries that the session owes its client.
    pub fn undelivered(&self) -> usize {
        self.outbound.len() + self.replay.len()
    }

    /// QoS 2 messages that were taken and not yet released.
    pub fn received_count(&self) -> usize {
        self.received.len()
    }

    /// Those of them that count for the Receive Maximum: they came on this connection.
    pub fn received_now(&self) -> usize {
        self.received_now
    }

    /// Whether this packet id counts for the Receive Maximum already.
    pub fn is_received_now(&self, packet_id: NonZeroU16) -> bool {
        self.received.get(&packet_id) == Some(&true)
    }

    /// Whether a QoS 2 message with this packet id was taken and not yet released.
    pub fn has_received(&self, packet_id: NonZeroU16) -> bool {
        self.received.contains_key(&packet_id)
    }

    /// Takes the packet id of a QoS 2 PUBLISH. `false`: it is a repetition and must not be
    /// published again.
    pub fn receive(&mut self, packet_id: NonZeroU16) -> bool {
        let before = self.received.insert(packet_id, true);
        self.received_now += usize::from(before != Some(true));
        before.is_none()
    }

    /// Forgets the packet id of a QoS 2 PUBLISH: PUBREL came, or the message was refused.
    pub fn release(&mut self, packet_id: NonZeroU16) -> bool {
        let before = self.received.remove(&packet_id);
        self.received_now -= usize::from(before == Some(true));
        before.is_some()
    }
}

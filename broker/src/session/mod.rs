//! What the broker remembers of one client: pure and synchronous, without sockets or clocks.
//!
//! A [`Session`] lives in the task of the connection that serves it and is parked in the registry
//! while there is none. Only its [`mailbox::Mailbox`] is shared with others.

pub mod delivery;
pub mod mailbox;
pub mod outbound;
pub mod subscriptions;

#[cfg(test)]
mod model;

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;

use delivery::Delivery;
use outbound::Outbound;

/// The session state of MQTT 5, section 4.1, that only its own connection needs.
#[derive(Debug)]
pub struct Session {
    /// Deliveries that are not complete.
    pub outbound: Outbound,
    /// Packet ids of QoS 2 messages from the client that were taken and not yet released. A PUBLISH
    /// with such an id is a repetition (MQTT 5, section 4.3.3).
    received: BTreeSet<NonZeroU16>,
    /// Retained messages still to be sent for new subscriptions.
    pub replay: VecDeque<Delivery>,
}

impl Session {
    /// A new session whose client takes `window` deliveries at once.
    pub fn new(window: u16) -> Self {
        Self { outbound: Outbound::new(window), received: BTreeSet::new(), replay: VecDeque::new() }
    }

    /// Goes on with a new connection.
    pub fn resume(&mut self, window: u16) {
        self.outbound.resume(window);
        // The client asks for retained messages again if it still wants them.
        self.replay = VecDeque::new();
    }

    /// QoS 2 messages that were taken and not yet released.
    pub fn received_count(&self) -> usize {
        self.received.len()
    }

    /// Takes the packet id of a QoS 2 PUBLISH. `false`: it is a repetition and must not be
    /// published again.
    pub fn receive(&mut self, packet_id: NonZeroU16) -> bool {
        self.received.insert(packet_id)
    }

    /// Forgets the packet id of a QoS 2 PUBLISH: PUBREL came, or the message was refused.
    pub fn release(&mut self, packet_id: NonZeroU16) -> bool {
        self.received.remove(&packet_id)
    }
}

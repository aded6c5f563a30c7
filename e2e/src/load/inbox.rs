//! What a connection has received: which messages of which stream, so that those that are missing,
//! late or double are told apart. Pure.
//!
//! Invariant: a message of a stream counts as new once, whatever else comes.

use std::collections::{BTreeSet, HashMap};

use crate::load::stamp::Stamp;

/// What a message is to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is the next of its stream, or some are missing before it.
    New,
    /// It was missing, and others have overtaken it.
    Late,
    /// It has been here.
    Double,
}

/// The messages that one connection has received.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Number of the next message of each stream.
    next: HashMap<u32, u32>,
    /// What has been passed over. Bounded by what was sent.
    missing: BTreeSet<(u32, u32)>,
    /// Packet ids of QoS 2 messages that have come and may come again until their PUBREL.
    held: Vec<u16>,
}

impl Inbox {
    /// Notes a message.
    pub fn note(&mut self, stamp: Stamp) -> Seen {
        let Stamp { stream, sequence, .. } = stamp;
        let next = self.next.entry(stream).or_default();
        if sequence < *next {
            return if self.missing.remove(&(stream, sequence)) { Seen::Late } else { Seen::Double };
        }
        self.missing.extend((*next..sequence).map(|sequence| (stream, sequence)));
        *next = sequence.saturating_add(1);
        Seen::New
    }

    /// Holds a packet id of QoS 2; false if it is held already, so that its message is the same.
    pub fn hold(&mut self, id: u16) -> bool {
        let is_new = !self.held.contains(&id);
        if is_new {
            self.held.push(id);
        }
        is_new
    }

    /// Gives a packet id of QoS 2 free.
    pub fn release(&mut self, id: u16) {
        self.held.retain(|&held| held != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_new_late_or_double() {
        let mut inbox = Inbox::default();
        for (stream, sequence, seen) in [
            (1, 0, Seen::New),
            (1, 1, Seen::New),
            (1, 1, Seen::Double),
            (1, 4, Seen::New),
            (2, 0, Seen::New),
            (1, 3, Seen::Late),
            (1, 3, Seen::Double),
            (1, 2, Seen::Late),
            (1, 0, Seen::Double),
            (1, 5, Seen::New),
            (2, 1, Seen::New),
        ] {
            let stamp = Stamp { run: 0, stream, sequence, due_us: 0 };
            assert_eq!(inbox.note(stamp), seen, "{stream} {sequence}");
        }
        assert!(inbox.missing.is_empty());
    }

    #[test]
    fn a_packet_id_is_held_until_its_release() {
        let mut inbox = Inbox::default();
        assert!(inbox.hold(1) && inbox.hold(2) && !inbox.hold(1));
        inbox.release(1);
        assert!(inbox.hold(1) && !inbox.hold(2));
    }
}

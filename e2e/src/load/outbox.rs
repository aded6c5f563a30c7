//! What a connection sends: the messages that are due, those under way until they are acknowledged,
//! and the bytes that the socket has not taken yet. Pure.
//!
//! A message waits while as many are under way as the window allows (the broker's Receive Maximum
//! or 16-bit packet ids) and while the socket takes nothing. It does not change when it was due.
//!
//! A message of QoS 0, which nobody acknowledges, is departing until the socket has taken its last
//! byte: only then has it been sent.
//!
//! Invariants: messages leave in the order in which they were due. `flights` is in the order of
//! packet ids, which are given out one after the other and not again before the oldest has landed.
//! Both queues are bounded; what finds no place is the caller's to count.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use latchline_shared::message::{Protocol, Qos};

use crate::client::packet::{self, Ack};
use crate::load::tally::Kind;

/// Messages that wait in one connection.
pub const WAITING_MAX: usize = 100_000;
/// Bytes that wait for the socket before messages wait for them.
pub const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// A message that is due.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where to.
    pub topic: Arc<str>,
    /// What.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// What it counts as.
    pub kind: Kind,
    /// Number of the lock that it is from, or to.
    pub lock: u32,
    /// Microseconds since the run began.
    pub due_us: u64,
}

/// A message under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    id: u16,
    qos: Qos,
    /// PUBREC has come.
    released: bool,
    /// What it counts as.
    pub kind: Kind,
    /// Number of the lock that it is from, or to.
    pub lock: u32,
    /// When it was due.
    pub due_us: u64,
}

/// A message of QoS 0 that the socket has not taken yet.
#[derive(Debug, Clone, Copy)]
struct Departing {
    /// How many bytes the socket has taken when it has taken this message.
    ends_at: u64,
    kind: Kind,
    lock: u32,
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// The message has arrived.
    Done(Flight),
    /// As `Done`, but older messages have not: an acknowledgement out of turn.
    Overtook(Flight),
    /// The broker does not take the message, and says why.
    Refused(Flight, u8),
    /// Half of it: PUBREC.
    Half,
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct Outbox {
    protocol: Protocol,
    /// Messages that may be under way.
    pub window: u16,
    last_id: u16,
    flights: VecDeque<Flight>,
    waiting: VecDeque<Letter>,
    /// Bounded by `unsent`, since each has a byte there.
    departing: VecDeque<Departing>,
    /// What the socket has not taken yet.
    pub unsent: BytesMut,
    /// Bytes that were put into `unsent` so far.
    put_bytes: u64,
}

impl Outbox {
    /// An empty one with the widest window.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            window: u16::MAX,
            last_id: 0,
            flights: VecDeque::new(),
            waiting: VecDeque::new(),
            departing: VecDeque::new(),
            unsent: BytesMut::new(),
            put_bytes: 0,
        }
    }

    /// Sends a message or lets it wait; gives it back if too many wait.
    pub fn push(&mut self, letter: Letter) -> Result<(), Letter> {
        if self.waiting.is_empty() && self.has_room(letter.qos) {
            self.send(&letter);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(letter);
        } else {
            return Err(letter);
        }
        Ok(())
    }

    /// Sends what waits, as far as there is room for it; false if nothing has moved.
    pub fn advance(&mut self) -> bool {
        let before = self.waiting.len();
        while self.waiting.front().is_some_and(|letter| self.has_room(letter.qos))
            && let Some(letter) = self.waiting.pop_front()
        {
            self.send(&letter);
        }
        self.waiting.len() < before
    }

    /// Sends bytes as they are, after what is there.
    pub fn put(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        self.put_bytes += bytes.len() as u64;
    }

    /// Takes the next message of QoS 0 that has left whole with the first `out_bytes` bytes: its
    /// kind and its lock.
    pub fn departed(&mut self, out_bytes: u64) -> Option<(Kind, u32)> {
        self.departing.front().filter(|departing| departing.ends_at <= out_bytes)?;
        self.departing.pop_front().map(|departing| (departing.kind, departing.lock))
    }

    /// Gives up what has not been sent whole, and says how many messages that were.
    pub fn give_up(&mut self) -> u64 {
        let count = self.waiting.len() + self.departing.len();
        self.waiting.clear();
        self.departing.clear();
        count as u64
    }

    /// Takes an acknowledgement.
    pub fn acked(&mut self, ack: Ack, id: u16, code: u8) -> anyhow::Result<Landed> {
        let at = self.find(id).with_context(|| format!("{ack:?} {id} without a message"))?;
        let flight = &mut self.flights[at];
        let expected = match (flight.qos, flight.released) {
            (Qos::ExactlyOnce, false) => Ack::PubRec,
            (Qos::ExactlyOnce, true) => Ack::PubComp,
            _ => Ack::PubAck,
        };
        ensure!(ack == expected, "{ack:?} {id}, not {expected:?}");
        if ack == Ack::PubRec && code < 0x80 {
            flight.released = true;
            self.put(&packet::ack(Ack::PubRel, id));
            return Ok(Landed::Half);
        }
        let flight = *flight;
        self.flights.remove(at);
        Ok(match (code < 0x80, at) {
            (false, _) => Landed::Refused(flight, code),
            (true, 0) => Landed::Done(flight),
            (true, _) => Landed::Overtook(flight),
        })
    }

    /// Messages that are due and not acknowledged; at QoS 0, not sent.
    pub fn outstanding(&self) -> usize {
        self.flights.len() + self.waiting.len() + self.departing.len()
    }

    fn has_room(&self, qos: Qos) -> bool {
        let ids = || {
            self.flights.len() < usize::from(self.window)
                && self.flights.front().is_none_or(|oldest| oldest.id != self.next_id())
        };
        self.unsent.len() < UNSENT_BYTES_MAX && (qos == Qos::AtMostOnce || ids())
    }

    fn send(&mut self, letter: &Letter) {
        let &Letter { ref topic, ref payload, qos, kind, lock, due_us } = letter;
        let id = if qos > Qos::AtMostOnce { self.next_id() } else { 0 };
        let before = self.unsent.len();
        packet::put_publish(&mut self.unsent, self.protocol, (topic, payload), qos, 0, id);
        self.put_bytes += (self.unsent.len() - before) as u64;
        if qos > Qos::AtMostOnce {
            self.last_id = id;
            self.flights.push_back(Flight { id, qos, released: false, kind, lock, due_us });
        } else {
            self.departing.push_back(Departing { ends_at: self.put_bytes, kind, lock });
        }
    }

    /// The next packet id: from 1, around past 65535, never 0.
    fn next_id(&self) -> u16 {
        self.last_id.checked_add(1).unwrap_or(1)
    }

    fn find(&self, id: u16) -> Option<usize> {
        let oldest = self.flights.front()?.id;
        // How far behind the oldest; ids go around past 65535 and leave out 0.
        let behind =
            |id: u16| if id >= oldest { id - oldest } else { id.wrapping_sub(oldest).wrapping_sub(1) };
        self.flights.binary_search_by_key(&behind(id), |flight| behind(flight.id)).ok()
    }
}

#[cfg(test)]
mod tests {
    use latchline_shared::kit::testing::Seed;

    use super::*;
    use crate::client::packet::Packet;

    fn letter(qos: Qos, due_us: u64) -> Letter {
        let (topic, payload) = ("t".into(), Bytes::from_static(b"p"));
        Letter { topic, payload, qos, kind: Kind::Report, lock: 7, due_us }
    }

    /// Takes what has been sent.
    fn sent(outbox: &mut Outbox) -> Vec<u16> {
        let mut ids = Vec::new();
        while let Some(packet) = packet::decode(Protocol::V3, &mut outbox.unsent).unwrap() {
            match packet {
                Packet::Publish(publish) => ids.push(publish.id),
                Packet::Ack { kind: Ack::PubRel, id, .. } => ids.push(id),
                other => panic!("{other:?}"),
            }
        }
        ids
    }

    #[test]
    fn messages_wait_for_the_window_in_order() {
        let mut outbox = Outbox::new(Protocol::V3);
        outbox.window = 2;
        (0..5).for_each(|due_us| outbox.push(letter(Qos::AtLeastOnce, due_us)).unwrap());
        assert_eq!((sent(&mut outbox), outbox.outstanding()), (vec![1, 2], 5));
        let Landed::Done(flight) = outbox.acked(Ack::PubAck, 1, 0).unwrap() else { panic!() };
        assert_eq!(flight.due_us, 0);
        outbox.advance();
        assert_eq!(sent(&mut outbox), [3]);
        assert!(matches!(outbox.acked(Ack::PubAck, 3, 0).unwrap(), Landed::Overtook(f) if f.due_us == 2));
        assert!(
            matches!(outbox.acked(Ack::PubAck, 2, 0x97).unwrap(), Landed::Refused(f, 0x97) if f.due_us == 1)
        );
        outbox.push(letter(Qos::AtMostOnce, 5)).unwrap();
        outbox.advance();
        assert_eq!(sent(&mut outbox), [4, 5, 0], "QoS 0 does not overtake");
        assert_eq!(outbox.outstanding(), 3);
    }

    #[test]
    fn messages_of_qos_0_are_sent_when_their_last_byte_is() {
        let mut outbox = Outbox::new(Protocol::V3);
        outbox.put(b"before");
        (0..2).for_each(|due_us| outbox.push(letter(Qos::AtMostOnce, due_us)).unwrap());
        // Type, length, topic of a byte and payload of another.
        let each = 6;
        for (out_bytes, departed) in [(0, 0), (6 + each - 1, 0), (6 + each, 1), (5 + 2 * each, 0)] {
            let count = std::iter::from_fn(|| outbox.departed(out_bytes)).count();
            assert_eq!(count, departed, "{out_bytes}");
        }
        assert_eq!((outbox.outstanding(), outbox.give_up(), outbox.outstanding()), (1, 1, 0));
        assert_eq!(outbox.departed(u64::MAX), None, "it is accounted for");
        while outbox.push(letter(Qos::AtMostOnce, 0)).is_ok() {}
        assert_eq!(outbox.give_up() as usize, WAITING_MAX + UNSENT_BYTES_MAX.div_ceil(each as usize) - 3);
        assert!(!outbox.advance(), "nothing waits any more");
    }

    #[test]
    fn exactly_once_takes_two_answers() {
        let mut outbox = Outbox::new(Protocol::V3);
        outbox.push(letter(Qos::ExactlyOnce, 0)).unwrap();
        assert_eq!(sent(&mut outbox), [1]);
        assert!(outbox.acked(Ack::PubAck, 1, 0).is_err());
        assert!(outbox.acked(Ack::PubComp, 1, 0).is_err());
        assert_eq!(outbox.acked(Ack::PubRec, 1, 0).unwrap(), Landed::Half);
        assert_eq!(sent(&mut outbox), [1], "PUBREL");
        assert!(matches!(outbox.acked(Ack::PubComp, 1, 0).unwrap(), Landed::Done(_)));
        assert!(outbox.acked(Ack::PubComp, 1, 0).is_err(), "once");
    }

    #[test]
    fn queues_end_somewhere() {
        let mut outbox = Outbox::new(Protocol::V3);
        let mut taken = 0;
        while outbox.push(letter(Qos::AtLeastOnce, 0)).is_ok() {
            taken += 1;
        }
        assert!((WAITING_MAX..WAITING_MAX + UNSENT_BYTES_MAX).contains(&taken), "{taken}");
        assert!(outbox.unsent.len() < UNSENT_BYTES_MAX + 100);
        assert_eq!(outbox.outstanding(), taken);
    }

    #[test]
    fn packet_ids_are_given_again_only_when_they_are_free() {
        let mut random = Seed::of_this_run().random("packet_ids_are_given_again_only_when_they_are_free");
        let mut outbox = Outbox::new(Protocol::V3);
        outbox.window = 50;
        let mut under_way = Vec::new();
        for _ in 0..200_000 {
            outbox.push(letter(Qos::AtLeastOnce, 0)).unwrap();
            for id in sent(&mut outbox) {
                assert!(id != 0 && !under_way.contains(&id), "{id}");
                under_way.push(id);
            }
            // The oldest stays for long, others come back in any order.
            while under_way.len() >= 45 {
                let at = if random.chance(1) { 0 } else { 1 + random.index(under_way.len() - 1) };
                let landed = outbox.acked(Ack::PubAck, under_way.remove(at), 0).unwrap();
                assert_eq!(matches!(landed, Landed::Done(_)), at == 0);
                outbox.advance();
                for id in sent(&mut outbox) {
                    under_way.push(id);
                }
            }
        }
        assert!(outbox.acked(Ack::PubAck, 0, 0).is_err());
    }
}

//! Drives the real session against a naive model: the window as a plain list, ids as a set.
//!
//! `generated` draws the steps from proptest, and the fuzz target `session` from its input, which takes
//! this file as it stands.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use latchline_shared::message::{Message, MessageId, Qos};
use smallvec::SmallVec;

use super::Session;
use super::delivery::Delivery;
use super::outbound::{Phase, Pubrec};

/// What is done to a session. Which delivery an acknowledgement is about is picked ([`Model::pick`]) when
/// it comes: ids go on, and nothing would be left of most inputs if it were an id.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Send(bool),
    Puback(u8),
    Pubrec(u8),
    Refused(u8),
    Pubcomp(u8),
    Reconnect(u16),
    Resend,
    Receive(u16),
    Release(u16),
}

#[derive(Debug, Clone, PartialEq)]
struct Flight {
    id: u16,
    number: u128,
    exactly_once: bool,
    released: bool,
    sent_now: bool,
    dup: bool,
}

/// What it shall know then.
#[derive(Default)]
pub(super) struct Model {
    flights: Vec<Flight>,
    /// Packet ids, and whether they came on this connection.
    received: Vec<(u16, bool)>,
    window: u16,
    sent: u128,
    /// The packet id that was given last.
    newest: u16,
}

impl Model {
    /// A new session with this window, and what it shall know: nothing, but that this was the last packet
    /// id; 0 for none.
    pub(super) fn begin(window: u16, last_id: u16) -> (Self, Session) {
        let mut session = Session::new(window);
        if let Some(packet_id) = NonZeroU16::new(last_id) {
            session.outbound.sent(packet_id, delivery(0, false));
            assert!(session.outbound.puback(packet_id).is_some());
        }
        (Self { window, newest: last_id, ..Self::default() }, session)
    }

    /// The next packet id: ids are given in turn, those in use passed over (MQTT 5, section 2.2.1).
    fn next_id(&self) -> u16 {
        let in_turn = (1..=u16::MAX).map(|n| self.newest.wrapping_add(n));
        let is_free = |id: &u16| *id != 0 && self.flights.iter().all(|flight| flight.id != *id);
        in_turn.into_iter().find(is_free).expect("the window is small")
    }

    /// A packet id: of one of those in flight, or one near the newest, which may be nobody's.
    fn pick(&self, value: u8) -> u16 {
        let place = usize::from(value / 2);
        match self.flights.len() {
            count @ 1.. if value.is_multiple_of(2) => self.flights[place % count].id,
            _ => self.newest.wrapping_add_signed([-2, -1, 0, 1, 2][place % 5]).max(1),
        }
    }

    fn in_air(&self) -> usize {
        self.flights.iter().filter(|flight| flight.sent_now).count()
    }

    fn remove(&mut self, condition: impl Fn(&Flight) -> bool) -> Option<Flight> {
        let position = self.flights.iter().position(|flight| flight.sent_now && condition(flight))?;
        Some(self.flights.remove(position))
    }
}

fn delivery(number: u128, exactly_once: bool) -> Delivery {
    let message = Message {
        mid: MessageId(number),
        from: "publisher".into(),
        topic: "t".into(),
        payload: Bytes::new(),
        qos: Qos::ExactlyOnce,
        retain: false,
        dup: false,
        packet_id: None,
        properties: None,
        received_at: Instant::now(),
        expiry: None,
    };
    let qos = if exactly_once { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
    Delivery { message: Arc::new(message), qos, retain: false, subscription_ids: SmallVec::new() }
}

fn id(value: u16) -> NonZeroU16 {
    NonZeroU16::new(value).unwrap()
}

/// Does it to both, and compares.
pub(super) fn apply(step: &Step, model: &mut Model, session: &mut Session) {
    match *step {
        Step::Send(exactly_once) => {
            let room = model.in_air() < usize::from(model.window);
            let resends = model.flights.iter().any(|flight| !flight.sent_now);
            assert_eq!(session.outbound.has_room(), room);
            assert_eq!(session.outbound.has_resends(), resends);
            if !room || resends {
                return;
            }
            let packet_id = session.outbound.next_id();
            assert_eq!(packet_id.get(), model.next_id());
            model.newest = packet_id.get();
            model.sent += 1;
            session.outbound.sent(packet_id, delivery(model.sent, exactly_once));
            let (id, number) = (packet_id.get(), model.sent);
            model.flights.push(Flight {
                id,
                number,
                exactly_once,
                released: false,
                sent_now: true,
                dup: false,
            });
        }
        Step::Puback(pick) => {
            let value = model.pick(pick);
            let expected = model.remove(|flight| flight.id == value && !flight.exactly_once);
            let real = session.outbound.puback(id(value));
            assert_eq!(
                real.as_ref().map(|e| (e.delivery.message.mid.0, e.dup)),
                expected.map(|f| (f.number, f.dup))
            );
        }
        Step::Pubrec(pick) => {
            let value = model.pick(pick);
            let known = model.flights.iter_mut().find(|f| f.sent_now && f.id == value && f.exactly_once);
            match (session.outbound.pubrec(id(value)), known) {
                (Pubrec::First(entry), Some(flight)) => {
                    assert!(!flight.released);
                    assert_eq!(entry.delivery.message.mid.0, flight.number);
                    flight.released = true;
                }
                (Pubrec::Again, Some(flight)) => assert!(flight.released),
                (Pubrec::NotFound, None) => {}
                (real, expected) => panic!("{real:?} instead of {expected:?}"),
            }
        }
        Step::Refused(pick) => {
            let value = model.pick(pick);
            let expected = model.remove(|flight| flight.id == value && !flight.released);
            let real = session.outbound.refused(id(value));
            assert_eq!(real.map(|e| e.delivery.message.mid.0), expected.map(|f| f.number));
        }
        Step::Pubcomp(pick) => {
            let value = model.pick(pick);
            let expected = model.remove(|flight| flight.id == value && flight.released);
            let real = session.outbound.pubcomp(id(value));
            assert_eq!(real.map(|e| e.delivery.message.mid.0), expected.map(|f| f.number));
        }
        Step::Reconnect(window) => {
            session.resume(window);
            model.window = window;
            for flight in &mut model.flights {
                flight.sent_now = false;
                flight.dup = true;
            }
            model.received.iter_mut().for_each(|(_, now)| *now = false);
        }
        Step::Resend => {
            let room = model.in_air() < usize::from(model.window);
            let expected = model.flights.iter_mut().find(|flight| !flight.sent_now).filter(|_| room);
            let real = session.outbound.next_resend();
            assert_eq!(real.map(|e| e.packet_id.get()), expected.as_ref().map(|f| f.id));
            if let (Some(entry), Some(flight)) = (real, expected) {
                assert!(entry.dup);
                assert_eq!(entry.phase == Phase::Released, flight.released);
                flight.sent_now = true;
            }
        }
        Step::Receive(value) => {
            let known = model.received.iter().position(|(known, _)| *known == value);
            assert_eq!(session.receive(id(value)), known.is_none());
            known.map(|position| model.received.remove(position));
            model.received.push((value, true));
        }
        Step::Release(value) => {
            let known = model.received.iter().position(|(known, _)| *known == value);
            assert_eq!(session.release(id(value)), known.is_some());
            known.map(|position| model.received.remove(position));
        }
    }
    assert_eq!(session.outbound.len(), model.flights.len());
    assert_eq!(session.received_count(), model.received.len());
    assert_eq!(session.received_now(), model.received.iter().filter(|(_, now)| *now).count());
}

//! What a connection does with what it receives: acknowledgements close the books on its messages,
//! messages are counted and acknowledged, and a lock may answer.
//!
//! Replies are put into the outbox; they leave with the flush after the last packet that was read.

use std::sync::atomic::Ordering;

use anyhow::{Context, anyhow, bail};
use latchline_shared::message::Qos;

use crate::client::packet::{self, Ack, Packet, Publish};
use crate::load::connection::{ANSWERS_FROM, Misfit, Reader};
use crate::load::hello::Role;
use crate::load::inbox::Seen;
use crate::load::outbox::Landed;
use crate::load::run::Answers;
use crate::load::stamp::Stamp;
use crate::load::tally::{Cause, Count, Delay, Kind, held};

impl Reader {
    /// Takes one packet.
    pub(super) fn take(&mut self, packet: Packet) -> anyhow::Result<()> {
        match packet {
            Packet::Ack { kind: Ack::PubRel, id, .. } => {
                self.inbox.release(id);
                held(&self.connection.sender).outbox.put(&packet::ack(Ack::PubComp, id));
                Ok(())
            }
            Packet::Ack { kind, id, code } => self.acked(kind, id, code).context(Misfit),
            Packet::Publish(message) => {
                self.received(&message);
                Ok(())
            }
            Packet::PingResp => {
                self.connection.pongs.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Packet::Disconnect { code } => bail!("the broker disconnects: {code:#04x}"),
            other => Err(anyhow!("{other:?} is not expected")).context(Misfit),
        }
    }

    fn acked(&self, ack: Ack, id: u16, code: u8) -> anyhow::Result<()> {
        let (connection, run) = (&*self.connection, &*self.connection.run);
        let mut sender = held(&connection.sender);
        let now_us = run.tally.now_us();
        let landed = sender.outbox.acked(ack, id, code)?;
        if matches!(landed, Landed::Overtook(_)) {
            run.tally.wrong(Cause::OutOfOrder, || format!("{ack:?} {id} before that of an older message"));
        }
        let flight = match landed {
            Landed::Half => return Ok(()),
            Landed::Done(flight) | Landed::Overtook(flight) => {
                run.tally.acked(flight.kind, flight.lock);
                run.tally.took(Delay::Acked(flight.kind), flight.due_us, now_us);
                flight
            }
            Landed::Refused(flight, code) => {
                run.tally.wrong(Cause::MessageRefused, || format!("{ack:?} {code:#04x}"));
                flight
            }
        };
        // A refused message makes room for the next one as well.
        if run.is_closed() && flight.kind != Kind::Answer {
            connection.next_with(&mut sender, now_us);
        }
        sender.outbox.advance();
        Ok(())
    }

    fn received(&mut self, message: &Publish) {
        let (connection, run) = (&*self.connection, &*self.connection.run);
        let is_new = match message.qos {
            Qos::AtMostOnce => true,
            Qos::AtLeastOnce => {
                held(&connection.sender).outbox.put(&packet::ack(Ack::PubAck, message.id));
                true
            }
            Qos::ExactlyOnce => {
                held(&connection.sender).outbox.put(&packet::ack(Ack::PubRec, message.id));
                self.inbox.hold(message.id)
            }
        };
        // Messages of others, and what was retained or kept before, are acknowledged and no more.
        let stamp = Stamp::find(&message.payload).filter(|stamp| stamp.run == run.id);
        let Some(stamp) = stamp.filter(|_| is_new) else { return };
        let (kind, lock) = match connection.role {
            Role::Lock => (Kind::Command, stamp.stream),
            _ if stamp.stream >= ANSWERS_FROM => (Kind::Answer, stamp.stream - ANSWERS_FROM),
            _ => (Kind::Report, stamp.stream),
        };
        if !connection.awaits(lock, &message.topic) {
            let (who, whose) = (connection.id(), run.lock_id(lock));
            run.tally
                .wrong(Cause::Protocol, || format!("{who} gets a message of {whose} on {}", message.topic));
            return;
        }
        let is_at_least_once = message.qos == Qos::AtLeastOnce && run.settings.qos == Qos::AtLeastOnce;
        match self.inbox.note(stamp) {
            Seen::Double if message.dup && is_at_least_once => run.tally.count(kind, Count::Double),
            Seen::Double => run.tally.wrong(Cause::Repeated, || message.topic.clone()),
            seen => {
                if seen == Seen::Late {
                    run.tally.wrong(Cause::OutOfOrder, || format!("{} was overtaken", message.topic));
                }
                run.tally.took(Delay::Received(kind), stamp.due_us, run.tally.now_us());
                // Ordering: whoever sees that everything has been received sees what answers it, too.
                if kind == Kind::Command && run.settings.answers == Answers::AtOnce {
                    connection.report_with(&mut held(&connection.sender), Kind::Answer, stamp.due_us);
                }
                run.tally.received(kind, lock);
            }
        }
    }
}

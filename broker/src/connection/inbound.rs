//! Packets from the client.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use latchline_shared::hook::{Access, Call, Delivered, Refusal};
use latchline_shared::message::{Message, Protocol, Qos};
use latchline_shared::receipt::Receipt;

use super::Connection;
use super::acks::{AckKind, PendingAck};
use super::end::End;
use crate::broker::{Broker, Published};
use crate::config::Unanswerable;
use crate::packet::types::{Ack, Disconnect, Incoming, Outgoing, Publish, reason};
use crate::session::outbound::{Entry, Pubrec};

impl Connection {
    pub(super) fn handle(&mut self, packet: Incoming) -> Result<(), End> {
        match packet {
            Incoming::Publish(publish) => self.handle_publish(publish),
            Incoming::Puback(ack) => {
                self.handle_puback(ack);
                Ok(())
            }
            Incoming::Pubrec(ack) => self.handle_pubrec(ack),
            Incoming::Pubrel(ack) => self.handle_pubrel(ack),
            Incoming::Pubcomp(ack) => {
                self.session.outbound.pubcomp(ack.packet_id);
                Ok(())
            }
            Incoming::Subscribe(subscribe) => self.handle_subscribe(subscribe),
            Incoming::Unsubscribe(unsubscribe) => self.handle_unsubscribe(unsubscribe),
            Incoming::Pingreq => self.send(Outgoing::Pingresp),
            Incoming::Disconnect(disconnect) => Err(self.handle_disconnect(&disconnect)),
            Incoming::Auth => Err(End::protocol_error("no enhanced authentication was agreed on")),
            Incoming::Connect(_) => Err(End::protocol_error("second CONNECT")),
        }
    }

    fn handle_publish(&mut self, mut publish: Publish) -> Result<(), End> {
        self.resolve_alias(&mut publish)?;
        let ack = match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(packet_id)) => AckKind::Puback(packet_id),
            (Qos::ExactlyOnce, Some(packet_id)) => AckKind::Pubrec(packet_id),
            _ => AckKind::None,
        };
        self.check_receive_max(ack)?;
        if let AckKind::Pubrec(packet_id) = ack
            && !self.session.receive(packet_id)
        {
            // It was published when it came first; behind that in the queue, this PUBREC says so.
            let kind = AckKind::PubrecAgain(packet_id);
            self.push_ack(PendingAck { kind, ..PendingAck::event(Receipt::settled(), 0) });
            return Ok(());
        }
        let received_at = Instant::now();
        let access = Access::Publish { topic: &publish.topic, qos: publish.qos, retain: publish.retain };
        let authorised = self.broker.chain.authorise(&self.client, &access);
        let message = self.message(publish, received_at);
        let bytes = Broker::bytes_in_flight(&message);
        if let Err(refusal) = authorised {
            let receipt = self.broker.rejected(&self.client, &message, &refusal);
            return self.refuse(ack, refusal, receipt, bytes);
        }
        match self.broker.publish(&self.client, Some(self.mailbox.key()), message) {
            Published::Rejected(refusal, receipt) => self.refuse(ack, refusal, receipt, bytes),
            Published::Accepted { receipt, places } => {
                if !places.is_empty() {
                    self.broker.metrics.paused("slow_receiver");
                    self.stalled = places;
                    self.stalled_until = received_at + self.broker.limits.slow_receiver_wait;
                }
                self.push_ack(PendingAck {
                    kind: ack,
                    refusal: None,
                    receipt,
                    bytes,
                    received_at: Some(received_at),
                });
                Ok(())
            }
        }
    }

    fn message(&self, publish: Publish, received_at: Instant) -> Message {
        Message {
            mid: self.broker.next_message_id(),
            from: self.client.id.clone(),
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id.map(NonZeroU16::get),
            properties: publish.properties,
            received_at,
            expiry: publish.expiry_s.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), End> {
        let Some(alias) = publish.topic_alias else {
            return Ok(());
        };
        if alias.get() > self.broker.limits.topic_alias_max {
            return Err(End::told(
                "protocol_error",
                reason::TOPIC_ALIAS_INVALID,
                "topic alias above the maximum",
            ));
        }
        let aliases = self.aliases.get_or_insert_default();
        if publish.topic.is_empty() {
            publish.topic = aliases.topic(alias).ok_or_else(|| End::protocol_error("unknown topic alias"))?;
        } else {
            aliases.set(alias, &publish.topic);
        }
        Ok(())
    }

    /// MQTT 5, section 3.3.4. A 3.1.1 client was never told a maximum; its bytes are bounded.
    fn check_receive_max(&self, ack: AckKind) -> Result<(), End> {
        let open = self.acks.pubacks() + self.session.received_now();
        let counts = match ack {
            AckKind::None | AckKind::End | AckKind::PubrecAgain(_) => false,
            AckKind::Puback(_) => true,
            AckKind::Pubrec(packet_id) => !self.session.is_received_now(packet_id),
        };
        if counts
            && self.client.protocol == Protocol::V5
            && open >= usize::from(self.broker.limits.receive_max)
        {
            return Err(End::told(
                "protocol_error",
                reason::RECEIVE_MAX_EXCEEDED,
                "receive maximum exceeded",
            ));
        }
        Ok(())
    }

    /// Tells the publisher that its message was refused, when that is on record: by reason code where
    /// the protocol has one, else as the configuration says.
    fn refuse(&mut self, ack: AckKind, refusal: Refusal, receipt: Receipt, bytes: usize) -> Result<(), End> {
        tracing::debug!(client = &*self.client.id, cause = refusal.cause, "publish refused");
        let entry = PendingAck { kind: ack, refusal: Some(refusal), receipt, bytes, received_at: None };
        let has_answer = ack != AckKind::None && self.client.protocol == Protocol::V5;
        if !has_answer && self.broker.unanswerable == Unanswerable::Drop {
            self.push_ack(PendingAck { refusal: None, ..entry });
            return Ok(());
        }
        if let AckKind::Pubrec(packet_id) = ack {
            self.session.release(packet_id);
        }
        if has_answer {
            self.push_ack(entry);
        } else if entry.receipt.is_settled() {
            return Err(End::told("refused", refusal.reason_code, refusal.cause));
        } else {
            self.is_refused = true;
            self.push_ack(PendingAck { kind: AckKind::End, ..entry });
        }
        Ok(())
    }

    /// Queues what waits; what is not acknowledged and has settled already needs no place.
    fn push_ack(&mut self, entry: PendingAck) {
        if entry.kind != AckKind::None || !entry.receipt.is_settled() {
            self.acks.push(entry);
        }
    }

    fn handle_puback(&mut self, ack: Ack) {
        if let Some(entry) = self.session.outbound.puback(ack.packet_id) {
            self.acked(&entry, ack.reason_code);
        }
    }

    fn handle_pubrec(&mut self, ack: Ack) -> Result<(), End> {
        if ack.reason_code >= reason::UNSPECIFIED {
            if let Some(entry) = self.session.outbound.refused(ack.packet_id) {
                self.acked(&entry, ack.reason_code);
            }
            return Ok(());
        }
        match self.session.outbound.pubrec(ack.packet_id) {
            Pubrec::First(entry) => {
                let entry = entry.clone();
                self.acked(&entry, ack.reason_code);
                self.send(Outgoing::Pubrel(Ack::success(ack.packet_id)))
            }
            Pubrec::Again => self.send(Outgoing::Pubrel(Ack::success(ack.packet_id))),
            Pubrec::NotFound => {
                let reason_code = reason::PACKET_ID_NOT_FOUND;
                self.send(Outgoing::Pubrel(Ack { reason_code, ..Ack::success(ack.packet_id) }))
            }
        }
    }

    /// A receiver has said what it thinks of a delivery.
    fn acked(&mut self, entry: &Entry, reason_code: u8) {
        if reason_code >= reason::UNSPECIFIED {
            self.broker.metrics.dropped("refused_by_receiver");
            return;
        }
        self.broker.metrics.acked.inc();
        if !self.broker.chain.wants(Call::MessageAcked) {
            return;
        }
        let delivered = Delivered {
            message: &entry.delivery.message,
            qos: entry.delivery.qos,
            dup: entry.dup,
            retain: entry.delivery.retain,
            packet_id: Some(entry.packet_id.get()),
        };
        let receipt = self.broker.chain.message_acked(&self.client, &delivered);
        self.push_event(receipt, Broker::bytes_in_flight(&entry.delivery.message));
    }

    /// Keeps the bytes of an event counted until it is stored.
    pub(super) fn push_event(&mut self, mut receipt: Receipt, bytes: usize) {
        if !receipt.is_settled() {
            receipt.hold(self.broker.budget.take(bytes));
        }
        if !receipt.is_settled() {
            self.events.push(PendingAck::event(receipt, bytes));
        }
    }

    fn handle_pubrel(&mut self, ack: Ack) -> Result<(), End> {
        let known = self.session.release(ack.packet_id);
        let reason_code = if known { reason::SUCCESS } else { reason::PACKET_ID_NOT_FOUND };
        self.send(Outgoing::Pubcomp(Ack { reason_code, ..Ack::success(ack.packet_id) }))
    }

    fn handle_disconnect(&mut self, disconnect: &Disconnect) -> End {
        if let Some(expiry_s) = disconnect.session_expiry_s {
            if self.session_expiry_s == 0 && expiry_s != 0 {
                return End::protocol_error("session expiry of 0 cannot be changed at the end");
            }
            self.session_expiry_s = expiry_s.min(self.broker.limits.session_expiry_s_max);
        }
        if disconnect.reason_code == reason::SUCCESS { End::normal() } else { End::with_will() }
    }

    /// Sends a packet that the broker owes. One that is too large for the client ends nothing: the
    /// client has said that it does not want it.
    pub(super) fn send(&mut self, packet: Outgoing) -> Result<(), End> {
        if self.wire.send(packet).is_err() {
            self.broker.metrics.dropped("answer_too_large");
        }
        Ok(())
    }
}

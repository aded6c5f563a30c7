//! Packets to the client: deliveries, and acknowledgements whose receipts have settled.

use std::num::NonZeroU16;
use std::task::Context;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use latchline_shared::fault::Fault;
use latchline_shared::hook::{Call, Delivered};
use latchline_shared::message::{Protocol, Qos};

use super::Connection;
use super::acks::{AckKind, PendingAck};
use super::end::End;
use crate::broker::Broker;
use crate::packet::encode::TooLarge;
use crate::packet::types::{Ack, Outgoing, Publish, reason};
use crate::session::delivery::Delivery;
use crate::session::outbound::{Entry, Phase};

impl Connection {
    /// Whether a delivery may be sent now; if not, a wake-up is on its way. Where deliveries are
    /// recorded, they are bounded like what is received.
    pub(super) fn may_deliver(&mut self, cx: &mut Context<'_>) -> bool {
        self.session.outbound.has_room()
            && !self.wire.is_output_high()
            && self.bytes_in_flight() < self.broker.limits.inflight_bytes_per_connection
            && self.draining_until.is_none()
            && (!self.broker.chain.wants(Call::MessageDeliver) || self.place.poll_room(cx).is_ready())
    }

    /// Sends again what an earlier connection did not complete, then retained messages; whether
    /// anything was sent.
    pub(super) fn send_again_and_replay(&mut self, cx: &mut Context<'_>) -> bool {
        let mut did = false;
        while self.may_deliver(cx)
            && let Some(entry) = self.session.outbound.next_resend().cloned()
        {
            self.send_again(&entry);
            did = true;
        }
        while self.may_deliver(cx)
            && !self.session.outbound.has_resends()
            && let Some(delivery) = self.session.replay.pop_front()
        {
            self.deliver(delivery);
            did = true;
        }
        if did && self.session.replay.is_empty() {
            self.session.replay.shrink_to_fit();
        }
        did
    }

    /// Sends what is queued, as far as the window and the socket take it.
    pub(super) fn deliver_queued(&mut self, cx: &mut Context<'_>) {
        while self.may_deliver(cx)
            && let Some(delivery) = self.mailbox.pop()
        {
            self.deliver(delivery);
        }
    }

    fn send_again(&mut self, entry: &Entry) {
        let now = Instant::now();
        let (message, qos) = (&entry.delivery.message, entry.delivery.qos);
        // A QoS 2 message must be completed: the receiver may have it, and would take the next one
        // with this packet id for its repetition. It says that it is over.
        if qos == Qos::AtLeastOnce && message.remaining(now) == Some(None) {
            self.session.outbound.refused(entry.packet_id);
            self.broker.metrics.dropped("expired");
            return;
        }
        let sent = match entry.phase {
            Phase::Published => {
                let publish = self.publish_packet(&entry.delivery, Some(entry.packet_id), now);
                self.send_publish(Publish { dup: true, ..publish })
            }
            Phase::Released => self.wire.send(Outgoing::Pubrel(Ack::success(entry.packet_id))),
        };
        if sent.is_err() {
            // The new connection takes smaller packets than the old one did.
            self.session.outbound.refused(entry.packet_id);
            self.broker.metrics.dropped("packet_too_large");
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let now = Instant::now();
        if delivery.message.remaining(now) == Some(None) {
            self.broker.metrics.dropped("expired");
            return;
        }
        let packet_id = (delivery.qos != Qos::AtMostOnce).then(|| self.session.outbound.next_id());
        let packet = self.publish_packet(&delivery, packet_id, now);
        if self.send_publish(packet).is_err() {
            // MQTT 5, section 3.1.2.11.4: as if it had been sent and acknowledged.
            self.broker.metrics.dropped("packet_too_large");
            return;
        }
        self.broker.metrics.delivered.inc();
        self.delivered(&delivery, packet_id);
        if let Some(packet_id) = packet_id {
            self.session.outbound.sent(packet_id, delivery);
        }
    }

    fn delivered(&mut self, delivery: &Delivery, packet_id: Option<NonZeroU16>) {
        if !self.broker.chain.wants(Call::MessageDeliver) {
            return;
        }
        let delivered = Delivered {
            message: &delivery.message,
            qos: delivery.qos,
            dup: false,
            retain: delivery.retain,
            packet_id: packet_id.map(NonZeroU16::get),
        };
        let receipt = self.broker.chain.message_deliver(&self.client, &delivered);
        self.push_event(receipt, Broker::bytes_in_flight(&delivery.message));
    }

    fn publish_packet(
        &mut self,
        delivery: &Delivery,
        packet_id: Option<NonZeroU16>,
        now: Instant,
    ) -> Publish {
        let message = &delivery.message;
        let mut publish = Publish {
            dup: false,
            qos: delivery.qos,
            retain: delivery.retain,
            topic: message.topic.clone(),
            packet_id,
            payload: message.payload.clone(),
            topic_alias: None,
            expiry_s: None,
            subscription_ids: Vec::new(),
            properties: None,
        };
        if self.client.protocol == Protocol::V5 {
            publish.expiry_s = message.remaining(now).map(|left| left.map_or(0, seconds));
            publish.subscription_ids = delivery.subscription_ids.to_vec();
            publish.properties.clone_from(&message.properties);
        }
        publish
    }

    /// Sends a PUBLISH, with an alias for its topic if the client takes one.
    fn send_publish(&mut self, publish: Publish) -> Result<(), TooLarge> {
        let aliases = (self.alias_max_out > 0).then(|| self.aliases.get_or_insert_default());
        let Some((alias, is_known)) =
            aliases.as_ref().and_then(|aliases| aliases.for_topic(&publish.topic, self.alias_max_out))
        else {
            return self.wire.send(Outgoing::Publish(publish));
        };
        let topic_alias = Some(alias);
        if is_known {
            let topic = ByteString::new();
            return self.wire.send(Outgoing::Publish(Publish { topic, topic_alias, ..publish }));
        }
        let topic = publish.topic.clone();
        match self.wire.send(Outgoing::Publish(Publish { topic_alias, ..publish.clone() })) {
            Ok(()) => {
                // Only now the client knows it.
                aliases.into_iter().for_each(|aliases| aliases.sent(topic.clone(), alias));
                Ok(())
            }
            // The alias may be what makes it too large.
            Err(TooLarge { .. }) => self.wire.send(Outgoing::Publish(publish)),
        }
    }

    /// Sends the acknowledgement whose receipt has settled.
    pub(super) fn send_ack(&mut self, entry: PendingAck, result: Result<(), Fault>) -> Result<(), End> {
        if let (AckKind::End, Some(refusal)) = (entry.kind, entry.refusal) {
            if let Err(fault) = result {
                self.broker.metrics.dropped("rejection_not_stored");
                tracing::debug!(client = &*self.client.id, error = %fault, "a rejection was not stored");
            }
            return Err(End::told("refused", refusal.reason_code, refusal.cause));
        }
        let (reason_code, reason_string) = match (result, entry.refusal) {
            (Ok(()), None) => (reason::SUCCESS, None),
            (Ok(()), Some(refusal)) => (refusal.reason_code, Some(refusal.cause)),
            (Err(fault), _) => self.not_stored(entry.kind, &fault)?,
        };
        if let Some(received_at) = entry.received_at {
            let seconds = received_at.elapsed().as_secs_f64();
            self.broker.metrics.publish_to_stored.observe(seconds);
            if entry.kind != AckKind::None {
                self.broker.metrics.publish_to_ack.observe(seconds);
            }
        }
        let ack = |packet_id| Ack {
            packet_id,
            reason_code,
            reason_string: reason_string.filter(|_| self.wants_reasons),
        };
        match entry.kind {
            AckKind::None | AckKind::End => Ok(()),
            AckKind::Puback(packet_id) => self.send(Outgoing::Puback(ack(packet_id))),
            AckKind::Pubrec(packet_id) => self.send(Outgoing::Pubrec(ack(packet_id))),
            // If the first could not be stored, its PUBREC has said so, and this one must not say
            // otherwise.
            AckKind::PubrecAgain(packet_id) if !self.session.has_received(packet_id) => Ok(()),
            AckKind::PubrecAgain(packet_id) => self.send(Outgoing::Pubrec(ack(packet_id))),
        }
    }

    /// A record was not stored. What can never be stored is refused; in all other cases the
    /// connection ends without an acknowledgement, and the client sends the message again.
    fn not_stored(&mut self, kind: AckKind, fault: &Fault) -> Result<(u8, Option<&'static str>), End> {
        match kind {
            AckKind::None | AckKind::End => self.broker.metrics.dropped("record_not_stored"),
            AckKind::Puback(_) | AckKind::Pubrec(_) | AckKind::PubrecAgain(_) => {
                self.broker.metrics.publish_faulted.inc();
            }
        }
        tracing::debug!(client = &*self.client.id, error = %fault, "a record was not stored");
        if let AckKind::Pubrec(packet_id) = kind {
            self.session.release(packet_id);
        }
        match (kind, fault) {
            (AckKind::None, _) => Ok((reason::SUCCESS, None)),
            (_, Fault::Permanent(_)) if self.client.protocol == Protocol::V5 => {
                Ok((reason::IMPLEMENTATION_SPECIFIC, Some("the message cannot be stored")))
            }
            _ => Err(End::told("not_stored", reason::IMPLEMENTATION_SPECIFIC, "the message was not stored")),
        }
    }
}

/// Whole seconds, rounded up: 0 would say that the message has expired.
fn seconds(left: Duration) -> u32 {
    u32::try_from(left.as_secs() + u64::from(left.subsec_nanos() > 0)).unwrap_or(u32::MAX)
}

//! PUBLISH to a subscriber (MQTT 5, section 3.3).

use std::num::NonZeroU16;

use latchline_shared::message::{Properties, Protocol, Qos};

use super::TooLarge;
use super::writer::{Frame, Sink};
use crate::packet::types::Publish;
use crate::packet::wire::{Kind, property};

/// Appends a PUBLISH.
pub(super) fn encode(publish: &Publish, protocol: Protocol, frame: &mut Frame<'_>) -> Result<(), TooLarge> {
    debug_assert_eq!(publish.qos != Qos::AtMostOnce, publish.packet_id.is_some());
    let flags = u8::from(publish.dup) << 3 | publish.qos.level() << 1 | u8::from(publish.retain);
    frame.write(Kind::Publish.first_byte() | flags, |sink| {
        sink.binary(publish.topic.as_bytes());
        if publish.qos != Qos::AtMostOnce {
            sink.u16(publish.packet_id.map_or(0, NonZeroU16::get));
        }
        if protocol == Protocol::V5 {
            sink.block(|sink| put_properties(sink, publish));
        }
        sink.put(&publish.payload);
    })
}

fn put_properties(sink: &mut dyn Sink, publish: &Publish) {
    if let Some(alias) = publish.topic_alias {
        sink.u8(property::TOPIC_ALIAS);
        sink.u16(alias.get());
    }
    if let Some(expiry_s) = publish.expiry_s {
        sink.u8(property::MESSAGE_EXPIRY);
        sink.u32(expiry_s);
    }
    for &id in &publish.subscription_ids {
        sink.u8(property::SUBSCRIPTION_ID);
        sink.varint(id);
    }
    if let Some(passed_on) = &publish.properties {
        put_passed_on(sink, passed_on);
    }
}

fn put_passed_on(sink: &mut dyn Sink, properties: &Properties) {
    if let Some(utf8) = properties.utf8_payload {
        sink.u8(property::PAYLOAD_FORMAT);
        sink.u8(u8::from(utf8));
    }
    if let Some(content_type) = &properties.content_type {
        sink.u8(property::CONTENT_TYPE);
        sink.binary(content_type.as_bytes());
    }
    if let Some(topic) = &properties.response_topic {
        sink.u8(property::RESPONSE_TOPIC);
        sink.binary(topic.as_bytes());
    }
    if let Some(data) = &properties.correlation_data {
        sink.u8(property::CORRELATION_DATA);
        sink.binary(data);
    }
    for (name, value) in &properties.user {
        sink.u8(property::USER);
        sink.binary(name.as_bytes());
        sink.binary(value.as_bytes());
    }
}

//! Packets to bytes, in the version of the client.
//!
//! What a packet says is written once, in the words of MQTT 5; the 3.1.1 form is the same or less:
//! return codes instead of reason codes, no properties, no DISCONNECT (MQTT 3.1.1, section 3).
//! A reason string is left out where it would make the packet too large (MQTT 5, section 3.4.2.2.2).
//!
//! Invariants:
//! - A packet is measured before it is written, by the code that writes it, so that its lengths
//!   are right and the output grows once.
//! - After an error the output is as it was.

mod connack;
mod publish;
mod writer;

use bytes::BytesMut;
use latchline_shared::message::Protocol;

use super::types::{Ack, Disconnect, Outgoing, Suback};
use super::wire::{Kind, property};
use writer::{Frame, Sink};

/// The packet is larger than the receiver accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packet is larger than the {bytes_max} bytes that the receiver accepts")]
pub struct TooLarge {
    /// The receiver's maximum packet size, or that of MQTT itself.
    pub bytes_max: u32,
}

/// Appends the packet to `output`, unless it exceeds the receiver's maximum packet size.
pub fn encode(
    packet: Outgoing,
    protocol: Protocol,
    packet_bytes_max: Option<u32>,
    output: &mut BytesMut,
) -> Result<(), TooLarge> {
    let mut frame = Frame::new(packet_bytes_max, output);
    match packet {
        Outgoing::Connack(connack) => connack::encode(&connack, protocol, &mut frame),
        Outgoing::Publish(publish) => publish::encode(&publish, protocol, &mut frame),
        Outgoing::Puback(ack) => encode_ack(Kind::Puback, ack, protocol, &mut frame),
        Outgoing::Pubrec(ack) => encode_ack(Kind::Pubrec, ack, protocol, &mut frame),
        Outgoing::Pubrel(ack) => encode_ack(Kind::Pubrel, ack, protocol, &mut frame),
        Outgoing::Pubcomp(ack) => encode_ack(Kind::Pubcomp, ack, protocol, &mut frame),
        Outgoing::Suback(suback) => encode_suback(&suback, protocol, &mut frame),
        Outgoing::Unsuback(unsuback) => encode_unsuback(&unsuback, protocol, &mut frame),
        Outgoing::Pingresp => frame.write(Kind::Pingresp.first_byte(), |_| {}),
        Outgoing::Disconnect(disconnect) => encode_disconnect(disconnect, protocol, &mut frame),
    }
}

fn encode_ack(kind: Kind, ack: Ack, protocol: Protocol, frame: &mut Frame<'_>) -> Result<(), TooLarge> {
    let reason_string = match protocol {
        Protocol::V3 => None,
        Protocol::V5 => ack.reason_string,
    };
    with_reason(reason_string, |reason_string| {
        frame.write(kind.first_byte(), |sink| {
            sink.u16(ack.packet_id.get());
            // Success without properties is what a packet id alone means, in both versions.
            if protocol == Protocol::V5 && (ack.reason_code != 0 || reason_string.is_some()) {
                sink.u8(ack.reason_code);
                if reason_string.is_some() {
                    sink.block(|sink| put_reason(sink, reason_string));
                }
            }
        })
    })
}

fn encode_suback(suback: &Suback, protocol: Protocol, frame: &mut Frame<'_>) -> Result<(), TooLarge> {
    frame.write(Kind::Suback.first_byte(), |sink| {
        sink.u16(suback.packet_id.get());
        match protocol {
            Protocol::V3 => suback.reason_codes.iter().for_each(|&code| sink.u8(code.min(0x80))),
            Protocol::V5 => {
                sink.block(|_| {});
                sink.put(&suback.reason_codes);
            }
        }
    })
}

fn encode_unsuback(unsuback: &Suback, protocol: Protocol, frame: &mut Frame<'_>) -> Result<(), TooLarge> {
    frame.write(Kind::Unsuback.first_byte(), |sink| {
        sink.u16(unsuback.packet_id.get());
        if protocol == Protocol::V5 {
            sink.block(|_| {});
            sink.put(&unsuback.reason_codes);
        }
    })
}

fn encode_disconnect(
    disconnect: Disconnect,
    protocol: Protocol,
    frame: &mut Frame<'_>,
) -> Result<(), TooLarge> {
    if protocol == Protocol::V3 {
        return Ok(());
    }
    with_reason(disconnect.reason_string, |reason_string| {
        frame.write(Kind::Disconnect.first_byte(), |sink| {
            sink.u8(disconnect.reason_code);
            // A server may not send a session expiry (MQTT-3.14.2-2). The empty block could be
            // left out, but rumqttc 0.25 does not understand a DISCONNECT of one byte.
            sink.block(|sink| put_reason(sink, reason_string));
        })
    })
}

/// Encodes with the reason string, or without it if it does not fit.
fn with_reason(
    reason_string: Option<&'static str>,
    mut encode: impl FnMut(Option<&'static str>) -> Result<(), TooLarge>,
) -> Result<(), TooLarge> {
    match encode(reason_string) {
        Err(TooLarge { .. }) if reason_string.is_some() => encode(None),
        result => result,
    }
}

fn put_reason(sink: &mut dyn Sink, reason_string: Option<&'static str>) {
    if let Some(reason_string) = reason_string {
        sink.u8(property::REASON_STRING);
        sink.binary(reason_string.as_bytes());
    }
}

//! CONNACK (MQTT 5, section 3.2; MQTT 3.1.1, section 3.2).

use std::num::NonZeroU16;

use latchline_shared::message::Protocol;

use super::writer::{Frame, Sink};
use super::{TooLarge, put_reason, with_reason};
use crate::packet::types::{Connack, reason};
use crate::packet::wire::{Kind, property};

/// Appends a CONNACK.
pub(super) fn encode(connack: &Connack, protocol: Protocol, frame: &mut Frame<'_>) -> Result<(), TooLarge> {
    // There is no session to speak of after a refusal (MQTT-3.2.2-6).
    let session_present = connack.session_present && connack.reason_code == reason::SUCCESS;
    let first_byte = Kind::Connack.first_byte();
    match protocol {
        Protocol::V3 => frame
            .write(first_byte, |sink| sink.put(&[session_present.into(), return_code(connack.reason_code)])),
        Protocol::V5 => with_reason(connack.reason_string, |reason_string| {
            frame.write(first_byte, |sink| {
                sink.put(&[session_present.into(), connack.reason_code]);
                sink.block(|sink| {
                    put_properties(sink, connack);
                    put_reason(sink, reason_string);
                });
            })
        }),
    }
}

/// The return code of 3.1.1 (section 3.2.2.3) for a reason code.
fn return_code(reason_code: u8) -> u8 {
    /// Nothing in the broker says so, but a hook may.
    const BANNED: u8 = 0x8a;
    const UNACCEPTABLE_PROTOCOL_VERSION: u8 = 1;
    const IDENTIFIER_REJECTED: u8 = 2;
    const SERVER_UNAVAILABLE: u8 = 3;
    const BAD_USER_NAME_OR_PASSWORD: u8 = 4;
    const NOT_AUTHORIZED: u8 = 5;
    match reason_code {
        reason::SUCCESS => 0,
        reason::UNSUPPORTED_PROTOCOL_VERSION => UNACCEPTABLE_PROTOCOL_VERSION,
        reason::CLIENT_ID_NOT_VALID => IDENTIFIER_REJECTED,
        reason::BAD_CREDENTIALS | reason::BAD_AUTHENTICATION_METHOD => BAD_USER_NAME_OR_PASSWORD,
        reason::NOT_AUTHORIZED | BANNED => NOT_AUTHORIZED,
        _ => SERVER_UNAVAILABLE,
    }
}

/// What is at its default is not said.
fn put_properties(sink: &mut dyn Sink, connack: &Connack) {
    if let Some(expiry_s) = connack.session_expiry_s {
        sink.u8(property::SESSION_EXPIRY);
        sink.u32(expiry_s);
    }
    if connack.receive_max != NonZeroU16::MAX {
        sink.u8(property::RECEIVE_MAX);
        sink.u16(connack.receive_max.get());
    }
    if let Some(bytes_max) = connack.packet_size_max {
        sink.u8(property::PACKET_SIZE_MAX);
        sink.u32(bytes_max);
    }
    if let Some(client_id) = &connack.assigned_client_id {
        sink.u8(property::ASSIGNED_CLIENT_ID);
        sink.binary(client_id.as_bytes());
    }
    if connack.topic_alias_max != 0 {
        sink.u8(property::TOPIC_ALIAS_MAX);
        sink.u16(connack.topic_alias_max);
    }
    if let Some(keep_alive_s) = connack.server_keep_alive_s {
        sink.u8(property::SERVER_KEEP_ALIVE);
        sink.u16(keep_alive_s);
    }
}

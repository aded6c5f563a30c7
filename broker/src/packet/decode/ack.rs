//! PUBACK, PUBREC, PUBREL, PUBCOMP (MQTT 5, sections 3.4 to 3.7) and DISCONNECT (section 3.14):
//! a reason code and properties that may both be left out.

use latchline_shared::message::Protocol;

use super::flaw::Flaw;
use super::property;
use super::reader::Reader;
use crate::packet::types::{Ack, Disconnect, reason};
use crate::packet::wire::{Kind, property as id};

const UNDEFINED: Flaw = Flaw::protocol("reason code is not one of this packet");

/// Reads an acknowledgement of the given kind.
pub(super) fn decode(body: &mut Reader, kind: Kind, protocol: Protocol) -> Result<Ack, Flaw> {
    let packet_id = body.packet_id()?;
    if protocol == Protocol::V3 || body.is_empty() {
        return Ok(Ack::success(packet_id));
    }
    let reason_code = body.u8()?;
    if !is_ack_reason(kind, reason_code) {
        return Err(UNDEFINED);
    }
    if !body.is_empty() {
        property::read_reason(body)?;
    }
    Ok(Ack { packet_id, reason_code, reason_string: None })
}

/// Reads a DISCONNECT. Whether it may change the session expiry is the session's business.
pub(super) fn decode_disconnect(body: &mut Reader, protocol: Protocol) -> Result<Disconnect, Flaw> {
    let mut disconnect =
        Disconnect { reason_code: reason::SUCCESS, reason_string: None, session_expiry_s: None };
    if protocol == Protocol::V3 || body.is_empty() {
        return Ok(disconnect);
    }
    disconnect.reason_code = body.u8()?;
    if !is_disconnect_reason(disconnect.reason_code) {
        return Err(UNDEFINED);
    }
    if !body.is_empty() {
        property::read(body, |id, value| match id {
            id::SESSION_EXPIRY => {
                disconnect.session_expiry_s = Some(value.u32()?);
                Ok(())
            }
            id::REASON_STRING => value.text().map(drop),
            id::SERVER_REFERENCE => Err(Flaw::protocol("server reference from a client")),
            _ => property::read_user(id, value),
        })?;
    }
    Ok(disconnect)
}

// Both tables hold what only a server should say, too: other brokers that connect as bridges
// answer with such codes, and nothing depends on them here.

fn is_ack_reason(kind: Kind, code: u8) -> bool {
    match kind {
        Kind::Pubrel | Kind::Pubcomp => matches!(code, 0x00 | 0x92),
        _ => matches!(code, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99),
    }
}

fn is_disconnect_reason(code: u8) -> bool {
    matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2)
}

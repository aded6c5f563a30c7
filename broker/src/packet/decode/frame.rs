//! The fixed header (MQTT 5, section 2.1): what comes, how long it is, and whether it may come.
//!
//! It is judged as far as its bytes have arrived and before the body, so that a client that speaks
//! something else, or claims 256 MB, is refused at once.

use latchline_shared::message::Protocol;

use super::DecodeError;
use super::flaw::Flaw;
use crate::packet::types::reason;
use crate::packet::wire::Kind;

const RETAIN: u8 = 0b0001;
const QOS: u8 = 0b0110;
const DUP: u8 = 0b1000;

/// A fixed header that may come now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: PublishFlags,
    /// Length of the header itself: 2 to 5.
    pub(super) bytes: usize,
    body_bytes: usize,
}

/// The flags in a first byte; they mean something in PUBLISH only.
#[derive(Debug, Clone, Copy)]
pub(super) struct PublishFlags {
    pub(super) dup: bool,
    pub(super) qos_level: u8,
    pub(super) retain: bool,
}

impl Header {
    /// Length of the packet.
    pub(super) fn packet_bytes(&self) -> usize {
        self.bytes + self.body_bytes
    }
}

impl PublishFlags {
    fn of(first_byte: u8) -> Self {
        Self {
            dup: first_byte & DUP != 0,
            qos_level: (first_byte & QOS) >> 1,
            retain: first_byte & RETAIN != 0,
        }
    }
}

/// The header at the front of `input`, `None` if it is not whole yet. `protocol` is none before
/// CONNECT.
pub(super) fn header(
    input: &[u8],
    protocol: Option<Protocol>,
    packet_bytes_max: u32,
) -> Result<Option<Header>, DecodeError> {
    let Some((&first_byte, rest)) = input.split_first() else {
        return Ok(None);
    };
    let kind = kind(first_byte, protocol)?;
    let flags = PublishFlags::of(first_byte);
    let within = |flaw: Flaw| flaw.within(kind.name());
    check_flags(kind, first_byte, flags).map_err(within)?;
    let Some((body_bytes, length_bytes)) = remaining_length(rest).map_err(within)? else {
        return Ok(None);
    };
    let header = Header { kind, flags, bytes: 1 + length_bytes, body_bytes };
    if header.packet_bytes() > packet_bytes_max as usize {
        let flaw = Flaw::new(reason::PACKET_TOO_LARGE, "packet is larger than the maximum packet size");
        return Err(within(flaw));
    }
    Ok(Some(header))
}

/// The packet type, if the client may send it now.
fn kind(first_byte: u8, protocol: Option<Protocol>) -> Result<Kind, DecodeError> {
    let Some(kind) = Kind::of(first_byte) else {
        return Err(match protocol {
            None => Flaw::protocol("first packet is not CONNECT").within("packet"),
            Some(_) => Flaw::malformed("packet type 0 is reserved").within("packet"),
        });
    };
    let flaw = match (kind, protocol) {
        (Kind::Connect, None) => return Ok(kind),
        (_, None) => Flaw::protocol("first packet is not CONNECT"),
        (Kind::Connect, Some(_)) => Flaw::protocol("second CONNECT"),
        (Kind::Connack | Kind::Suback | Kind::Unsuback | Kind::Pingresp, Some(_)) => {
            Flaw::protocol("only the server sends this packet")
        }
        (Kind::Auth, Some(Protocol::V3)) => Flaw::malformed("packet type 15 is reserved in MQTT 3.1.1"),
        _ => return Ok(kind),
    };
    Err(flaw.within(kind.name()))
}

fn check_flags(kind: Kind, first_byte: u8, flags: PublishFlags) -> Result<(), Flaw> {
    if kind != Kind::Publish {
        let right = first_byte == kind.first_byte();
        return if right { Ok(()) } else { Err(Flaw::malformed("flags of the fixed header are wrong")) };
    }
    match flags.qos_level {
        3 => Err(Flaw::malformed("QoS is 3")),
        0 if flags.dup => Err(Flaw::malformed("DUP is set with QoS 0")),
        _ => Ok(()),
    }
}

/// The remaining length and how many bytes it takes, `None` if it is not whole yet.
fn remaining_length(input: &[u8]) -> Result<Option<(usize, usize)>, Flaw> {
    let mut value = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return if byte == 0 && index > 0 {
                Err(Flaw::malformed("remaining length is not in its shortest form"))
            } else {
                Ok(Some((value, index + 1)))
            };
        }
    }
    if input.len() < 4 { Ok(None) } else { Err(Flaw::malformed("remaining length is longer than 4 bytes")) }
}

//! Bytes from a client to packets: strict, without copies, without state but the version.
//!
//! A packet that either specification forbids is an error with the reason code of MQTT 5 that says
//! why, for 3.1.1 too; the connection is to be closed then, and the decoder not to be asked again.
//! What depends on the session (aliases in use, packet ids in use, receive maximum) is not checked
//! here.
//!
//! Invariants:
//! - The decoder buffers nothing and reserves nothing: a packet is taken out of the input when it
//!   is whole, and a header that claims too much is refused before the first byte of its body.
//! - The result depends on the bytes alone, not on how they are cut into reads.
//! - Topics, strings and payloads are slices of the input's allocation. When nothing is left, that
//!   allocation goes with the last packet and the input owns no memory.
//!
//! Non-guarantee: a slice keeps the whole allocation of its read alive, so whoever keeps one for
//! long (a retained message, the queue of a session that is away) copies it.

mod ack;
mod connect;
mod flaw;
mod frame;
mod message;
mod property;
mod publish;
mod reader;
mod subscribe;

use bytes::{Buf, BytesMut};
use latchline_shared::message::Protocol;

use super::types::Incoming;
use super::wire::Kind;
use flaw::Flaw;
use frame::Header;
use reader::Reader;

/// Takes packets off the front of a connection's input.
#[derive(Debug)]
pub struct Decoder {
    packet_bytes_max: u32,
    protocol: Option<Protocol>,
}

/// Why a packet was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{packet}: {what}")]
pub struct DecodeError {
    /// Reason code for CONNACK or DISCONNECT.
    pub reason_code: u8,
    /// Name of the packet, such as `PUBLISH`; `packet` if it has none.
    pub packet: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Decoder {
    /// A decoder for a new connection: it expects CONNECT first, and no packet longer than
    /// `packet_bytes_max`, which counts the whole packet as Maximum Packet Size in CONNACK does.
    pub fn new(packet_bytes_max: u32) -> Self {
        Self { packet_bytes_max, protocol: None }
    }

    /// Sets how long packets may be from now on.
    pub fn set_packet_bytes_max(&mut self, packet_bytes_max: u32) {
        self.packet_bytes_max = packet_bytes_max;
    }

    /// Takes the next packet out of `input`; `None` when it is not whole yet.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, DecodeError> {
        let Some(header) = frame::header(input, self.protocol, self.packet_bytes_max)? else {
            return Ok(None);
        };
        if input.len() < header.packet_bytes() {
            return Ok(None);
        }
        let mut packet = take(input, header.packet_bytes());
        packet.advance(header.bytes);
        let incoming = self.body(header, Reader::new(packet.freeze()));
        incoming.map(Some).map_err(|flaw| flaw.within(header.kind.name()))
    }

    /// The version that the client speaks, known from its CONNECT on, even if that CONNECT was an
    /// error: then it says in which version to answer. A client that asked for a version that
    /// there is not is answered in the nearest one. `None` after an error means that there is
    /// nobody who would understand an answer.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    fn body(&mut self, header: Header, mut body: Reader) -> Result<Incoming, Flaw> {
        let body = &mut body;
        let Some(protocol) = self.protocol else {
            // The header was let through, so it is a CONNECT.
            let connect = connect::decode(body, &mut self.protocol)?;
            body.end()?;
            return Ok(Incoming::Connect(Box::new(connect)));
        };
        let incoming = match header.kind {
            Kind::Publish => Incoming::Publish(publish::decode(body, header.flags, protocol)?),
            Kind::Puback => Incoming::Puback(ack::decode(body, header.kind, protocol)?),
            Kind::Pubrec => Incoming::Pubrec(ack::decode(body, header.kind, protocol)?),
            Kind::Pubrel => Incoming::Pubrel(ack::decode(body, header.kind, protocol)?),
            Kind::Pubcomp => Incoming::Pubcomp(ack::decode(body, header.kind, protocol)?),
            Kind::Subscribe => Incoming::Subscribe(subscribe::decode(body, protocol)?),
            Kind::Unsubscribe => Incoming::Unsubscribe(subscribe::decode_unsubscribe(body, protocol)?),
            Kind::Pingreq => Incoming::Pingreq,
            Kind::Disconnect => Incoming::Disconnect(ack::decode_disconnect(body, protocol)?),
            // Its body is not read, because no AUTH is ever accepted.
            Kind::Auth => return Ok(Incoming::Auth),
            Kind::Connect | Kind::Connack | Kind::Suback | Kind::Unsuback | Kind::Pingresp => {
                return Err(Flaw::protocol("not a packet that the client may send now"));
            }
        };
        body.end()?;
        Ok(incoming)
    }
}

/// Takes `bytes` off the front of `input`, and with the last of them its allocation, so that a
/// connection with nothing buffered holds no memory.
fn take(input: &mut BytesMut, bytes: usize) -> BytesMut {
    if bytes == input.len() { std::mem::take(input) } else { input.split_to(bytes) }
}

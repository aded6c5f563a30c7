//! Tests of the wire format: tables of what is refused, accepted and written, properties over any
//! bytes and any cuts, and comparison of both ways with `rmqtt-codec`.

mod accepted;
mod corpus;
mod encoded;
mod encoded_compared;
mod generated;
mod mutated;
mod oracle;
mod refused;
mod refused_connect;
mod stream;

use bytes::BytesMut;
use latchline_shared::message::Protocol;

use super::decode::{DecodeError, Decoder};
use super::types::Incoming;

const VERSIONS: [Protocol; 2] = [Protocol::V3, Protocol::V5];
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// A packet with this first byte and a body of these parts.
fn packet(first_byte: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first_byte][..], &varint(body.len()), &body].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

/// A string with its length.
fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// A property block, which 3.1.1 does not have.
fn block(protocol: Protocol, properties: &[u8]) -> Vec<u8> {
    match protocol {
        Protocol::V3 => Vec::new(),
        Protocol::V5 => [&varint(properties.len())[..], properties].concat(),
    }
}

/// A CONNECT with these flags and properties, and a payload from the client id on.
fn connect(protocol: Protocol, flags: u8, properties: &[u8], payload: &[&[u8]]) -> Vec<u8> {
    let head = [&text("MQTT")[..], &[protocol as u8, flags, 0, 60]].concat();
    packet(0x10, &[&head, &block(protocol, properties), &payload.concat()])
}

/// A decoder that has seen a CONNECT.
fn connected(protocol: Protocol) -> Decoder {
    let mut decoder = Decoder::new(PACKET_BYTES_MAX);
    let mut input = BytesMut::from(&connect(protocol, 0b10, &[], &[&text("lock")])[..]);
    assert!(matches!(decoder.next(&mut input), Ok(Some(Incoming::Connect(_)))));
    assert_eq!(decoder.protocol(), Some(protocol));
    decoder
}

/// What the decoder makes of these bytes, and what it leaves of them.
fn decode(decoder: &mut Decoder, bytes: &[u8]) -> (Result<Option<Incoming>, DecodeError>, BytesMut) {
    let mut input = BytesMut::from(bytes);
    (decoder.next(&mut input), input)
}

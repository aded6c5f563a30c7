//! Packets: whatever comes, decoding it ends without a panic, and what waits for its end is shorter than a
//! packet may be; wherever the stream is cut, it decodes to the same; and what both sides may send decodes
//! to the same again when it was encoded.
//!
//! The first byte of the input says what came before: nothing, or a CONNECT of either version. The second
//! says where the stream is cut.

#![no_main]

use bytes::BytesMut;
use latchline_broker::packet::decode::{DecodeError, Decoder};
use latchline_broker::packet::encode::encode;
use latchline_broker::packet::types::{Incoming, Outgoing};
use latchline_shared::message::Protocol;
use libfuzzer_sys::fuzz_target;

/// Far less than an input may have, so that longer packets do come.
const PACKET_BYTES_MAX: u32 = 256;

fuzz_target!(|input: &[u8]| {
    let [before, cut, stream @ ..] = input else { return };
    let whole = decode_all(decoder(*before), stream, stream.len().max(1));
    let pieces = decode_all(decoder(*before), stream, usize::from(*cut) % 16 + 1);
    assert_eq!(whole, pieces, "a stream means the same however it is cut");
    let protocol = match before % 3 {
        0 => return,
        1 => Protocol::V3,
        _ => Protocol::V5,
    };
    for packet in whole.0 {
        again(packet, protocol);
    }
});

/// A decoder that has seen a CONNECT, or none.
fn decoder(before: u8) -> Decoder {
    let mut decoder = Decoder::new(PACKET_BYTES_MAX);
    let connect: &[u8] = match before % 3 {
        0 => return decoder,
        1 => b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0",
        _ => b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0",
    };
    let connected = decoder.next(&mut BytesMut::from(connect));
    assert!(matches!(connected, Ok(Some(Incoming::Connect(_)))), "{connected:?}");
    decoder
}

/// All packets of a stream that comes in pieces, and the error that ends it.
fn decode_all(mut decoder: Decoder, stream: &[u8], piece: usize) -> (Vec<Incoming>, Option<DecodeError>) {
    let (mut packets, mut input) = (Vec::new(), BytesMut::new());
    for piece in stream.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => {
                    // A header that claims more is refused before its body is gathered.
                    assert!(input.len() < PACKET_BYTES_MAX as usize, "{} bytes wait", input.len());
                    break;
                }
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

/// What the broker may send, too, is decoded from what it was encoded to.
fn again(packet: Incoming, protocol: Protocol) {
    let outgoing = match packet.clone() {
        Incoming::Publish(publish) => Outgoing::Publish(publish),
        Incoming::Puback(ack) => Outgoing::Puback(ack),
        Incoming::Pubrec(ack) => Outgoing::Pubrec(ack),
        Incoming::Pubrel(ack) => Outgoing::Pubrel(ack),
        Incoming::Pubcomp(ack) => Outgoing::Pubcomp(ack),
        _ => return,
    };
    let mut bytes = BytesMut::new();
    encode(outgoing, protocol, None, &mut bytes).expect("it came in a packet of this size");
    // Written in the shortest way, it is never longer than it came.
    assert!(bytes.len() <= PACKET_BYTES_MAX as usize, "{} bytes", bytes.len());
    let before = if protocol == Protocol::V3 { 1 } else { 2 };
    let decoded = decoder(before).next(&mut bytes).expect("what was encoded is a packet");
    assert_eq!(decoded, Some(packet));
}

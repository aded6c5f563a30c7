//! What is refused after CONNECT, with its reason code.

use latchline_shared::message::Protocol;

use super::{VERSIONS, block, connect, connected, decode, packet, text};
use crate::packet::decode::Decoder;

/// Bytes, reason code, and what is wrong, so that no case is refused for another reason.
pub(super) type Case = (Vec<u8>, u8, &'static str);

const ENDS: &str = "packet ends within a field";
const TRAILING: &str = "bytes after the end of the packet";
const FLAGS: &str = "flags of the fixed header are wrong";
const SERVER_ONLY: &str = "only the server sends this packet";
const TWICE: &str = "property comes twice";
const NOT_ALLOWED: &str = "property is not allowed here";
const NUL: &str = "U+0000 in a string";
const NOT_UTF8: &str = "string is not UTF-8";
const UNDEFINED: &str = "reason code is not one of this packet";

pub(super) fn check(decoder: impl Fn() -> Decoder, protocol: Protocol, cases: Vec<Case>) {
    for (bytes, reason_code, what) in cases {
        let (result, _) = decode(&mut decoder(), &bytes);
        let error = result.expect_err(&format!("{protocol:?} accepts {bytes:x?}: {what}"));
        assert_eq!((error.reason_code, error.what), (reason_code, what), "{protocol:?} {bytes:x?}");
    }
}

fn publish(
    protocol: Protocol,
    flags: u8,
    topic: &[u8],
    id: &[u8],
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    packet(0x30 | flags, &[&text(topic), id, &block(protocol, properties), payload])
}

fn subscribe(protocol: Protocol, properties: &[u8], filter: &[u8], options: u8) -> Vec<u8> {
    packet(0x82, &[&[0, 1], &block(protocol, properties), &text(filter), &[options]])
}

fn unsubscribe(protocol: Protocol, filter: &[u8]) -> Vec<u8> {
    packet(0xa2, &[&[0, 1], &block(protocol, &[]), &text(filter)])
}

#[test]
fn in_both_versions() {
    for v in VERSIONS {
        let none = block(v, &[]);
        let mut cases = vec![
            // Fixed header.
            (vec![0x00, 0x00], 0x81, "packet type 0 is reserved"),
            (connect(v, 0b10, &[], &[&text("lock")]), 0x82, "second CONNECT"),
            (vec![0xc0, 0x80, 0x00], 0x81, "remaining length is not in its shortest form"),
            (vec![0xc0, 0x80, 0x80, 0x00], 0x81, "remaining length is not in its shortest form"),
            (vec![0x30, 0x80, 0x80, 0x80, 0x80], 0x81, "remaining length is longer than 4 bytes"),
            (vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01], 0x81, "remaining length is longer than 4 bytes"),
            (vec![0x30, 0xff, 0xff, 0xff, 0x7f], 0x95, "packet is larger than the maximum packet size"),
            (vec![0x30, 0x80, 0x80, 0x40], 0x95, "packet is larger than the maximum packet size"),
            (vec![0x36], 0x81, "QoS is 3"),
            (vec![0x38], 0x81, "DUP is set with QoS 0"),
            // Lengths.
            (packet(0xc0, &[&[0]]), 0x81, TRAILING),
            (packet(0x30, &[&[0]]), 0x81, ENDS),
            (packet(0x30, &[&[0, 2], b"a"]), 0x81, ENDS),
            (packet(0x32, &[&text("a"), &[0]]), 0x81, ENDS),
            (packet(0x40, &[&[0]]), 0x81, ENDS),
            (packet(0x82, &[&[0, 1], &none, &text("a")]), 0x81, ENDS),
            (packet(0xa2, &[&[0, 1], &none, &[0, 2], b"a"]), 0x81, ENDS),
            // Strings.
            (publish(v, 0, b"a\0b", &[], &[], &[]), 0x81, NUL),
            (publish(v, 0, b"a\xff", &[], &[], &[]), 0x81, NOT_UTF8),
            (publish(v, 0, b"\xed\xa0\x80", &[], &[], &[]), 0x81, NOT_UTF8),
            (subscribe(v, &[], b"a\0", 0), 0x81, NUL),
            (subscribe(v, &[], b"\xc3", 0), 0x81, NOT_UTF8),
            (unsubscribe(v, b"\0"), 0x81, NUL),
            // Packet ids.
            (publish(v, 2, b"a", &[0, 0], &[], &[]), 0x82, "packet id is 0"),
            (publish(v, 4, b"a", &[0, 0], &[], &[]), 0x82, "packet id is 0"),
            (packet(0x82, &[&[0, 0], &none, &text("a"), &[0]]), 0x82, "packet id is 0"),
            (packet(0xa2, &[&[0, 0], &none, &text("a")]), 0x82, "packet id is 0"),
            // Payloads.
            (packet(0x82, &[&[0, 1], &none]), 0x82, "no topic filter"),
            (packet(0xa2, &[&[0, 1], &none]), 0x82, "no topic filter"),
        ];
        for first_byte in [0x40, 0x50, 0x62, 0x70] {
            cases.push((packet(first_byte, &[&[0, 0]]), 0x82, "packet id is 0"));
        }
        for first_byte in [0x20, 0x90, 0xb0, 0xd0, 0x2f] {
            cases.push((vec![first_byte], 0x82, SERVER_ONLY));
        }
        for first_byte in [0x41, 0x52, 0x60, 0x63, 0x72, 0x80, 0x83, 0xa0, 0xa3, 0xc1, 0xe2] {
            cases.push((vec![first_byte], 0x81, FLAGS));
        }
        for topic in [&b"#"[..], b"a/+", b"a/b#"] {
            cases.push((publish(v, 0, topic, &[], &[], &[]), 0x90, "topic is not a topic name"));
        }
        for filter in [&b""[..], b"a/#/b", b"a+", b"a/b#", b"##"] {
            cases.push((subscribe(v, &[], filter, 0), 0x8f, "topic filter is wrong"));
            cases.push((unsubscribe(v, filter), 0x8f, "topic filter is wrong"));
        }
        for filter in
            [&b"$share/g"[..], b"$share/", b"$share//a", b"$share/g/", b"$share/+/a", b"$share/g/a#"]
        {
            let what = "shared subscription is not $share/{group}/{filter}";
            cases.push((subscribe(v, &[], filter, 0), 0x8f, what));
            cases.push((unsubscribe(v, filter), 0x8f, what));
        }
        check(|| connected(v), v, cases);
    }
}

#[test]
fn in_version_3() {
    let v = Protocol::V3;
    let mut cases = vec![
        (vec![0xf0], 0x81, "packet type 15 is reserved in MQTT 3.1.1"),
        (packet(0xe0, &[&[0]]), 0x81, TRAILING),
        (packet(0x40, &[&[0, 1], &[0]]), 0x81, TRAILING),
        (publish(v, 0, b"", &[], &[], &[]), 0x90, "topic is not a topic name"),
        (subscribe(v, &[], b"a", 3), 0x81, "requested QoS is 3"),
    ];
    for bit in 2..8 {
        let what = "reserved bits of the subscription options are set";
        cases.push((subscribe(v, &[], b"a", 1 << bit), 0x81, what));
    }
    check(|| connected(v), v, cases);
}

#[test]
fn in_version_5() {
    let v = Protocol::V5;
    let pair = |id: u8, value: &[u8]| [&[id][..], value, &[id], value].concat();
    let mut cases = vec![
        // PUBLISH.
        (publish(v, 0, b"", &[], &[], &[]), 0x82, "neither topic name nor topic alias"),
        (publish(v, 0, b"a", &[], &[0x23, 0, 0], &[]), 0x94, "topic alias is 0"),
        (publish(v, 0, b"a", &[], &[0x0b, 1], &[]), 0x82, "subscription identifier from a client"),
        (publish(v, 0, b"a", &[], &[0x01, 2], &[]), 0x82, "property is neither 0 nor 1"),
        (
            publish(v, 0, b"a", &[], &[0x01, 1], b"\xff"),
            0x99,
            "payload is not UTF-8 as its format indicator says",
        ),
        (
            publish(v, 0, b"a", &[], &[0x08, 0, 2, b'a', b'#'], &[]),
            0x90,
            "response topic is not a topic name",
        ),
        (publish(v, 0, b"a", &[], &[0x08, 0, 0], &[]), 0x90, "response topic is not a topic name"),
        (publish(v, 0, b"a", &[], &[0x03, 0, 1, 0], &[]), 0x81, NUL),
        (publish(v, 0, b"a", &[], &[0x26, 0, 1, b'n', 0, 1, 0], &[]), 0x81, NUL),
        (publish(v, 0, b"a", &[], &[0x26, 0, 1, 0xff, 0, 0], &[]), 0x81, NOT_UTF8),
        (publish(v, 0, b"a", &[], &[0x02, 0, 0], &[]), 0x81, ENDS),
        (packet(0x30, &[&text("a"), &[5], b"b"]), 0x81, ENDS),
        (
            packet(0x30, &[&text("a"), &[0x80, 0x00]]),
            0x81,
            "variable byte integer is not in its shortest form",
        ),
        (
            packet(0x30, &[&text("a"), &[0x80, 0x80, 0x80, 0x80, 0x01]]),
            0x81,
            "variable byte integer is longer than 4 bytes",
        ),
        // SUBSCRIBE and UNSUBSCRIBE.
        (subscribe(v, &[0x0b, 0], b"a", 0), 0x82, "subscription identifier is 0"),
        (
            subscribe(v, &[0x0b, 0x81, 0x00], b"a", 0),
            0x81,
            "variable byte integer is not in its shortest form",
        ),
        (subscribe(v, &pair(0x0b, &[1]), b"a", 0), 0x82, TWICE),
        (subscribe(v, &[0x1f, 0, 0], b"a", 0), 0x81, NOT_ALLOWED),
        (subscribe(v, &[], b"a", 3), 0x82, "maximum QoS is 3"),
        (subscribe(v, &[], b"a", 0x30), 0x82, "retain handling is 3"),
        (subscribe(v, &[], b"a", 0x40), 0x81, "reserved bits of the subscription options are set"),
        (subscribe(v, &[], b"a", 0x80), 0x81, "reserved bits of the subscription options are set"),
        (subscribe(v, &[], b"$share/g/a", 0x04), 0x82, "no local on a shared subscription"),
        (packet(0xa2, &[&[0, 1], &[2, 0x0b, 1], &text("a")]), 0x81, NOT_ALLOWED),
        // DISCONNECT.
        (packet(0xe0, &[&[0x01]]), 0x82, UNDEFINED),
        (packet(0xe0, &[&[0x00, 3, 0x1c, 0, 0]]), 0x82, "server reference from a client"),
        (packet(0xe0, &[&[0x00, 2, 0x24, 0]]), 0x81, NOT_ALLOWED),
        (packet(0xe0, &[&[0x00, 10], &pair(0x11, &[0, 0, 0, 1])]), 0x82, TWICE),
        (packet(0xe0, &[&[0x00, 0, 0]]), 0x81, TRAILING),
    ];
    for (id, value) in [
        (0x01, &[0][..]),
        (0x02, &[0, 0, 0, 1]),
        (0x03, &[0, 1, b'a']),
        (0x08, &[0, 1, b'a']),
        (0x09, &[0, 1, b'a']),
        (0x23, &[0, 1]),
    ] {
        cases.push((publish(v, 0, b"a", &[], &pair(id, value), &[]), 0x82, TWICE));
    }
    cases.push((publish(v, 0, b"a", &[], &[0x23, 0, 1, 0x01, 0, 0x23, 0, 1], &[]), 0x82, TWICE));
    // Reserved, of other packets, and beyond all identifiers.
    for id in [0x00, 0x11, 0x18, 0x1f, 0x24, 0x2a, 0x3f, 0x40, 0x7f, 0x80, 0xff] {
        cases.push((publish(v, 0, b"a", &[], &[id, 0, 0, 0, 0], &[]), 0x81, NOT_ALLOWED));
    }
    for first_byte in [0x40, 0x50, 0x62, 0x70] {
        cases.push((packet(first_byte, &[&[0, 1, 0x01]]), 0x82, UNDEFINED));
        cases.push((packet(first_byte, &[&[0, 1, 0, 0, 0]]), 0x81, TRAILING));
        cases.push((packet(first_byte, &[&[0, 1, 0, 2, 0x24, 0]]), 0x81, NOT_ALLOWED));
        cases.push((packet(first_byte, &[&[0, 1, 0, 6], &pair(0x1f, &[0, 0])]), 0x82, TWICE));
        cases.push((packet(first_byte, &[&[0, 1, 0, 4, 0x1f, 0, 1, 0]]), 0x81, NUL));
    }
    for first_byte in [0x62, 0x70] {
        cases.push((packet(first_byte, &[&[0, 1, 0x80]]), 0x82, UNDEFINED));
    }
    check(|| connected(v), v, cases);
}

#[test]
fn a_claim_beyond_the_maximum_is_refused_from_the_header_and_costs_nothing() {
    let mut decoder = connected(Protocol::V5);
    let header = [0x30, 0xff, 0xff, 0xff, 0x7f];
    for bytes in 0..header.len() {
        let (result, input) = decode(&mut decoder, &header[..bytes]);
        assert_eq!(result, Ok(None));
        assert!(input.capacity() < 64, "{} bytes reserved", input.capacity());
    }
    let (result, input) = decode(&mut decoder, &header);
    assert_eq!(result.unwrap_err().reason_code, 0x95);
    assert!(input.capacity() < 64);
}

#[test]
fn the_maximum_counts_the_whole_packet() {
    let whole = publish(Protocol::V5, 0, b"a", &[], &[], &[b'x'; 100]);
    let bytes = u32::try_from(whole.len()).unwrap();
    for (packet_bytes_max, fits) in [(bytes, true), (bytes - 1, false)] {
        let mut decoder = Decoder::new(packet_bytes_max);
        assert!(decode(&mut decoder, &connect(Protocol::V5, 2, &[], &[&text("x")])).0.is_ok());
        assert_eq!(decode(&mut decoder, &whole).0.is_ok(), fits, "{packet_bytes_max}");
    }
}

#[test]
fn an_error_names_the_packet_and_what_is_wrong() {
    let (result, _) = decode(&mut connected(Protocol::V5), &subscribe(Protocol::V5, &[], b"a/#/b", 0));
    assert_eq!(result.unwrap_err().to_string(), "SUBSCRIBE: topic filter is wrong");
    let (result, _) = decode(&mut connected(Protocol::V3), &[0x00]);
    assert_eq!(result.unwrap_err().to_string(), "packet: packet type 0 is reserved");
}

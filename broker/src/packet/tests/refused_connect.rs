//! What is refused as the first packet, and in which version to answer.

use latchline_shared::message::Protocol;

use super::refused::check;
use super::{PACKET_BYTES_MAX, VERSIONS, block, connect, decode, packet, text};
use crate::packet::decode::Decoder;

const ENDS: &str = "packet ends within a field";
const FIRST: &str = "first packet is not CONNECT";
const VERSION: &str = "protocol is neither MQTT 3.1.1 (level 4) nor MQTT 5 (level 5)";
const TWICE: &str = "property comes twice";

fn new() -> Decoder {
    Decoder::new(PACKET_BYTES_MAX)
}

#[test]
fn in_both_versions() {
    for v in VERSIONS {
        let id = text("lock");
        let none = block(v, &[]);
        let will = |topic: &[u8]| connect(v, 0b0110, &[], &[&id, &none, &text(topic), &text("gone")]);
        let whole = connect(v, 0b1100_0010, &[], &[&id, &text("user"), &text("word")]);
        let mut cases = vec![
            (vec![0x11], 0x81, "flags of the fixed header are wrong"),
            (connect(v, 0b0011, &[], &[&id]), 0x81, "reserved connect flag is set"),
            (connect(v, 0b0001_1110, &[], &[&id]), 0x81, "will QoS is 3"),
            (connect(v, 0b0001_1010, &[], &[&id]), 0x81, "will QoS is 3"),
            (connect(v, 0b0000_1010, &[], &[&id]), 0x81, "will QoS or will retain without will flag"),
            (connect(v, 0b0010_0010, &[], &[&id]), 0x81, "will QoS or will retain without will flag"),
            (connect(v, 0b0010, &[], &[&text("lo\0ck")]), 0x81, "U+0000 in a string"),
            (connect(v, 0b0010, &[], &[&text(b"lock\xff")]), 0x81, "string is not UTF-8"),
            (connect(v, 0b1000_0010, &[], &[&id, &text("\0")]), 0x81, "U+0000 in a string"),
            (will(b"a\0"), 0x81, "U+0000 in a string"),
            (will(b"a/+"), 0x90, "will topic is not a topic name"),
            (will(b"#"), 0x90, "will topic is not a topic name"),
            (will(b""), 0x90, "will topic is not a topic name"),
            (connect(v, 0b0010, &[], &[&id, &[0]]), 0x81, "bytes after the end of the packet"),
            (connect(v, 0b0010, &[], &[&id, &text("user")]), 0x81, "bytes after the end of the packet"),
            (connect(v, 0b1000_0010, &[], &[&id]), 0x81, ENDS),
            (connect(v, 0b0110, &[], &[&id, &none, &text("a")]), 0x81, ENDS),
            (vec![0x10, 0xff, 0xff, 0xff, 0x7f], 0x95, "packet is larger than the maximum packet size"),
        ];
        for end in 2..whole.len() {
            cases.push((packet(0x10, &[&whole[2..end]]), 0x81, ENDS));
        }
        check(new, v, cases);
    }
}

#[test]
fn in_version_3() {
    let v = Protocol::V3;
    let id = text("lock");
    let cases = vec![
        (connect(v, 0b0100_0010, &[], &[&id, &text("word")]), 0x81, "password flag without user name flag"),
        (connect(v, 0, &[], &[&text("")]), 0x85, "client id is empty and clean session is 0"),
    ];
    check(new, v, cases);
}

#[test]
fn in_version_5() {
    let v = Protocol::V5;
    let id = text("lock");
    let with = |properties: &[u8]| connect(v, 2, properties, &[&id]);
    let will = |properties: &[u8], payload: &[u8]| {
        connect(v, 0b0110, &[], &[&id, &block(v, properties), &text("a"), &text(payload)])
    };
    let mut cases = vec![
        (with(&[0x21, 0, 0]), 0x82, "receive maximum is 0"),
        (with(&[0x27, 0, 0, 0, 0]), 0x82, "maximum packet size is 0"),
        (with(&[0x17, 2]), 0x82, "property is neither 0 nor 1"),
        (with(&[0x19, 2]), 0x82, "property is neither 0 nor 1"),
        (with(&[0x16, 0, 1, 7]), 0x82, "authentication data without authentication method"),
        (with(&[0x15, 0, 1, 0]), 0x81, "U+0000 in a string"),
        (with(&[0x18, 0, 0, 0, 1]), 0x81, "property is not allowed here"),
        (with(&[0x01, 0]), 0x81, "property is not allowed here"),
        (with(&[0x11, 0, 0]), 0x81, ENDS),
        (will(&[0x11, 0, 0, 0, 1], b""), 0x81, "property is not allowed here"),
        (will(&[0x23, 0, 1], b""), 0x81, "property is not allowed here"),
        (will(&[0x01, 2], b""), 0x82, "property is neither 0 nor 1"),
        (will(&[0x01, 1], b"\xff"), 0x99, "payload is not UTF-8 as its format indicator says"),
        (will(&[0x08, 0, 1, b'+'], b""), 0x90, "response topic is not a topic name"),
        (will(&[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1], b""), 0x82, TWICE),
    ];
    for (property, value) in [
        (0x11, &[0, 0, 0, 1][..]),
        (0x15, &[0, 1, b'a']),
        (0x16, &[0, 1, b'a']),
        (0x17, &[1]),
        (0x19, &[1]),
        (0x21, &[0, 1]),
        (0x22, &[0, 1]),
        (0x27, &[0, 0, 0, 1]),
    ] {
        cases.push((with(&[&[property][..], value, &[property], value].concat()), 0x82, TWICE));
    }
    check(new, v, cases);
}

#[test]
fn the_first_packet_is_connect() {
    for first_byte in (0x00..=0xff_u8).filter(|byte| byte >> 4 != 1) {
        let (result, _) = decode(&mut new(), &[first_byte]);
        let error = result.unwrap_err();
        assert_eq!((error.reason_code, error.what), (0x82, FIRST), "{first_byte:#x}");
    }
}

#[test]
fn other_protocols_are_answered_where_they_would_understand() {
    for (name, level, answer) in [
        ("MQIsdp", 3, Some(Protocol::V3)),
        ("MQIsdp", 0x83, Some(Protocol::V3)),
        ("MQIsdp", 4, Some(Protocol::V3)),
        ("MQTT", 3, Some(Protocol::V3)),
        ("MQTT", 0, Some(Protocol::V3)),
        ("MQTT", 6, Some(Protocol::V5)),
        // How mosquitto's bridges introduce themselves first.
        ("MQTT", 0x84, Some(Protocol::V3)),
        ("MQTT", 0x85, Some(Protocol::V5)),
        ("mqtt", 4, None),
        ("", 4, None),
        ("AMQP", 5, None),
        ("MQTTT", 5, None),
    ] {
        let mut decoder = new();
        let bytes = packet(0x10, &[&text(name), &[level, 2, 0, 60], &text("lock")]);
        let error = decode(&mut decoder, &bytes).0.unwrap_err();
        assert_eq!((error.reason_code, error.what), (0x84, VERSION), "{name} {level}");
        assert_eq!(decoder.protocol(), answer, "{name} {level}");
    }
}

#[test]
fn the_version_is_known_although_connect_is_wrong() {
    for v in VERSIONS {
        let mut decoder = new();
        assert_eq!(decoder.protocol(), None);
        assert!(decode(&mut decoder, &connect(v, 0b0011, &[], &[])).0.is_err());
        assert_eq!(decoder.protocol(), Some(v));
    }
}

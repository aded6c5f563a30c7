//! What valid packets mean, field by field, and what is allowed although it looks odd.

use std::num::NonZeroU16;

use bytes::Bytes;
use latchline_shared::message::{Properties, Protocol, Qos};

use super::{PACKET_BYTES_MAX, VERSIONS, block, connect, connected, decode, packet, text};
use crate::packet::decode::Decoder;
use crate::packet::types::{
    Ack, Connect, Disconnect, Incoming, Publish, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe,
    Will,
};

fn id(id: u16) -> NonZeroU16 {
    NonZeroU16::new(id).unwrap()
}

fn check(protocol: Protocol, bytes: &[u8], expected: Incoming) {
    let (result, rest) = decode(&mut connected(protocol), bytes);
    assert_eq!(result, Ok(Some(expected)), "{protocol:?} {bytes:x?}");
    assert!(rest.is_empty());
}

fn check_connect(bytes: &[u8], expected: Connect) {
    let (result, rest) = decode(&mut Decoder::new(PACKET_BYTES_MAX), bytes);
    assert_eq!(result, Ok(Some(Incoming::Connect(Box::new(expected)))), "{bytes:x?}");
    assert!(rest.is_empty());
}

fn plain_connect(protocol: Protocol) -> Connect {
    Connect {
        protocol,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "lock".into(),
        username: None,
        password: None,
        will: None,
        session_expiry_s: None,
        receive_max: NonZeroU16::MAX,
        packet_size_max: None,
        topic_alias_max: 0,
        request_problem_info: true,
        auth_method: None,
    }
}

fn plain_publish() -> Publish {
    Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic: "a/b".into(),
        packet_id: None,
        payload: Bytes::from_static(b"\0\xff"),
        topic_alias: None,
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: None,
    }
}

/// One of each property of a message, and its bytes.
fn message_properties() -> (Properties, Vec<u8>) {
    let bytes = b"\x01\x00\x03\x00\x04text\x08\x00\x03r/s\x09\x00\x02\x00\xff\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x00";
    let properties = Properties {
        utf8_payload: Some(false),
        content_type: Some("text".into()),
        response_topic: Some("r/s".into()),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user: vec![("a".into(), "b".into()), ("a".into(), "".into())],
    };
    (properties, bytes.to_vec())
}

#[test]
fn connect_3() {
    check_connect(&connect(Protocol::V3, 0b10, &[], &[&text("lock")]), plain_connect(Protocol::V3));
    let full = connect(
        Protocol::V3,
        0b1111_0100,
        &[],
        &[&text("lock"), &text("a/b"), &text(b"\0\xff"), &text("user"), &text(b"\0pass")],
    );
    let will = Will {
        topic: "a/b".into(),
        payload: Bytes::from_static(b"\0\xff"),
        qos: Qos::ExactlyOnce,
        retain: true,
        delay_s: 0,
        expiry_s: None,
        properties: None,
    };
    check_connect(
        &full,
        Connect {
            clean_start: false,
            username: Some("user".into()),
            password: Some(Bytes::from_static(b"\0pass")),
            will: Some(will),
            ..plain_connect(Protocol::V3)
        },
    );
}

#[test]
fn connect_5() {
    check_connect(&connect(Protocol::V5, 0b10, &[], &[&text("lock")]), plain_connect(Protocol::V5));
    // An empty client id with any clean start, and a password without a user name, are right in 5.
    check_connect(
        &connect(Protocol::V5, 0b0100_0000, &[], &[&text(""), &text("pass")]),
        Connect {
            clean_start: false,
            client_id: "".into(),
            password: Some(Bytes::from_static(b"pass")),
            ..plain_connect(Protocol::V5)
        },
    );
    let properties = b"\x11\0\0\x02\0\x21\0\x05\x27\0\x01\0\0\x22\0\x07\x17\0\x19\x01\x15\0\x02GS\x16\0\x01x\x26\0\0\0\0\x26\0\0\0\0";
    let (passed_on, will_properties) = message_properties();
    let will_properties = [&will_properties[..], &[0x18, 0, 0, 0, 9, 0x02, 0, 0, 0, 0]].concat();
    let full = connect(
        Protocol::V5,
        0b0000_1110,
        properties,
        &[&text("lock"), &block(Protocol::V5, &will_properties), &text("a/b"), &text("gone")],
    );
    let will = Will {
        topic: "a/b".into(),
        payload: Bytes::from_static(b"gone"),
        qos: Qos::AtLeastOnce,
        retain: false,
        delay_s: 9,
        expiry_s: Some(0),
        properties: Some(Box::new(passed_on)),
    };
    check_connect(
        &full,
        Connect {
            will: Some(will),
            session_expiry_s: Some(512),
            receive_max: id(5),
            packet_size_max: Some(65_536),
            topic_alias_max: 7,
            request_problem_info: false,
            auth_method: Some("GS".into()),
            ..plain_connect(Protocol::V5)
        },
    );
}

#[test]
fn publish() {
    for v in VERSIONS {
        let none = block(v, &[]);
        check(v, &packet(0x30, &[&text("a/b"), &none, b"\0\xff"]), Incoming::Publish(plain_publish()));
        let full = packet(0x3d, &[&text("a/b"), &[0xff, 0xff], &none]);
        let expected = Publish {
            dup: true,
            qos: Qos::ExactlyOnce,
            retain: true,
            packet_id: Some(id(65_535)),
            payload: Bytes::new(),
            ..plain_publish()
        };
        check(v, &full, Incoming::Publish(expected));
    }
    let (properties, bytes) = message_properties();
    let properties = Some(Box::new(properties));
    let bytes = [&[0x02, 0, 0, 0, 0, 0x23, 0xff, 0xff][..], &bytes].concat();
    let aliased = packet(0x32, &[&text(""), &[0, 1], &block(Protocol::V5, &bytes), b"\0\xff"]);
    let expected = Publish {
        qos: Qos::AtLeastOnce,
        topic: "".into(),
        packet_id: Some(id(1)),
        topic_alias: Some(id(65_535)),
        expiry_s: Some(0),
        properties,
        ..plain_publish()
    };
    check(Protocol::V5, &aliased, Incoming::Publish(expected));
    let (result, _) =
        decode(&mut connected(Protocol::V5), &packet(0x30, &[&text("é"), &[2, 1, 1], "été\0".as_bytes()]));
    assert!(result.is_ok(), "U+0000 is allowed in a payload that is UTF-8");
}

#[test]
fn acknowledgements() {
    type Make = fn(Ack) -> Incoming;
    let kinds: [(u8, Make); 4] = [
        (0x40, Incoming::Puback),
        (0x50, Incoming::Pubrec),
        (0x62, Incoming::Pubrel),
        (0x70, Incoming::Pubcomp),
    ];
    for (first_byte, make) in kinds {
        let expected = make(Ack::success(id(0x1234)));
        for v in VERSIONS {
            check(v, &packet(first_byte, &[&[0x12, 0x34]]), expected.clone());
        }
        check(Protocol::V5, &packet(first_byte, &[&[0x12, 0x34, 0]]), expected.clone());
        check(Protocol::V5, &packet(first_byte, &[&[0x12, 0x34, 0, 0]]), expected);
        let code = if first_byte < 0x60 { 0x97 } else { 0x92 };
        let expected = make(Ack { packet_id: id(1), reason_code: code, reason_string: None });
        check(Protocol::V5, &packet(first_byte, &[&[0, 1, code]]), expected.clone());
        let told = packet(first_byte, &[&[0, 1, code, 11], b"\x1f\0\x01x\x26\0\x01y\0\x01z"]);
        check(Protocol::V5, &told, expected);
    }
}

/// Every reason code of MQTT 5 (sections 3.4.2.1, 3.6.2.1 and 3.14.2.1; 0x8c from 2.4), and no other.
#[test]
fn reason_codes() {
    let first = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let disconnect = [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95,
        0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
    ];
    let tables: [(u8, &[u8], &[u8]); 5] = [
        (0x40, &[0, 1], &first),
        (0x50, &[0, 1], &first),
        (0x62, &[0, 1], &[0x00, 0x92]),
        (0x70, &[0, 1], &[0x00, 0x92]),
        (0xe0, &[], &disconnect),
    ];
    for (first_byte, head, allowed) in tables {
        for code in 0..=0xff {
            let (result, _) = decode(&mut connected(Protocol::V5), &packet(first_byte, &[head, &[code]]));
            assert_eq!(result.is_ok(), allowed.contains(&code), "{first_byte:#x} {code:#x}: {result:?}");
        }
    }
}

#[test]
fn subscribe_and_unsubscribe() {
    let filter = |filter: &str, qos| SubscribeFilter {
        filter: filter.into(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    };
    for v in VERSIONS {
        let none = block(v, &[]);
        let body = [&[0, 1][..], &none, &text("a/+"), &[1], &text("$share/g/#"), &[2]].concat();
        let filters = vec![filter("a/+", Qos::AtLeastOnce), filter("$share/g/#", Qos::ExactlyOnce)];
        let expected = Subscribe { packet_id: id(1), subscription_id: None, filters };
        check(v, &packet(0x82, &[&body]), Incoming::Subscribe(expected));
        let expected = Unsubscribe { packet_id: id(1), filters: vec!["#".into(), "$share".into()] };
        let body = [&[0, 1][..], &none, &text("#"), &text("$share")].concat();
        check(v, &packet(0xa2, &[&body]), Incoming::Unsubscribe(expected));
    }
    let body =
        [&[0, 1][..], b"\x0a\x0b\xff\xff\xff\x7f\x26\0\0\0\0", &text("a"), &[0x2e], &text("b"), &[0x10]];
    let options = SubscribeFilter {
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::Never,
        ..filter("a", Qos::ExactlyOnce)
    };
    let if_new = SubscribeFilter { retain_handling: RetainHandling::IfNew, ..filter("b", Qos::AtMostOnce) };
    let expected =
        Subscribe { packet_id: id(1), subscription_id: Some(268_435_455), filters: vec![options, if_new] };
    check(Protocol::V5, &packet(0x82, &body), Incoming::Subscribe(expected));
}

#[test]
fn the_rest() {
    let disconnect = Disconnect { reason_code: 0, reason_string: None, session_expiry_s: None };
    for v in VERSIONS {
        check(v, &[0xc0, 0], Incoming::Pingreq);
        check(v, &[0xe0, 0], Incoming::Disconnect(disconnect.clone()));
    }
    let will = Disconnect { reason_code: 4, ..disconnect };
    check(Protocol::V5, &[0xe0, 1, 4], Incoming::Disconnect(will.clone()));
    let longer = Disconnect { session_expiry_s: Some(0), ..will };
    let body = b"\x04\x0e\x11\0\0\0\0\x1f\0\x01x\x26\0\0\0\0";
    check(Protocol::V5, &packet(0xe0, &[body]), Incoming::Disconnect(longer));
    check(Protocol::V5, &[0xf0, 0], Incoming::Auth);
    check(Protocol::V5, &[0xf0, 1, 0x18], Incoming::Auth);
}

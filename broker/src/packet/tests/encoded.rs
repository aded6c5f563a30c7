//! What is written, byte for byte, against the specifications.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use latchline_shared::message::{Properties, Protocol, Qos};

use crate::packet::encode::{TooLarge, encode};
use crate::packet::types::{Ack, Connack, Disconnect, Outgoing, Publish, Suback, reason};

fn id(id: u16) -> NonZeroU16 {
    NonZeroU16::new(id).unwrap()
}

fn encoded(
    packet: Outgoing,
    protocol: Protocol,
    packet_bytes_max: Option<u32>,
) -> Result<BytesMut, TooLarge> {
    let mut output = BytesMut::from(&b"before"[..]);
    let result = encode(packet, protocol, packet_bytes_max, &mut output);
    let packet = output.split_off(6);
    assert_eq!(&output[..], b"before");
    if let Err(error) = result {
        assert!(packet.is_empty(), "appended {packet:x?}");
        return Err(error);
    }
    Ok(packet)
}

/// The packet in both versions, and that its length is exactly the maximum that it needs.
fn check(packet: Outgoing, version_3: &[u8], version_5: &[u8]) {
    for (protocol, expected) in [(Protocol::V3, version_3), (Protocol::V5, version_5)] {
        assert_eq!(encoded(packet.clone(), protocol, None).unwrap(), expected, "{protocol:?} {packet:?}");
        let bytes = u32::try_from(expected.len()).unwrap();
        assert_eq!(
            encoded(packet.clone(), protocol, Some(bytes)).unwrap(),
            expected,
            "{protocol:?} {packet:?}"
        );
    }
}

fn connack(reason_code: u8) -> Connack {
    Connack {
        session_present: false,
        reason_code,
        reason_string: None,
        session_expiry_s: None,
        receive_max: NonZeroU16::MAX,
        packet_size_max: None,
        assigned_client_id: None,
        topic_alias_max: 0,
        server_keep_alive_s: None,
    }
}

fn publish() -> Publish {
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

#[test]
fn connacks() {
    let present =
        |reason_code| Outgoing::Connack(Box::new(Connack { session_present: true, ..connack(reason_code) }));
    check(Outgoing::Connack(Box::new(connack(0))), b"\x20\x02\0\0", b"\x20\x03\0\0\0");
    check(present(0), b"\x20\x02\x01\0", b"\x20\x03\x01\0\0");
    check(present(0x87), b"\x20\x02\0\x05", b"\x20\x03\0\x87\0");
    let full = Connack {
        reason_string: Some("hi"),
        session_expiry_s: Some(1),
        receive_max: id(2),
        packet_size_max: Some(3),
        assigned_client_id: Some("id".into()),
        topic_alias_max: 4,
        server_keep_alive_s: Some(5),
        ..connack(0)
    };
    let version_5 =
        b"\x20\x20\0\0\x1d\x11\0\0\0\x01\x21\0\x02\x27\0\0\0\x03\x12\0\x02id\x22\0\x04\x13\0\x05\x1f\0\x02hi";
    check(Outgoing::Connack(Box::new(full)), b"\x20\x02\0\0", version_5);
}

#[test]
fn return_codes() {
    for (reason_code, return_code) in [
        (reason::SUCCESS, 0),
        (reason::UNSUPPORTED_PROTOCOL_VERSION, 1),
        (reason::CLIENT_ID_NOT_VALID, 2),
        (reason::SERVER_UNAVAILABLE, 3),
        (reason::SERVER_BUSY, 3),
        (reason::QUOTA_EXCEEDED, 3),
        (reason::UNSPECIFIED, 3),
        (reason::BAD_CREDENTIALS, 4),
        (reason::BAD_AUTHENTICATION_METHOD, 4),
        (reason::NOT_AUTHORIZED, 5),
        (0x8a, 5),
    ] {
        let packet = Outgoing::Connack(Box::new(connack(reason_code)));
        check(packet, &[0x20, 2, 0, return_code], &[0x20, 3, 0, reason_code, 0]);
    }
}

#[test]
fn publishes() {
    check(Outgoing::Publish(publish()), b"\x30\x07\0\x03a/b\0\xff", b"\x30\x08\0\x03a/b\0\0\xff");
    let all_flags =
        Publish { dup: true, qos: Qos::ExactlyOnce, retain: true, packet_id: Some(id(0x1234)), ..publish() };
    check(
        Outgoing::Publish(all_flags),
        b"\x3d\x09\0\x03a/b\x12\x34\0\xff",
        b"\x3d\x0a\0\x03a/b\x12\x34\0\0\xff",
    );
    let properties = Properties {
        utf8_payload: Some(false),
        content_type: Some("t".into()),
        response_topic: Some("r".into()),
        correlation_data: Some(Bytes::from_static(b"\0")),
        user: vec![("k".into(), "v".into()), ("k".into(), "".into())],
    };
    let full = Publish {
        topic_alias: Some(id(1)),
        expiry_s: Some(0),
        subscription_ids: vec![1, 268_435_455],
        properties: Some(Box::new(properties)),
        ..publish()
    };
    check(
        Outgoing::Publish(full),
        b"\x30\x07\0\x03a/b\0\xff",
        b"\x30\x32\0\x03a/b\x2a\x23\0\x01\x02\0\0\0\0\x0b\x01\x0b\xff\xff\xff\x7f\x01\0\x03\0\x01t\x08\0\x01r\x09\0\x01\0\x26\0\x01k\0\x01v\x26\0\x01k\0\0\0\xff",
    );
}

#[test]
fn lengths_of_several_bytes() {
    for (payload_bytes, version_3, version_5) in [
        (120, &[125][..], &[126][..]),
        (122, &[127], &[0x80, 0x01]),
        (123, &[0x80, 0x01], &[0x81, 0x01]),
        (16_378, &[0xff, 0x7f], &[0x80, 0x80, 0x01]),
        (2_097_146, &[0xff, 0xff, 0x7f], &[0x80, 0x80, 0x80, 0x01]),
    ] {
        for (protocol, length) in [(Protocol::V3, version_3), (Protocol::V5, version_5)] {
            let payload = Bytes::from(vec![b'x'; payload_bytes]);
            let packet =
                encoded(Outgoing::Publish(Publish { payload, ..publish() }), protocol, None).unwrap();
            assert_eq!(&packet[1..=length.len()], length, "{protocol:?} {payload_bytes}");
            assert_eq!(&packet[1 + length.len()..][..5], b"\0\x03a/b");
        }
    }
}

#[test]
fn acknowledgements() {
    type Make = fn(Ack) -> Outgoing;
    let kinds: [(u8, Make); 4] = [
        (0x40, Outgoing::Puback),
        (0x50, Outgoing::Pubrec),
        (0x62, Outgoing::Pubrel),
        (0x70, Outgoing::Pubcomp),
    ];
    for (first_byte, make) in kinds {
        let short = [first_byte, 2, 0x12, 0x34];
        let packet_id = id(0x1234);
        check(make(Ack::success(packet_id)), &short, &short);
        let coded = Ack { packet_id, reason_code: 0x92, reason_string: None };
        check(make(coded), &short, &[first_byte, 3, 0x12, 0x34, 0x92]);
        let told = [&[first_byte, 9, 0x12, 0x34, 0x92, 5, 0x1f, 0, 2][..], b"no"].concat();
        check(make(Ack::reason(packet_id, 0x92, "no")), &short, &told);
        let told = [&[first_byte, 9, 0x12, 0x34, 0, 5, 0x1f, 0, 2][..], b"ok"].concat();
        check(make(Ack::reason(packet_id, 0, "ok")), &short, &told);
    }
}

#[test]
fn subacks_and_unsubacks() {
    let suback = Suback { packet_id: id(1), reason_codes: vec![0, 1, 2, 0x80, 0x87, 0x8f, 0x97] };
    check(
        Outgoing::Suback(suback),
        b"\x90\x09\0\x01\0\x01\x02\x80\x80\x80\x80",
        b"\x90\x0a\0\x01\0\0\x01\x02\x80\x87\x8f\x97",
    );
    let unsuback = Suback { packet_id: id(1), reason_codes: vec![0, 0x11, 0x87] };
    check(Outgoing::Unsuback(unsuback), b"\xb0\x02\0\x01", b"\xb0\x06\0\x01\0\0\x11\x87");
}

#[test]
fn the_rest() {
    check(Outgoing::Pingresp, b"\xd0\0", b"\xd0\0");
    let quiet = Disconnect { reason_code: 0x8e, reason_string: None, session_expiry_s: Some(1) };
    check(Outgoing::Disconnect(quiet.clone()), b"", b"\xe0\x02\x8e\0");
    let told = Disconnect { reason_string: Some("no"), ..quiet };
    check(Outgoing::Disconnect(told), b"", b"\xe0\x07\x8e\x05\x1f\0\x02no");
}

#[test]
fn a_reason_string_gives_way_to_the_maximum() {
    let puback = Outgoing::Puback(Ack::reason(id(1), 0x97, "no"));
    let disconnect = Outgoing::Disconnect(Disconnect {
        reason_code: 0x97,
        reason_string: Some("no"),
        session_expiry_s: None,
    });
    let refusal = Outgoing::Connack(Box::new(Connack { reason_string: Some("no"), ..connack(0x97) }));
    for (packet, whole, bare) in [(puback, 11, 5), (disconnect, 9, 4), (refusal, 10, 5)] {
        for packet_bytes_max in 0..=whole {
            let bytes =
                encoded(packet.clone(), Protocol::V5, Some(packet_bytes_max)).map(|bytes| bytes.len());
            let expected = match packet_bytes_max {
                max if max == whole => Ok(whole as usize),
                max if max >= bare => Ok(bare as usize),
                bytes_max => Err(TooLarge { bytes_max }),
            };
            assert_eq!(bytes, expected, "{packet:?} in {packet_bytes_max}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let error = encoded(Outgoing::Publish(publish()), Protocol::V5, Some(9)).unwrap_err();
    assert_eq!(error.to_string(), "packet is larger than the 9 bytes that the receiver accepts");
    assert!(encoded(Outgoing::Publish(publish()), Protocol::V5, Some(10)).is_ok());
    // A string that has no length on the wire, and a subscription identifier that has no form.
    let topic = Publish { topic: "a".repeat(65_536).into(), ..publish() };
    let id = Publish { subscription_ids: vec![268_435_456], ..publish() };
    for packet in [topic, id] {
        assert!(encoded(Outgoing::Publish(packet), Protocol::V5, None).is_err());
    }
    let topic = Publish { topic: "a".repeat(65_535).into(), ..publish() };
    assert!(encoded(Outgoing::Publish(topic), Protocol::V3, None).is_ok());
}

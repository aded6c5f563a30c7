//! Whatever is written, `rmqtt-codec` reads as a client would, and finds what was meant.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use latchline_shared::message::{Properties, Protocol, Qos};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::Decoder as _;

use super::{connected, oracle};
use crate::packet::encode::encode;
use crate::packet::types::{Ack, Connack, Disconnect, Incoming, Outgoing, Publish, Suback, reason};

const REASONS: [&str; 3] = ["", "no", "the topic is not yours"];

// Which reason codes each packet may carry (MQTT 5, section 2.4).
const CONNACK: &[u8] =
    &[0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99];
const PUBACK: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL: &[u8] = &[0x00, 0x92];
const SUBACK: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97];
const UNSUBACK: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
const DISCONNECT: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x97,
    0x98, 0x99,
];

fn codes(codes: &'static [u8]) -> impl Strategy<Value = u8> + Clone {
    select(codes)
}

fn acks(allowed: &'static [u8]) -> impl Strategy<Value = Ack> {
    (any::<NonZeroU16>(), codes(allowed), option::of(select(&REASONS[..])))
        .prop_map(|(packet_id, reason_code, reason_string)| Ack { packet_id, reason_code, reason_string })
}

fn subacks(allowed: &'static [u8]) -> impl Strategy<Value = Suback> {
    (any::<NonZeroU16>(), vec(codes(allowed), 1..200))
        .prop_map(|(packet_id, reason_codes)| Suback { packet_id, reason_codes })
}

fn words() -> impl Strategy<Value = ByteString> {
    "\\PC{0,60}".prop_map(ByteString::from)
}

fn connacks() -> impl Strategy<Value = Connack> {
    let limits = (any::<NonZeroU16>(), option::of(1..u32::MAX), any::<u16>(), option::of(any::<u16>()));
    let head = (any::<bool>(), codes(CONNACK), option::of(select(&REASONS[..])));
    (head, limits, option::of(any::<u32>()), option::of(words())).prop_map(
        |((session_present, reason_code, reason_string), limits, session_expiry_s, assigned_client_id)| {
            Connack {
                session_present: session_present && reason_code == reason::SUCCESS,
                reason_code,
                reason_string,
                session_expiry_s,
                receive_max: limits.0,
                packet_size_max: limits.1,
                assigned_client_id,
                topic_alias_max: limits.2,
                server_keep_alive_s: limits.3,
            }
        },
    )
}

fn publishes() -> impl Strategy<Value = Publish> {
    let passed_on = (
        option::of(words()),
        option::of("[a-z]{1,9}"),
        option::of(vec(any::<u8>(), 0..200)),
        vec((words(), words()), 0..4),
    )
        .prop_map(|(content_type, response_topic, correlation_data, user)| Properties {
            utf8_payload: None,
            content_type,
            response_topic: response_topic.map(ByteString::from),
            correlation_data: correlation_data.map(Bytes::from),
            user,
        })
        .prop_map(|properties| (properties != Properties::default()).then(|| Box::new(properties)));
    let flags = (any::<bool>(), 0..3u8, any::<bool>(), any::<NonZeroU16>());
    let numbers = (option::of(any::<NonZeroU16>()), option::of(1..u32::MAX), vec(1..268_435_455u32, 0..4));
    (flags, "[a-zé/]{1,99}", vec(any::<u8>(), 0..400), numbers, passed_on).prop_map(
        |((dup, level, retain, packet_id), topic, payload, numbers, properties)| {
            let qos = Qos::from_level(level).unwrap();
            Publish {
                dup: dup && level > 0,
                qos,
                retain,
                topic: topic.into(),
                packet_id: (level > 0).then_some(packet_id),
                payload: payload.into(),
                topic_alias: numbers.0,
                expiry_s: numbers.1,
                subscription_ids: numbers.2,
                properties,
            }
        },
    )
}

fn packets() -> impl Strategy<Value = Outgoing> {
    let disconnects =
        (codes(DISCONNECT), option::of(select(&REASONS[..]))).prop_map(|(reason_code, reason_string)| {
            Disconnect { reason_code, reason_string, session_expiry_s: None }
        });
    prop_oneof![
        connacks().prop_map(|connack| Outgoing::Connack(Box::new(connack))),
        publishes().prop_map(Outgoing::Publish),
        acks(PUBACK).prop_map(Outgoing::Puback),
        acks(PUBACK).prop_map(Outgoing::Pubrec),
        acks(PUBREL).prop_map(Outgoing::Pubrel),
        acks(PUBREL).prop_map(Outgoing::Pubcomp),
        subacks(SUBACK).prop_map(Outgoing::Suback),
        subacks(UNSUBACK).prop_map(Outgoing::Unsuback),
        disconnects.prop_map(Outgoing::Disconnect),
        Just(Outgoing::Pingresp),
    ]
}

fn known(reason: Option<ByteString>) -> Option<&'static str> {
    reason.map(|reason| REASONS.into_iter().find(|known| reason == *known).expect("is one of those sent"))
}

fn ack(ack: v5::PublishAck) -> Ack {
    Ack {
        packet_id: ack.packet_id,
        reason_code: ack.reason_code.into(),
        reason_string: known(ack.reason_string),
    }
}

fn second_ack(ack: v5::PublishAck2) -> Ack {
    Ack {
        packet_id: ack.packet_id,
        reason_code: ack.reason_code.into(),
        reason_string: known(ack.reason_string),
    }
}

/// What a client of MQTT 5 reads.
fn read_v5(bytes: &[u8]) -> Outgoing {
    let mut input = BytesMut::from(bytes);
    let (packet, _) = v5::Codec::new(0, 0).decode(&mut input).expect("is valid").expect("is whole");
    assert!(input.is_empty());
    match packet {
        v5::Packet::ConnectAck(connack) => Outgoing::Connack(Box::new(Connack {
            session_present: connack.session_present,
            reason_code: connack.reason_code.into(),
            reason_string: known(connack.reason_string),
            session_expiry_s: connack.session_expiry_interval_secs,
            receive_max: connack.receive_max,
            packet_size_max: connack.max_packet_size,
            assigned_client_id: connack.assigned_client_id,
            topic_alias_max: connack.topic_alias_max,
            server_keep_alive_s: connack.server_keepalive_sec,
        })),
        v5::Packet::Publish(published) => Outgoing::Publish(oracle::publish(*published)),
        v5::Packet::PublishAck(puback) => Outgoing::Puback(ack(puback)),
        v5::Packet::PublishReceived(pubrec) => Outgoing::Pubrec(ack(pubrec)),
        v5::Packet::PublishRelease(pubrel) => Outgoing::Pubrel(second_ack(pubrel)),
        v5::Packet::PublishComplete(pubcomp) => Outgoing::Pubcomp(second_ack(pubcomp)),
        v5::Packet::SubscribeAck(suback) => Outgoing::Suback(Suback {
            packet_id: suback.packet_id,
            reason_codes: suback.status.into_iter().map(u8::from).collect(),
        }),
        v5::Packet::UnsubscribeAck(unsuback) => Outgoing::Unsuback(Suback {
            packet_id: unsuback.packet_id,
            reason_codes: unsuback.status.into_iter().map(u8::from).collect(),
        }),
        v5::Packet::PingResponse => Outgoing::Pingresp,
        v5::Packet::Disconnect(said) => Outgoing::Disconnect(Disconnect {
            reason_code: said.reason_code.into(),
            reason_string: known(said.reason_string),
            session_expiry_s: said.session_expiry_interval_secs,
        }),
        other => panic!("{other:?} is not a server's"),
    }
}

/// What is left of a PUBLISH in 3.1.1.
fn plain(publish: Publish) -> Publish {
    Publish { topic_alias: None, expiry_s: None, subscription_ids: Vec::new(), properties: None, ..publish }
}

proptest! {
    #[test]
    fn version_5_is_read_as_meant(packet in packets()) {
        let mut output = BytesMut::new();
        encode(packet.clone(), Protocol::V5, None, &mut output).unwrap();
        prop_assert_eq!(read_v5(&output), packet);
    }

    #[test]
    fn version_3_is_valid(packet in packets()) {
        let mut output = BytesMut::new();
        encode(packet.clone(), Protocol::V3, None, &mut output).unwrap();
        let decoded = v3::Codec::new(0).decode(&mut output).unwrap();
        prop_assert!(output.is_empty());
        match (packet, decoded) {
            (Outgoing::Disconnect(_), decoded) => prop_assert!(decoded.is_none()),
            (Outgoing::Publish(publish), Some((v3::Packet::Publish(decoded), _))) => {
                prop_assert_eq!(oracle::publish(*decoded), plain(publish));
            }
            (_, decoded) => prop_assert!(decoded.is_some()),
        }
    }

    #[test]
    fn the_maximum_holds(packet in packets(), packet_bytes_max in 0..600u32) {
        let mut whole = BytesMut::new();
        encode(packet.clone(), Protocol::V5, None, &mut whole).unwrap();
        let mut output = BytesMut::from(&b"before"[..]);
        let result = encode(packet, Protocol::V5, Some(packet_bytes_max), &mut output);
        let written = output.split_off(6);
        prop_assert_eq!(&output[..], b"before");
        prop_assert!(written.len() <= packet_bytes_max as usize);
        prop_assert_eq!(result.is_err(), written.is_empty());
        if whole.len() <= packet_bytes_max as usize {
            prop_assert_eq!(written, whole);
        }
    }

    #[test]
    fn a_publish_comes_back(publish in publishes(), v5 in any::<bool>()) {
        let protocol = if v5 { Protocol::V5 } else { Protocol::V3 };
        let publish = if v5 { Publish { subscription_ids: Vec::new(), ..publish } } else { plain(publish) };
        let mut bytes = BytesMut::new();
        encode(Outgoing::Publish(publish.clone()), protocol, None, &mut bytes).unwrap();
        prop_assert_eq!(connected(protocol).next(&mut bytes), Ok(Some(Incoming::Publish(publish))));
    }
}

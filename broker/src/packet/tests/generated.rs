//! Valid packets of any content, written by `rmqtt-codec` as a client would, are decoded as meant.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use latchline_shared::message::Protocol;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{PublishProperties, RetainHandling, SubscriptionOptions};
use rmqtt_codec::{v3, v5};
use tokio_util::codec::Encoder;

use super::{PACKET_BYTES_MAX, connected, oracle};
use crate::packet::decode::Decoder;
use crate::packet::types::Incoming;

fn string(pattern: &'static str) -> impl Strategy<Value = ByteString> {
    pattern.prop_map(ByteString::from)
}

fn words() -> impl Strategy<Value = ByteString> {
    string("\\PC{0,12}")
}

fn names() -> impl Strategy<Value = ByteString> {
    string("[a-zé€🔒/$ ]{1,24}")
}

fn filters() -> impl Strategy<Value = ByteString> {
    string("(\\$share/[a-z]{1,4}/)?([a-zé]{0,3}/|\\+/){0,4}(#|\\+|[a-z]{1,3})")
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn ids() -> impl Strategy<Value = NonZeroU16> {
    any::<NonZeroU16>()
}

fn levels() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn users() -> impl Strategy<Value = v5::UserProperties> {
    vec((words(), words()), 0..4)
}

fn varints() -> impl Strategy<Value = NonZeroU32> {
    prop_oneof![1..200u32, 16_000..17_000u32, 2_097_000..2_098_000u32, Just(268_435_455u32)]
        .prop_map(|id| NonZeroU32::new(id).unwrap())
}

fn properties() -> impl Strategy<Value = PublishProperties> {
    let small = (option::of(ids()), option::of(any::<NonZeroU32>()), option::of(words()));
    (small, option::of(data()), option::of(names()), users()).prop_map(
        |(
            (topic_alias, message_expiry_interval, content_type),
            correlation_data,
            response_topic,
            user_properties,
        )| {
            PublishProperties {
                topic_alias,
                correlation_data,
                message_expiry_interval,
                content_type,
                user_properties,
                is_utf8_payload: false,
                response_topic,
                subscription_ids: Vec::new(),
            }
        },
    )
}

fn publishes(protocol: Protocol) -> impl Strategy<Value = Publish> {
    (any::<bool>(), any::<bool>(), levels(), names(), ids(), data(), properties()).prop_map(
        move |(dup, retain, qos, topic, packet_id, payload, properties)| {
            let aliased = properties.topic_alias.is_some_and(|alias| alias.get() % 2 == 0);
            let v5 = protocol == Protocol::V5;
            Publish {
                dup: dup && qos != QoS::AtMostOnce,
                retain,
                qos,
                topic: if v5 && aliased { ByteString::new() } else { topic },
                packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
                payload,
                properties: v5.then_some(properties),
            }
        },
    )
}

fn subscriptions() -> impl Strategy<Value = (ByteString, SubscriptionOptions)> {
    let handling =
        vec![RetainHandling::AtSubscribe, RetainHandling::AtSubscribeNew, RetainHandling::NoAtSubscribe];
    (filters(), levels(), any::<bool>(), any::<bool>(), select(handling)).prop_map(
        |(filter, qos, no_local, retain_as_published, retain_handling)| {
            let no_local = no_local && !filter.starts_with("$share/");
            (filter, SubscriptionOptions { qos, no_local, retain_as_published, retain_handling })
        },
    )
}

fn connects_v3() -> impl Strategy<Value = v3::Packet> {
    let will = (levels(), any::<bool>(), names(), data())
        .prop_map(|(qos, retain, topic, message)| v3::LastWill { qos, retain, topic, message });
    let login = option::of((words(), option::of(data())));
    (words(), any::<bool>(), any::<u16>(), option::of(will), login).prop_map(
        |(client_id, clean_session, keep_alive, last_will, login)| {
            let (username, password) = login.map_or((None, None), |(name, password)| (Some(name), password));
            let clean_session = clean_session || client_id.is_empty();
            let protocol = rmqtt_codec::types::Protocol::default();
            let cert = None;
            v3::Connect {
                protocol,
                clean_session,
                keep_alive,
                last_will,
                client_id,
                username,
                password,
                cert,
            }
            .into()
        },
    )
}

fn wills_v5() -> impl Strategy<Value = v5::LastWill> {
    (levels(), any::<bool>(), names(), data(), option::of(any::<u32>()), properties()).prop_map(
        |(qos, retain, topic, message, will_delay_interval_sec, properties)| v5::LastWill {
            qos,
            retain,
            topic,
            message,
            will_delay_interval_sec,
            correlation_data: properties.correlation_data,
            message_expiry_interval: properties.message_expiry_interval,
            content_type: properties.content_type,
            user_properties: properties.user_properties,
            is_utf8_payload: None,
            response_topic: properties.response_topic,
        },
    )
}

fn connects_v5() -> impl Strategy<Value = v5::Packet> {
    let head = (words(), any::<bool>(), any::<u16>(), option::of(words()), option::of(data()));
    let limits = (any::<u32>(), option::of(ids()), option::of(any::<NonZeroU32>()), any::<u16>());
    let wishes = (any::<bool>(), any::<bool>(), option::of((words(), option::of(data()))));
    (head, limits, wishes, users(), option::of(wills_v5())).prop_map(
        |(
            (client_id, clean_start, keep_alive, username, password),
            (session_expiry_interval_secs, receive_max, max_packet_size, topic_alias_max),
            (request_problem_info, request_response_info, auth),
            user_properties,
            last_will,
        )| {
            let (auth_method, auth_data) = auth.map_or((None, None), |(method, data)| (Some(method), data));
            v5::Packet::from(v5::Connect {
                clean_start: clean_start || client_id.is_empty(),
                keep_alive,
                session_expiry_interval_secs,
                auth_method,
                auth_data,
                request_problem_info,
                request_response_info,
                receive_max,
                topic_alias_max,
                user_properties,
                max_packet_size,
                last_will,
                client_id,
                username,
                password,
                cert: None,
            })
        },
    )
}

fn packets_v3() -> impl Strategy<Value = v3::Packet> {
    prop_oneof![
        publishes(Protocol::V3).prop_map(v3::Packet::from),
        ids().prop_map(|packet_id| v3::Packet::PublishAck { packet_id }),
        ids().prop_map(|packet_id| v3::Packet::PublishReceived { packet_id }),
        ids().prop_map(|packet_id| v3::Packet::PublishRelease { packet_id }),
        ids().prop_map(|packet_id| v3::Packet::PublishComplete { packet_id }),
        (ids(), vec((filters(), levels()), 1..5))
            .prop_map(|(packet_id, topic_filters)| v3::Packet::Subscribe { packet_id, topic_filters }),
        (ids(), vec(filters(), 1..5))
            .prop_map(|(packet_id, topic_filters)| v3::Packet::Unsubscribe { packet_id, topic_filters }),
        Just(v3::Packet::PingRequest),
        Just(v3::Packet::Disconnect),
    ]
}

fn packets_v5() -> impl Strategy<Value = v5::Packet> {
    use v5::{DisconnectReasonCode as Said, PublishAck2Reason as Second, PublishAckReason as First};
    let first = (ids(), select(vec![First::Success, First::QuotaExceeded]), users(), option::of(words()))
        .prop_map(|(packet_id, reason_code, properties, reason_string)| v5::PublishAck {
            packet_id,
            reason_code,
            properties,
            reason_string,
        })
        .boxed();
    let second =
        (ids(), select(vec![Second::Success, Second::PacketIdNotFound]), users(), option::of(words()))
            .prop_map(|(packet_id, reason_code, properties, reason_string)| v5::PublishAck2 {
                packet_id,
                reason_code,
                properties,
                reason_string,
            })
            .boxed();
    let subscribe = (ids(), option::of(varints()), users(), vec(subscriptions(), 1..5)).prop_map(
        |(packet_id, id, user_properties, topic_filters)| v5::Subscribe {
            packet_id,
            id,
            user_properties,
            topic_filters,
        },
    );
    let unsubscribe =
        (ids(), users(), vec(filters(), 1..5)).prop_map(|(packet_id, user_properties, topic_filters)| {
            v5::Unsubscribe { packet_id, user_properties, topic_filters }
        });
    let codes =
        select(vec![Said::NormalDisconnection, Said::DisconnectWithWillMessage, Said::PacketTooLarge]);
    let disconnect = (codes, option::of(any::<u32>()), option::of(words()), users()).prop_map(
        |(reason_code, session_expiry_interval_secs, reason_string, user_properties)| v5::Disconnect {
            reason_code,
            session_expiry_interval_secs,
            server_reference: None,
            reason_string,
            user_properties,
        },
    );
    prop_oneof![
        publishes(Protocol::V5).prop_map(v5::Packet::from),
        first.clone().prop_map(v5::Packet::PublishAck),
        first.prop_map(v5::Packet::PublishReceived),
        second.clone().prop_map(v5::Packet::PublishRelease),
        second.prop_map(v5::Packet::PublishComplete),
        subscribe.prop_map(v5::Packet::Subscribe),
        unsubscribe.prop_map(v5::Packet::Unsubscribe),
        disconnect.prop_map(v5::Packet::Disconnect),
        Just(v5::Packet::PingRequest),
    ]
}

fn written_v3(packet: v3::Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    v3::Codec::new(0).encode(packet, &mut bytes).unwrap();
    bytes
}

fn written_v5(packet: v5::Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    v5::Codec::new(0, 0).encode(packet, &mut bytes).unwrap();
    bytes
}

fn decoded(mut decoder: Decoder, mut bytes: BytesMut) -> Incoming {
    let incoming = decoder.next(&mut bytes).expect("is valid").expect("is whole");
    assert!(bytes.is_empty());
    oracle::blurred(incoming)
}

proptest! {
    #[test]
    fn connect_3(packet in connects_v3()) {
        let incoming = decoded(Decoder::new(PACKET_BYTES_MAX), written_v3(packet.clone()));
        prop_assert_eq!(incoming, oracle::from_v3(packet));
    }

    #[test]
    fn connect_5(packet in connects_v5()) {
        let incoming = decoded(Decoder::new(PACKET_BYTES_MAX), written_v5(packet.clone()));
        prop_assert_eq!(incoming, oracle::from_v5(packet));
    }

    #[test]
    fn version_3(packet in packets_v3()) {
        let incoming = decoded(connected(Protocol::V3), written_v3(packet.clone()));
        prop_assert_eq!(incoming, oracle::from_v3(packet));
    }

    #[test]
    fn version_5(packet in packets_v5()) {
        let incoming = decoded(connected(Protocol::V5), written_v5(packet.clone()));
        prop_assert_eq!(incoming, oracle::from_v5(packet));
    }
}

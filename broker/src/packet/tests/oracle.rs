//! `rmqtt-codec`, an independent implementation, as judge of what a packet means.
//!
//! It is laxer than the decoder here, and stricter in three things that MQTT 5 allows, which
//! [`excuses`] knows. Where both accept a packet they mean the same by it.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;
use bytestring::ByteString;
use latchline_shared::message::{Properties, Protocol, Qos};
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::types::{Publish as Published, QoS};
use rmqtt_codec::v5::RetainHandling as Handling;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::Decoder;

use crate::packet::types::{
    Ack, Connect, Disconnect, Incoming, Publish, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe,
    Will,
};

/// What the judge makes of one whole packet. The last byte of a packet must be its end.
pub(super) fn parse(packet: &[u8], protocol: Protocol) -> Result<Incoming, DecodeError> {
    let mut input = BytesMut::from(packet);
    let incoming = match protocol {
        Protocol::V3 => from_v3(whole(v3::Codec::new(0).decode(&mut input)?)),
        Protocol::V5 => from_v5(whole(v5::Codec::new(0, 0).decode(&mut input)?)),
    };
    assert!(input.is_empty());
    Ok(incoming)
}

fn whole<T>(decoded: Option<(T, u32)>) -> T {
    decoded.expect("packet is whole").0
}

/// Whether the judge is wrong to refuse: it refuses an empty client id without clean start and a
/// message expiry of 0, and reads the body of AUTH.
pub(super) fn excuses(incoming: &Incoming) -> bool {
    match incoming {
        Incoming::Connect(connect) => {
            let unnamed = connect.client_id.is_empty() && !connect.clean_start;
            unnamed || connect.will.as_ref().is_some_and(|will| will.expiry_s == Some(0))
        }
        Incoming::Publish(publish) => publish.expiry_s == Some(0),
        Incoming::Auth => true,
        _ => false,
    }
}

/// What the judge can tell of a packet: it does not tell a payload format or a session expiry of 0
/// from none.
pub(super) fn blurred(mut incoming: Incoming) -> Incoming {
    match &mut incoming {
        Incoming::Connect(connect) => {
            connect.session_expiry_s = connect.session_expiry_s.filter(|&expiry_s| expiry_s != 0);
            if let Some(will) = &mut connect.will {
                blur(&mut will.properties);
            }
        }
        Incoming::Publish(publish) => blur(&mut publish.properties),
        _ => {}
    }
    incoming
}

fn blur(properties: &mut Option<Box<Properties>>) {
    if let Some(inner) = properties {
        inner.utf8_payload = inner.utf8_payload.filter(|&utf8| utf8);
        *properties = some(std::mem::take(&mut **inner));
    }
}

fn some(properties: Properties) -> Option<Box<Properties>> {
    (properties != Properties::default()).then(|| Box::new(properties))
}

pub(super) fn from_v3(packet: v3::Packet) -> Incoming {
    match packet {
        v3::Packet::Connect(connect) => Incoming::Connect(Box::new(connect_v3(*connect))),
        v3::Packet::Publish(published) => Incoming::Publish(publish(*published)),
        v3::Packet::PublishAck { packet_id } => Incoming::Puback(Ack::success(packet_id)),
        v3::Packet::PublishReceived { packet_id } => Incoming::Pubrec(Ack::success(packet_id)),
        v3::Packet::PublishRelease { packet_id } => Incoming::Pubrel(Ack::success(packet_id)),
        v3::Packet::PublishComplete { packet_id } => Incoming::Pubcomp(Ack::success(packet_id)),
        v3::Packet::Subscribe { packet_id, topic_filters } => {
            let plain = |(filter, qos)| (filter, v5::SubscriptionOptions { qos, ..Default::default() });
            subscribe(packet_id, None, topic_filters.into_iter().map(plain))
        }
        v3::Packet::Unsubscribe { packet_id, topic_filters } => {
            Incoming::Unsubscribe(Unsubscribe { packet_id, filters: topic_filters })
        }
        v3::Packet::PingRequest => Incoming::Pingreq,
        v3::Packet::Disconnect => disconnect(0, None),
        other => panic!("{other:?} is not a client's"),
    }
}

pub(super) fn from_v5(packet: v5::Packet) -> Incoming {
    match packet {
        v5::Packet::Connect(connect) => Incoming::Connect(Box::new(connect_v5(*connect))),
        v5::Packet::Publish(published) => Incoming::Publish(publish(*published)),
        v5::Packet::PublishAck(ack) => Incoming::Puback(coded(ack.packet_id, ack.reason_code.into())),
        v5::Packet::PublishReceived(ack) => Incoming::Pubrec(coded(ack.packet_id, ack.reason_code.into())),
        v5::Packet::PublishRelease(ack) => Incoming::Pubrel(coded(ack.packet_id, ack.reason_code.into())),
        v5::Packet::PublishComplete(ack) => Incoming::Pubcomp(coded(ack.packet_id, ack.reason_code.into())),
        v5::Packet::Subscribe(subscribed) => {
            subscribe(subscribed.packet_id, subscribed.id, subscribed.topic_filters.into_iter())
        }
        v5::Packet::Unsubscribe(unsubscribe) => Incoming::Unsubscribe(Unsubscribe {
            packet_id: unsubscribe.packet_id,
            filters: unsubscribe.topic_filters,
        }),
        v5::Packet::PingRequest => Incoming::Pingreq,
        v5::Packet::Disconnect(said) => {
            disconnect(said.reason_code.into(), said.session_expiry_interval_secs)
        }
        v5::Packet::Auth(_) => Incoming::Auth,
        other => panic!("{other:?} is not a client's"),
    }
}

fn coded(packet_id: NonZeroU16, reason_code: u8) -> Ack {
    Ack { packet_id, reason_code, reason_string: None }
}

fn disconnect(reason_code: u8, session_expiry_s: Option<u32>) -> Incoming {
    Incoming::Disconnect(Disconnect { reason_code, reason_string: None, session_expiry_s })
}

fn level(qos: QoS) -> Qos {
    Qos::from_level(qos.value()).unwrap()
}

fn connect_v3(connect: v3::Connect) -> Connect {
    let will = |will: v3::LastWill| Will {
        topic: will.topic,
        payload: will.message,
        qos: level(will.qos),
        retain: will.retain,
        delay_s: 0,
        expiry_s: None,
        properties: None,
    };
    Connect {
        protocol: Protocol::V3,
        clean_start: connect.clean_session,
        keep_alive_s: connect.keep_alive,
        client_id: connect.client_id,
        username: connect.username,
        password: connect.password,
        will: connect.last_will.map(will),
        session_expiry_s: None,
        receive_max: NonZeroU16::MAX,
        packet_size_max: None,
        topic_alias_max: 0,
        request_problem_info: true,
        auth_method: None,
    }
}

fn connect_v5(connect: v5::Connect) -> Connect {
    let will = |will: v5::LastWill| Will {
        topic: will.topic,
        payload: will.message,
        qos: level(will.qos),
        retain: will.retain,
        delay_s: will.will_delay_interval_sec.unwrap_or(0),
        expiry_s: will.message_expiry_interval.map(NonZeroU32::get),
        properties: some(Properties {
            utf8_payload: will.is_utf8_payload.filter(|&utf8| utf8),
            content_type: will.content_type,
            response_topic: will.response_topic,
            correlation_data: will.correlation_data,
            user: will.user_properties,
        }),
    };
    Connect {
        protocol: Protocol::V5,
        clean_start: connect.clean_start,
        keep_alive_s: connect.keep_alive,
        client_id: connect.client_id,
        username: connect.username,
        password: connect.password,
        will: connect.last_will.map(will),
        session_expiry_s: Some(connect.session_expiry_interval_secs).filter(|&expiry_s| expiry_s != 0),
        receive_max: connect.receive_max.unwrap_or(NonZeroU16::MAX),
        packet_size_max: connect.max_packet_size.map(NonZeroU32::get),
        topic_alias_max: connect.topic_alias_max,
        request_problem_info: connect.request_problem_info,
        auth_method: connect.auth_method,
    }
}

pub(super) fn publish(published: Published) -> Publish {
    let properties = published.properties.unwrap_or_default();
    Publish {
        dup: published.dup,
        qos: level(published.qos),
        retain: published.retain,
        topic: published.topic,
        packet_id: published.packet_id,
        payload: published.payload,
        topic_alias: properties.topic_alias,
        expiry_s: properties.message_expiry_interval.map(NonZeroU32::get),
        subscription_ids: properties.subscription_ids.into_iter().map(NonZeroU32::get).collect(),
        properties: some(Properties {
            utf8_payload: properties.is_utf8_payload.then_some(true),
            content_type: properties.content_type,
            response_topic: properties.response_topic,
            correlation_data: properties.correlation_data,
            user: properties.user_properties,
        }),
    }
}

fn subscribe(
    packet_id: NonZeroU16,
    subscription_id: Option<NonZeroU32>,
    filters: impl Iterator<Item = (ByteString, v5::SubscriptionOptions)>,
) -> Incoming {
    let filters = filters.map(|(filter, options)| SubscribeFilter {
        filter,
        qos: level(options.qos),
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: match options.retain_handling {
            Handling::AtSubscribe => RetainHandling::Always,
            Handling::AtSubscribeNew => RetainHandling::IfNew,
            Handling::NoAtSubscribe => RetainHandling::Never,
        },
    });
    let subscription_id = subscription_id.map(NonZeroU32::get);
    Incoming::Subscribe(Subscribe { packet_id, subscription_id, filters: filters.collect() })
}

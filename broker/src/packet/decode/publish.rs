//! PUBLISH (MQTT 5, section 3.3): the hot path.

use std::num::NonZeroU16;

use latchline_shared::message::{Protocol, Qos};

use super::flaw::Flaw;
use super::frame::PublishFlags;
use super::message::{MessageProperties, check_topic};
use super::property;
use super::reader::Reader;
use crate::packet::types::{Publish, reason};
use crate::packet::wire::property as id;

/// Reads a PUBLISH. Whether its topic alias is known is the session's business.
pub(super) fn decode(body: &mut Reader, flags: PublishFlags, protocol: Protocol) -> Result<Publish, Flaw> {
    let qos = Qos::from_level(flags.qos_level).ok_or(Flaw::malformed("QoS is 3"))?;
    let topic = body.text()?;
    let packet_id = if qos == Qos::AtMostOnce { None } else { Some(body.packet_id()?) };
    let mut properties = MessageProperties::default();
    let mut topic_alias = None;
    if protocol == Protocol::V5 {
        property::read(body, |id, value| match id {
            id::TOPIC_ALIAS => {
                let alias = NonZeroU16::new(value.u16()?);
                topic_alias = Some(alias.ok_or(Flaw::new(reason::TOPIC_ALIAS_INVALID, "topic alias is 0"))?);
                Ok(())
            }
            id::SUBSCRIPTION_ID => Err(Flaw::protocol("subscription identifier from a client")),
            _ => properties.read(id, value),
        })?;
    }
    // An alias stands for the name only where there is none (section 3.3.2.3.4).
    if topic.is_empty() && protocol == Protocol::V5 {
        topic_alias.ok_or(Flaw::protocol("neither topic name nor topic alias"))?;
    } else {
        check_topic(&topic, "topic is not a topic name")?;
    }
    let payload = body.rest();
    properties.check_payload(&payload)?;
    Ok(Publish {
        dup: flags.dup,
        qos,
        retain: flags.retain,
        topic,
        packet_id,
        payload,
        topic_alias,
        expiry_s: properties.expiry_s,
        subscription_ids: Vec::new(),
        properties: properties.passed_on,
    })
}

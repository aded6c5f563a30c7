//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5, sections 3.8 and 3.10).

use bytestring::ByteString;
use latchline_shared::message::{Protocol, Qos};
use latchline_shared::topic;

use super::flaw::Flaw;
use super::property;
use super::reader::Reader;
use crate::packet::types::{RetainHandling, Subscribe, SubscribeFilter, Unsubscribe, reason};
use crate::packet::wire::property as id;

const QOS: u8 = 0b0000_0011;
const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
const RETAIN_HANDLING: u8 = 0b0011_0000;
const RESERVED: u8 = 0b1100_0000;

/// Reads a SUBSCRIBE.
pub(super) fn decode(body: &mut Reader, protocol: Protocol) -> Result<Subscribe, Flaw> {
    let packet_id = body.packet_id()?;
    let mut subscription_id = None;
    if protocol == Protocol::V5 {
        property::read(body, |id, value| {
            if id != id::SUBSCRIPTION_ID {
                return property::read_user(id, value);
            }
            subscription_id = Some(value.varint()?);
            if subscription_id == Some(0) {
                Err(Flaw::protocol("subscription identifier is 0"))
            } else {
                Ok(())
            }
        })?;
    }
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(subscribe_filter(body, protocol)?);
    }
    if filters.is_empty() { Err(NO_FILTER) } else { Ok(Subscribe { packet_id, subscription_id, filters }) }
}

/// Reads an UNSUBSCRIBE.
pub(super) fn decode_unsubscribe(body: &mut Reader, protocol: Protocol) -> Result<Unsubscribe, Flaw> {
    let packet_id = body.packet_id()?;
    if protocol == Protocol::V5 {
        property::read(body, property::read_user)?;
    }
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(filter(body)?);
    }
    if filters.is_empty() { Err(NO_FILTER) } else { Ok(Unsubscribe { packet_id, filters }) }
}

const NO_FILTER: Flaw = Flaw::protocol("no topic filter");

fn subscribe_filter(body: &mut Reader, protocol: Protocol) -> Result<SubscribeFilter, Flaw> {
    let filter = filter(body)?;
    let options = body.u8()?;
    let reserved = match protocol {
        Protocol::V3 => !QOS,
        Protocol::V5 => RESERVED,
    };
    if options & reserved != 0 {
        return Err(Flaw::malformed("reserved bits of the subscription options are set"));
    }
    let qos = Qos::from_level(options & QOS).ok_or(match protocol {
        Protocol::V3 => Flaw::malformed("requested QoS is 3"),
        Protocol::V5 => Flaw::protocol("maximum QoS is 3"),
    })?;
    let retain_handling = match (options & RETAIN_HANDLING) >> 4 {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(Flaw::protocol("retain handling is 3")),
    };
    let no_local = options & NO_LOCAL != 0;
    if no_local && topic::split_share(&filter).is_some() {
        return Err(Flaw::protocol("no local on a shared subscription"));
    }
    let retain_as_published = options & RETAIN_AS_PUBLISHED != 0;
    Ok(SubscribeFilter { filter, qos, no_local, retain_as_published, retain_handling })
}

/// A filter, or a shared subscription, which is one on 3.1.1 too.
fn filter(body: &mut Reader) -> Result<ByteString, Flaw> {
    let filter = body.text()?;
    let flaw = match topic::split_share(&filter) {
        Some(Ok(_)) => return Ok(filter),
        None if topic::is_topic_filter(&filter) => return Ok(filter),
        Some(Err(())) => "shared subscription is not $share/{group}/{filter}",
        None => "topic filter is wrong",
    };
    Err(Flaw::new(reason::TOPIC_FILTER_INVALID, flaw))
}

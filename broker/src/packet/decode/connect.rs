//! CONNECT (MQTT 5, section 3.1; MQTT 3.1.1, section 3.1).

use std::num::NonZeroU16;

use bytestring::ByteString;
use latchline_shared::message::{Protocol, Qos};

use super::flaw::Flaw;
use super::message::{MessageProperties, check_topic};
use super::property;
use super::reader::Reader;
use crate::packet::types::{Connect, Will, reason};
use crate::packet::wire::property as id;

/// Bridges of mosquitto set this bit in the protocol level.
const BRIDGE: u8 = 0x80;

/// Reads a CONNECT and notes the protocol version as soon as it is known, for the answer to an
/// error further on.
pub(super) fn decode(body: &mut Reader, protocol: &mut Option<Protocol>) -> Result<Connect, Flaw> {
    let version = version(body, protocol)?;
    let flags = Flags::check(body.u8()?, version)?;
    let mut connect = Connect {
        protocol: version,
        clean_start: flags.clean_start,
        keep_alive_s: body.u16()?,
        client_id: ByteString::new(),
        username: None,
        password: None,
        will: None,
        session_expiry_s: None,
        receive_max: NonZeroU16::MAX,
        packet_size_max: None,
        topic_alias_max: 0,
        request_problem_info: true,
        auth_method: None,
    };
    if version == Protocol::V5 {
        read_properties(body, &mut connect)?;
    }
    connect.client_id = body.text()?;
    // MQTT 5 lets the server assign an id to any session, 3.1.1 only to a clean one.
    if version == Protocol::V3 && connect.client_id.is_empty() && !connect.clean_start {
        return Err(Flaw::new(reason::CLIENT_ID_NOT_VALID, "client id is empty and clean session is 0"));
    }
    if let Some(will_flags) = flags.will {
        connect.will = Some(will(body, will_flags, version)?);
    }
    if flags.username {
        connect.username = Some(body.text()?);
    }
    if flags.password {
        connect.password = Some(body.binary()?);
    }
    Ok(connect)
}

fn version(body: &mut Reader, protocol: &mut Option<Protocol>) -> Result<Protocol, Flaw> {
    const REFUSED: Flaw = Flaw::new(
        reason::UNSUPPORTED_PROTOCOL_VERSION,
        "protocol is neither MQTT 3.1.1 (level 4) nor MQTT 5 (level 5)",
    );
    let name = body.binary()?;
    // MQTT 3.1 calls itself MQIsdp and understands the CONNACK of 3.1.1.
    if &name[..] == b"MQIsdp" {
        *protocol = Some(Protocol::V3);
    }
    if &name[..] != b"MQTT" {
        return Err(REFUSED);
    }
    let level = body.u8()?;
    let version = if level & !BRIDGE < 5 { Protocol::V3 } else { Protocol::V5 };
    *protocol = Some(version);
    if level == version as u8 { Ok(version) } else { Err(REFUSED) }
}

/// Connect Flags (section 3.1.2.3) that fit together.
struct Flags {
    username: bool,
    password: bool,
    will: Option<WillFlags>,
    clean_start: bool,
}

#[derive(Clone, Copy)]
struct WillFlags {
    retain: bool,
    qos: Qos,
}

impl Flags {
    fn check(bits: u8, protocol: Protocol) -> Result<Self, Flaw> {
        let set = |bit: u8| bits & bit != 0;
        if set(0b0000_0001) {
            return Err(Flaw::malformed("reserved connect flag is set"));
        }
        let qos = Qos::from_level((bits & 0b0001_1000) >> 3).ok_or(Flaw::malformed("will QoS is 3"))?;
        let flags = WillFlags { retain: set(0b0010_0000), qos };
        let will = set(0b0000_0100).then_some(flags);
        if will.is_none() && (flags.retain || qos != Qos::AtMostOnce) {
            return Err(Flaw::malformed("will QoS or will retain without will flag"));
        }
        let (username, password) = (set(0b1000_0000), set(0b0100_0000));
        if protocol == Protocol::V3 && password && !username {
            return Err(Flaw::malformed("password flag without user name flag"));
        }
        Ok(Self { username, password, will, clean_start: set(0b0000_0010) })
    }
}

fn read_properties(body: &mut Reader, connect: &mut Connect) -> Result<(), Flaw> {
    let mut auth_data = false;
    property::read(body, |id, value| {
        match id {
            id::SESSION_EXPIRY => connect.session_expiry_s = Some(value.u32()?),
            id::RECEIVE_MAX => {
                let maximum = NonZeroU16::new(value.u16()?);
                connect.receive_max = maximum.ok_or(Flaw::protocol("receive maximum is 0"))?;
            }
            id::PACKET_SIZE_MAX => match value.u32()? {
                0 => return Err(Flaw::protocol("maximum packet size is 0")),
                maximum => connect.packet_size_max = Some(maximum),
            },
            id::TOPIC_ALIAS_MAX => connect.topic_alias_max = value.u16()?,
            // The server may always decline to give response information.
            id::REQUEST_RESPONSE_INFO => drop(value.bool()?),
            id::REQUEST_PROBLEM_INFO => connect.request_problem_info = value.bool()?,
            id::AUTH_METHOD => connect.auth_method = Some(value.text()?),
            id::AUTH_DATA => {
                value.binary()?;
                auth_data = true;
            }
            _ => return property::read_user(id, value),
        }
        Ok(())
    })?;
    if auth_data && connect.auth_method.is_none() {
        return Err(Flaw::protocol("authentication data without authentication method"));
    }
    Ok(())
}

fn will(body: &mut Reader, flags: WillFlags, protocol: Protocol) -> Result<Will, Flaw> {
    let mut properties = MessageProperties::default();
    let mut delay_s = 0;
    if protocol == Protocol::V5 {
        property::read(body, |id, value| match id {
            id::WILL_DELAY => {
                delay_s = value.u32()?;
                Ok(())
            }
            _ => properties.read(id, value),
        })?;
    }
    let topic = body.text()?;
    check_topic(&topic, "will topic is not a topic name")?;
    let payload = body.binary()?;
    properties.check_payload(&payload)?;
    Ok(Will {
        topic,
        payload,
        qos: flags.qos,
        retain: flags.retain,
        delay_s,
        expiry_s: properties.expiry_s,
        properties: properties.passed_on,
    })
}

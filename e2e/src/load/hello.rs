//! How a connection begins: who it is, CONNECT and CONNACK, and what it subscribes to.

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use latchline_shared::message::{Protocol, Qos};

use crate::bench::lock::Session;
use crate::client::packet::{self, Connect, Packet};
use crate::load::run::{ID, Login, Run};

/// How long a session without a connection is kept (MQTT 5), where it is.
const SESSION_EXPIRY_S: u32 = 3600;
const SUBSCRIBE_ID: u16 = 1;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reports, and takes commands.
    Lock,
    /// Commands.
    Operator,
    /// Receives the reports of all locks.
    Subscriber,
}

impl Role {
    /// Client id of connection `number` of this role.
    pub fn client_id(self, run: &Run, number: u32) -> String {
        let part = match self {
            Self::Lock => return run.lock_id(number),
            Self::Operator => "commands",
            Self::Subscriber => "reports",
        };
        // Our broker lets a user have client ids that begin with the user's name.
        let user = match &run.settings.operator {
            Login::Same(name, _) => name,
            Login::Nobody | Login::Derived(_) => "load",
        };
        format!("{user}-load-{:08x}-{part}-{number}", run.id)
    }

    /// CONNECT.
    pub fn connect(self, run: &Run, client_id: &str) -> Bytes {
        let login = if self == Self::Lock { &run.settings.login } else { &run.settings.operator };
        let derived;
        let login = match login {
            Login::Nobody => None,
            Login::Same(name, password) => Some((name.as_str(), password.as_str())),
            Login::Derived(master) => {
                derived = master.mqtt_password(client_id);
                Some((client_id, derived.as_str()))
            }
        };
        let is_kept = self == Self::Lock && run.settings.session == Session::Kept;
        packet::connect(&Connect {
            protocol: run.settings.protocol,
            client_id,
            login,
            clean: !is_kept,
            session_expiry_s: if is_kept { SESSION_EXPIRY_S } else { 0 },
            keep_alive_s: run.settings.keep_alive_s,
        })
    }

    /// SUBSCRIBE, if it subscribes to something.
    pub fn subscribe(self, run: &Run, client_id: &str) -> Option<Bytes> {
        let settings = &run.settings;
        let (filter, qos) = match self {
            Self::Lock => (settings.command_topic.as_ref()?.replace(ID, client_id), settings.qos),
            Self::Operator => return None,
            Self::Subscriber => (settings.state_topic.replace(ID, "+"), settings.qos),
        };
        Some(packet::subscribe(settings.protocol, SUBSCRIBE_ID, &[(&filter, qos.max(Qos::AtLeastOnce))]))
    }
}

/// What CONNACK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// 0, or why not.
    pub code: u8,
    /// Messages that may be under way.
    pub receive_max: u16,
}

/// Takes CONNACK off the buffer, once all of it is there.
pub fn welcome(protocol: Protocol, buffer: &mut BytesMut) -> anyhow::Result<Option<Welcome>> {
    let whole = buffer.clone();
    match packet::decode(protocol, buffer)? {
        None => Ok(None),
        Some(Packet::ConnAck { code, .. }) => {
            let receive_max = match protocol {
                Protocol::V3 => u16::MAX,
                Protocol::V5 => {
                    let body = after_length(whole.get(1..whole.len() - buffer.len()).unwrap_or_default());
                    receive_max(body.get(2..).unwrap_or_default()).context("properties of CONNACK")?
                }
            };
            Ok(Some(Welcome { code, receive_max }))
        }
        Some(other) => bail!("{other:?} instead of CONNACK"),
    }
}

/// What comes after a length of one to four bytes.
fn after_length(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().position(|&byte| byte < 0x80).map_or(bytes.len(), |at| at + 1);
    &bytes[last..]
}

/// Receive Maximum in the properties of CONNACK, their length before them; there may be none at all.
fn receive_max(properties: &[u8]) -> Option<u16> {
    let mut rest = after_length(properties);
    while let Some((id, value)) = rest.split_first() {
        let text = |at: usize| Some(2 + usize::from(u16::from_be_bytes(*value.get(at..)?.first_chunk()?)));
        let bytes = match id {
            0x21 => return Some(u16::from_be_bytes(*value.first_chunk()?)),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x13 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => text(0)?,
            0x26 => text(0)? + text(text(0)?)?,
            _ => return None,
        };
        rest = value.get(bytes..)?;
    }
    Some(u16::MAX)
}

/// Whether this is SUBACK and grants as much as messages of this quality of service need: with less,
/// the broker may lose some, and it would be no fault of its.
pub fn is_granted(packet: &Packet, qos: Qos) -> bool {
    let suffices = |code: &u8| (qos.level()..0x80).contains(code);
    matches!(packet, Packet::Granted { id: SUBSCRIBE_ID, codes } if codes.iter().all(suffices))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_maximum_stands_among_other_properties() {
        for (properties, expected) in [
            (&b""[..], Some(u16::MAX)),
            (b"\0", Some(u16::MAX)),
            (b"\x03\x21\0\x40", Some(64)),
            (b"\x05\x24\x01\x21\0\x40", Some(64)),
            (b"\x08\x12\0\x02ab\x21\0\x40", Some(64)),
            (b"\x0a\x26\0\x01a\0\x01b\x21\0\x40", Some(64)),
            (b"\x08\x27\0\x01\0\0\x21\0\x40", Some(64)),
            (b"\x03\x22\0\x0a", Some(u16::MAX)),
            (b"\x02\x7f\0", None),
            (b"\x02\x21\0", None),
            (b"\x03\x12\0\x09", None),
        ] {
            assert_eq!(receive_max(properties), expected, "{properties:?}");
        }
    }

    #[test]
    fn a_welcome_is_taken_whole() {
        let mut buffer = BytesMut::from(&b"\x20\x06\0\0\x03\x21\0\x40\x90"[..]);
        let mut half = BytesMut::from(&buffer[..5]);
        assert_eq!(welcome(Protocol::V5, &mut half).unwrap(), None);
        let welcomed = welcome(Protocol::V5, &mut buffer).unwrap();
        assert_eq!(welcomed, Some(Welcome { code: 0, receive_max: 64 }));
        assert_eq!(&buffer[..], b"\x90");
        let mut refused = BytesMut::from(&b"\x20\x02\0\x05"[..]);
        let code = welcome(Protocol::V3, &mut refused).unwrap().map(|welcome| welcome.code);
        assert_eq!(code, Some(5));
        assert!(welcome(Protocol::V3, &mut BytesMut::from(&b"\xd0\0"[..])).is_err());
    }

    #[test]
    fn a_grant_suffices_for_the_messages() {
        for (qos, code, expected) in [
            (Qos::AtMostOnce, 0, true),
            (Qos::AtLeastOnce, 0, false),
            (Qos::AtLeastOnce, 1, true),
            (Qos::ExactlyOnce, 1, false),
            (Qos::ExactlyOnce, 2, true),
            (Qos::AtMostOnce, 0x80, false),
        ] {
            let packet = Packet::Granted { id: SUBSCRIBE_ID, codes: vec![code] };
            assert_eq!(is_granted(&packet, qos), expected, "{qos:?} {code:#04x}");
        }
        assert!(!is_granted(&Packet::Granted { id: 2, codes: vec![1] }, Qos::AtLeastOnce));
        assert!(!is_granted(&Packet::PingResp, Qos::AtMostOnce));
    }
}

//! Numbers of the wire format that the decoder and the encoder share (MQTT 5, sections 1.5 and 2).

/// Largest value of a variable byte integer, and so of a remaining length (section 1.5.5).
pub(super) const VARINT_MAX: u32 = 268_435_455;

/// Control packet types: the upper half of the first byte (section 2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl Kind {
    /// The type in a packet's first byte; type 0 does not exist.
    pub(super) fn of(first_byte: u8) -> Option<Self> {
        Some(match first_byte >> 4 {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type. The flags of PUBLISH come on top (section 2.1.3).
    pub(super) fn first_byte(self) -> u8 {
        let flags = match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }

    /// The name in the specification.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

/// Property identifiers (section 2.2.2.2). All fit one byte.
pub(super) mod property {
    pub(in crate::packet) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(in crate::packet) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(in crate::packet) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::packet) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in crate::packet) const CORRELATION_DATA: u8 = 0x09;
    pub(in crate::packet) const SUBSCRIPTION_ID: u8 = 0x0b;
    pub(in crate::packet) const SESSION_EXPIRY: u8 = 0x11;
    pub(in crate::packet) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(in crate::packet) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in crate::packet) const AUTH_METHOD: u8 = 0x15;
    pub(in crate::packet) const AUTH_DATA: u8 = 0x16;
    pub(in crate::packet) const REQUEST_PROBLEM_INFO: u8 = 0x17;
    pub(in crate::packet) const WILL_DELAY: u8 = 0x18;
    pub(in crate::packet) const REQUEST_RESPONSE_INFO: u8 = 0x19;
    pub(in crate::packet) const SERVER_REFERENCE: u8 = 0x1c;
    pub(in crate::packet) const REASON_STRING: u8 = 0x1f;
    pub(in crate::packet) const RECEIVE_MAX: u8 = 0x21;
    pub(in crate::packet) const TOPIC_ALIAS_MAX: u8 = 0x22;
    pub(in crate::packet) const TOPIC_ALIAS: u8 = 0x23;
    pub(in crate::packet) const USER: u8 = 0x26;
    pub(in crate::packet) const PACKET_SIZE_MAX: u8 = 0x27;
}

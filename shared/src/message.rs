//! An MQTT message on its way through the broker, and the client that it came from.
//!
//! These two types are what hooks see. They are independent of the protocol version and of the
//! packet codec.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

/// MQTT protocol version of a connection. The value is the protocol level on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V3 = 4,
    /// MQTT 5.
    V5 = 5,
}

/// Quality of service of a message or a subscription (MQTT 5, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// The level with this number, if it is one.
    pub fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire.
    pub fn level(self) -> u8 {
        self as u8
    }
}

/// The broker's id of a message: the same on publish, deliver and acked, unique across nodes and
/// restarts. Printed as 32 hexadecimal digits (header `mid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u128);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One authenticated connection. A client id that connects again gets a new `Client`.
#[derive(Debug)]
pub struct Client {
    /// MQTT client id; for a lock, the lock's id.
    pub id: ByteString,
    /// MQTT user name, empty when the client gave none.
    pub username: ByteString,
    /// What the client may do is decided by its role.
    pub role: ByteString,
    /// Protocol version.
    pub protocol: Protocol,
    /// Remote address.
    pub peer: SocketAddr,
    /// Number of this connection: grows with each connection of this client id, on this node and
    /// across restarts while the clock does not go back.
    pub session: u64,
    /// How many records of each kind this connection has put into the bridge.
    pub sequence: Sequence,
}

/// Counts what one connection put into the bridge, per message hook, from 1 without gaps
/// (header `seq`), so that a consumer can prove that nothing is missing.
#[derive(Debug, Default)]
pub struct Sequence {
    /// Records of `message.publish`.
    pub publish: std::sync::atomic::AtomicU64,
    /// Records of `message.rejected`.
    pub rejected: std::sync::atomic::AtomicU64,
    /// Records of `message.deliver`.
    pub deliver: std::sync::atomic::AtomicU64,
    /// Records of `message.acked`.
    pub acked: std::sync::atomic::AtomicU64,
}

/// MQTT 5 properties that travel with a message unchanged (MQTT 5, section 3.3.2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Payload Format Indicator: the payload is UTF-8.
    pub utf8_payload: Option<bool>,
    /// Content Type.
    pub content_type: Option<ByteString>,
    /// Response Topic.
    pub response_topic: Option<ByteString>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User Properties, in the order received.
    pub user: Vec<(ByteString, ByteString)>,
}

/// A message as published.
#[derive(Debug, Clone)]
pub struct Message {
    /// The broker's id of the message.
    pub mid: MessageId,
    /// Client id of the publisher.
    pub from: ByteString,
    /// Topic name, without wildcards.
    pub topic: ByteString,
    /// Payload bytes as received.
    pub payload: Bytes,
    /// QoS of the PUBLISH.
    pub qos: Qos,
    /// RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// DUP flag of the PUBLISH.
    pub dup: bool,
    /// The publisher's packet id; none at QoS 0.
    pub packet_id: Option<u16>,
    /// MQTT 5 properties, if there were any.
    pub properties: Option<Box<Properties>>,
    /// When the broker received it.
    pub received_at: Instant,
    /// Message Expiry Interval.
    pub expiry: Option<Duration>,
}

impl Properties {
    /// Bytes that they take in memory. A user property of a few bytes on the wire takes many times
    /// that, so what is bounded in bytes must count them.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| text.len());
        let pairs = self.user.iter().map(|pair| size_of_val(pair) + pair.0.len() + pair.1.len());
        size_of::<Self>()
            + text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation_data.as_ref().map_or(0, Bytes::len)
            + pairs.sum::<usize>()
    }
}

impl Message {
    /// Bytes of topic, payload and properties.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.as_deref().map_or(0, Properties::bytes)
    }

    /// How long the message may still be delivered: `None` without expiry, `Some(None)` once it
    /// has expired.
    pub fn remaining(&self, now: Instant) -> Option<Option<Duration>> {
        self.expiry
            .map(|expiry| expiry.checked_sub(now.duration_since(self.received_at)).filter(|d| !d.is_zero()))
    }
}

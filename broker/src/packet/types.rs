//! The packets as the rest of the broker sees them, for both protocol versions.
//!
//! What a client sends and what the broker sends are two enums, so that nobody can handle a packet
//! that cannot come. Fields that only MQTT 5 has are empty on 3.1.1.

use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;
use bytestring::ByteString;
use latchline_shared::message::{Properties, Protocol, Qos};

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// CONNECT
    Connect(Box<Connect>),
    /// PUBLISH
    Publish(Publish),
    /// PUBACK
    Puback(Ack),
    /// PUBREC
    Pubrec(Ack),
    /// PUBREL
    Pubrel(Ack),
    /// PUBCOMP
    Pubcomp(Ack),
    /// SUBSCRIBE
    Subscribe(Subscribe),
    /// UNSUBSCRIBE
    Unsubscribe(Unsubscribe),
    /// PINGREQ
    Pingreq,
    /// DISCONNECT
    Disconnect(Disconnect),
    /// AUTH (MQTT 5); always refused, since CONNECT with an authentication method is.
    Auth,
}

/// A packet to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// CONNACK
    Connack(Box<Connack>),
    /// PUBLISH
    Publish(Publish),
    /// PUBACK
    Puback(Ack),
    /// PUBREC
    Pubrec(Ack),
    /// PUBREL
    Pubrel(Ack),
    /// PUBCOMP
    Pubcomp(Ack),
    /// SUBACK
    Suback(Suback),
    /// UNSUBACK
    Unsuback(Suback),
    /// PINGRESP
    Pingresp,
    /// DISCONNECT (MQTT 5 only; encoding it for 3.1.1 writes nothing)
    Disconnect(Disconnect),
}

/// CONNECT (MQTT 5, section 3.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Protocol version.
    pub protocol: Protocol,
    /// Clean Session (3.1.1) or Clean Start (5).
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 is none.
    pub keep_alive_s: u16,
    /// Client id, empty if the server shall assign one.
    pub client_id: ByteString,
    /// User Name.
    pub username: Option<ByteString>,
    /// Password.
    pub password: Option<Bytes>,
    /// Will.
    pub will: Option<Will>,
    /// Session Expiry Interval in seconds as sent (MQTT 5); none if absent or 3.1.1.
    pub session_expiry_s: Option<u32>,
    /// Receive Maximum of the client; 65535 if absent.
    pub receive_max: NonZeroU16,
    /// Maximum Packet Size of the client, if it has one.
    pub packet_size_max: Option<u32>,
    /// Topic Alias Maximum of the client.
    pub topic_alias_max: u16,
    /// Request Problem Information: reason strings may be sent.
    pub request_problem_info: bool,
    /// Authentication Method: enhanced authentication is wanted.
    pub auth_method: Option<ByteString>,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password, and not the will, whose payload is the client's own affair.
        f.debug_struct("Connect")
            .field("protocol", &self.protocol)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The will in a CONNECT (MQTT 5, section 3.1.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic name, already checked.
    pub topic: ByteString,
    /// Payload.
    pub payload: Bytes,
    /// QoS.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay_s: u32,
    /// Message Expiry Interval in seconds.
    pub expiry_s: Option<u32>,
    /// Properties passed on.
    pub properties: Option<Box<Properties>>,
}

/// CONNACK (MQTT 5, section 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connack {
    /// Session Present.
    pub session_present: bool,
    /// Reason code of MQTT 5; the encoder maps it to a return code of 3.1.1 (section 3.2.2.3).
    pub reason_code: u8,
    /// Reason String.
    pub reason_string: Option<&'static str>,
    /// Session Expiry Interval in seconds, if it is not the client's.
    pub session_expiry_s: Option<u32>,
    /// Receive Maximum of the server.
    pub receive_max: NonZeroU16,
    /// Maximum Packet Size of the server.
    pub packet_size_max: Option<u32>,
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<ByteString>,
    /// Topic Alias Maximum of the server.
    pub topic_alias_max: u16,
    /// Server Keep Alive in seconds, if it is not the client's.
    pub server_keep_alive_s: Option<u16>,
}

/// PUBLISH in either direction (MQTT 5, section 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// DUP flag.
    pub dup: bool,
    /// QoS.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic name; empty only with a topic alias.
    pub topic: ByteString,
    /// Packet id; some exactly if the QoS is not 0.
    pub packet_id: Option<NonZeroU16>,
    /// Payload.
    pub payload: Bytes,
    /// Topic Alias; never 0.
    pub topic_alias: Option<NonZeroU16>,
    /// Message Expiry Interval in seconds.
    pub expiry_s: Option<u32>,
    /// Subscription Identifiers; only ever sent, never received.
    pub subscription_ids: Vec<u32>,
    /// Properties passed on.
    pub properties: Option<Box<Properties>>,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT 5, sections 3.4 to 3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Packet id.
    pub packet_id: NonZeroU16,
    /// Reason code; 0 on 3.1.1, which cannot say more.
    pub reason_code: u8,
    /// Reason String to send; never read.
    pub reason_string: Option<&'static str>,
}

impl Ack {
    /// An acknowledgement with success.
    pub fn success(packet_id: NonZeroU16) -> Self {
        Self { packet_id, reason_code: 0, reason_string: None }
    }

    /// An acknowledgement with a reason.
    pub fn reason(packet_id: NonZeroU16, reason_code: u8, reason_string: &'static str) -> Self {
        Self { packet_id, reason_code, reason_string: Some(reason_string) }
    }
}

/// Retain Handling option (MQTT 5, section 3.8.3.1): when retained messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every subscribe.
    Always = 0,
    /// Only if the subscription is new.
    IfNew = 1,
    /// Never.
    Never = 2,
}

/// One filter of a SUBSCRIBE with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// The filter as written: syntactically right, `$share/…` included.
    pub filter: ByteString,
    /// Maximum QoS.
    pub qos: Qos,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

/// SUBSCRIBE (MQTT 5, section 3.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet id.
    pub packet_id: NonZeroU16,
    /// Subscription Identifier, 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// At least one filter.
    pub filters: Vec<SubscribeFilter>,
}

/// UNSUBSCRIBE (MQTT 5, section 3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet id.
    pub packet_id: NonZeroU16,
    /// At least one filter.
    pub filters: Vec<ByteString>,
}

/// SUBACK or UNSUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    /// Packet id.
    pub packet_id: NonZeroU16,
    /// One MQTT 5 reason code per filter; the encoder maps failures to 0x80 for 3.1.1, whose
    /// UNSUBACK has none.
    pub reason_codes: Vec<u8>,
}

/// DISCONNECT in either direction (MQTT 5, section 3.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Reason code; 0 on 3.1.1.
    pub reason_code: u8,
    /// Reason String to send; never read.
    pub reason_string: Option<&'static str>,
    /// Session Expiry Interval in seconds, if the client changes it.
    pub session_expiry_s: Option<u32>,
}

/// Reason codes of MQTT 5 that the broker sends (section 2.4).
pub mod reason {
    /// Success; also normal disconnection and granted QoS 0.
    pub const SUCCESS: u8 = 0x00;
    /// Disconnect with will message.
    pub const DISCONNECT_WITH_WILL: u8 = 0x04;
    /// No matching subscribers.
    pub const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
    /// No subscription existed.
    pub const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
    /// Unspecified error.
    pub const UNSPECIFIED: u8 = 0x80;
    /// Malformed Packet.
    pub const MALFORMED_PACKET: u8 = 0x81;
    /// Protocol Error.
    pub const PROTOCOL_ERROR: u8 = 0x82;
    /// Implementation specific error.
    pub const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
    /// Unsupported Protocol Version.
    pub const UNSUPPORTED_PROTOCOL_VERSION: u8 = 0x84;
    /// Client Identifier not valid.
    pub const CLIENT_ID_NOT_VALID: u8 = 0x85;
    /// Bad User Name or Password.
    pub const BAD_CREDENTIALS: u8 = 0x86;
    /// Not authorized.
    pub const NOT_AUTHORIZED: u8 = 0x87;
    /// Server unavailable.
    pub const SERVER_UNAVAILABLE: u8 = 0x88;
    /// Server busy.
    pub const SERVER_BUSY: u8 = 0x89;
    /// Server shutting down.
    pub const SERVER_SHUTTING_DOWN: u8 = 0x8b;
    /// Bad authentication method.
    pub const BAD_AUTHENTICATION_METHOD: u8 = 0x8c;
    /// Keep Alive timeout.
    pub const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;
    /// Session taken over.
    pub const SESSION_TAKEN_OVER: u8 = 0x8e;
    /// Topic Filter invalid.
    pub const TOPIC_FILTER_INVALID: u8 = 0x8f;
    /// Topic Name invalid.
    pub const TOPIC_NAME_INVALID: u8 = 0x90;
    /// Packet Identifier in use.
    pub const PACKET_ID_IN_USE: u8 = 0x91;
    /// Packet Identifier not found.
    pub const PACKET_ID_NOT_FOUND: u8 = 0x92;
    /// Receive Maximum exceeded.
    pub const RECEIVE_MAX_EXCEEDED: u8 = 0x93;
    /// Topic Alias invalid.
    pub const TOPIC_ALIAS_INVALID: u8 = 0x94;
    /// Packet too large.
    pub const PACKET_TOO_LARGE: u8 = 0x95;
    /// Quota exceeded.
    pub const QUOTA_EXCEEDED: u8 = 0x97;
    /// Administrative action.
    pub const ADMINISTRATIVE_ACTION: u8 = 0x98;
    /// Payload format invalid.
    pub const PAYLOAD_FORMAT_INVALID: u8 = 0x99;
}

//! The hook contract: what the broker asks and tells, and how a hook answers.
//!
//! Two questions (`client_authenticate`, `client_authorise`) and the events of contract section 2:
//! the seven of the reference, and `message.rejected`. A hook never blocks: it answers at once, or
//! with a future ([`Answer::Later`]) or a [`Receipt`] that settles later. The broker calls hooks in
//! the order of one list, gives each a deadline and a policy for faults, and treats a panic as a
//! fault.
//!
//! Guarantees: `message_publish` is called once per PUBLISH received, in the order of each
//! connection; the acknowledgement leaves only after every receipt has settled without fault.
//! Non-guarantee: nothing orders the calls of different connections.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::fault::Fault;
use crate::message::{Client, Message, Protocol, Qos};
use crate::receipt::Receipt;

/// A hook. Every method has a default, so that a hook implements what it says in [`Hook::calls`].
pub trait Hook: Send + Sync + 'static {
    /// Name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Which methods the broker shall call; the others are never called.
    fn calls(&self) -> &'static [Call];

    /// May this client connect, and as what? The first decision that is not `Ignore` holds; if
    /// all hooks ignore the client, it is refused.
    fn client_authenticate(&self, _connect: &Arc<Connect>) -> Answer<Authentication> {
        Answer::Now(Authentication::Ignore)
    }

    /// May this client publish or subscribe? Decided from what is in memory. The first decision
    /// that is not `Ignore` holds; if all hooks ignore the access, it is refused.
    fn client_authorise(&self, _client: &Client, _access: &Access<'_>) -> Authorisation {
        Authorisation::Ignore
    }

    /// After CONNACK with success.
    fn client_connected(&self, _client: &Client) -> Receipt {
        Receipt::settled()
    }

    /// Once per end of a connection that was connected.
    fn client_disconnected(&self, _client: &Client, _reason: &'static str) -> Receipt {
        Receipt::settled()
    }

    /// Once per filter that was granted; `filter` as the client wrote it.
    fn session_subscribed(&self, _client: &Client, _filter: &str, _qos: Qos) -> Receipt {
        Receipt::settled()
    }

    /// Once per filter that was removed at the client's wish.
    fn session_unsubscribed(&self, _client: &Client, _filter: &str, _qos: Qos) -> Receipt {
        Receipt::settled()
    }

    /// Once per PUBLISH received, whether or not anyone subscribes.
    fn message_publish(&self, _client: &Client, _message: &Message) -> PublishAnswer {
        PublishAnswer::Accept(Receipt::settled())
    }

    /// Once per PUBLISH that the access rules, or a hook, refused or absorbed, before the publisher
    /// is told: the answer waits for the receipt. Never turns the refusal into anything else.
    fn message_rejected(&self, _client: &Client, _message: &Message, _refusal: &Refusal) -> Receipt {
        Receipt::settled()
    }

    /// Once per subscriber that the message is sent to; `receiver` is the subscriber.
    fn message_deliver(&self, _receiver: &Client, _delivery: &Delivered<'_>) -> Receipt {
        Receipt::settled()
    }

    /// Once per receiver that acknowledged: PUBACK for QoS 1, PUBREC for QoS 2.
    fn message_acked(&self, _receiver: &Client, _delivery: &Delivered<'_>) -> Receipt {
        Receipt::settled()
    }
}

/// The methods of [`Hook`]; the word is the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `client.authenticate`
    ClientAuthenticate,
    /// `client.authorise`
    ClientAuthorise,
    /// `client.connected`
    ClientConnected,
    /// `client.disconnected`
    ClientDisconnected,
    /// `session.subscribed`
    SessionSubscribed,
    /// `session.unsubscribed`
    SessionUnsubscribed,
    /// `message.publish`
    MessagePublish,
    /// `message.rejected`
    MessageRejected,
    /// `message.deliver`
    MessageDeliver,
    /// `message.acked`
    MessageAcked,
}

impl Call {
    /// The name in configuration, records, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientAuthenticate => "client.authenticate",
            Self::ClientAuthorise => "client.authorise",
            Self::ClientConnected => "client.connected",
            Self::ClientDisconnected => "client.disconnected",
            Self::SessionSubscribed => "session.subscribed",
            Self::SessionUnsubscribed => "session.unsubscribed",
            Self::MessagePublish => "message.publish",
            Self::MessageRejected => "message.rejected",
            Self::MessageDeliver => "message.deliver",
            Self::MessageAcked => "message.acked",
        }
    }
}

/// An answer that is there, or comes later.
pub enum Answer<T> {
    /// Decided from what is in memory.
    Now(T),
    /// Needs the outside world. A fault is handled by the hook's policy.
    Later(Pin<Box<dyn Future<Output = Result<T, Fault>> + Send>>),
}

/// Who wants to connect. Holds a secret: it has no `Debug` on purpose.
pub struct Connect {
    /// Client id, assigned by the broker if the client sent an empty one.
    pub client_id: ByteString,
    /// User name, if one was sent.
    pub username: Option<ByteString>,
    /// Password, if one was sent.
    pub password: Option<Bytes>,
    /// Common name of the verified client certificate, if there was one.
    pub common_name: Option<String>,
    /// Protocol version.
    pub protocol: Protocol,
    /// Remote address.
    pub peer: SocketAddr,
}

/// Whether a client may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// This hook does not know the client.
    Ignore,
    /// The client is who it says, and has this role.
    Allow {
        /// Role for the access rules.
        role: ByteString,
    },
    /// The client is refused.
    Deny(Refusal),
}

/// What a client wants to do.
#[derive(Debug, Clone, Copy)]
pub enum Access<'a> {
    /// Publish to a topic name (also asked for a will, at connect).
    Publish {
        /// Topic name.
        topic: &'a str,
        /// QoS of the PUBLISH.
        qos: Qos,
        /// RETAIN flag of the PUBLISH.
        retain: bool,
    },
    /// Subscribe to a filter; for a shared subscription the filter inside.
    Subscribe {
        /// Topic filter.
        filter: &'a str,
    },
}

/// Whether a client may do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorisation {
    /// This hook has no opinion.
    Ignore,
    /// Yes.
    Allow,
    /// No.
    Deny(Refusal),
}

/// Why something was refused: for the client, the log and the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// MQTT 5 reason code (0x80 or more).
    pub reason_code: u8,
    /// One word from a fixed set, for the metric's label and the reason string.
    pub cause: &'static str,
}

impl Refusal {
    /// Not authorized (0x87).
    pub const fn not_authorized(cause: &'static str) -> Self {
        Self { reason_code: 0x87, cause }
    }
}

/// A hook's answer to a published message.
#[derive(Debug)]
pub enum PublishAnswer {
    /// Go on; acknowledge when the receipt has settled.
    Accept(Receipt),
    /// Do not deliver it. The publisher is told the reason (after the receipt has settled: the
    /// hook may want the refusal itself on record).
    Reject(Refusal, Receipt),
    /// A repetition of a message that was accepted before, by a sender that missed its
    /// acknowledgement: further hooks see it and it is acknowledged like the first one, but it is not
    /// delivered again.
    Absorb(Receipt),
}

/// A message as one receiver got it.
#[derive(Debug, Clone, Copy)]
pub struct Delivered<'a> {
    /// The message as published.
    pub message: &'a Message,
    /// QoS that it was sent with.
    pub qos: Qos,
    /// Whether it was sent again after a reconnect.
    pub dup: bool,
    /// RETAIN flag that it was sent with.
    pub retain: bool,
    /// The receiver's packet id; none at QoS 0.
    pub packet_id: Option<u16>,
}

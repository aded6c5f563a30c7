//! From the first byte to CONNACK (MQTT 5, sections 3.1 and 3.2).

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use latchline_shared::hook::{self, Access, Call, Refusal};
use latchline_shared::message::{Client, Protocol, Sequence};
use tokio::time::timeout_at;

use super::acks::AckQueue;
use super::wire::Wire;
use super::{Connection, EVENT_BYTES};
use crate::broker::{Broker, detach_properties};
use crate::hooks::identity;
use crate::packet::decode::DecodeError;
use crate::packet::types::{Connack, Connect, Incoming, Outgoing, Will, reason};
use crate::registry::{AttachError, Attached};
use crate::session::mailbox::Signal;

/// Longest CONNECT: nobody knows yet who sends it, so it gets less memory than later packets.
pub(super) const CONNECT_BYTES_MAX: u32 = 16 * 1024;

/// Why there is no connection.
enum Failure {
    /// Nothing that could be answered.
    Silent(&'static str),
    /// CONNACK with a reason.
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Reads CONNECT, asks the hooks, takes the session and answers. `None` if the client was refused.
pub(super) async fn run(
    broker: Arc<Broker>,
    mut wire: Wire,
    peer: SocketAddr,
    common_name: Option<String>,
    deadline: Instant,
) -> Option<Connection> {
    let outcome = match read_connect(&broker, &mut wire, deadline).await {
        Ok(connect) => admit(&broker, &mut wire, connect, peer, common_name).await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok((connect, attached, assigned)) => Some(connected(broker, wire, connect, attached, assigned)),
        Err(Failure::Silent(cause)) => {
            tracing::debug!(%peer, cause, "no connect");
            broker.metrics.refused(cause);
            None
        }
        Err(Failure::Refused(refusal)) => {
            tracing::debug!(%peer, cause = refusal.cause, "connect refused");
            broker.metrics.refused(refusal.cause);
            refuse(wire, refusal).await;
            None
        }
    }
}

async fn read_connect(broker: &Broker, wire: &mut Wire, deadline: Instant) -> Result<Box<Connect>, Failure> {
    let read = async {
        loop {
            match wire.next_packet() {
                Ok(Some(Incoming::Connect(connect))) => return Ok(connect),
                Ok(Some(_)) => return Err(Failure::Silent("no_connect")),
                Ok(None) => {}
                Err(error) => return Err(malformed(wire, &error)),
            }
            match poll_fn(|cx| wire.poll_read(cx)).await {
                Ok(0) => return Err(Failure::Silent("closed_before_connect")),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "connection failed before connect");
                    return Err(Failure::Silent("io_before_connect"));
                }
            }
        }
    };
    // Cancel safety: what has not sent its CONNECT yet loses nothing.
    match broker.stopping.run_until_cancelled(timeout_at(deadline.into(), read)).await {
        Some(Ok(outcome)) => outcome,
        Some(Err(_elapsed)) => Err(Failure::Silent("connect_timeout")),
        None => Err(Failure::Silent("server_shutdown")),
    }
}

/// A malformed CONNECT may be answered (MQTT 5, section 4.13.1); what is not even a CONNECT of MQTT
/// is not.
fn malformed(wire: &Wire, error: &DecodeError) -> Failure {
    tracing::debug!(%error, "malformed connect");
    if error.packet == "CONNECT" && wire.is_protocol_known() {
        Failure::Refused(Refusal { reason_code: error.reason_code, cause: "malformed_connect" })
    } else {
        Failure::Silent("no_connect")
    }
}

type Admitted = (Box<Connect>, Attached, bool);

async fn admit(
    broker: &Arc<Broker>,
    wire: &mut Wire,
    mut connect: Box<Connect>,
    peer: SocketAddr,
    common_name: Option<String>,
) -> Result<Admitted, Failure> {
    wire.set_packet_bytes_max(broker.limits.packet_bytes_max, connect.packet_size_max);
    if connect.auth_method.is_some() {
        let cause = "enhanced_authentication";
        return Err(Refusal { reason_code: reason::BAD_AUTHENTICATION_METHOD, cause }.into());
    }
    // Copies: slices of the read buffer must not outlive it.
    let assigned = connect.client_id.is_empty();
    connect.client_id = if assigned { assigned_id()? } else { ByteString::from(&*connect.client_id) };
    if broker.common_name_is_client_id
        && common_name.as_deref().is_some_and(|name| name != &*connect.client_id)
    {
        let cause = "common_name_mismatch";
        return Err(Refusal { reason_code: reason::CLIENT_ID_NOT_VALID, cause }.into());
    }
    // Room for the records of this connection's beginning and end comes before the connection.
    let has_events = [Call::ClientConnected, Call::ClientDisconnected].map(|call| broker.chain.wants(call));
    if has_events.contains(&true) && broker.budget.is_exhausted() {
        return Err(Refusal { reason_code: reason::SERVER_BUSY, cause: "total_bytes" }.into());
    }
    let client = authenticate(broker, &connect, peer, common_name).await?;
    if let Some(will) = &connect.will {
        let access = Access::Publish { topic: &will.topic, qos: will.qos, retain: will.retain };
        broker.chain.authorise(&client, &access)?;
    }
    let window = connect.receive_max.get().min(broker.limits.inflight_max);
    let attached =
        broker.registry.attach(client, connect.clean_start, window).await.map_err(|error| match error {
            AttachError::Full => Refusal { reason_code: reason::QUOTA_EXCEEDED, cause: "sessions_max" },
            AttachError::Busy => Refusal { reason_code: reason::SERVER_BUSY, cause: "session_busy" },
        })?;
    Ok((connect, attached, assigned))
}

async fn authenticate(
    broker: &Broker,
    connect: &Connect,
    peer: SocketAddr,
    common_name: Option<String>,
) -> Result<Client, Refusal> {
    let question = Arc::new(hook::Connect {
        client_id: connect.client_id.clone(),
        username: connect.username.clone(),
        password: connect.password.clone(),
        common_name,
        protocol: connect.protocol,
        peer,
    });
    let role = broker.chain.authenticate(&question).await?;
    Ok(Client {
        id: connect.client_id.clone(),
        username: connect.username.as_deref().map(ByteString::from).unwrap_or_default(),
        role,
        protocol: connect.protocol,
        peer,
        // It gets its number with the session.
        session: 0,
        sequence: Sequence::default(),
    })
}

/// An id that cannot be guessed, so that nobody can take the session over.
fn assigned_id() -> Result<ByteString, Refusal> {
    let mut random = [0; 16];
    let filled = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut random);
    filled.map_err(|_| Refusal { reason_code: reason::SERVER_UNAVAILABLE, cause: "no_randomness" })?;
    Ok(ByteString::from(format!("{}{:032x}", identity::ASSIGNED_PREFIX, u128::from_be_bytes(random))))
}

fn connected(
    broker: Arc<Broker>,
    wire: Wire,
    mut connect: Box<Connect>,
    attached: Attached,
    assigned: bool,
) -> Connection {
    let client = attached.client;
    broker.metrics.takeovers.inc_by(attached.taken_over.into());
    if let Some(ended) = attached.ended {
        broker.clean_up(ended);
    }
    let limits = &broker.limits;
    let is_v5 = client.protocol == Protocol::V5;
    let session_expiry_s = match connect.session_expiry_s {
        Some(seconds) => seconds.min(limits.session_expiry_s_max),
        None if !is_v5 && !connect.clean_start => limits.session_expiry_s_max,
        None => 0,
    };
    // A 3.1.1 client cannot be told another keep-alive.
    let keep_alive_s = match (limits.keep_alive_s_max, connect.keep_alive_s) {
        (cap @ 1.., wanted) if is_v5 && (wanted == 0 || wanted > cap) => cap,
        (_, wanted) => wanted,
    };
    let connack = Connack {
        session_present: attached.present,
        session_expiry_s: connect
            .session_expiry_s
            .is_some_and(|wanted| wanted != session_expiry_s)
            .then_some(session_expiry_s),
        receive_max: limits.receive_max.try_into().unwrap_or(std::num::NonZeroU16::MIN),
        packet_size_max: Some(limits.packet_bytes_max),
        assigned_client_id: assigned.then(|| client.id.clone()),
        topic_alias_max: limits.topic_alias_max,
        server_keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
        ..refusal(reason::SUCCESS, None)
    };
    broker.metrics.connections.inc();
    broker.count_sessions();
    let now = Instant::now();
    let mut connection = Connection {
        acks: AckQueue::default(),
        events: AckQueue::default(),
        place: broker.budget.place(),
        aliases: None,
        alias_max_out: connect.topic_alias_max.min(limits.topic_alias_max),
        wants_reasons: connect.request_problem_info,
        will: connect.will.take().map(own_copy),
        session_expiry_s,
        silence_max: (keep_alive_s > 0).then(|| Duration::from_millis(u64::from(keep_alive_s) * 1500)),
        last_packet_at: now,
        partial_since: None,
        stuck_since: None,
        stalled: Vec::new(),
        stalled_until: now,
        deferred: None,
        draining_until: None,
        paused: false,
        is_refused: false,
        timer: None,
        session: attached.session,
        mailbox: attached.mailbox,
        client,
        wire,
        broker,
    };
    begin(&mut connection, connack);
    connection
}

/// A copy that does not keep the read buffer, with the password in it, as long as the connection.
fn own_copy(mut will: Will) -> Box<Will> {
    will.topic = ByteString::from(&*will.topic);
    will.payload = Bytes::copy_from_slice(&will.payload);
    if let Some(properties) = &mut will.properties {
        detach_properties(properties);
    }
    Box::new(will)
}

/// CONNACK before anything else, then what the beginning of a connection sets off.
fn begin(connection: &mut Connection, connack: Connack) {
    if connection.wire.send(Outgoing::Connack(Box::new(connack))).is_err() {
        // A client that cannot be told that it is connected is not.
        connection.broker.metrics.dropped("answer_too_large");
        connection.mailbox.signal(Signal::Kick);
    }
    tracing::debug!(client = &*connection.client.id, peer = %connection.client.peer, role = %connection.client.role, "connected");
    if connection.broker.stopping.is_cancelled() {
        // The signal to all may have come before this session was there.
        connection.mailbox.signal(Signal::Shutdown);
    }
    if connection.broker.chain.wants(Call::ClientConnected) {
        let receipt = connection.broker.chain.client_connected(&connection.client);
        connection.push_event(receipt, EVENT_BYTES);
    }
}

fn refusal(reason_code: u8, reason_string: Option<&'static str>) -> Connack {
    Connack {
        session_present: false,
        reason_code,
        reason_string,
        session_expiry_s: None,
        receive_max: std::num::NonZeroU16::MAX,
        packet_size_max: None,
        assigned_client_id: None,
        topic_alias_max: 0,
        server_keep_alive_s: None,
    }
}

async fn refuse(mut wire: Wire, why: Refusal) {
    let connack = refusal(why.reason_code, Some(why.cause));
    if wire.send(Outgoing::Connack(Box::new(connack))).is_ok() {
        wire.finish().await;
    }
}

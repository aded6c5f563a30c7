//! An ordinary MQTT client, 3.1.1 or 5, behind one face: `rumqttc`, which shares no code with our
//! broker, so that the two do not agree on the same mistake. Locks, the operator and tests use it;
//! what an ordinary client does not do (misbehave, count to a million) is in [`crate::client`].
//!
//! The event loop has a task of its own, because a `rumqttc` loop that is dropped while it polls
//! loses its connection. Requests go through a bounded queue that refuses instead of waiting: the
//! caller also reads the events, and must not wait for itself.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use latchline_shared::message::{Protocol, Qos};
use rumqttc::v5::mqttbytes::QoS as Qos5;
use rumqttc::v5::mqttbytes::v5 as packets5;
use rumqttc::{QoS as Qos3, v5};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const REQUESTS_MAX: usize = 64;
const EVENTS_MAX: usize = 64;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a broker keeps the session of an MQTT 5 client that asks for it to be kept.
const SESSION_EXPIRY_S: u32 = 24 * 3600;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Unacknowledged messages at once. `rumqttc` keeps a table of this size for every client, and
/// would make one of 65,536 rows for MQTT 5.
const INFLIGHT_MAX: u16 = 20;

/// Whom to connect to, and as whom. Holds a secret: it has no `Debug` on purpose.
#[derive(Clone)]
pub struct Options {
    /// Host name or address of the broker.
    pub host: String,
    /// Port of the broker.
    pub port: u16,
    /// MQTT client id.
    pub client_id: String,
    /// User name and password, if any are sent.
    pub login: Option<(String, String)>,
    /// Protocol version.
    pub protocol: Protocol,
    /// Whether the broker keeps the session while the client is away.
    pub session: Session,
}

/// What becomes of a session when its client is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It ends.
    Clean,
    /// The broker keeps it.
    Kept,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Connected (again): subscriptions are up to the receiver of this event.
    Connected,
    /// A message came.
    Received(Received),
    /// The oldest message that was not answered yet was acknowledged, or refused with a reason.
    Acked(Result<(), String>),
    /// A subscription was granted, or refused.
    Subscribed(Result<(), String>),
    /// The connection is gone; it is tried again.
    Down(String),
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Topic name.
    pub topic: String,
    /// Payload bytes.
    pub payload: Bytes,
    /// QoS that it was delivered with.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
}

/// A client; dropping it breaks the connection off.
pub struct Client {
    requests: Requests,
    task: JoinHandle<()>,
}

enum Requests {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

impl Client {
    /// Starts a client, which connects and connects again until it is dropped.
    pub fn start(options: Options) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (requests, task) = match options.protocol {
            Protocol::V3 => {
                let (client, event_loop) = rumqttc::AsyncClient::new(options_v3(options), REQUESTS_MAX);
                (Requests::V3(client), tokio::spawn(run_v3(event_loop, events)))
            }
            Protocol::V5 => {
                let (client, event_loop) = v5::AsyncClient::new(options_v5(options), REQUESTS_MAX);
                (Requests::V5(client), tokio::spawn(run_v5(event_loop, events)))
            }
        };
        (Self { requests, task }, receiver)
    }

    /// Publishes; an error says that too many requests are waiting.
    pub fn publish(&self, topic: &str, qos: Qos, retain: bool, payload: &[u8]) -> anyhow::Result<()> {
        match &self.requests {
            Requests::V3(client) => client.try_publish(topic, qos3(qos), retain, payload).context("publish"),
            Requests::V5(client) => {
                client.try_publish(topic, qos5(qos), retain, payload.to_vec()).context("publish")
            }
        }
    }

    /// Subscribes; an error says that too many requests are waiting.
    pub fn subscribe(&self, filter: &str, qos: Qos) -> anyhow::Result<()> {
        match &self.requests {
            Requests::V3(client) => client.try_subscribe(filter, qos3(qos)).context("subscribe"),
            Requests::V5(client) => client.try_subscribe(filter, qos5(qos)).context("subscribe"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn options_v3(options: Options) -> rumqttc::MqttOptions {
    let mut mqtt = rumqttc::MqttOptions::new(options.client_id, options.host, options.port);
    mqtt.set_keep_alive(KEEP_ALIVE).set_clean_session(options.session == Session::Clean);
    mqtt.set_inflight(INFLIGHT_MAX);
    if let Some((username, password)) = options.login {
        mqtt.set_credentials(username, password);
    }
    mqtt
}

fn options_v5(options: Options) -> v5::MqttOptions {
    let mut mqtt = v5::MqttOptions::new(options.client_id, options.host, options.port);
    mqtt.set_keep_alive(KEEP_ALIVE).set_clean_start(options.session == Session::Clean);
    mqtt.set_outgoing_inflight_upper_limit(INFLIGHT_MAX);
    if options.session == Session::Kept {
        mqtt.set_session_expiry_interval(Some(SESSION_EXPIRY_S));
    }
    if let Some((username, password)) = options.login {
        mqtt.set_credentials(username, password);
    }
    mqtt
}

/// Runs until nobody reads the events.
async fn run_v3(mut event_loop: rumqttc::EventLoop, events: mpsc::Sender<Event>) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        let event = match event_loop.poll().await {
            Ok(rumqttc::Event::Incoming(packet)) => from_v3(packet),
            Ok(rumqttc::Event::Outgoing(_)) => None,
            Err(error) => Some(down(&error, &mut backoff).await),
        };
        if matches!(event, Some(Event::Connected)) {
            backoff = BACKOFF_FIRST;
        }
        if let Some(event) = event
            && events.send(event).await.is_err()
        {
            return;
        }
    }
}

/// As [`run_v3`]: the two loops have no type in common.
async fn run_v5(mut event_loop: v5::EventLoop, events: mpsc::Sender<Event>) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        let event = match event_loop.poll().await {
            Ok(v5::Event::Incoming(packet)) => from_v5(packet),
            Ok(v5::Event::Outgoing(_)) => None,
            Err(error) => Some(down(&error, &mut backoff).await),
        };
        if matches!(event, Some(Event::Connected)) {
            backoff = BACKOFF_FIRST;
        }
        if let Some(event) = event
            && events.send(event).await.is_err()
        {
            return;
        }
    }
}

async fn down(error: &impl fmt::Display, backoff: &mut Duration) -> Event {
    tokio::time::sleep(*backoff).await;
    *backoff = (*backoff * 2).min(BACKOFF_MAX);
    Event::Down(error.to_string())
}

fn from_v3(packet: rumqttc::Packet) -> Option<Event> {
    Some(match packet {
        rumqttc::Packet::ConnAck(_) => Event::Connected,
        rumqttc::Packet::Publish(publish) => Event::Received(Received {
            topic: publish.topic,
            payload: publish.payload,
            qos: Qos::from_level(publish.qos as u8)?,
            retain: publish.retain,
            dup: publish.dup,
        }),
        rumqttc::Packet::PubAck(_) => Event::Acked(Ok(())),
        rumqttc::Packet::SubAck(suback) => {
            Event::Subscribed(match suback.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure) {
                true => Err("the broker refuses the filter".to_owned()),
                false => Ok(()),
            })
        }
        _ => return None,
    })
}

fn from_v5(packet: packets5::Packet) -> Option<Event> {
    Some(match packet {
        packets5::Packet::ConnAck(_) => Event::Connected,
        packets5::Packet::Publish(publish) => Event::Received(Received {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload,
            qos: Qos::from_level(publish.qos as u8)?,
            retain: publish.retain,
            dup: publish.dup,
        }),
        packets5::Packet::PubAck(puback) => Event::Acked(match puback.reason {
            packets5::PubAckReason::Success | packets5::PubAckReason::NoMatchingSubscribers => Ok(()),
            refused => Err(format!("{refused:?}")),
        }),
        packets5::Packet::SubAck(suback) => {
            let refused = suback
                .return_codes
                .iter()
                .find(|code| !matches!(code, packets5::SubscribeReasonCode::Success(_)));
            Event::Subscribed(refused.map_or(Ok(()), |code| Err(format!("{code:?}"))))
        }
        _ => return None,
    })
}

fn qos3(qos: Qos) -> Qos3 {
    match qos {
        Qos::AtMostOnce => Qos3::AtMostOnce,
        Qos::AtLeastOnce => Qos3::AtLeastOnce,
        Qos::ExactlyOnce => Qos3::ExactlyOnce,
    }
}

fn qos5(qos: Qos) -> Qos5 {
    match qos {
        Qos::AtMostOnce => Qos5::AtMostOnce,
        Qos::AtLeastOnce => Qos5::AtLeastOnce,
        Qos::ExactlyOnce => Qos5::ExactlyOnce,
    }
}

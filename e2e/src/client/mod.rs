//! A light MQTT client of our own: one socket, no task, no state but a counter.
//!
//! Thousands of them drive the broker in load and outage tests, which count every packet; and it
//! does what an ordinary client would not: send what it likes, acknowledge what it likes.

pub mod packet;
pub mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use latchline_shared::message::{Protocol, Qos};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::packet::{Ack, Connect, Packet, Publish};

/// How long an answer to CONNECT, SUBSCRIBE and PINGREQ may take.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 4096;

/// A connection to a broker.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    protocol: Protocol,
    buffer: BytesMut,
    last_id: u16,
}

impl Client {
    /// Opens a TCP connection and says nothing yet.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, protocol, buffer: BytesMut::new(), last_id: 0 })
    }

    /// Connects; the answer is Session Present. A refusal is an error.
    pub async fn connect(address: SocketAddr, connect: &Connect<'_>) -> anyhow::Result<(Self, bool)> {
        let mut client = Self::open(address, connect.protocol).await?;
        client.send(&packet::connect(connect)).await?;
        match client.answer().await? {
            Packet::ConnAck { session_present, code: 0 } => Ok((client, session_present)),
            other => bail!("{} is refused: {other:?}", connect.client_id),
        }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await.context("send")
    }

    /// Sends a message with QoS 1 and returns its packet id; the PUBACK is up to the caller.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Bytes>) -> anyhow::Result<u16> {
        let id = self.next_id();
        let (topic, payload) = (topic.to_owned(), payload.into());
        let message = Publish { topic, payload, qos: Qos::AtLeastOnce, dup: false, retain: false, id };
        self.send_publish(&message).await?;
        Ok(id)
    }

    /// Sends a message as it is, DUP flag and packet id included.
    pub async fn send_publish(&mut self, message: &Publish) -> anyhow::Result<()> {
        self.send(&packet::publish(self.protocol, message)).await
    }

    /// Subscribes and waits for the grant; what else comes meanwhile is an error.
    pub async fn subscribe(&mut self, filter: &str, qos: Qos) -> anyhow::Result<()> {
        let id = self.next_id();
        self.send(&packet::subscribe(self.protocol, id, &[(filter, qos)])).await?;
        match self.answer().await? {
            Packet::Granted { id: granted, codes } if granted == id && codes == [qos.level()] => Ok(()),
            other => bail!("subscription to {filter} is not granted: {other:?}"),
        }
    }

    /// Acknowledges.
    pub async fn ack(&mut self, kind: Ack, id: u16) -> anyhow::Result<()> {
        self.send(&packet::ack(kind, id)).await
    }

    /// Sends PINGREQ and waits for PINGRESP; what comes in between is returned.
    pub async fn ping(&mut self) -> anyhow::Result<Vec<Packet>> {
        self.send(&packet::PING_REQUEST).await?;
        let mut before = Vec::new();
        loop {
            match self.answer().await? {
                Packet::PingResp => return Ok(before),
                other => before.push(other),
            }
        }
    }

    /// Waits for the next packet; an error when the broker closes the connection.
    ///
    /// Cancel safety: what was read stays in the buffer.
    pub async fn receive(&mut self) -> anyhow::Result<Packet> {
        loop {
            if let Some(packet) = packet::decode(self.protocol, &mut self.buffer)? {
                return Ok(packet);
            }
            self.buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.buffer).await.context("receive")?;
            ensure!(read > 0, "the broker has closed the connection");
        }
    }

    /// The next packet, or none if none comes within `wait`.
    pub async fn receive_within(&mut self, wait: Duration) -> anyhow::Result<Option<Packet>> {
        timeout(wait, self.receive()).await.map_or(Ok(None), |packet| packet.map(Some))
    }

    /// Waits for the PUBACK of `id`; any other packet or a refusal is an error.
    pub async fn acked(&mut self, id: u16, deadline: Duration) -> anyhow::Result<()> {
        match timeout(deadline, self.receive()).await {
            Ok(Ok(Packet::Ack { kind: Ack::PubAck, id: acked, code: 0 | 0x10 })) if acked == id => Ok(()),
            Ok(Ok(other)) => bail!("PUBACK {id} expected, not {other:?}"),
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("no PUBACK {id} within {deadline:?}"),
        }
    }

    /// Says DISCONNECT and closes.
    pub async fn disconnect(mut self) -> anyhow::Result<()> {
        self.send(&packet::DISCONNECT).await?;
        self.stream.shutdown().await.context("disconnect")
    }

    /// The next packet id: from 1, around past 65535, never 0.
    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    async fn answer(&mut self) -> anyhow::Result<Packet> {
        timeout(ANSWER_DEADLINE, self.receive())
            .await
            .with_context(|| format!("no answer within {ANSWER_DEADLINE:?}"))?
    }
}

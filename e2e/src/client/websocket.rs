//! MQTT over WebSocket, as far as a lock needs it to report.

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use latchline_shared::message::{Protocol, Qos};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::ANSWER_DEADLINE;
use super::packet::{self, Ack, Connect, Packet, Publish};

/// A connection to a broker.
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<TcpStream>,
    protocol: Protocol,
    buffer: BytesMut,
}

impl WebSocket {
    /// Connects to `ws://host:port/path`. A refusal is an error.
    pub async fn connect(url: &str, connect: &Connect<'_>) -> anyhow::Result<Self> {
        let mut request = url.into_client_request().with_context(|| url.to_owned())?;
        let address = request.uri().authority().context("a URL without a host")?.as_str().to_owned();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse()?);
        let stream = TcpStream::connect(&address).await.with_context(|| format!("connect to {address}"))?;
        let (stream, _) = tokio_tungstenite::client_async(request, stream).await.context("handshake")?;
        let mut socket = Self { stream, protocol: connect.protocol, buffer: BytesMut::new() };
        socket.send(packet::connect(connect)).await?;
        match socket.receive().await? {
            Packet::ConnAck { code: 0, .. } => Ok(socket),
            other => bail!("{} is refused: {other:?}", connect.client_id),
        }
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Bytes>) -> anyhow::Result<()> {
        let (topic, payload) = (topic.to_owned(), payload.into());
        let message = Publish { topic, payload, qos: Qos::AtLeastOnce, dup: false, retain: false, id: 1 };
        self.send(packet::publish(self.protocol, &message)).await?;
        match self.receive().await? {
            Packet::Ack { kind: Ack::PubAck, id: 1, code: 0 | 0x10 } => Ok(()),
            other => bail!("PUBACK expected, not {other:?}"),
        }
    }

    async fn send(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        self.stream.send(Message::Binary(bytes)).await.context("send")
    }

    async fn receive(&mut self) -> anyhow::Result<Packet> {
        loop {
            if let Some(packet) = packet::decode(self.protocol, &mut self.buffer)? {
                return Ok(packet);
            }
            let message = timeout(ANSWER_DEADLINE, self.stream.next()).await.context("no answer")?;
            match message.context("the broker has closed the connection")?? {
                Message::Binary(bytes) => self.buffer.extend_from_slice(&bytes),
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("{other:?} instead of a binary frame"),
            }
        }
    }
}

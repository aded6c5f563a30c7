//! A client that says exactly what it is told to, and checks every byte that it hears.

pub(crate) mod bytes;
pub(crate) mod read;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use ::bytes::BytesMut;
use latchline_broker::connection::transport::ByteStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::bytes::{
    Connect, GOODBYE, PING, Publish, V5, puback, pubcomp, pubrec, pubrel, subscribe, unsubscribe,
};
use self::read::{Connack, Packet, Received};

/// How long anything may take that should come at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A connection to the broker.
pub(crate) struct Raw {
    stream: Box<dyn ByteStream>,
    input: BytesMut,
    /// Messages that came while something else was awaited.
    early: VecDeque<Packet>,
    version: u8,
}

impl Raw {
    /// Opens a plain connection and says nothing.
    pub(crate) async fn open(address: SocketAddr, version: u8) -> Self {
        let stream = TcpStream::connect(address).await.expect("the broker listens");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream, version)
    }

    /// Talks over a stream that is there.
    pub(crate) fn over(stream: impl ByteStream + 'static, version: u8) -> Self {
        Self { stream: Box::new(stream), input: BytesMut::new(), early: VecDeque::new(), version }
    }

    /// Opens a plain connection, sends CONNECT and waits for the answer.
    pub(crate) async fn connect(address: SocketAddr, connect: &Connect) -> (Self, Connack) {
        let mut raw = Self::open(address, connect.version).await;
        let connack = raw.handshake(connect).await;
        (raw, connack)
    }

    /// Sends CONNECT and waits for the answer.
    pub(crate) async fn handshake(&mut self, connect: &Connect) -> Connack {
        self.send(&connect.bytes()).await;
        match self.next().await {
            Packet::Connack(connack) => connack,
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        timeout(SOON, self.stream.write_all(bytes)).await.expect("written in time").expect("a socket");
        self.stream.flush().await.expect("a socket");
    }

    /// Sends bytes to a broker that may have closed the connection already.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        let sent = timeout(SOON, self.stream.write_all(bytes)).await.expect("written in time");
        sent.is_ok() && self.stream.flush().await.is_ok()
    }

    /// The next packet.
    pub(crate) async fn next(&mut self) -> Packet {
        self.next_or_end().await.expect("a packet, but the connection is closed")
    }

    /// The next packet, `None` if the broker closed the connection.
    pub(crate) async fn next_or_end(&mut self) -> Option<Packet> {
        self.next_within(SOON).await
    }

    /// The next packet within `wait`, `None` if the broker closed the connection.
    pub(crate) async fn next_within(&mut self, wait: Duration) -> Option<Packet> {
        if let Some(early) = self.early.pop_front() {
            return Some(early);
        }
        timeout(wait, self.read()).await.unwrap_or_else(|_| panic!("no packet and no end within {wait:?}"))
    }

    async fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = read::take(self.version, &mut self.input) {
                return Some(packet);
            }
            // A reset is an end like any other: the broker closes with our bytes unread.
            if matches!(self.stream.read_buf(&mut self.input).await, Ok(0) | Err(_)) {
                assert!(self.input.is_empty(), "the connection ended within a packet");
                return None;
            }
        }
    }

    /// All packets until the broker closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<Packet> {
        let mut rest = Vec::new();
        while let Some(packet) = self.next_or_end().await {
            rest.push(packet);
        }
        rest
    }

    /// Checks that the broker ends the connection: with this reason on MQTT 5, silently on 3.1.1.
    pub(crate) async fn ended(&mut self, reason_code: u8) {
        let expected = if self.version == V5 { vec![Packet::Disconnect(reason_code)] } else { vec![] };
        assert_eq!(self.rest().await, expected);
    }

    /// Checks that nothing has come: the answer to a PINGREQ is the next packet.
    pub(crate) async fn quiet(&mut self) {
        self.send(&PING).await;
        assert_eq!(self.next().await, Packet::Pingresp);
    }

    /// Subscribes with these options; the broker must grant the QoS in them.
    pub(crate) async fn subscribe(&mut self, filter: &str, options: u8) {
        self.subscribe_with(filter, options, &[]).await;
    }

    /// As [`Self::subscribe`], with properties.
    pub(crate) async fn subscribe_with(&mut self, filter: &str, options: u8, properties: &[u8]) {
        self.send(&subscribe(self.version, 99, properties, &[(filter, options)])).await;
        assert_eq!(self.next().await, Packet::Suback(99, vec![options & 3]), "{filter}");
    }

    /// Unsubscribes; the broker must have known the filter.
    pub(crate) async fn unsubscribe(&mut self, filter: &str) {
        self.send(&unsubscribe(self.version, 98, &[filter])).await;
        let codes = if self.version == V5 { vec![0] } else { vec![] };
        assert_eq!(self.next().await, Packet::Unsuback(98, codes), "{filter}");
    }

    /// Sends a PUBLISH and nothing more.
    pub(crate) async fn send_publish(&mut self, publish: &Publish) {
        self.send(&publish.bytes(self.version)).await;
    }

    /// Publishes with all that the QoS asks for; the broker must take the message.
    pub(crate) async fn publish(&mut self, publish: &Publish) {
        self.send_publish(publish).await;
        match publish.qos {
            0 => {}
            1 => assert_eq!(self.next().await, Packet::Puback(publish.id, 0)),
            _ => {
                assert_eq!(self.next().await, Packet::Pubrec(publish.id, 0));
                self.send(&pubrel(publish.id)).await;
                assert_eq!(self.next().await, Packet::Pubcomp(publish.id, 0));
            }
        }
    }

    /// The next packet, which must be a message; it is not acknowledged.
    pub(crate) async fn message(&mut self) -> Received {
        match self.next().await {
            Packet::Publish(received) => received,
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }

    /// The next message, acknowledged with all that its QoS asks for.
    pub(crate) async fn receive(&mut self) -> Received {
        let received = self.message().await;
        self.acknowledge(&received).await;
        received
    }

    /// Acknowledges a message with all that its QoS asks for.
    pub(crate) async fn acknowledge(&mut self, received: &Received) {
        match received.qos {
            0 => {}
            1 => self.send(&puback(received.id)).await,
            _ => {
                self.send(&pubrec(received.id)).await;
                self.released(received.id).await;
                self.send(&pubcomp(received.id)).await;
            }
        }
    }

    /// Waits for a PUBREL; messages that were on their way stay for later.
    async fn released(&mut self, id: u16) {
        loop {
            match timeout(SOON, self.read()).await.expect("a packet in time").expect("an open connection") {
                message @ Packet::Publish(_) => self.early.push_back(message),
                other => return assert_eq!(other, Packet::Pubrel(id, 0)),
            }
        }
    }

    /// Receives a message and gives its payload.
    pub(crate) async fn payload(&mut self) -> String {
        self.receive().await.text().to_owned()
    }

    /// Says goodbye and waits until the broker has heard it.
    pub(crate) async fn goodbye(mut self) {
        self.send(&GOODBYE).await;
        assert_eq!(self.rest().await, vec![]);
    }

    /// Breaks off without a word. The broker may not have noticed yet.
    pub(crate) fn vanish(self) {
        drop(self);
    }
}

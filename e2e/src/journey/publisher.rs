//! A client that publishes with QoS 1 until it is answered: it connects again and sends again, with
//! DUP, as the standard says.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use latchline_shared::message::{Protocol, Qos};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::client::packet::{Ack, Connect, Packet, Publish};

/// Without an answer for so long, the connection is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Longest outage that is waited for.
const GIVE_UP: Duration = Duration::from_secs(300);

/// What the broker said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It is acknowledged.
    Taken,
    /// It is refused, with this reason.
    Refused(u8),
}

/// The client.
pub struct Publisher {
    broker: SocketAddr,
    protocol: Protocol,
    client_id: String,
    login: (String, String),
    client: Option<Client>,
    packet_id: u16,
    /// Messages that had to be sent again.
    pub sent_again: u64,
}

impl Publisher {
    /// One that connects when it has something to say.
    pub fn new(broker: SocketAddr, protocol: Protocol, client_id: String, login: (String, String)) -> Self {
        Self { broker, protocol, client_id, login, client: None, packet_id: 0, sent_again: 0 }
    }

    /// Publishes until there is an answer.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Bytes>) -> anyhow::Result<Said> {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let (topic, payload, id) = (topic.to_owned(), payload.into(), self.packet_id);
        let mut message = Publish { topic, payload, qos: Qos::AtLeastOnce, dup: false, retain: false, id };
        let until = Instant::now() + GIVE_UP;
        loop {
            match self.attempt(&mut message).await {
                Ok(said) => return Ok(said),
                Err(error) if Instant::now() > until => {
                    return Err(error.context(format!("{} was not answered for {GIVE_UP:?}", self.client_id)));
                }
                Err(_) => {
                    self.client = None;
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    async fn attempt(&mut self, message: &mut Publish) -> anyhow::Result<Said> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(
                Client::connect(
                    self.broker,
                    &Connect {
                        protocol: self.protocol,
                        client_id: &self.client_id,
                        login: Some((&self.login.0, &self.login.1)),
                        clean: true,
                        session_expiry_s: 0,
                        keep_alive_s: 120,
                    },
                )
                .await?
                .0,
            ),
        };
        self.sent_again += u64::from(message.dup);
        client.send_publish(message).await?;
        // From now on it may have arrived.
        message.dup = true;
        match timeout(SILENCE_MAX, client.receive()).await?? {
            Packet::Ack { kind: Ack::PubAck, id, code } if id == message.id => {
                Ok(if code < 0x80 { Said::Taken } else { Said::Refused(code) })
            }
            other => bail!("PUBACK {} expected, not {other:?}", message.id),
        }
    }
}

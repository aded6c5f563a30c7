//! How attacks are made.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use latchline_shared::command::Action;
use latchline_shared::command::draft::{Draft, SignLength, Value, sign_command};
use latchline_shared::kit::clock;
use latchline_shared::message::Qos;
use tokio::time::{sleep, timeout};

use super::{Answer, Arena, Attempt};
use crate::client::packet::{Ack, Connect, Packet, Publish};
use crate::client::{ANSWER_DEADLINE, Client};
use crate::random;
use crate::stack::secrets::{ADMINISTRATOR, OPERATOR};
use crate::stack::{command_topic, state_topic};

/// What an attacker does.
pub(super) enum Deed {
    /// Changes a command that has not been sent, and sends it.
    Tamper(fn(&Signed) -> String),
    /// Sends a command that was signed so many seconds ago.
    Withhold(i64),
    /// Signs a command for the other lock and sends it to this one.
    Redirect,
    /// Sends a genuine command again.
    Repeat(Repeat),
    /// Signs another command with the nonce of a genuine one, as an insider could.
    ReuseNonce,
    /// Sends a signed command with QoS 0.
    Qos0(Who),
    /// Sends a genuine command again, retained.
    Retain(Who),
    /// Listens in on a genuine command, and acknowledges it.
    Eavesdrop,
    /// Reports a state in the name of the lock.
    ForgeState,
}

/// How a genuine command is sent again.
pub(super) struct Repeat {
    /// By whom; the genuine one is the operator's.
    pub who: Who,
    /// DUP flag.
    pub dup: bool,
    pub when: When,
    /// What is changed without breaking the signature.
    pub change: fn(&Signed) -> String,
}

/// Who attacks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The client id that sent the genuine command.
    Same,
    /// The administrator, who may publish everything.
    Administrator,
    /// The operator's login, which may publish commands.
    Operator,
    /// Another lock, which may not.
    OtherLock,
}

/// When a command is sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// At once, on the same connection if it is the same client.
    Now,
    /// At once, on a new connection.
    Reconnected,
    /// After a while, on the same connection if it is the same client.
    Later,
}

/// A genuine command.
pub(super) struct Signed {
    pub lock: String,
    pub process_id: String,
    pub nonce: String,
    pub ts: i64,
    pub sign: String,
    pub payload: String,
}

impl Signed {
    fn new(arena: &Arena, lock: &str, age_s: i64, nonce: Option<&str>) -> anyhow::Result<Self> {
        let nonce = nonce.map_or_else(random::nonce, |nonce| Ok(nonce.to_owned()))?;
        let process_id = random::process_id()?;
        let ts = i64::try_from(clock::unix_ms() / 1000)? - age_s;
        let extra = [("note", Value::Text("front door".to_owned()))];
        let draft = Draft {
            process_id: &process_id,
            action: Action::Unlock,
            nonce: &nonce,
            ts,
            ttl: Some(Duration::from_secs(30)),
            kid: None,
            extra: &extra,
        };
        let payload = sign_command(&draft, lock, &arena.master.command_key(lock), SignLength::Full)?;
        let end = payload.len() - "\"}".len();
        let sign = payload.get(end - 64..end).context("a signature has 64 digits")?.to_owned();
        Ok(Self { lock: lock.to_owned(), process_id, nonce, ts, sign, payload })
    }

    /// The payload with another text in place of one that is there.
    pub(super) fn with(&self, text: &str, other: &str) -> String {
        assert!(self.payload.contains(text), "{text} is not in {}", self.payload);
        self.payload.replacen(text, other, 1)
    }

    /// The payload with so many digits of its signature.
    pub(super) fn cut(&self, digits: usize) -> String {
        self.with(&self.sign, &self.sign[..digits])
    }
}

/// A connection of an attacker, or of the operator.
struct Publisher {
    id: String,
    login: (String, String),
    client: Client,
    packet_id: u16,
}

/// One message, as it is sent.
struct Sent<'a> {
    topic: String,
    payload: &'a str,
    qos: Qos,
    dup: bool,
    retain: bool,
}

impl<'a> Sent<'a> {
    fn command(arena: &Arena, payload: &'a str) -> Self {
        let topic = command_topic(&arena.lock);
        Self { topic, payload, qos: Qos::AtLeastOnce, dup: false, retain: false }
    }
}

pub(super) async fn run(deed: &Deed, name: &str, arena: &Arena) -> anyhow::Result<Attempt> {
    let operator_id = format!("{OPERATOR}-{name}-{}", random::process_id()?);
    let operator = || Publisher::connect(arena, &operator_id, (OPERATOR, &arena.operator));
    let fresh = |age_s| Signed::new(arena, &arena.lock, age_s, None);
    match deed {
        Deed::Tamper(change) => {
            let payload = change(&fresh(0)?);
            operator().await?.attack(&Sent::command(arena, &payload), 0).await
        }
        Deed::Withhold(age_s) => {
            let payload = fresh(*age_s)?.payload;
            operator().await?.attack(&Sent::command(arena, &payload), 0).await
        }
        Deed::Redirect => {
            let payload = Signed::new(arena, &arena.other_lock, 0, None)?.payload;
            operator().await?.attack(&Sent::command(arena, &payload), 0).await
        }
        Deed::Repeat(repeat) => {
            let signed = fresh(0)?;
            let mut publisher = operator().await?;
            publisher.genuine(&Sent::command(arena, &signed.payload)).await?;
            if repeat.when == When::Later {
                sleep(arena.later).await;
            }
            if repeat.who != Who::Same {
                publisher = Publisher::of(arena, repeat.who, name).await?;
            } else if repeat.when == When::Reconnected {
                publisher.reconnect(arena).await?;
            }
            let payload = (repeat.change)(&signed);
            publisher.attack(&Sent { dup: repeat.dup, ..Sent::command(arena, &payload) }, 1).await
        }
        Deed::ReuseNonce => {
            let signed = fresh(0)?;
            let mut publisher = operator().await?;
            publisher.genuine(&Sent::command(arena, &signed.payload)).await?;
            let payload = Signed::new(arena, &arena.lock, 0, Some(&signed.nonce))?.payload;
            publisher.attack(&Sent::command(arena, &payload), 1).await
        }
        Deed::Qos0(who) => {
            let payload = fresh(0)?.payload;
            let sent = Sent { qos: Qos::AtMostOnce, ..Sent::command(arena, &payload) };
            Publisher::of(arena, *who, name).await?.attack(&sent, 0).await
        }
        Deed::Retain(who) => retain(arena, *who, name, &mut operator().await?).await,
        Deed::Eavesdrop => {
            let mut ear = Publisher::of(arena, Who::Administrator, name).await?;
            ear.client.subscribe(&command_topic(&arena.lock), Qos::AtLeastOnce).await?;
            let payload = fresh(0)?.payload;
            let mut attempt = operator().await?.attack(&Sent::command(arena, &payload), 1).await?;
            ear.hear(&payload).await?;
            attempt.publisher = ear.id;
            Ok(attempt)
        }
        Deed::ForgeState => {
            let payload = format!(
                r#"{{"process_id":"{}","action":"unlock","battery":83.4,"lock_state":1,"version":1.1,"client_id":"{}"}}"#,
                random::process_id()?,
                arena.lock
            );
            let sent = Sent { topic: state_topic(&arena.lock), ..Sent::command(arena, &payload) };
            Publisher::of(arena, Who::Administrator, name).await?.attack(&sent, 0).await
        }
    }
}

/// What is kept is taken away again, by an empty message, so that it is no surprise to whoever
/// connects next.
async fn retain(arena: &Arena, who: Who, name: &str, operator: &mut Publisher) -> anyhow::Result<Attempt> {
    let signed = Signed::new(arena, &arena.lock, 0, None)?;
    operator.genuine(&Sent::command(arena, &signed.payload)).await?;
    let mut publisher = Publisher::of(arena, who, name).await?;
    let sent = Sent { retain: true, ..Sent::command(arena, &signed.payload) };
    let answer = publisher.send(&sent).await?;
    if answer == Answer::Taken {
        publisher.send(&Sent { payload: "", ..sent }).await?;
    }
    let payload = signed.payload;
    Ok(Attempt { publisher: publisher.id, topic: command_topic(&arena.lock), payload, answer, genuine: 1 })
}

impl Publisher {
    async fn of(arena: &Arena, who: Who, name: &str) -> anyhow::Result<Self> {
        let of_user = |user: &str| Ok::<_, anyhow::Error>(format!("{user}-{name}-{}", random::process_id()?));
        match who {
            Who::Same | Who::Operator => {
                Self::connect(arena, &of_user(OPERATOR)?, (OPERATOR, &arena.operator)).await
            }
            Who::Administrator => {
                Self::connect(arena, &of_user(ADMINISTRATOR)?, (ADMINISTRATOR, &arena.administrator)).await
            }
            Who::OtherLock => {
                let password = arena.master.mqtt_password(&arena.other_lock);
                Self::connect(arena, &arena.other_lock, (&arena.other_lock, &password)).await
            }
        }
    }

    async fn connect(arena: &Arena, id: &str, (user, password): (&str, &str)) -> anyhow::Result<Self> {
        let connect = Connect {
            protocol: arena.protocol,
            client_id: id,
            login: Some((user, password)),
            clean: true,
            session_expiry_s: 0,
            keep_alive_s: 60,
        };
        let (client, _) = Client::connect(arena.broker, &connect).await?;
        Ok(Self { id: id.to_owned(), login: (user.to_owned(), password.to_owned()), client, packet_id: 0 })
    }

    /// Breaks the connection off, like somebody in a tunnel, and comes back.
    async fn reconnect(&mut self, arena: &Arena) -> anyhow::Result<()> {
        let packet_id = self.packet_id;
        *self = Self::connect(arena, &self.id, (&self.login.0, &self.login.1)).await?;
        // A repetition has the packet id of what it repeats.
        self.packet_id = packet_id.saturating_sub(1);
        Ok(())
    }

    /// Sends a command that must be taken.
    async fn genuine(&mut self, sent: &Sent<'_>) -> anyhow::Result<()> {
        match self.send(sent).await? {
            Answer::Taken => Ok(()),
            other => bail!("a genuine command of {} is answered by {other:?}", self.id),
        }
    }

    async fn attack(mut self, sent: &Sent<'_>, genuine: usize) -> anyhow::Result<Attempt> {
        let answer = self.send(sent).await?;
        let (topic, payload) = (sent.topic.clone(), sent.payload.to_owned());
        Ok(Attempt { publisher: self.id, topic, payload, answer, genuine })
    }

    async fn send(&mut self, sent: &Sent<'_>) -> anyhow::Result<Answer> {
        self.packet_id += 1;
        let id = if sent.qos == Qos::AtMostOnce { 0 } else { self.packet_id };
        let publish = Publish {
            topic: sent.topic.clone(),
            payload: Bytes::copy_from_slice(sent.payload.as_bytes()),
            qos: sent.qos,
            dup: sent.dup,
            retain: sent.retain,
            id,
        };
        self.client.send_publish(&publish).await?;
        if sent.qos == Qos::AtMostOnce {
            // The answer to a PINGREQ comes behind whatever the broker makes of the message.
            return Ok(if self.client.ping().await.is_ok() { Answer::Taken } else { Answer::Ended });
        }
        match timeout(ANSWER_DEADLINE, self.client.receive()).await? {
            Ok(Packet::Ack { kind: Ack::PubAck, id: acked, code }) if acked == id => {
                Ok(if code < 0x80 { Answer::Taken } else { Answer::Refused(code) })
            }
            Ok(Packet::Disconnect { .. }) | Err(_) => Ok(Answer::Ended),
            Ok(other) => bail!("{} is answered by {other:?}", self.id),
        }
    }

    /// Waits for a message and acknowledges it.
    async fn hear(&mut self, payload: &str) -> anyhow::Result<()> {
        match timeout(ANSWER_DEADLINE, self.client.receive()).await?? {
            Packet::Publish(publish) if publish.payload == payload => {
                self.client.ack(Ack::PubAck, publish.id).await?;
                // Behind the acknowledgement: when this is answered, it has been taken.
                self.client.ping().await?;
                Ok(())
            }
            other => bail!("{} hears {other:?}", self.id),
        }
    }
}

/// The same bytes.
pub(super) fn unchanged(signed: &Signed) -> String {
    signed.payload.clone()
}

#[cfg(test)]
mod tests {
    use latchline_shared::command::{Command, ShortSign};
    use latchline_shared::keys::MasterKey;
    use latchline_shared::message::Protocol;

    use super::*;

    #[test]
    fn what_is_genuine_verifies() {
        let arena = Arena {
            broker: ([127, 0, 0, 1], 1).into(),
            protocol: Protocol::V5,
            master: MasterKey::from_hex(&random::secret().unwrap()).unwrap(),
            operator: String::new(),
            administrator: String::new(),
            lock: "1".to_owned(),
            other_lock: "2".to_owned(),
            later: Duration::ZERO,
        };
        let signed = Signed::new(&arena, "1", 0, None).unwrap();
        let command = Command::parse(signed.payload.as_bytes(), "1").unwrap();
        assert!(command.verify(&arena.master.command_key("1"), ShortSign::Refused));
        assert_eq!(command.sign.to_string(), signed.sign);
        assert_eq!(signed.cut(16).len(), signed.payload.len() - 48);
    }
}

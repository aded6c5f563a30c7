//! E-mail (RFC 5321): one message to one address, by a mail server that takes our mail.
//!
//! The commands are given one by one, so that it is known how far an attempt was when it failed: before
//! the message was written nobody has it, after that the server may have it ([`answer`]). Connections
//! are kept for the next message; one that was closed meanwhile, or says nothing any more, is replaced
//! within the same attempt, as long as nothing but commands was lost.

pub mod answer;
pub mod compose;
pub mod settings;

mod connect;
mod pool;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context;
use latchline_shared::kit::clock;
use lettre::Address;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{Extension, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::time::timeout;

use self::answer::{Phase, of_code, of_error, queue_id, redacted, silence};
use self::compose::{Letter, Sender, ascii_host};
use self::connect::Door;
use self::pool::Pool;
use self::settings::{RelaySettings, Settings};
use super::{Answer, Content, Message};
use crate::delivery::provider::Provider;
use crate::status::Outcome;

/// What is written at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a server may take to forget a message that it refused.
const RESET_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection that was used before may take to say its first word. What stands between may
/// have forgotten it without a word, and MAIL is nothing that a server has to think about.
const REUSED_TIMEOUT: Duration = Duration::from_secs(5);

/// A mail server.
pub struct Relay {
    name: String,
    rps: u32,
    sender: Sender,
    door: Door,
    pool: Arc<Pool>,
    send_timeout: Duration,
}

impl Relay {
    /// Reads the files of the settings; opens no connection yet.
    pub fn new(relay: &RelaySettings, settings: &Settings) -> anyhow::Result<Self> {
        let mailbox = settings.sender().map_err(|why| anyhow::anyhow!("email.from: {why}"))?;
        let sender = Sender::new(mailbox).map_err(|why| anyhow::anyhow!("email.from: {why}"))?;
        let door = Door::new(relay, &sender.host, settings.connect_timeout)
            .with_context(|| format!("the mail server {}", relay.name))?;
        Ok(Self {
            name: relay.name.clone(),
            rps: relay.rps,
            sender,
            door,
            pool: Pool::new(settings.idle),
            send_timeout: settings.send_timeout,
        })
    }

    /// All of the settings, in their order.
    pub fn all(settings: &Settings) -> anyhow::Result<Vec<Self>> {
        settings.relays.iter().map(|relay| Self::new(relay, settings)).collect()
    }

    /// One attempt.
    pub async fn send(&self, message: &Message) -> Answer {
        let (to, bytes) = match self.compose(message) {
            Ok(composed) => composed,
            Err(why) => return Answer::new(Outcome::Permanent, "message", &why),
        };
        // Within the time of one message all that is done for it is done, but for connecting.
        let deadline = tokio::time::Instant::now() + self.send_timeout;
        if let Some(connection) = self.pool.take() {
            let (answer, is_stale) = {
                let first = reused_timeout(self.send_timeout);
                self.transmit(connection, &to, &bytes, (first, self.send_timeout)).await
            };
            if !is_stale {
                return answer;
            }
        }
        match self.door.connect().await {
            Ok(connection) => {
                let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                // What connecting took is not the message's.
                let left = left.max(self.send_timeout / 2);
                self.transmit(connection, &to, &bytes, (left, left)).await.0
            }
            Err(answer) => answer,
        }
    }

    /// The longest that an attempt takes.
    pub fn timeout(settings: &Settings) -> Duration {
        settings.connect_timeout + settings.send_timeout + settings.send_timeout / 2 + RESET_TIMEOUT
    }

    fn compose(&self, message: &Message) -> Result<(Address, Vec<u8>), String> {
        let Content::Email { subject, text, html } = &message.content else {
            return Err("it is no e-mail".to_owned());
        };
        let address: Address = message.address.parse().map_err(|_| "it is no address".to_owned())?;
        let to = ascii_host(&address)?;
        let letter = Letter { id: message.id, subject, text, html, at_ms: clock::unix_ms() };
        let bytes = self.sender.compose(&to, letter)?;
        Ok((to, bytes))
    }

    /// Gives the message to a connection, which is kept if it is good for another. There is so much time
    /// until MAIL is answered, and so much for all. The second: nothing but commands was lost, because
    /// the connection was closed or dead.
    async fn transmit(
        &self,
        mut connection: AsyncSmtpConnection,
        to: &Address,
        bytes: &[u8],
        (first, within): (Duration, Duration),
    ) -> (Answer, bool) {
        let phase = Progress::default();
        let given = timeout(within, self.give(&mut connection, to, bytes, first, &phase)).await;
        let phase = phase.get();
        match given {
            Err(_) | Ok(Given::Silence) => {
                (silence(phase, "timeout", "no answer in time"), phase < Phase::Writing)
            }
            Ok(Given::Taken(response)) => {
                let words = response.message().collect::<Vec<_>>().join(" ");
                let code = u16::from(response.code());
                if phase != Phase::Written || code / 100 != 2 {
                    return (of_code(phase, code, &words, to.as_ref()), false);
                }
                let mut answer =
                    Answer::new(Outcome::Accepted, code.to_string(), &redacted(&words, to.as_ref()));
                answer.provider_id = queue_id(&words);
                self.pool.give(connection);
                (answer, false)
            }
            Ok(Given::Unsuited(why)) => {
                self.pool.give(connection);
                (Answer::new(Outcome::Permanent, "smtputf8", why), false)
            }
            Ok(Given::Failed(error)) => {
                let answer = of_error(phase, &error, to.as_ref());
                let is_closed = error.status().is_none_or(|code| u16::from(code) == 421);
                if !is_closed {
                    self.reset(connection).await;
                }
                (answer, is_closed && phase < Phase::Writing)
            }
        }
    }

    async fn give(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &Address,
        bytes: &[u8],
        first: Duration,
        phase: &Progress,
    ) -> Given {
        let mut parameters = Vec::new();
        if !(to.as_ref() as &str).is_ascii() || !bytes.is_ascii() {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Given::Unsuited("the server does not take addresses that are not ASCII");
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        phase.set(Phase::Sender);
        let mail = Mail::new(Some(self.sender.mailbox.email.clone()), parameters);
        match timeout(first, connection.command(mail)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Given::Failed(error),
            Err(_) => return Given::Silence,
        }
        match self.commands(connection, to, bytes, phase).await {
            Ok(response) => Given::Taken(response),
            Err(error) => Given::Failed(error),
        }
    }

    /// What follows MAIL.
    async fn commands(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &Address,
        bytes: &[u8],
        phase: &Progress,
    ) -> Result<Response, lettre::transport::smtp::Error> {
        phase.set(Phase::Recipient);
        connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
        phase.set(Phase::Data);
        let go_on = connection.command(Data).await?;
        if !go_on.has_code(354) {
            return Ok(go_on);
        }
        phase.set(Phase::Writing);
        // Asked for one more than there are when all of them were written.
        let mut chunks = bytes.chunks(CHUNK_BYTES);
        let next = || {
            chunks.next().or_else(|| {
                phase.set(Phase::Written);
                None
            })
        };
        connection.message_iter(std::iter::from_fn(next)).await
    }

    /// Makes a connection that has refused a message ready for the next.
    async fn reset(&self, mut connection: AsyncSmtpConnection) {
        if let Ok(Ok(_)) = timeout(RESET_TIMEOUT, connection.command(Rset)).await {
            self.pool.give(connection);
        }
    }
}

impl Provider for Relay {
    fn name(&self) -> &str {
        &self.name
    }

    /// A second copy has the same Message-ID.
    fn resends_ambiguous(&self) -> bool {
        true
    }

    fn rps(&self) -> u32 {
        self.rps
    }

    async fn send(&self, message: &Message) -> Answer {
        Relay::send(self, message).await
    }
}

enum Given {
    Taken(Response),
    Unsuited(&'static str),
    Silence,
    Failed(lettre::transport::smtp::Error),
}

/// Leaves time for a connection that replaces it.
fn reused_timeout(send_timeout: Duration) -> Duration {
    REUSED_TIMEOUT.min(send_timeout / 2)
}

/// How far an attempt is, also for whoever gave it up.
struct Progress(AtomicU8);

impl Default for Progress {
    fn default() -> Self {
        Self(AtomicU8::new(Phase::Connect as u8))
    }
}

impl Progress {
    fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    fn get(&self) -> Phase {
        let all = [Phase::Connect, Phase::Sender, Phase::Recipient, Phase::Data, Phase::Writing];
        let phase = self.0.load(Ordering::Relaxed);
        all.into_iter().find(|one| *one as u8 == phase).unwrap_or(Phase::Written)
    }
}

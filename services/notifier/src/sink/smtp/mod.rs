//! A mail server (RFC 5321) that keeps what it is sent and misbehaves where it is told to.
//!
//! It knows EHLO, STARTTLS or TLS from the first byte, AUTH PLAIN (whoever asks is let in), 8BITMIME
//! and SMTPUTF8; not PIPELINING, so that each command is answered, or not, before the next.

mod session;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio_rustls::rustls::ServerConfig;

use super::port::Port;
use super::{Kept, lock};

/// Most different Message-IDs that are counted, and as many more as twice the messages that are kept.
const MESSAGE_IDS_MAX: usize = 20_000;

/// How it listens.
#[derive(Debug, Clone)]
pub enum Tls {
    /// Without encryption.
    None,
    /// With STARTTLS, and this certificate.
    Starttls(Arc<ServerConfig>),
    /// Encrypted from the first byte.
    Immediate(Arc<ServerConfig>),
}

/// A place in a session at which it can misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Instead of the greeting.
    Greeting,
    /// After EHLO.
    Ehlo,
    /// After STARTTLS.
    StartTls,
    /// After AUTH.
    Auth,
    /// After MAIL.
    Mail,
    /// After RCPT.
    Rcpt,
    /// An answer: to DATA. Hang or close: in the middle of the message.
    Data,
    /// After the last byte of the message.
    Body,
}

/// What it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Takes everything.
    Accept,
    /// Says this (`451 4.3.0 later`) instead; after 421 it closes.
    Answer {
        /// Where.
        at: Step,
        /// The line.
        text: String,
    },
    /// Says nothing any more.
    Hang {
        /// Where.
        at: Step,
    },
    /// Closes the connection.
    Close {
        /// Where.
        at: Step,
    },
    /// Does not offer STARTTLS, and refuses it.
    NoTls,
}

impl Behaviour {
    /// Says this instead.
    pub fn answer(at: Step, text: &str) -> Self {
        Self::Answer { at, text: text.to_owned() }
    }

    fn place(&self) -> Option<Step> {
        match self {
            Self::Answer { at, .. } | Self::Hang { at } | Self::Close { at } => Some(*at),
            Self::Accept | Self::NoTls => None,
        }
    }
}

/// Where a session stands when it asks how to behave.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Here.
    pub step: Step,
    /// Number of the connection, from 1.
    pub connection: u64,
    /// Number of the message (its MAIL), from 1; before the first of a connection 0.
    pub message: u64,
    /// Its sender.
    pub from: String,
    /// Its recipients so far.
    pub to: Vec<String>,
    /// Its Message-ID, known at [`Step::Body`].
    pub message_id: Option<String>,
}

/// A message that it has in full.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Sender, without brackets.
    pub from: String,
    /// Recipients, without brackets.
    pub to: Vec<String>,
    /// The message, dots undone.
    pub raw: Vec<u8>,
    /// Its Message-ID with its brackets.
    pub message_id: Option<String>,
    /// When it was complete, in Unix milliseconds.
    pub at_ms: u64,
    /// Whether it came encrypted.
    pub encrypted: bool,
    /// Who was let in.
    pub user: Option<String>,
    /// False: it hung or closed instead of saying that it has it.
    pub answered: bool,
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections.
    pub connections: u64,
    /// Messages that were taken, with an answer.
    pub accepted: u64,
    /// Messages that were taken, without one.
    pub unanswered: u64,
    /// Times that it misbehaved.
    pub misbehaved: u64,
    /// Messages whose Message-ID is not counted: without one, or too many different ones.
    pub without_id: u64,
}

type Decide = Arc<dyn Fn(&Moment) -> Behaviour + Send + Sync>;

struct Shared {
    tls: Tls,
    decide: Mutex<Decide>,
    seen: Mutex<Seen>,
}

struct Seen {
    mails: Kept<Mail>,
    times: HashMap<String, u64>,
    times_max: usize,
    counts: Counts,
    begun: u64,
}

/// The server.
pub struct MailServer {
    shared: Arc<Shared>,
    port: Port,
}

impl MailServer {
    /// Listens (port 0: any that is free) and takes everything. The newest `keep_max` messages are kept.
    pub async fn start(address: SocketAddr, tls: Tls, keep_max: usize) -> io::Result<Self> {
        let decide: Decide = Arc::new(|_| Behaviour::Accept);
        let seen = Seen {
            mails: Kept::new(keep_max),
            times: HashMap::new(),
            times_max: keep_max.saturating_mul(2).saturating_add(MESSAGE_IDS_MAX),
            counts: Counts::default(),
            begun: 0,
        };
        let shared = Arc::new(Shared { tls, decide: Mutex::new(decide), seen: Mutex::new(seen) });
        let port = open(address, &shared).await?;
        Ok(Self { shared, port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// From now on it behaves like this, in sessions under way too.
    pub fn behave(&self, behaviour: Behaviour) {
        self.behave_by(move |_| behaviour.clone());
    }

    /// From now on this is asked at every step how to behave; an answer about another step is none.
    pub fn behave_by(&self, decide: impl Fn(&Moment) -> Behaviour + Send + Sync + 'static) {
        *lock(&self.shared.decide) = Arc::new(decide);
    }

    /// The newest messages, the oldest of them first.
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.shared.seen).mails.all()
    }

    /// A look at the messages from elsewhere: how many there ever were, and at most `limit` of those
    /// before number `before`, the newest first, as far as they are kept.
    pub fn watch(&self) -> impl Fn(u64, usize) -> (u64, Vec<Mail>) + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move |before, limit| {
            let seen = lock(&shared.seen);
            (seen.mails.count(), seen.mails.before(before, limit))
        }
    }

    /// How often what happened.
    pub fn counts(&self) -> Counts {
        lock(&self.shared.seen).counts
    }

    /// How often a message with this Message-ID was taken, answered or not.
    pub fn times(&self, message_id: &str) -> u64 {
        lock(&self.shared.seen).times.get(message_id).copied().unwrap_or_default()
    }

    /// The same for all of them.
    pub fn all_times(&self) -> HashMap<String, u64> {
        lock(&self.shared.seen).times.clone()
    }

    /// Cuts all connections; nobody listens when this returns.
    pub async fn stop(&self) {
        self.port.close().await;
    }

    /// Listens again, on the same port.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.port.close().await;
        self.port = open(self.port.address, &self.shared).await?;
        Ok(())
    }
}

async fn open(address: SocketAddr, shared: &Arc<Shared>) -> io::Result<Port> {
    let shared = Arc::clone(shared);
    Port::open(address, move |stream| session::run(stream, Arc::clone(&shared))).await
}

impl Shared {
    fn behaviour(&self, moment: &Moment) -> Behaviour {
        let decide = Arc::clone(&lock(&self.decide));
        let behaviour = decide(moment);
        let is_now = match behaviour {
            Behaviour::NoTls => moment.step == Step::StartTls,
            ref other => other.place() == Some(moment.step),
        };
        if is_now {
            lock(&self.seen).counts.misbehaved += 1;
        }
        behaviour
    }

    fn take(&self, mail: Mail) {
        let mut seen = lock(&self.seen);
        if mail.answered {
            seen.counts.accepted += 1;
        } else {
            seen.counts.unanswered += 1;
        }
        match &mail.message_id {
            Some(id) if seen.times.len() < seen.times_max || seen.times.contains_key(id) => {
                *seen.times.entry(id.clone()).or_default() += 1;
            }
            _ => seen.counts.without_id += 1,
        }
        let bytes = mail.raw.len();
        seen.mails.push(mail, bytes);
    }
}

//! One run of the load: whom it is against, as whom, and what all its connections count together.
//!
//! A run is shared by every connection and never changes but for its counters and for whether the
//! next message is sent when one is acknowledged.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use latchline_shared::command::Action;
use latchline_shared::command::draft::{Draft, SignLength, sign_command};
use latchline_shared::keys::MasterKey;
use latchline_shared::kit::clock;
use latchline_shared::message::{Protocol, Qos};

use bytes::Bytes;

use crate::bench::lock;
use crate::load::stamp::{Payloads, Stamp};
use crate::load::tally::{Cause, Tally};
use crate::load::wire::Security;
use crate::random;

/// What stands for the id of a lock in a topic.
pub const ID: &str = "{id}";

/// How clients log in. It has no `Debug` on purpose.
#[derive(Clone)]
pub enum Login {
    /// Without.
    Nobody,
    /// All with the same name and password.
    Same(String, String),
    /// Each with its id and the password that the fleet's master key derives from it.
    Derived(MasterKey),
}

/// What a run is about. It has no `Debug` on purpose: it has secrets.
#[derive(Clone)]
pub struct Settings {
    /// The broker.
    pub target: SocketAddr,
    /// MQTT 3.1.1 or 5.
    pub protocol: Protocol,
    /// How TLS is spoken, if it is.
    pub security: Option<Security>,
    /// How locks log in.
    pub login: Login,
    /// How operators and subscribers log in.
    pub operator: Login,
    /// Signs commands; without, they are not signed.
    pub master: Option<MasterKey>,
    /// Where locks report to; [`ID`] stands for the id.
    pub state_topic: String,
    /// Where locks are commanded, if they subscribe to it.
    pub command_topic: Option<String>,
    /// Number of the first lock.
    pub first: u32,
    /// Whether the broker keeps the sessions of those that have gone.
    pub session: lock::Session,
    /// Keep alive of every connection.
    pub keep_alive_s: u16,
    /// Quality of service of all messages.
    pub qos: Qos,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Whether a lock reports when it is commanded.
    pub answers: Answers,
}

/// What a lock does with a command, beside acknowledging it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Nothing.
    None,
    /// It reports at once.
    AtOnce,
}

/// A run.
pub struct Run {
    /// What it is about.
    pub settings: Settings,
    /// What happens.
    pub tally: Tally,
    /// Tells its messages from those of other runs.
    pub id: u32,
    payloads: Payloads,
    /// Whether an acknowledgement calls for the next message.
    closed: AtomicBool,
}

impl Run {
    /// A run that begins now.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        Ok(Self {
            tally: Tally::new()?,
            id: u32::from_le_bytes(random::bytes()?),
            payloads: Payloads::of(settings.payload_bytes),
            closed: AtomicBool::new(false),
            settings,
        })
    }

    /// Opens or ends the closed loop.
    pub fn set_closed(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    /// Whether the closed loop runs.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Id of a lock by its number in this run.
    pub fn lock_id(&self, number: u32) -> String {
        lock::id(self.settings.first.saturating_add(number))
    }

    /// Address that a connection comes from, where there are several.
    pub fn source(&self, number: u32) -> Option<IpAddr> {
        let is_near = self.settings.target.ip().is_loopback() && self.settings.target.is_ipv4();
        is_near.then(|| lock::source(number))
    }

    /// Payload of a report.
    pub fn report(&self, id: &str, stamp: Stamp) -> Bytes {
        self.payloads.payload(id, stamp)
    }

    /// Payload of a command, signed if there is a key.
    pub fn command(&self, id: &str, stamp: Stamp) -> Bytes {
        let Some(master) = &self.settings.master else { return self.payloads.payload(id, stamp) };
        self.signed(master, id, stamp).unwrap_or_else(|error| {
            self.tally.wrong(Cause::NotSent, || format!("a command cannot be signed: {error:#}"));
            Bytes::new()
        })
    }

    fn signed(&self, master: &MasterKey, id: &str, stamp: Stamp) -> anyhow::Result<Bytes> {
        let Stamp { run, stream, sequence, .. } = stamp;
        let text = stamp.text();
        let draft = Draft {
            process_id: std::str::from_utf8(&text)?,
            action: Action::Unlock,
            // Unique in this run, and this run's number is random.
            nonce: &format!("{run:08x}{stream:06x}{sequence:08x}"),
            ts: i64::try_from(clock::unix_ms() / 1000).context("the clock is out of range")?,
            ttl: None,
            kid: None,
            extra: &[],
        };
        Ok(sign_command(&draft, id, &master.command_key(id), SignLength::Full)?.into())
    }
}

//! One run of the load: whom it is against, as whom, and what all its connections count together.
//!
//! A run is shared by every connection and never changes but for its counters, for whether the next
//! message is sent when one is acknowledged, and for the addresses that connections come from.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use latchline_shared::command::Action;
use latchline_shared::command::draft::{Draft, SignLength, sign_command};
use latchline_shared::keys::MasterKey;
use latchline_shared::kit::clock;
use latchline_shared::message::{Protocol, Qos};

use bytes::Bytes;

use crate::bench::lock;
use crate::load::schedule::{Span, Spans};
use crate::load::stamp::{Payloads, Stamp};
use crate::load::tally::Tally;
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
    /// By how many locks the source addresses are shifted.
    shift: AtomicU32,
}

impl Run {
    /// A run that begins now.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        Ok(Self {
            tally: Tally::new()?,
            id: u32::from_le_bytes(random::bytes()?),
            payloads: Payloads::of(settings.payload_bytes),
            closed: AtomicBool::new(false),
            shift: AtomicU32::new(0),
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

    /// The span of a load that begins now, and that which is measured, after the warm-up. Delays are
    /// from now on those of messages that are due in that.
    pub fn spans(&self, warm_up: Duration, length: Duration) -> Spans {
        let from_us = self.tally.now_us();
        let warm_us = from_us + warm_up.as_micros() as u64;
        let to_us = warm_us + length.as_micros() as u64;
        self.tally.forget_messages();
        self.tally.set_window(warm_us, to_us);
        Spans { load: Span { from_us, to_us }, measured: Span { from_us: warm_us, to_us } }
    }

    /// Id of a lock by its number in this run.
    pub fn lock_id(&self, number: u32) -> String {
        lock::id(self.settings.first.saturating_add(number))
    }

    /// Address that a connection comes from, where there are several.
    pub fn source(&self, number: u32) -> Option<IpAddr> {
        let is_near = self.settings.target.ip().is_loopback() && self.settings.target.is_ipv4();
        is_near.then(|| lock::source(number.saturating_add(self.shift.load(Ordering::Relaxed))))
    }

    /// From now on connections come from other addresses than those of `count` locks did: a port
    /// rests for a minute after its connection was closed.
    pub fn shift_sources(&self, count: u32) {
        self.shift.fetch_add(count.next_multiple_of(lock::LOCKS_PER_ADDRESS), Ordering::Relaxed);
    }

    /// Where lock `number` of this run reports to.
    pub fn state_topic(&self, number: u32) -> String {
        self.settings.state_topic.replace(ID, &self.lock_id(number))
    }

    /// Payload of a report.
    pub fn report(&self, id: &str, stamp: Stamp) -> Bytes {
        self.payloads.payload(id, stamp)
    }

    /// Payload of a command, signed if there is a key.
    pub fn command(&self, id: &str, stamp: Stamp) -> anyhow::Result<Bytes> {
        match &self.settings.master {
            Some(master) => self.signed(master, id, stamp).context("sign a command"),
            None => Ok(self.payloads.payload(id, stamp)),
        }
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

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Arc;

    use super::*;

    /// A run against nobody.
    pub(in crate::load) fn run() -> Arc<Run> {
        let settings = Settings {
            target: SocketAddr::from(([127, 0, 0, 1], 9)),
            protocol: Protocol::V3,
            security: None,
            login: Login::Nobody,
            operator: Login::Nobody,
            master: None,
            state_topic: "devices/{id}/state".to_owned(),
            command_topic: None,
            first: 0,
            session: lock::Session::Clean,
            keep_alive_s: 0,
            qos: Qos::AtLeastOnce,
            payload_bytes: 300,
            answers: Answers::None,
        };
        Arc::new(Run::new(settings).unwrap())
    }

    #[test]
    fn connections_that_come_back_come_from_other_addresses() {
        let run = run();
        let sources = || [0, 3_999, 4_000, 7_999].map(|number| run.source(number).unwrap());
        let before = sources();
        assert!(before[0] == before[1] && before[1] != before[2] && before[2] == before[3]);
        run.shift_sources(8_000);
        assert!(sources().iter().all(|source| !before.contains(source)), "{before:?}, {:?}", sources());
    }
}

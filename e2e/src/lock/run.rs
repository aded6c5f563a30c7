//! A lock on the wire: reports every interval and at once on change, decides and answers commands.
//!
//! A thin shell around [`decide`](super::decide) and [`state`](super::state). One task and one
//! MQTT client per lock, so a process can hold thousands.

use std::sync::Arc;
use std::time::Duration;

use latchline_shared::command::{Action, Command, ShortSign};
use latchline_shared::keys::CommandKey;
use latchline_shared::kit::clock;
use latchline_shared::kit::testing::{Random, Seed};
use latchline_shared::message::Qos;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::lock::decide::{Decision, Known, Refusal, decide};
use crate::lock::nonces::{NonceFile, Nonces};
use crate::lock::state::{Change, Lock, Outcome};
use crate::mqtt::{self, Client, Event, Received};

/// What a simulated lock needs.
pub struct Settings {
    /// Whom to connect to, and as whom; the client id is the lock's id.
    pub mqtt: mqtt::Options,
    /// The key that signs its commands.
    pub key: CommandKey,
    /// Whether it takes signatures of 16 digits.
    pub short_sign: ShortSign,
    /// Between two reports.
    pub interval: Duration,
    /// By how much an interval may be shorter or longer, so that a fleet does not report at once.
    pub jitter: Duration,
    /// Charge of the battery at the start.
    pub battery_percent: f64,
    /// What the battery loses beside its ordinary loss.
    pub drain_percent_per_day: f64,
    /// Whether the bolt is stuck from the start.
    pub jammed: bool,
    /// Where its randomness begins.
    pub seed: u64,
    /// What it has acted on before.
    pub nonces: Nonces,
    /// Where it remembers what it acts on; without one, in memory only.
    pub nonce_file: Option<NonceFile>,
    /// Told what happens.
    pub observer: Observer,
}

/// Told by each lock, by its id, what happens.
pub type Observer = Arc<dyn Fn(&str, &Happening) + Send + Sync>;

/// What happens at a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// It is connected (again).
    Connected,
    /// Its connection is gone.
    Disconnected(String),
    /// The broker refuses its subscription.
    Unsubscribed(String),
    /// It reports this.
    Reported(String),
    /// It does not report, since too much is waiting for acknowledgement.
    Withheld(String),
    /// It acted on a command.
    Acted(Command, Outcome),
    /// It refused a command.
    Refused(Refusal),
}

struct Running {
    id: String,
    settings: Settings,
    client: Client,
    lock: Lock,
    nonces: Nonces,
    random: Random,
    connected: bool,
}

/// Runs a lock until its `changes` end, that is, until their sender is dropped.
pub async fn run(mut settings: Settings, mut changes: mpsc::Receiver<Change>) {
    let (client, mut events) = Client::start(settings.mqtt.clone());
    let mut random = Random::new(Seed(settings.seed));
    let id = settings.mqtt.client_id.clone();
    // Sixteen digits, like those of the reference.
    let first_process_id = (1_000_000_000_000_000 + random.below(9_000_000_000_000_000)).to_string();
    let mut lock = Lock::new(&id, first_process_id, settings.battery_percent, settings.drain_percent_per_day);
    if settings.jammed {
        lock.change(Change::Jam);
    }
    let nonces = std::mem::take(&mut settings.nonces);
    let mut running = Running { id, settings, client, lock, nonces, random, connected: false };
    let mut aged_at = Instant::now();
    let mut report_at = running.next_report();
    loop {
        // Cancel safety: both channels keep what is not received, a timer keeps its instant.
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => running.handle(event).await,
                None => return,
            },
            change = changes.recv() => match change {
                Some(change) => {
                    running.lock.change(change);
                    running.report(running.lock.report());
                }
                None => return,
            },
            () = sleep_until(report_at) => {
                running.lock.age(aged_at.elapsed());
                aged_at = Instant::now();
                running.report(running.lock.report());
                report_at = running.next_report();
            }
        }
    }
}

impl Running {
    async fn handle(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.observe(Happening::Connected);
                if let Err(error) =
                    self.client.subscribe(&format!("devices/{}/command", self.id), Qos::AtLeastOnce)
                {
                    self.observe(Happening::Unsubscribed(error.to_string()));
                }
                self.report(self.lock.report());
            }
            Event::Down(why) => {
                self.connected = false;
                self.observe(Happening::Disconnected(why));
            }
            Event::Subscribed(Err(why)) => self.observe(Happening::Unsubscribed(why)),
            Event::Received(received) => self.command(&received).await,
            Event::Acked(Err(why)) => self.observe(Happening::Withheld(why)),
            Event::Acked(Ok(())) | Event::Subscribed(Ok(())) => {}
        }
    }

    async fn command(&mut self, received: &Received) {
        let now_ms = i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX);
        let known = Known {
            id: &self.id,
            key: &self.settings.key,
            short_sign: self.settings.short_sign,
            nonces: &self.nonces,
            now_ms,
        };
        match decide(known, received) {
            Decision::Act(command) => match self.remember(&command, now_ms / 1000).await {
                Ok(()) => {
                    let outcome = self.lock.act(&command.process_id, command.action);
                    self.report(self.lock.answer(&command.process_id, command.action, outcome));
                    self.observe(Happening::Acted(command, outcome));
                }
                // What cannot be remembered must not be acted on.
                Err(_) => self.refuse(Refusal::Busy, Some((command.process_id, command.action))),
            },
            Decision::Refuse { refusal, answers } => self.refuse(refusal, answers),
        }
    }

    async fn remember(&mut self, command: &Command, now_s: i64) -> anyhow::Result<()> {
        if let Some(file) = &self.settings.nonce_file {
            file.record(&self.id, &command.nonce, now_s).await?;
        }
        self.nonces.insert(&command.nonce, now_s);
        Ok(())
    }

    fn refuse(&mut self, refusal: Refusal, answers: Option<(String, Action)>) {
        self.observe(Happening::Refused(refusal));
        // Without a process id there is nobody to answer.
        if let Some((process_id, action)) = answers {
            self.report(self.lock.answer(&process_id, action, Outcome::Denied(refusal)));
        }
    }

    /// Reports are states: one that cannot be sent now is superseded by the one at the next connect.
    fn report(&self, payload: String) {
        if !self.connected {
            return;
        }
        let topic = format!("devices/{}/state", self.id);
        let happening = match self.client.publish(&topic, Qos::AtLeastOnce, false, payload.as_bytes()) {
            Ok(()) => Happening::Reported(payload),
            Err(error) => Happening::Withheld(error.to_string()),
        };
        self.observe(happening);
    }

    fn observe(&self, happening: Happening) {
        (self.settings.observer)(&self.id, &happening);
    }

    fn next_report(&mut self) -> Instant {
        let jitter_ms = u64::try_from(self.settings.jitter.as_millis()).unwrap_or(u64::MAX / 4);
        let offset = Duration::from_millis(self.random.below(2 * jitter_ms + 1));
        let earliest = self.settings.interval.saturating_sub(self.settings.jitter);
        Instant::now() + earliest + offset
    }
}

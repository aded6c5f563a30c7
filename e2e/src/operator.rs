//! An operator: sends signed commands and waits for what the lock says to them. Used by `lockctl`,
//! the demo and tests.
//!
//! A command is acknowledged when the broker has it, and answered when the lock reports with its
//! `process_id`. The two are told apart, because each can be missing.

use std::time::Duration;

use anyhow::{Context, bail};
use latchline_shared::command::Action;
use latchline_shared::command::draft::{Draft, SignLength, sign_command};
use latchline_shared::keys::MasterKey;
use latchline_shared::kit::clock;
use latchline_shared::message::Qos;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::mqtt::{self, Client, Event, Received};
use crate::random;

/// How long connecting and subscribing may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A connected operator.
pub struct Operator {
    client: Client,
    events: mpsc::Receiver<Event>,
}

/// A command that is ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The lock that it is for.
    pub lock: String,
    /// What ties the answer to it.
    pub process_id: String,
    /// The bytes.
    pub payload: String,
    /// Whether it was sent before, so that reports already repeat its process id.
    again: bool,
}

/// What became of a command.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What the broker said.
    pub acked: Acked,
    /// From publishing to the lock's report, and the report; none if there was none in time.
    pub report: Option<(Duration, Report)>,
}

/// What the broker said to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acked {
    /// It acknowledged it, so long after it was published.
    After(Duration),
    /// It refused it.
    Refused(String),
    /// Nothing, in time.
    Missing,
}

/// A state report, as far as an operator reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// The lock.
    pub client_id: String,
    /// The command that it answers, or the last one.
    pub process_id: String,
    /// What was done, or tried.
    pub action: String,
    /// Charge in percent.
    pub battery: f64,
    /// Number of the state.
    pub lock_state: u64,
    /// `ok`, `denied` or `failed`; absent in repetitions, and always absent in the reference.
    pub result: Option<String>,
    /// Why not.
    pub error: Option<u64>,
}

impl Command {
    /// Signs a command, now.
    pub fn sign(master: &MasterKey, lock: &str, action: Action) -> anyhow::Result<Self> {
        let (process_id, nonce) = (random::process_id()?, random::nonce()?);
        let ts = i64::try_from(clock::unix_ms() / 1000)?;
        let draft =
            Draft { process_id: &process_id, action, nonce: &nonce, ts, ttl: None, kid: None, extra: &[] };
        let payload = sign_command(&draft, lock, &master.command_key(lock), SignLength::Full)?;
        Ok(Self { lock: lock.to_owned(), process_id, payload, again: false })
    }

    /// The same bytes once more.
    pub fn replayed(&self) -> Self {
        Self { again: true, ..self.clone() }
    }

    /// The same command by somebody who has not got the key: the last digit of `sign` is another.
    pub fn forged(&self) -> anyhow::Result<Self> {
        let end = self.payload.rfind("\"}").context("the payload does not end with its signature")?;
        let last = if self.payload[..end].ends_with('0') { "1" } else { "0" };
        let payload = format!("{}{last}{}", &self.payload[..end - 1], &self.payload[end..]);
        Ok(Self { payload, ..self.clone() })
    }
}

impl Operator {
    /// Connects, and listens to the reports of one lock, or of all (`+`).
    pub async fn connect(options: mqtt::Options, lock: &str) -> anyhow::Result<Self> {
        let until = Instant::now() + CONNECT_DEADLINE;
        let (host, port) = (options.host.clone(), options.port);
        let (client, events) = Client::start(options);
        let mut operator = Self { client, events };
        let mut last_error = String::new();
        loop {
            match timeout_at(until, operator.events.recv()).await {
                Ok(Some(Event::Connected)) => {
                    operator.client.subscribe(&format!("devices/{lock}/state"), Qos::AtLeastOnce)?;
                }
                Ok(Some(Event::Subscribed(result))) => match result {
                    Ok(()) => return Ok(operator),
                    Err(why) => bail!("the operator may not listen to {lock}: {why}"),
                },
                Ok(Some(Event::Down(why))) => last_error = why,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => bail!("no connection to {host}:{port}: {last_error}"),
            }
        }
    }

    /// Publishes a command and waits for its acknowledgement and for the lock's answer.
    pub async fn send(&mut self, command: &Command, deadline: Duration) -> anyhow::Result<Answer> {
        let sent_at = Instant::now();
        let until = sent_at + deadline;
        let topic = format!("devices/{}/command", command.lock);
        self.client.publish(&topic, Qos::AtLeastOnce, false, command.payload.as_bytes())?;
        let mut acked = None;
        let mut report = None;
        // Either may come first: the lock may be faster than the broker's storage.
        while acked.is_none() || report.is_none() {
            match timeout_at(until, self.events.recv()).await {
                Ok(Some(Event::Acked(Ok(())))) => acked = Some(Acked::After(sent_at.elapsed())),
                // The lock never gets it.
                Ok(Some(Event::Acked(Err(why)))) => {
                    return Ok(Answer { acked: Acked::Refused(why), report: None });
                }
                Ok(Some(Event::Received(received))) => {
                    if let Some(found) = answer(&received, command) {
                        report = Some((sent_at.elapsed(), found));
                    }
                }
                Ok(Some(Event::Down(why))) => bail!("the connection is gone: {why}"),
                Ok(Some(_)) => {}
                Ok(None) => bail!("the client has ended"),
                Err(_) => break,
            }
        }
        Ok(Answer { acked: acked.unwrap_or(Acked::Missing), report })
    }

    /// The next report of any lock that is listened to; the topic's id with it.
    pub async fn next_report(&mut self) -> anyhow::Result<Received> {
        loop {
            match self.events.recv().await.context("the client has ended")? {
                Event::Received(received) => return Ok(received),
                Event::Down(why) => tracing::debug!(why, "connecting again"),
                Event::Connected | Event::Acked(_) | Event::Subscribed(_) => {}
            }
        }
    }
}

fn answer(received: &Received, command: &Command) -> Option<Report> {
    let report: Report = serde_json::from_slice(&received.payload).ok()?;
    // A lock of the reference answers without `result`: its first report with the process id is the
    // result, and those after it are repetitions.
    let answers = (report.result.is_some() || !command.again)
        && report.process_id == command.process_id
        && received.topic == format!("devices/{}/state", command.lock);
    answers.then_some(report)
}

#[cfg(test)]
mod tests {
    use latchline_shared::command::{self, ShortSign};

    use super::*;

    const LOCK: &str = "10083618796833171";

    #[test]
    fn a_forged_command_differs_in_its_signature_only() {
        let master = MasterKey::from_hex(&random::secret().unwrap()).unwrap();
        let key = master.command_key(LOCK);
        let signed = Command::sign(&master, LOCK, Action::Unlock).unwrap();
        let forged = signed.forged().unwrap();
        let parse = |command: &Command| command::Command::parse(command.payload.as_bytes(), LOCK).unwrap();
        let (signed, forged) = (parse(&signed), parse(&forged));
        assert!(signed.verify(&key, ShortSign::Refused));
        assert!(!forged.verify(&key, ShortSign::Refused));
        assert_eq!(signed.canonical, forged.canonical);
    }

    #[test]
    fn an_answer_is_the_first_report_of_the_process_or_says_its_result() {
        let command = Command {
            lock: LOCK.to_owned(),
            process_id: "p1".to_owned(),
            payload: String::new(),
            again: false,
        };
        let report = |process_id: &str, rest: &str| {
            format!(
                r#"{{"process_id":"{process_id}","action":"unlock","battery":83.4,"lock_state":1,"version":1.1,"client_id":"{LOCK}"{rest}}}"#
            )
        };
        let ok = r#","result":"ok""#;
        for (lock, payload, first, again) in [
            (LOCK, report("p1", ok), true, true),
            (LOCK, report("p1", ""), true, false),
            (LOCK, report("p2", ok), false, false),
            ("1", report("p1", ok), false, false),
            (LOCK, "nonsense".to_owned(), false, false),
        ] {
            let received = Received {
                topic: format!("devices/{lock}/state"),
                payload: payload.into(),
                qos: Qos::AtLeastOnce,
                retain: false,
                dup: false,
            };
            assert_eq!(answer(&received, &command).is_some(), first, "{received:?}");
            assert_eq!(answer(&received, &command.replayed()).is_some(), again, "{received:?}");
        }
    }
}

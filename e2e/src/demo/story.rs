//! The script of the demo. Every step says what happens, does it, and waits until Kafka has what
//! the step promises.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use latchline_shared::command::{Action, ShortSign};
use latchline_shared::message::Protocol;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::demo::follower::Follower;
use crate::demo::screen::{heading, proved, say};
use crate::kafka::Kafka;
use crate::kafka::reader::Record;
use crate::lock::run::{Settings, run};
use crate::lock::state::Change;
use crate::mqtt;
use crate::operator::{Acked, Command, Operator, Report};
use crate::show;
use crate::stack::{COMMANDS, REJECTED, STATES, Stack, state_topic};

/// Longest wait for what takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long Kafka stands still.
const STANDSTILL: Duration = Duration::from_secs(3);
/// Locks of the demo: the id of the reference and the next two.
pub const LOCKS: [&str; 3] = ["10083618796833171", "10083618796833172", "10083618796833173"];
/// A lock that is a bare client, so that its acknowledgement can be timed.
const TIMED_LOCK: &str = "10083618796833174";
/// Charge of a battery that wants to be changed.
const LOW_BATTERY: f64 = 9.5;

/// What the story is played with.
pub struct Story<'a> {
    stack: &'a mut Stack,
    follower: &'a Follower,
    operator: Operator,
    locks: Vec<mpsc::Sender<Change>>,
}

impl<'a> Story<'a> {
    /// Connects the locks and the operator.
    pub async fn begin(
        stack: &'a mut Stack,
        follower: &'a Follower,
        interval: Duration,
    ) -> anyhow::Result<Self> {
        heading("1  Locks connect and report");
        say("Each publishes its state over MQTT (QoS 1) now, on every change and at intervals.\n\
             The broker acknowledges a report when Kafka has stored it, and not before.\n\
             The lines that follow are records in Kafka: stream/partition@offset, and what is in it.");
        let locks = LOCKS.iter().zip(1..).map(|(id, seed)| lock(stack, id, seed, interval)).collect();
        for id in LOCKS {
            let from = |record: &Record| record.stream == STATES && record.key.as_deref() == Some(id);
            follower.find(0, &format!("the first report of {id}"), DEADLINE, from).await?;
        }
        proved("three locks, three records");
        let options = stack.secrets.operator_options(stack.mqtt().port(), Protocol::V5)?;
        let operator = Operator::connect(options, "+").await?;
        Ok(Self { stack, follower, operator, locks })
    }

    /// Plays it to its end and returns the locks, which go on.
    pub async fn play(mut self) -> anyhow::Result<Vec<mpsc::Sender<Change>>> {
        let unlock = Command::sign(&self.stack.secrets.master, LOCKS[0], Action::Unlock)?;
        self.unlock(&unlock).await?;
        self.forge().await?;
        self.replay(&unlock).await?;
        self.battery().await?;
        self.jam().await?;
        self.standstill().await?;
        Ok(self.locks)
    }

    async fn unlock(&mut self, command: &Command) -> anyhow::Result<()> {
        heading("2  The operator unlocks a door");
        say(&format!("Signed with the lock's key, for this lock, now, once:\n{}", command.payload));
        let report = self.command(command, "ok", None).await?;
        ensure!(report.lock_state == 1, "the lock is {}", show::state_name(report.lock_state));
        proved("the door is open, and Kafka has the command and the answer");
        Ok(())
    }

    async fn forge(&mut self) -> anyhow::Result<()> {
        heading("3  Somebody without the key forges a command");
        let forged = Command::sign(&self.stack.secrets.master, LOCKS[1], Action::Unlock)?.forged()?;
        say("One digit of the signature is wrong. The login is the operator's own.");
        self.refused(&forged, "bad_signature").await?;
        proved("the broker's guard refuses it, the lock never sees it, and the attempt is on record");
        Ok(())
    }

    async fn replay(&mut self, command: &Command) -> anyhow::Result<()> {
        heading("4  Somebody who listened in replays the first command");
        say("The same bytes, with their valid signature, a second time.");
        self.refused(&command.replayed(), "replay").await?;
        proved("the guard knows that nonce; the lock would know it, too");
        Ok(())
    }

    async fn battery(&mut self) -> anyhow::Result<()> {
        heading("5  A battery runs down");
        let from = self.follower.count();
        self.locks[1].send(Change::Battery(LOW_BATTERY)).await.context("the lock has ended")?;
        let low = |record: &Record| reported(record, LOCKS[1]).is_some_and(|r| r.battery == LOW_BATTERY);
        self.follower.find(from, "the report of a low battery", DEADLINE, low).await?;
        proved("reported at once, not at the next interval");
        Ok(())
    }

    async fn jam(&mut self) -> anyhow::Result<()> {
        heading("6  A bolt jams");
        self.locks[2].send(Change::Jam).await.context("the lock has ended")?;
        let command = Command::sign(&self.stack.secrets.master, LOCKS[2], Action::Unlock)?;
        let report = self.command(&command, "failed", Some(0)).await?;
        ensure!(report.lock_state == 2, "the lock is {}", show::state_name(report.lock_state));
        proved("the command was right and the lock tried; the failure is on record");
        Ok(())
    }

    async fn standstill(&mut self) -> anyhow::Result<()> {
        if matches!(self.stack.kafka, Kafka::External(_)) {
            return Ok(());
        }
        heading("7  Kafka stands still");
        say(&format!("For {} s it takes connections and answers nothing.", STANDSTILL.as_secs()));
        let (mut client, _) = self.stack.connect_lock(TIMED_LOCK, Protocol::V3).await?;
        self.stack.kafka.go_silent().await?;
        let sent_at = Instant::now();
        let report = format!(
            r#"{{"process_id":"1","action":"report","battery":50.0,"lock_state":0,"version":1.1,"client_id":"{TIMED_LOCK}"}}"#
        );
        let id = client.publish(&state_topic(TIMED_LOCK), report).await?;
        let early = client.receive_within(STANDSTILL).await?;
        self.stack.kafka.answer_again()?;
        ensure!(early.is_none(), "acknowledged while Kafka stood still: {early:?}");
        say("A lock reports, and is not told that all is well. Kafka goes on:");
        client.acked(id, DEADLINE).await?;
        let after = sent_at.elapsed();
        let stored = |record: &Record| reported(record, TIMED_LOCK).is_some();
        self.follower.find(0, "the report of the standstill", DEADLINE, stored).await?;
        proved(&format!("acknowledged after {after:.1?}, when it was stored; nothing is lost"));
        Ok(())
    }

    /// Sends a command that the guard must refuse, and waits for the record of that.
    async fn refused(&mut self, command: &Command, reason: &str) -> anyhow::Result<()> {
        let from = self.follower.count();
        let answer = self.operator.send(command, DEADLINE).await?;
        let Acked::Refused(why) = answer.acked else { bail!("the broker took the command: {answer:?}") };
        let rejected = |record: &Record| {
            record.stream == REJECTED
                && payload(record).is_some_and(|text| text == command.payload)
                && record.json().is_ok_and(|value| value["reason"] == reason)
        };
        self.follower.find(from, "the refusal", DEADLINE, rejected).await?;
        say(&format!("The broker answers: {why}"));
        Ok(())
    }

    /// Sends a command, and waits for the answer that it must get and for both records.
    async fn command(
        &mut self,
        command: &Command,
        result: &str,
        error: Option<u64>,
    ) -> anyhow::Result<Report> {
        let from = self.follower.count();
        let answer = self.operator.send(command, DEADLINE).await?;
        let Acked::After(_) = answer.acked else { bail!("the broker did not take the command: {answer:?}") };
        let (after, report) = answer.report.context("the lock did not answer")?;
        ensure!(
            (report.result.as_deref(), report.error) == (Some(result), error),
            "the lock should have said {result}: {report:?}"
        );
        let delivered = |record: &Record| {
            record.stream == COMMANDS && payload(record).is_some_and(|text| text == command.payload)
        };
        let answered = |record: &Record| {
            reported(record, &command.lock)
                .is_some_and(|r| r.process_id == command.process_id && r.result.as_deref() == Some(result))
        };
        self.follower.find(from, "the command", DEADLINE, delivered).await?;
        self.follower.find(from, "the answer", DEADLINE, answered).await?;
        say(&format!("The lock answers after {after:.1?}: {}", show::report(&report)));
        Ok(report)
    }
}

fn lock(stack: &Stack, id: &str, seed: u64, interval: Duration) -> mpsc::Sender<Change> {
    let (changes, receiver) = mpsc::channel(1);
    let settings = Settings {
        mqtt: mqtt::Options {
            host: stack.mqtt().ip().to_string(),
            port: stack.mqtt().port(),
            client_id: id.to_owned(),
            login: Some(stack.secrets.lock_login(id)),
            protocol: Protocol::V3,
            session: mqtt::Session::Kept,
        },
        key: stack.secrets.master.command_key(id),
        short_sign: ShortSign::Refused,
        interval,
        jitter: interval / 5,
        battery_percent: 83.4,
        drain_percent_per_day: 0.0,
        jammed: false,
        seed,
        nonces: Default::default(),
        nonce_file: None,
        observer: Arc::new(|_, _| {}),
    };
    tokio::spawn(run(settings, receiver));
    changes
}

fn payload(record: &Record) -> Option<String> {
    show::payload(&record.json().ok()?)
}

/// The report in a record, if it is one of this lock.
fn reported(record: &Record, id: &str) -> Option<Report> {
    let of_lock = record.stream == STATES && record.key.as_deref() == Some(id);
    of_lock.then(|| payload(record)).flatten().and_then(|text| serde_json::from_str(&text).ok())
}

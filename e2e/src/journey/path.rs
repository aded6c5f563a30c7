//! Everything once: locks report, a door is unlocked, commands are forged and replayed, a battery runs
//! down, a bolt jams; and who should know of it does.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use latchline_shared::command::Action;
use latchline_shared::message::Protocol;

use super::account::{Account, Judged, Raised};
use super::{Lock, lock_id, operator};
use crate::client::packet::Connect;
use crate::client::websocket::WebSocket;
use crate::feed::Report;
use crate::lock::state::Change;
use crate::operator::{Acked, Answer, Command};
use crate::site::Site;
use crate::site::ask::{Alarm, DEADLINE, Told};
use crate::site::events::Events;
use crate::stack::state_topic;

/// Longest wait for what a lock answers.
const ANSWER: Duration = Duration::from_secs(30);

/// What is on its way.
struct Path<'a> {
    site: &'a Site,
    say: &'a mut dyn FnMut(&str),
    account: Account,
    /// What the monitor tells by itself.
    alarms: Events,
}

/// Takes the whole path; `say` is told what was seen. The answer is what must still be true later.
pub async fn run(site: &Site, say: &mut dyn FnMut(&str)) -> anyhow::Result<Account> {
    let alarms = site.monitor.events("/v1/alarms/stream").await?;
    let mut path = Path { site, say, account: Account::default(), alarms };
    let door = Lock::well(site, Protocol::V3, 83.4)?;
    let weak = Lock::well(site, Protocol::V5, 20.4)?;
    let stuck = Lock::well(site, Protocol::V3, 90.0)?;
    path.reports(&[&door, &weak, &stuck]).await?;
    path.websocket().await?;
    let unlock = path.unlock(&door).await?;
    path.forged(&door).await?;
    path.replayed(&door, &unlock).await?;
    path.battery(&weak).await?;
    path.jam(&stuck).await?;
    path.history(&[&door, &stuck]).await?;
    path.told_once().await?;
    let Path { account, say, .. } = path;
    account.check(site).await?;
    say("each command is in the history once, and was told by one mail and one SMS: seen");
    Ok(account)
}

impl Path<'_> {
    async fn reports(&mut self, locks: &[&Lock]) -> anyhow::Result<()> {
        for lock in locks {
            self.site.presents(&lock.id, |lock| lock.lock_state == "locked").await?;
        }
        (self.say)("locks report over MQTT 3.1.1 and 5, and the monitor knows their state: seen");
        Ok(())
    }

    async fn websocket(&mut self) -> anyhow::Result<()> {
        let id = lock_id()?;
        let (username, password) = self.site.secrets.lock_login(&id);
        let connect = Connect {
            protocol: Protocol::V5,
            client_id: &id,
            login: Some((&username, &password)),
            clean: true,
            session_expiry_s: 0,
            keep_alive_s: 60,
        };
        let mut lock = WebSocket::connect(&self.site.websocket, &connect).await?;
        let report = Report { battery: 64.2, lock_state: 1, ..Report::of(&id, 0) };
        lock.publish(&state_topic(&id), report.payload()).await?;
        self.site.presents(&id, |lock| lock.lock_state == "unlocked" && lock.battery == Some(64.2)).await?;
        (self.say)("a lock reports over MQTT over WebSocket, and is acknowledged: seen");
        Ok(())
    }

    async fn unlock(&mut self, lock: &Lock) -> anyhow::Result<Command> {
        let stream = format!("/v1/audit/stream?client_id={}", lock.id);
        let mut audit = self.site.auditor.events(&stream).await?;
        let command = Command::sign(&self.site.secrets.master, &lock.id, Action::Unlock)?;
        let answer = self.send(&command).await?;
        let Acked::After(_) = answer.acked else { bail!("a signed unlock was not taken: {answer:?}") };
        let (after, report) = answer.report.context("the lock did not answer")?;
        ensure!(report.result.as_deref() == Some("ok"), "the lock did not unlock: {report:?}");
        (self.say)(&format!("a signed unlock, answered by the lock after {after:.1?}: seen"));

        self.judged(&command, "command", "ok", Some("unlocked")).await?;
        self.site.judged(&lock.id, &command.process_id, "result", "ok").await?;
        (self.say)("the command and its result in the audit history, verdict ok: seen");
        let is = |event: &serde_json::Value| {
            event["kind"] == "command" && event["process_id"] == command.process_id.as_str()
        };
        let event = audit.find("the command", DEADLINE, is).await?;
        ensure!(event.data["verdict"] == "ok", "the auditor's stream says {event:?}");
        (self.say)("the same by itself on the auditor's stream (SSE): seen");
        let told = self.told_of_process(&command, "unlocked").await?;
        ensure!(told.is_once(), "unlocking was not told once: {told:?}");
        (self.say)("the owner was told by one mail and one SMS: seen");
        self.site.presents(&lock.id, |lock| lock.lock_state == "unlocked").await?;
        Ok(command)
    }

    async fn forged(&mut self, lock: &Lock) -> anyhow::Result<()> {
        let forged = Command::sign(&self.site.secrets.master, &lock.id, Action::Unlock)?.forged()?;
        self.refused(&forged, "bad_signature").await?;
        self.raised(lock, "security_bad_signature", "critical").await?;
        (self.say)(
            "a forged command: refused, in the history as bad_signature, a critical alarm, mail, SMS: seen",
        );
        Ok(())
    }

    async fn replayed(&mut self, lock: &Lock, command: &Command) -> anyhow::Result<()> {
        self.refused(&command.replayed(), "replay").await?;
        self.raised(lock, "security_replay", "critical").await?;
        (self.say)(
            "the unlock replayed: refused, in the history as replay, a critical alarm, mail, SMS: seen",
        );
        Ok(())
    }

    async fn battery(&mut self, lock: &Lock) -> anyhow::Result<()> {
        // Three reports in a row make it low; a fall of ten points would be another alarm.
        for percent in [19.5, 19.3, 19.1] {
            lock.change(Change::Battery(percent)).await?;
        }
        self.raised(lock, "battery_low", "warning").await?;
        (self.say)("a low battery: alarm over HTTP and SSE, mail, SMS: seen");
        Ok(())
    }

    async fn jam(&mut self, lock: &Lock) -> anyhow::Result<()> {
        lock.change(Change::Jam).await?;
        self.raised(lock, "lock_fault", "critical").await?;
        (self.say)("a jammed bolt: alarm over HTTP and SSE, mail, SMS: seen");
        let command = Command::sign(&self.site.secrets.master, &lock.id, Action::Unlock)?;
        let answer = self.send(&command).await?;
        let (_, report) = answer.report.context("the jammed lock did not answer")?;
        ensure!(report.result.as_deref() == Some("failed"), "a jammed lock says {report:?}");
        self.judged(&command, "command", "ok", Some("unlock_failed")).await?;
        self.site.judged(&lock.id, &command.process_id, "result", "failed").await?;
        let told = self.told_of_process(&command, "unlock_failed").await?;
        ensure!(told.is_once(), "that unlocking failed was not told once: {told:?}");
        (self.say)("an unlock that fails: in the history as failed, one mail, one SMS: seen");
        lock.change(Change::Free).await?;
        self.site.alarm(&lock.id, "lock_fault", "cleared").await?;
        (self.say)("the bolt is free: the alarm is cleared: seen");
        Ok(())
    }

    async fn history(&mut self, locks: &[&Lock]) -> anyhow::Result<()> {
        let mut rows = 0;
        for lock in locks {
            let history = self.site.history(&lock.id).await?;
            ensure!(history.len() >= 3, "the history of {} is too short: {history:?}", lock.id);
            rows += self.site.verify(&history).await?;
        }
        (self.say)(&format!("the history is what was written, by verify of {rows} rows: seen"));
        Ok(())
    }

    /// Sends a command by an operator of its own.
    async fn send(&self, command: &Command) -> anyhow::Result<Answer> {
        operator(self.site, &command.lock).await?.send(command, ANSWER).await
    }

    /// A command that the guard must refuse, and the auditor judge.
    async fn refused(&mut self, command: &Command, verdict: &str) -> anyhow::Result<()> {
        let answer = self.send(command).await?;
        let Acked::Refused(_) = answer.acked else { bail!("the broker took the command: {answer:?}") };
        self.judged(command, "attempt", verdict, None).await
    }

    async fn judged(
        &mut self,
        command: &Command,
        kind: &str,
        verdict: &str,
        told: Option<&str>,
    ) -> anyhow::Result<()> {
        self.site.judged(&command.lock, &command.process_id, kind, verdict).await?;
        self.account.judged.push(Judged {
            lock: command.lock.clone(),
            process_id: command.process_id.clone(),
            kind: kind.to_owned(),
            verdict: verdict.to_owned(),
            told: told.map(str::to_owned),
        });
        Ok(())
    }

    /// An alarm over HTTP, and by itself; and its owner is told.
    async fn raised(&mut self, lock: &Lock, kind: &str, severity: &str) -> anyhow::Result<()> {
        let Alarm { id, severity: found, .. } = self.site.alarm(&lock.id, kind, "active").await?;
        ensure!(found == severity, "the alarm {kind} is {found}, not {severity}");
        let is = |change: &serde_json::Value| change["alarm_id"] == id.as_str();
        self.alarms.find(&format!("alarm {kind} of {}", lock.id), DEADLINE, is).await?;
        self.site.told_by_all(&lock.id, kind, |one| one.alarm_id.as_deref() == Some(id.as_str())).await?;
        self.account.alarms.push(Raised { lock: lock.id.clone(), kind: kind.to_owned(), id });
        Ok(())
    }

    /// What arrived at last, not only what the notifier says that it sent.
    async fn told_once(&self) -> anyhow::Result<()> {
        for Judged { lock, process_id, told, .. } in &self.account.judged {
            let Some(event_type) = told else { continue };
            let of_process = |one: &crate::site::ask::Notification| {
                one.event_type == *event_type && one.process_id.as_deref() == Some(process_id)
            };
            let told = self.site.told_by_all(lock, event_type, of_process).await?;
            ensure!(told.is_once(), "{event_type} of {process_id} was not told once: {told:?}");
        }
        Ok(())
    }

    async fn told_of_process(&self, command: &Command, event_type: &str) -> anyhow::Result<Told> {
        let of_process = |one: &crate::site::ask::Notification| {
            one.event_type == event_type && one.process_id.as_deref() == Some(&command.process_id)
        };
        self.site.told_by_all(&command.lock, event_type, of_process).await
    }
}

//! The mail server goes away, Kafka stands still, and the history is checked at the end.

use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::command::Action;
use latchline_shared::message::Protocol;
use serde_json::Value;
use tokio::time::Instant;

use super::commands::result_of;
use super::{DEADLINE, Story, garage_report, reported};
use crate::demo::brief::{WIDTH, cut};
use crate::demo::cast::{DOORS, GARAGE, OFFICE};
use crate::demo::figures::in_words;
use crate::demo::screen::{heading, proved, say};
use crate::kafka::Kafka;
use crate::kafka::reader::Record;
use crate::operator::Command;
use crate::site::ask::{Notification, until};
use crate::stack::state_topic;

/// How long Kafka stands still.
const STANDSTILL: Duration = Duration::from_secs(3);
/// What the garage's lock says meanwhile, and never before.
const GARAGE_BATTERY: f64 = 49.5;

impl Story<'_> {
    pub(super) async fn mail_server_goes_away(&mut self) -> anyhow::Result<()> {
        heading("7  The mail server goes away, and the office is unlocked");
        self.whole.notifier.mail.stop().await;
        let command = Command::sign(&self.site.secrets.master, OFFICE.id, Action::Unlock)?;
        let (_, at_ms) = self.command(&command, "ok", None).await?;
        let waits =
            |one: &Notification| result_of(&command)(one) && one.channel == "email" && one.attempt_count > 0;
        let ask = async || self.site.notifications(OFFICE.id).await;
        let waiting = |all: &Vec<Notification>| all.iter().any(|one| waits(one) && one.status == "pending");
        until("a mail that waits", DEADLINE, ask, waiting).await?;
        say("The mail was tried, and waits. The mail server comes back:");
        self.whole.notifier.mail.start_again().await.context("start the mail server again")?;
        let told = self.site.told_by_all(OFFICE.id, "the unlocking", result_of(&command)).await?;
        ensure!(told.is_once(), "the unlocking of the office was not told once: {told:?}");
        let id = &told.mails[0].id;
        let (_, arrived_ms) = self.mails.find(0, "the late mail", DEADLINE, |mail| mail.id == *id).await?;
        let late = in_words(Duration::from_millis(arrived_ms.saturating_sub(at_ms)));
        proved(&format!("the mail arrived {late} after the door was open, once"));
        Ok(())
    }

    pub(super) async fn kafka_stands_still(&mut self) -> anyhow::Result<()> {
        heading("8  Kafka stands still");
        if matches!(self.whole.stack.kafka, Kafka::External(_)) {
            say("Not this one: it is somebody else's.");
            return Ok(());
        }
        say(&format!("For {} s it takes connections and answers nothing.", STANDSTILL.as_secs()));
        let from = self.records.count();
        let (mut client, _) = self.whole.stack.connect_lock(GARAGE.id, Protocol::V3).await?;
        self.whole.stack.kafka.go_silent().await?;
        let sent_at = Instant::now();
        let id = client.publish(&state_topic(GARAGE.id), garage_report(GARAGE_BATTERY)).await?;
        let early = client.receive_within(STANDSTILL).await?;
        self.whole.stack.kafka.answer_again()?;
        ensure!(early.is_none(), "acknowledged while Kafka stood still: {early:?}");
        say("A lock reports, and is not told that all is well. Kafka goes on:");
        client.acked(id, DEADLINE).await?;
        let after = sent_at.elapsed();
        let stored = |record: &Record| reported(record, GARAGE.id).is_some();
        self.records.find(from, "the report of the standstill", DEADLINE, stored).await?;
        proved(&format!("acknowledged after {}, when it was stored; nothing is lost", in_words(after)));
        // A consumer whose question was not answered asks again after a while.
        self.site.presents(GARAGE.id, |present| present.battery == Some(GARAGE_BATTERY)).await?;
        proved("the services go on where they were: the monitor knows of it");
        Ok(())
    }

    pub(super) async fn history(&mut self) -> anyhow::Result<()> {
        heading("9  Can the history be believed?");
        say("Each row is linked to the one before it by a hash, and the ends are signed:");
        let ask = async || self.site.auditor.json("/v1/audit/checkpoints?limit=1").await;
        let some = |page: &Value| page["checkpoints"][0]["note"].is_string();
        let page = until("a signed checkpoint", DEADLINE, ask, some).await?;
        let note = page["checkpoints"][0]["note"].as_str().unwrap_or_default();
        for line in note.lines().filter(|line| !line.is_empty()) {
            say(&cut(&format!("  {line}"), WIDTH - 2));
        }
        let mut entries = Vec::new();
        for door in DOORS {
            entries.extend(self.site.history(door.id).await?);
        }
        let rows = self.site.verify(&entries).await?;
        ensure!(rows > 0, "nothing is in the history of {} locks", DOORS.len());
        proved(&format!("{rows} rows were looked at: none was changed, removed or put in"));
        Ok(())
    }
}

//! A good command, a forged one and a replayed one.

use anyhow::{Context, bail, ensure};
use latchline_shared::command::Action;

use super::{DEADLINE, Story, happened_at_ms, payload, reported};
use crate::demo::brief;
use crate::demo::cast::{Door, FRONT_DOOR, OFFICE};
use crate::demo::figures::{Span, in_words};
use crate::demo::screen::{heading, proved, say};
use crate::demo::seen::At;
use crate::kafka::reader::Record;
use crate::operator::{Acked, Command, Report};
use crate::show;
use crate::site::ask::Notification;
use crate::stack::{COMMANDS, REJECTED};

impl Story<'_> {
    pub(super) async fn unlock(&mut self, command: &Command) -> anyhow::Result<()> {
        heading("2  The operator unlocks the front door");
        say("Signed with the lock's key, for this lock, now, once:");
        say(&brief::payload(&command.payload));
        let (report, at_ms) = self.command(command, "ok", None).await?;
        ensure!(report.lock_state == 1, "the lock is {}", show::state_name(report.lock_state));
        let opened_after = self.begun_at.elapsed();
        self.told(&FRONT_DOOR, "the unlocking", at_ms, result_of(command)).await?;
        self.judged(&FRONT_DOOR, command, "command", "ok").await?;
        proved("the door is open; Kafka, the owner and the history have it");
        proved(&format!("first unlock {} after the demo was started", in_words(opened_after)));
        Ok(())
    }

    pub(super) async fn forge(&mut self) -> anyhow::Result<()> {
        heading("3  Somebody without the key forges a command");
        let forged = Command::sign(&self.site.secrets.master, OFFICE.id, Action::Unlock)?.forged()?;
        say("One digit of the signature is wrong. The login is the operator's own.");
        let at_ms = self.refused(&forged, "bad_signature").await?;
        self.judged(&OFFICE, &forged, "attempt", "bad_signature").await?;
        self.suspicious(&OFFICE, "security_bad_signature", at_ms).await?;
        proved("the broker's guard refuses it, and the owner knows");
        Ok(())
    }

    pub(super) async fn replay(&mut self, command: &Command) -> anyhow::Result<()> {
        heading("4  Somebody who listened in replays the first command");
        say("The same bytes, with their valid signature, a second time.");
        let replayed = command.replayed();
        let at_ms = self.refused(&replayed, "replay").await?;
        self.judged(&FRONT_DOOR, &replayed, "attempt", "replay").await?;
        self.suspicious(&FRONT_DOOR, "security_replay", at_ms).await?;
        proved("the guard knows that nonce; the lock would know it, too");
        Ok(())
    }

    async fn suspicious(&mut self, lock: &Door, kind: &str, at_ms: u64) -> anyhow::Result<()> {
        self.raised(lock, kind, Span::Attacked, at_ms).await?;
        self.told(lock, kind, at_ms, |one| one.event_type == kind).await
    }

    /// Waits until the auditor has judged it so, and says that.
    async fn judged(&self, lock: &Door, command: &Command, kind: &str, verdict: &str) -> anyhow::Result<()> {
        let entry = self.site.judged(lock.id, &command.process_id, kind, verdict).await?;
        let publisher = entry.publisher.unwrap_or_default();
        let from = brief::publisher(&publisher);
        say(&format!("The auditor: {kind} of {from}, {verdict}, {}", entry.severity));
        Ok(())
    }

    /// Sends a command that the guard must refuse, and waits for the record of that; returns when it was.
    async fn refused(&mut self, command: &Command, reason: &str) -> anyhow::Result<u64> {
        let from = self.records.count();
        let answer = self.operator.send(command, DEADLINE).await?;
        let Acked::Refused(why) = answer.acked else { bail!("the broker took the command: {answer:?}") };
        let rejected = |record: &Record| {
            record.stream == REJECTED
                && payload(record).is_some_and(|text| text == command.payload)
                && record.json().is_ok_and(|value| value["reason"] == reason)
        };
        let (record, _) = self.records.find(from, "the refusal", DEADLINE, rejected).await?;
        say(&format!("The broker answers: {why}"));
        happened_at_ms(&record)
    }

    /// Sends a command, and waits for the answer that it must get and for both records; returns the
    /// answer, and when the broker had it.
    pub(super) async fn command(
        &mut self,
        command: &Command,
        result: &str,
        error: Option<u64>,
    ) -> anyhow::Result<(Report, u64)> {
        let from = self.records.count();
        let answer = self.operator.send(command, DEADLINE).await?;
        let Acked::After(_) = answer.acked else { bail!("the broker did not take the command: {answer:?}") };
        let (after, report) = answer.report.context("the lock did not answer")?;
        ensure!(
            (report.result.as_deref(), report.error) == (Some(result), error),
            "the lock should have said {result}: {report:?}"
        );
        self.figures.add(Span::Answered, after);
        let delivered = |record: &Record| {
            record.stream == COMMANDS && payload(record).is_some_and(|text| text == command.payload)
        };
        let answered = |record: &Record| {
            reported(record, &command.lock)
                .is_some_and(|r| r.process_id == command.process_id && r.result.as_deref() == Some(result))
        };
        self.records.find(from, "the command", DEADLINE, delivered).await?;
        let (record, _): At<Record> = self.records.find(from, "the answer", DEADLINE, answered).await?;
        say(&format!("The lock answers after {}: {}", in_words(after), show::report(&report)));
        Ok((report, happened_at_ms(&record)?))
    }
}

/// Whether a notification tells the result of this command.
pub(super) fn result_of(command: &Command) -> impl Fn(&Notification) -> bool {
    |one| one.process_id.as_ref() == Some(&command.process_id) && one.alarm_id.is_none()
}

//! A battery runs down, and a bolt jams.

use anyhow::{Context, ensure};
use latchline_shared::command::Action;

use super::commands::result_of;
use super::{DEADLINE, Story, happened_at_ms, reported};
use crate::demo::cast::{CELLAR, GARDEN_GATE};
use crate::demo::figures::Span;
use crate::demo::screen::{heading, proved, say};
use crate::kafka::reader::Record;
use crate::lock::state::Change;
use crate::operator::Command;
use crate::show;

/// Charges of a battery that wants to be changed: the monitor believes it when it was said three times.
const LOW_BATTERY: [f64; 3] = [19.6, 19.5, 19.4];

impl Story<'_> {
    pub(super) async fn battery(&mut self) -> anyhow::Result<()> {
        heading("5  The battery of the cellar door runs down");
        say("20 % or less in three reports is an alarm; one low report may be the cold.");
        let mut at_ms = 0;
        for percent in LOW_BATTERY {
            let from = self.records.count();
            self.change(&CELLAR)?.send(Change::Battery(percent)).await.context("the lock has ended")?;
            let low = |record: &Record| reported(record, CELLAR.id).is_some_and(|r| r.battery == percent);
            let (record, _) = self.records.find(from, "the report of a low battery", DEADLINE, low).await?;
            at_ms = happened_at_ms(&record)?;
        }
        self.raised(&CELLAR, "battery_low", Span::Raised, at_ms).await?;
        self.told(&CELLAR, "battery_low", at_ms, |one| one.event_type == "battery_low").await?;
        proved("the owner knows before the battery is empty");
        Ok(())
    }

    pub(super) async fn jam(&mut self) -> anyhow::Result<()> {
        heading("6  The bolt of the garden gate jams");
        let from = self.records.count();
        self.change(&GARDEN_GATE)?.send(Change::Jam).await.context("the lock has ended")?;
        let jammed = |record: &Record| reported(record, GARDEN_GATE.id).is_some_and(|r| r.lock_state == 2);
        let (record, _) = self.records.find(from, "the report of a jam", DEADLINE, jammed).await?;
        let at_ms = happened_at_ms(&record)?;
        self.raised(&GARDEN_GATE, "lock_fault", Span::Raised, at_ms).await?;
        self.told(&GARDEN_GATE, "lock_fault", at_ms, |one| one.event_type == "lock_fault").await?;
        proved("a critical alarm: the owner has a mail and an SMS");
        say("The operator tries to unlock it all the same:");
        let command = Command::sign(&self.site.secrets.master, GARDEN_GATE.id, Action::Unlock)?;
        let (report, at_ms) = self.command(&command, "failed", Some(0)).await?;
        ensure!(report.lock_state == 2, "the lock is {}", show::state_name(report.lock_state));
        self.told(&GARDEN_GATE, "the failure", at_ms, result_of(&command)).await?;
        proved("the command was right and the lock tried; the failure is told and on record");
        Ok(())
    }
}

//! The whole system under load while faults strike it one after the other, and the account at the end.
//!
//! Between two faults everybody is over the one before (`checker::recovery`), so that each can be told
//! from the next in the logs, and its warnings are announced for no longer than it takes.

pub mod schedule;
pub mod trial;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use latchline_shared::kit::testing::Seed;
use tokio::time::Instant;

use crate::chaos::schedule::Means;
use crate::chaos::trial::Trial;
use crate::checker::account::{Account, Loss};
use crate::checker::fault::Fault;
use crate::checker::gather::{gather, settle};
use crate::checker::recovery::{Positions, recovered};
use crate::checker::traffic::{Plan, Traffic};
use crate::stack::ground::Ground;
use crate::stack::notifier::User;
use crate::stack::whole::{Whole, Wishes};

/// The traffic meanwhile.
const PLAN: Plan = Plan {
    locks: 40,
    report_every: Duration::from_millis(400),
    operators: 2,
    command_every: Duration::from_millis(150),
    breaks_per_mille: 10,
};
/// Messages that are acknowledged between two faults.
const BETWEEN: u64 = 300;
/// Longest wait for something that takes seconds on a machine with nothing else to do.
const DEADLINE: Duration = Duration::from_secs(60);
/// Whoever is killed and comes back under its name has its partitions at once.
const INSTANCE: (&str, &str) = ("consumer.instance_id", "one");
/// Kafka takes half a minute to start on a busy machine. What the broker holds back for longer than this
/// is missed early (docs/auditor.md, what is not promised): with the 30 s of the default it is, with
/// this nothing may be.
const PATIENT_JUDGE: (&str, &str) = ("judge.result_timeout_ms", "300000");

/// A system under load.
pub struct Chaos {
    whole: Whole,
    traffic: Traffic,
    begun: Instant,
    trials: Vec<Trial>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub trials: Vec<Trial>,
    /// What was promised against what is there.
    pub account: Account,
    /// Why the programs did not end as they should, if they did not.
    pub bad_end: Option<String>,
    /// The whole time.
    pub lasted: Duration,
}

impl Chaos {
    /// Starts everything on this ground; the system works when this returns.
    pub async fn start(ground: Ground, seed: Seed) -> anyhow::Result<Self> {
        let whole = start(ground).await?;
        let traffic = Traffic::start(&whole.site()?, PLAN, seed).await?;
        traffic.progress(BETWEEN, DEADLINE).await?;
        Ok(Self { whole, traffic, begun: Instant::now(), trials: Vec::new() })
    }

    /// What can be done to it beside kills, stops and pauses.
    pub fn means(&self) -> Means {
        Means { disks: self.whole.disks.is_some(), clocks: self.whole.clocks.is_some() }
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Lets something happen, mends it, and waits until everybody is over it. What was announced and said
    /// is told, for people.
    pub async fn undergo(&mut self, trial: Trial) -> anyhow::Result<String> {
        self.trials.push(trial);
        let begun = self.elapsed();
        let said = self.through(trial).await.with_context(|| format!("{trial:?} after {begun:.1?}"))?;
        Ok(format!("{trial:?} after {begun:.1?}, over after {:.1?}, said: {said}", self.elapsed()))
    }

    async fn through(&mut self, trial: Trial) -> anyhow::Result<String> {
        trial.run(&mut self.whole, &self.traffic.ledger).await?;
        let mended = Positions::of(&self.whole).await?;
        self.traffic.progress(BETWEEN, DEADLINE).await?;
        recovered(&self.whole, mended, DEADLINE).await?;
        let said = Fault::is_over(&mut self.whole)?;
        let said = said.iter().map(|(part, lines)| format!("{part} {lines}"));
        Ok(said.collect::<Vec<_>>().join(", "))
    }

    /// Writes what the programs have said into files of this folder, for whoever looks for a cause.
    pub fn write_logs(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let Whole { notifier, monitor, audit, stack, .. } = &self.whole;
        for (name, program) in [
            ("broker", &stack.broker),
            ("auditor", &audit.auditor),
            ("monitor", &monitor.monitor),
            ("notifier", &notifier.notifier),
        ] {
            let file = folder.join(format!("{name}.log"));
            std::fs::write(&file, program.lines().join("\n"))
                .with_context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    /// Ends the traffic, waits until everything is at rest, accounts for each promise, and ends the programs.
    pub async fn account(&mut self) -> anyhow::Result<Outcome> {
        let ledger = self.traffic.end().await?;
        settle(&self.whole, DEADLINE).await?;
        let account = Account::of(&ledger.book(), &gather(&self.whole).await?);
        // The account is worth reading whatever they say at the end.
        let bad_end = self.whole.stop().await.err().map(|error| format!("{error:#}"));
        Ok(Outcome { trials: self.trials.clone(), account, bad_end, lasted: self.begun.elapsed() })
    }

    /// What was done until something went wrong, as data.
    pub fn failure(&self, error: &anyhow::Error) -> serde_json::Value {
        serde_json::json!({
            "seconds": self.elapsed().as_secs(),
            "trials": self.trials,
            "failed": format!("{error:#}"),
            "kept": false,
        })
    }
}

impl Outcome {
    /// An error unless a fault has struck, every promise was kept, no end of the broker excuses more than
    /// it explains, and all programs ended in order.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.trials.is_empty(), "no fault has struck: nothing was tried");
        ensure!(self.account.is_clean(), "promises were broken: {}", self.account.broken_in_words());
        for loss in self.account.losses() {
            ensure!(loss.is_explained(), "too much is excused by an end of the broker: {loss:?}");
        }
        if let Some(bad_end) = &self.bad_end {
            bail!("{bad_end}");
        }
        Ok(())
    }

    /// What was lost, for people; to be said of what passes [`Outcome::check`].
    pub fn lost(&self) -> String {
        let sum = |count: fn(&Loss) -> u64| self.account.losses().iter().map(count).sum::<u64>();
        match self.account.excused() {
            0 => "lost = 0".to_owned(),
            excused => format!(
                "lost = 0 beyond docs/limits.md; {excused} excused by it, in the memory of brokers that ended: \
                 {} acknowledged commands, {} receipts",
                sum(|loss| loss.commands),
                sum(|loss| loss.receipts),
            ),
        }
    }

    /// As data.
    pub fn json(&self) -> serde_json::Value {
        let figures: serde_json::Map<_, _> = self
            .account
            .figures()
            .iter()
            .map(|(name, count)| ((*name).to_owned(), (*count).into()))
            .collect();
        serde_json::json!({
            "seconds": self.lasted.as_secs(),
            "trials": self.trials,
            "figures": figures,
            "excused": self.account.excused(),
            "losses": self.account.losses(),
            "failed": self.check().err().map(|error| format!("{error:#}")),
            "kept": self.check().is_ok(),
        })
    }
}

async fn start(ground: Ground) -> anyhow::Result<Whole> {
    let owner = User { id: "owner".to_owned(), phone: 9_012_345_678, locks: vec!["*".to_owned()] };
    let wishes = Wishes {
        users: &[owner],
        auditor: &[INSTANCE, PATIENT_JUDGE],
        monitor: &[INSTANCE],
        notifier: &[
            INSTANCE,
            // A lease is as long as an attempt may take, and what failed is tried again soon.
            ("email.send_timeout_ms", "2000"),
            ("retry.base_ms", "100"),
            ("retry.cap_ms", "1000"),
            ("retry.breaker_open_ms", "500"),
        ],
        ..Wishes::default()
    };
    Whole::start_on(ground, wishes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::evidence::Evidence;
    use crate::checker::ledger::{Book, Outage, Part, Said, Sent, Way};

    /// So many commands were acknowledged and never came, so many receipts are not stored, and the broker
    /// was killed.
    fn outcome(commands: u64, receipts: u64) -> Outcome {
        let sent = |n: u64| Sent {
            lock: "a".to_owned(),
            payload: format!("{n}").into(),
            at_ms: 9_900,
            times: 1,
            said: Said::Acked,
            received: u32::from(n >= commands),
            receipt_ms: (n >= commands).then_some(9_950),
        };
        let (way, until_ms) = (Way::Suddenly, Some(11_000));
        let book = Book {
            commands: (0..commands + receipts).map(|n| (n.to_string(), sent(n))).collect(),
            outages: vec![Outage { part: Part::Broker, way, from_ms: 10_000, until_ms }],
            ..Book::default()
        };
        Outcome {
            trials: vec![Trial::Alone(Fault::Killed(Part::Broker))],
            account: Account::of(&book, &Evidence::default()),
            bad_end: None,
            lasted: Duration::ZERO,
        }
    }

    #[test]
    fn what_is_excused_is_said() {
        assert_eq!(outcome(0, 0).lost(), "lost = 0");
        let some = outcome(2, 3);
        some.check().unwrap();
        let said = some.lost();
        for part in ["beyond docs/limits.md", "5 excused", "2 acknowledged commands", "3 receipts"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn what_was_not_tried_has_not_passed() {
        let nothing = Outcome { trials: Vec::new(), ..outcome(0, 0) };
        assert!(nothing.check().is_err());
        assert_eq!(nothing.json()["kept"], false);
        assert!(outcome(0, 41).check().is_err());
        let bad_end = Outcome { bad_end: Some("the broker ended with 1".to_owned()), ..outcome(0, 0) };
        assert!(bad_end.check().is_err());
        outcome(0, 0).check().unwrap();
    }
}

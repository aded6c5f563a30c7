//! Locks that report, and operators that command them, over connections that break by themselves now
//! and then, for as long as wanted. Each does what a correct QoS 1 client does: it comes back, and
//! sends again with DUP what was not acknowledged. What they are promised goes into the [`Ledger`].
//!
//! Ordering at the end: operators first, until each of their commands was answered; then the locks,
//! until each of their reports was acknowledged. So what was promised is complete.

mod lock;
mod operator;
mod window;

use std::time::Duration;

use anyhow::{Context, bail};
use latchline_shared::kit::testing::{Random, Seed};
use latchline_shared::message::Protocol;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::checker::ledger::{Ledger, Said};
use crate::site::Site;

/// How long a client that cannot connect waits before it tries again.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long the last messages may take.
const END_DEADLINE: Duration = Duration::from_secs(60);
/// How long a command may take from the broker to its lock.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of the lock that the contract's sample is about.
const FIRST_LOCK: u64 = 10_083_618_796_833_171;

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of locks.
    pub locks: u64,
    /// From one report of a lock to its next, on average.
    pub report_every: Duration,
    /// Number of operators.
    pub operators: u64,
    /// From one command of an operator to its next, on average.
    pub command_every: Duration,
    /// Of 1,000 packets of a client, how many are followed by the end of its connection.
    pub breaks_per_mille: u64,
}

/// Everybody who is on the wire.
pub struct Traffic {
    /// What they are promised.
    pub ledger: Ledger,
    locks: JoinSet<anyhow::Result<()>>,
    operators: JoinSet<anyhow::Result<()>>,
    stop_locks: CancellationToken,
    stop_operators: CancellationToken,
}

impl Traffic {
    /// Starts everybody; every lock is subscribed when this returns.
    pub async fn start(site: &Site, plan: Plan, seed: Seed) -> anyhow::Result<Self> {
        let mut random = Random::new(seed);
        let mut traffic = Self {
            ledger: Ledger::default(),
            locks: JoinSet::new(),
            operators: JoinSet::new(),
            stop_locks: CancellationToken::new(),
            stop_operators: CancellationToken::new(),
        };
        for n in 0..plan.locks {
            let id = (FIRST_LOCK + n).to_string();
            let protocol = if n % 2 == 0 { Protocol::V3 } else { Protocol::V5 };
            let habits = Habits::of(plan.report_every, plan, &mut random, &traffic.stop_locks);
            let ledger = traffic.ledger.clone();
            traffic.locks.spawn(lock::Lock::new(site, id, protocol, ledger, habits).run());
        }
        let all = usize::try_from(plan.locks)?;
        eventually(END_DEADLINE, || traffic.ledger.listeners().len() == all)
            .await
            .context("every lock is subscribed")?;
        for _ in 0..plan.operators {
            let habits = Habits::of(plan.command_every, plan, &mut random, &traffic.stop_operators);
            let ledger = traffic.ledger.clone();
            traffic.operators.spawn(operator::Operator::new(site, ledger, habits)?.run());
        }
        Ok(traffic)
    }

    /// Waits until so much more was acknowledged: the system works.
    pub async fn progress(&self, more: u64, deadline: Duration) -> anyhow::Result<()> {
        let (acked, receipts) = self.ledger.progress();
        let (acked, receipts) = (acked + more, receipts + more.div_ceil(20));
        let is_reached = || {
            let now = self.ledger.progress();
            now.0 >= acked && now.1 >= receipts
        };
        eventually(deadline, is_reached)
            .await
            .with_context(|| format!("{more} more messages are acknowledged"))
    }

    /// Ends everybody in order; the ledger is complete then.
    pub async fn end(&mut self) -> anyhow::Result<Ledger> {
        self.stop_operators.cancel();
        joined(&mut self.operators).await.context("operators end")?;
        // What does not come is found by the account, which can say more of it.
        let _ = eventually(DELIVERY_DEADLINE, || all_received(&self.ledger)).await;
        self.stop_locks.cancel();
        joined(&mut self.locks).await.context("locks end")?;
        Ok(self.ledger.clone())
    }
}

fn all_received(ledger: &Ledger) -> bool {
    let book = ledger.book();
    let mut acked = book.commands.values().filter(|command| command.said == Said::Acked);
    acked.all(|command| command.received > 0 || book.end_that_lost(command).is_some())
}

async fn joined(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    };
    timeout(END_DEADLINE, all).await.with_context(|| format!("not all have ended after {END_DEADLINE:?}"))?
}

async fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let until = Instant::now() + deadline;
    while !condition() {
        if Instant::now() >= until {
            bail!("not within {deadline:?}");
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// How a client behaves.
struct Habits {
    every: Duration,
    breaks_per_mille: u64,
    random: Random,
    stop: CancellationToken,
}

impl Habits {
    fn of(every: Duration, plan: Plan, random: &mut Random, stop: &CancellationToken) -> Self {
        let random = Random::new(Seed(random.number()));
        Self { every, breaks_per_mille: plan.breaks_per_mille, random, stop: stop.clone() }
    }

    /// When the next message is due.
    fn next(&mut self) -> Instant {
        let twice_ms = u64::try_from(2 * self.every.as_millis()).unwrap_or(u64::MAX);
        Instant::now() + Duration::from_millis(self.random.below(twice_ms + 1))
    }

    /// Whether the connection ends now.
    fn breaks(&mut self) -> bool {
        self.random.below(1_000) < self.breaks_per_mille
    }
}

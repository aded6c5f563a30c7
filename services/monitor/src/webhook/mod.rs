//! Changes of alarms to a webhook, in the form that Alertmanager sends (version 4).
//!
//! Rows of the table `webhook` are written with the change that they tell of. A step takes the
//! oldest under a lease ([`queue`]), sends them as one group ([`payload`], [`send`]), and removes
//! them, or says when they are tried again.
//!
//! Guarantees: what was committed is sent at least once, unless the receiver refuses it for good or
//! takes nothing for `age_max_s`; both are counted and an ERROR. What is sent first is what was
//! written first: while a batch is under way or waits for its next attempt, nothing behind it is
//! sent, by whichever instance. So "resolved" never comes before its "firing".
//! Non-guarantee: after a crash, or an answer that got lost, the same alerts come again.

pub mod metrics;
pub mod payload;
pub mod queue;
pub mod send;
pub mod settings;

use std::hash::BuildHasher;
use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::Pool;
use latchline_shared::fault::Fault;
use latchline_shared::kit::retry;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::metrics::{Metrics, Outcome};
use self::queue::Row;
use self::send::{Answer, Sender};
use self::settings::Settings;

/// How often is looked for rows though nobody says that there are some.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the backlog is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// How much longer a lease is than an attempt can take.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Sends what is in the table.
pub struct Worker {
    pool: Pool,
    settings: Settings,
    sender: Sender,
    metrics: Metrics,
    commits: watch::Receiver<u64>,
    /// Alerts that are sent one by one, because together they were refused.
    singles: usize,
    is_failing: bool,
    has_dropped: bool,
    measure_at: Instant,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There may be more.
    Went,
    /// There is nothing to send now.
    Idle,
}

impl Worker {
    /// A worker; `None` if there is no webhook. `pool` has the schema in its search path; `commits`
    /// changes when rows may have been written.
    pub fn new(
        settings: Settings,
        pool: Pool,
        metrics: Metrics,
        commits: watch::Receiver<u64>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(sender) = Sender::new(&settings).context("webhook")? else { return Ok(None) };
        Ok(Some(Self {
            pool,
            settings,
            sender,
            metrics,
            commits,
            singles: 0,
            is_failing: false,
            has_dropped: false,
            measure_at: Instant::now(),
        }))
    }

    /// Sends until the token is cancelled.
    pub async fn run(mut self, token: CancellationToken) -> anyhow::Result<()> {
        // Cancel safety: a lease that nobody ends ends by itself.
        token.run_until_cancelled(self.go()).await.unwrap_or(Ok(()))
    }

    async fn go(&mut self) -> anyhow::Result<()> {
        let mut attempt = 0;
        loop {
            match self.step().await {
                Ok(Step::Went) => attempt = 0,
                Ok(Step::Idle) => {
                    attempt = 0;
                    self.news().await;
                }
                Err(Fault::Bug(why)) => anyhow::bail!("webhook: {why}"),
                Err(fault) => {
                    if attempt == 0 {
                        warn!(error = %fault, "the queue of the webhook cannot be read");
                    }
                    sleep(retry::pause(attempt, random(attempt))).await;
                    attempt += 1;
                }
            }
        }
    }

    /// Waits until there may be rows.
    async fn news(&mut self) {
        let changed = async {
            if self.commits.changed().await.is_err() {
                // Nobody says so any more.
                std::future::pending::<()>().await;
            }
        };
        // Cancel safety: a commit that is missed is seen within a second.
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = changed => {}
        }
    }

    /// One batch.
    pub async fn step(&mut self) -> Result<Step, Fault> {
        if self.measure_at <= Instant::now() {
            self.metrics.backlog(&queue::backlog(&self.pool).await?);
            self.measure_at = Instant::now() + MEASURE_EVERY;
        }
        let rows_max = if self.singles > 0 { 1 } else { self.settings.batch_max };
        let lease = self.settings.timeout + LEASE_MARGIN;
        let rows = queue::take(&self.pool, rows_max, lease).await?;
        if rows.is_empty() {
            return Ok(Step::Idle);
        }
        let answer = self.sender.send(&rows).await;
        self.settle(&rows, answer).await?;
        self.singles = self.singles.saturating_sub(1);
        Ok(Step::Went)
    }

    /// Does with the rows what the answer asks for.
    async fn settle(&mut self, rows: &[Row], answer: Answer) -> Result<(), Fault> {
        match answer {
            Answer::Taken { status } => {
                queue::remove(&self.pool, rows).await?;
                self.metrics.count(Outcome::Delivered, status, rows.len());
                if self.is_failing || self.has_dropped {
                    info!("the webhook takes alerts again");
                }
                (self.is_failing, self.has_dropped) = (false, false);
            }
            Answer::Refused { status } if rows.len() > 1 => {
                // One of them may be to blame, and the others shall arrive. One more, because this
                // step counts, too.
                self.singles = rows.len() + 1;
                queue::wait(&self.pool, rows, Duration::ZERO).await?;
                self.metrics.count(Outcome::Retried, status, rows.len());
            }
            Answer::Refused { status } => {
                queue::remove(&self.pool, rows).await?;
                self.metrics.count(Outcome::Refused, status, rows.len());
                self.drops(&format!("the receiver refuses them with status {status}"));
            }
            Answer::Failed { status, after, why } => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(error = why, "the webhook does not take alerts; they wait");
                }
                let (old, young) = self.by_age(rows);
                if !old.is_empty() {
                    queue::remove(&self.pool, old).await?;
                    self.metrics.count(Outcome::Expired, status, old.len());
                    self.drops(&format!("the receiver has taken none for too long: {why}"));
                }
                let attempts = rows.iter().map(|row| row.attempts).min().unwrap_or_default();
                queue::wait(&self.pool, young, self.delay(attempts, after)).await?;
                self.metrics.count(Outcome::Retried, status, young.len());
            }
        }
        Ok(())
    }

    /// Those that are too old, and the others. Rows are in the order in which they were written.
    fn by_age<'a>(&self, rows: &'a [Row]) -> (&'a [Row], &'a [Row]) {
        rows.split_at(rows.partition_point(|row| row.age >= self.settings.age_max))
    }

    /// How long to wait after so many attempts: from the base to twice as much for each attempt, at
    /// most the most; anywhere in between, so that those who failed together do not come back all
    /// at once. What the receiver asked for counts more.
    fn delay(&self, attempts: i32, after: Option<Duration>) -> Duration {
        let Settings { retry_base, retry_max, .. } = self.settings;
        let doublings = u32::try_from(attempts).unwrap_or_default().min(30);
        let most = retry_base.saturating_mul(1 << doublings).min(retry_max);
        let share = (random(doublings) >> 32) as f64 / f64::from(u32::MAX);
        let delay = retry_base + most.saturating_sub(retry_base).mul_f64(share);
        delay.max(after.unwrap_or_default().min(settings::RETRY_AFTER_MAX))
    }

    /// Says once that alerts are dropped; how many is counted.
    fn drops(&mut self, why: &str) {
        if !std::mem::replace(&mut self.has_dropped, true) {
            error!(error = why, "alerts for the webhook are dropped");
        }
    }
}

fn random(seed: u32) -> u64 {
    std::hash::RandomState::new().hash_one(seed)
}

#[cfg(test)]
mod tests;

//! What is done by the clock: attempts whose end nobody wrote down, rows that are too old, measures.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::fault::Fault;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::attempt::random;
use super::desk::Seen;
use super::metrics::Metrics;
use super::policy::{Tried, verdict};
use super::queue::backlog::backlog;
use super::queue::recover::{self, EXPIRED_MAX, ROWS_MAX};
use super::settings::Settings;
use crate::event::Channel;
use crate::status::Status;

/// How often is looked for attempts whose lease ran out, and the backlog measured.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often is looked for rows that are too old: those that are leased are found anyway.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);
/// Most statements of that before something else has its turn.
const EXPIRE_STEPS_MAX: usize = 10;

/// Whether a provider of a channel recognises a second copy.
pub type Resends = Arc<dyn Fn(Channel, &str) -> bool + Send + Sync>;

/// Says how providers are doing now.
pub type Watch = Arc<dyn Fn() -> Vec<Seen> + Send + Sync>;

/// Does it.
pub struct Keeper {
    /// The tables.
    pub pool: Pool,
    /// From one attempt to the next.
    pub settings: Settings,
    /// Counts.
    pub metrics: Metrics,
    /// Whether a provider of a channel recognises a second copy.
    pub resends: Resends,
    /// How providers are doing.
    pub watch: Watch,
}

impl Keeper {
    /// Works until the token is cancelled.
    pub async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        // Cancel safety: each step is a transaction.
        token.run_until_cancelled(self.go()).await.unwrap_or(Ok(()))
    }

    async fn go(&self) -> anyhow::Result<()> {
        let mut is_failing = false;
        let mut expire_at = Instant::now();
        loop {
            let is_more = match self.step(&mut expire_at).await {
                Ok(is_more) => {
                    is_failing = false;
                    is_more
                }
                Err(Fault::Bug(why)) => anyhow::bail!("delivery: {why}"),
                Err(fault) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(error = %fault, "delivery cannot be looked after");
                    }
                    false
                }
            };
            if !is_more {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Whether there is more to do at once.
    async fn step(&self, expire_at: &mut Instant) -> Result<bool, Fault> {
        self.metrics.seen(&(self.watch)());
        self.recover().await?;
        let mut is_more = false;
        if *expire_at <= Instant::now() {
            is_more = self.expire().await?;
            if !is_more {
                *expire_at = Instant::now() + EXPIRE_EVERY;
            }
        }
        self.metrics.waits(&backlog(&self.pool).await?);
        Ok(is_more)
    }

    /// Settles attempts whose lease ran out.
    pub(super) async fn recover(&self) -> Result<(), Fault> {
        loop {
            let settled = recover::leases(&self.pool, |lost, answer| {
                let is_resent = lost.is_critical || (self.resends)(lost.channel, &lost.provider);
                verdict(&self.settings, Tried { is_resent, ..lost.tried }, answer, random())
            });
            let settled = settled.await?;
            for (channel, status) in &settled {
                self.metrics.lost(*channel);
                self.metrics.ended(*channel, *status, 1);
            }
            if !settled.is_empty() {
                info!(attempts = settled.len(), "attempts whose end nobody wrote down were settled");
            }
            if settled.len() < ROWS_MAX {
                return Ok(());
            }
        }
    }

    /// Ends what is too old; whether there may be more. After a long outage there may be very much, and
    /// the rest is not to wait for it.
    pub(super) async fn expire(&self) -> Result<bool, Fault> {
        for _ in 0..EXPIRE_STEPS_MAX {
            let ended = recover::expired(&self.pool).await?;
            for (channel, count) in &ended {
                self.metrics.ended(*channel, Status::Expired, *count);
            }
            if ended.iter().map(|(_, count)| count).sum::<usize>() < EXPIRED_MAX {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

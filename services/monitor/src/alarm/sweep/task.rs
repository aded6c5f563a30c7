//! The task that sweeps.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use deadpool_postgres::Pool;
use latchline_shared::kit::clock;
use latchline_shared::kit::http::readiness::Condition;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::metrics::Metrics;
use super::{Context, SweepSettings, Swept, prune, sweep};
use crate::rule::threshold::Fleet;

const SWEEP_EVERY: Duration = Duration::from_secs(1);
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Sweeps as long as the process runs.
pub struct Sweeper {
    pool: Pool,
    context: Context,
    fleet: Box<dyn Fn() -> Fleet + Send + Sync>,
    metrics: Arc<Metrics>,
    counted_at: Option<Instant>,
}

impl Sweeper {
    /// With the service's connections. `fleet` gives the thresholds that are in force.
    pub fn new(
        pool: Pool,
        context: Context,
        fleet: impl Fn() -> Fleet + Send + Sync + 'static,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { pool, context, fleet: Box::new(fleet), metrics, counted_at: None }
    }

    /// Runs until the token is cancelled. The condition says whether alarms are looked at.
    pub async fn run(mut self, token: CancellationToken, condition: Condition) -> anyhow::Result<()> {
        let mut is_failing = false;
        while !token.is_cancelled() {
            let now_ms = i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX);
            match self.step(now_ms).await {
                Ok(_) => {
                    condition.ready();
                    if std::mem::take(&mut is_failing) {
                        info!("alarms are looked at again");
                    }
                }
                Err(error) => {
                    condition.not_ready(format!("postgres: alarms are not looked at: {error:#}"));
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(error = format!("{error:#}"), "alarms are not looked at");
                    }
                }
            }
            // Cancel safety: neither keeps a state.
            tokio::select! {
                () = token.cancelled() => {}
                () = sleep(SWEEP_EVERY) => {}
            }
        }
        Ok(())
    }

    /// Sweeps once, and counts open alarms now and then.
    pub async fn step(&mut self, now_ms: i64) -> anyhow::Result<Swept> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let settings = SweepSettings { context: self.context.clone(), fleet: (self.fleet)() };
        let swept = sweep(&transaction, &settings, now_ms).await?;
        transaction.commit().await?;
        self.metrics.count(&swept.applied);
        if swept.is_ours {
            // By itself: if it fails, nothing else does.
            let transaction = client.transaction().await?;
            prune::prune(&transaction, now_ms).await.context("remove what is old")?;
            transaction.commit().await?;
        }
        if self.counted_at.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            self.metrics.look(&**client).await?;
            self.counted_at = Some(Instant::now());
        }
        Ok(swept)
    }
}

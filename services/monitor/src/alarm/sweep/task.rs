//! The task that sweeps.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::kit::clock;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::metrics::Metrics;
use super::{Context, SweepSettings, Swept, sweep};
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

    /// Runs until the token is cancelled.
    pub async fn run(mut self, token: CancellationToken) -> anyhow::Result<()> {
        let mut is_failing = false;
        while !token.is_cancelled() {
            let now_ms = i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX);
            match self.step(now_ms).await {
                Ok(_) if is_failing => {
                    info!("alarms are looked at again");
                    is_failing = false;
                }
                Err(error) if !is_failing => {
                    warn!(error = format!("{error:#}"), "alarms are not looked at");
                    is_failing = true;
                }
                Ok(_) | Err(_) => {}
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
        if self.counted_at.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            self.metrics.look(&**client).await?;
            self.counted_at = Some(Instant::now());
        }
        Ok(swept)
    }
}

//! The task that makes digests.

use std::fmt::Display;
use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::kit::http::readiness::Condition;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::metrics::Metrics;
use super::step;

const STEP_EVERY: Duration = Duration::from_secs(1);

/// Makes digests until the token is cancelled. The condition says whether it can.
pub async fn run(
    pool: Pool,
    metrics: Metrics,
    token: CancellationToken,
    condition: Condition,
) -> anyhow::Result<()> {
    let mut is_failing = false;
    while !token.is_cancelled() {
        // Cancel safety: a step that is given up is rolled back.
        let Some(made) = token.run_until_cancelled(step(&pool)).await else { break };
        let is_more = match made {
            Ok(made) => {
                metrics.count(&made);
                condition.ready();
                match &made.error {
                    Some(error) => warn_once(&mut is_failing, error),
                    None if std::mem::take(&mut is_failing) => info!("digests are made again"),
                    None => {}
                }
                made.is_more
            }
            Err(error) => {
                condition.not_ready(format!("postgres: digests are not made: {error}"));
                warn_once(&mut is_failing, &error);
                false
            }
        };
        if !is_more {
            token.run_until_cancelled(sleep(STEP_EVERY)).await;
        }
    }
    Ok(())
}

fn warn_once(is_failing: &mut bool, error: &dyn Display) {
    if !std::mem::replace(is_failing, true) {
        warn!(%error, "digests are not made");
    }
}

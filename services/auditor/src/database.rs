//! The schema at the start of the process: brought up to date, or at least looked at, before
//! anything is read. A server that is away is waited for.

use std::time::Duration;

use anyhow::Context;
use latchline_shared::fault::Fault;
use latchline_shared::kit::http::readiness::Condition;
use latchline_shared::kit::postgres::migrate::{is_current, migrate};
use latchline_shared::kit::postgres::{Postgres, fault};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::migrations::{MIGRATIONS, SCHEMA};
use crate::settings::Database;

const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Waits until the schema is as this program needs it, and says meanwhile why it is not; false if
/// the process ends before.
pub async fn prepare(
    database: &Database,
    condition: &Condition,
    token: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut is_waiting = false;
    loop {
        let why = match attempt(database).await {
            Ok(()) => break,
            Err(error) => transient(&error).ok_or(error)?,
        };
        if !is_waiting {
            warn!(error = why, "postgres is waited for");
            is_waiting = true;
        }
        condition.not_ready(format!("postgres: {why}"));
        if token.run_until_cancelled(sleep(RETRY_DELAY)).await.is_none() {
            return Ok(false);
        }
    }
    if is_waiting {
        info!("postgres is there");
    }
    Ok(true)
}

/// Brings the schema up to date, as the login, which must own it.
pub async fn migrate_now(postgres: &Postgres) -> anyhow::Result<usize> {
    let mut client =
        postgres.pool("latchline-auditor migration", None)?.get().await.context("connect to postgres")?;
    migrate(&mut client, SCHEMA, MIGRATIONS).await
}

async fn attempt(database: &Database) -> anyhow::Result<()> {
    if database.migrate {
        migrate_now(&database.server).await?;
        return Ok(());
    }
    let pool = database.server.pool("latchline-auditor", None)?;
    is_current(&*pool.get().await.context("connect to postgres")?, SCHEMA, MIGRATIONS).await
}

/// Why it may work later, if it may.
fn transient(error: &anyhow::Error) -> Option<String> {
    let of_pool = error.downcast_ref::<deadpool_postgres::PoolError>().map(fault::of_pool);
    let fault = of_pool.or_else(|| error.downcast_ref::<tokio_postgres::Error>().map(fault::of))?;
    match fault {
        Fault::Transient { why, .. } => Some(why.into_owned()),
        Fault::Permanent(_) | Fault::Bug(_) => None,
    }
}

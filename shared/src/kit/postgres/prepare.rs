//! The schema at the start of a service: brought up to date, or at least looked at, before anything
//! is read. A server that is away is waited for.

use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::migrate::{self, Migration, is_current};
use super::{Postgres, fault};
use crate::fault::Fault;
use crate::kit::http::readiness::Condition;

const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The `[postgres]` table of a service: the server, and who brings the schema up to date.
#[derive(Debug, Clone, Deserialize)]
pub struct Database {
    /// The server.
    #[serde(flatten)]
    pub server: Postgres,
    /// Whether the process migrates at its start.
    pub migrate: bool,
}

/// A schema, and how it comes to be.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// All of its migrations, in order.
    pub migrations: &'static [Migration],
    /// Name of the program, which Postgres shows for its connections.
    pub application: &'static str,
}

impl Schema {
    /// Brings the schema up to date, as the login, which must own it. Returns how many migrations
    /// were applied.
    pub async fn migrate(&self, postgres: &Postgres) -> anyhow::Result<usize> {
        let pool = postgres.pool(&format!("{} migration", self.application), None)?;
        let mut client = pool.get().await.context("connect to postgres")?;
        migrate::migrate(&mut client, self.name, self.migrations).await
    }

    /// Waits until the schema is as this program needs it, and says meanwhile why it is not; false
    /// if the process ends before.
    pub async fn prepare(
        &self,
        database: &Database,
        condition: &Condition,
        token: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let mut is_waiting = false;
        loop {
            let why = match self.attempt(database).await {
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

    async fn attempt(&self, database: &Database) -> anyhow::Result<()> {
        if database.migrate {
            return self.migrate(&database.server).await.map(drop);
        }
        let pool = database.server.pool(self.application, None)?;
        is_current(&*pool.get().await.context("connect to postgres")?, self.name, self.migrations).await
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::http::readiness::Readiness;
    use crate::kit::postgres::development::DevelopmentPostgres;
    use crate::kit::postgres::testing;
    use crate::kit::testing::eventually;

    const LAB: Schema = Schema {
        name: "lab",
        migrations: &[Migration { name: "0001_lab", sql: "create table a (n int)" }],
        application: "lab",
    };

    async fn prepare(server: Postgres, migrate: bool) -> anyhow::Result<bool> {
        let condition = Readiness::new().condition("schema", "not yet");
        let database = Database { server, migrate };
        LAB.prepare(&database, &condition, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn who_may_not_migrate_needs_a_schema_that_is_there() {
        let server = testing::database().await.unwrap();
        assert!(prepare(server.clone(), false).await.is_err());
        assert!(prepare(server.clone(), true).await.unwrap());
        assert!(prepare(server.clone(), false).await.unwrap());
        assert_eq!(LAB.migrate(&server).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_waited_for_and_says_so() {
        let mut server = DevelopmentPostgres::start().unwrap();
        let database = Database { server: server.settings("postgres"), migrate: true };
        server.stop();
        let (readiness, token) = (Readiness::new(), CancellationToken::new());
        let condition = readiness.condition("schema", "not yet");
        let starts = |token: CancellationToken| {
            let (database, condition) = (database.clone(), condition.clone());
            tokio::spawn(async move { LAB.prepare(&database, &condition, &token).await })
        };
        let ended = token.child_token();
        let (waiting, given_up) = (starts(token.clone()), starts(ended.clone()));
        let is_waiting = async || readiness.reasons()["schema"].starts_with("postgres: ");
        eventually(Duration::from_secs(30), "it says why it waits", is_waiting).await;
        ended.cancel();
        assert!(!given_up.await.unwrap().unwrap());
        server.resume().unwrap();
        assert!(waiting.await.unwrap().unwrap());
    }
}

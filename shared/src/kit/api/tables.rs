//! Postgres as the routes of an API have it: connections of their own, and a limit on the time of
//! each query, so that no question starves what the service is for.

use std::time::Duration;

use deadpool_postgres::{Client, Pool};
use tokio_postgres::Transaction;

use super::failure::Failure;

/// What routes ask.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Connections of the routes alone, in the role of the service.
    pub pool: Pool,
    /// How long one query may take.
    pub query_timeout: Duration,
}

impl Tables {
    /// A connection.
    pub async fn client(&self) -> Result<Client, Failure> {
        Ok(self.pool.get().await?)
    }

    /// Opens a transaction that only reads.
    pub async fn reading<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, Failure> {
        let client: &mut tokio_postgres::Client = client;
        self.bounded(client.build_transaction().read_only(true).start().await?).await
    }

    /// Opens a transaction that writes.
    pub async fn writing<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, Failure> {
        let client: &mut tokio_postgres::Client = client;
        self.bounded(client.transaction().await?).await
    }

    async fn bounded<'a>(&self, transaction: Transaction<'a>) -> Result<Transaction<'a>, Failure> {
        let timeout_ms = self.query_timeout.as_millis();
        transaction.batch_execute(&format!("set local statement_timeout = {timeout_ms}")).await?;
        Ok(transaction)
    }
}

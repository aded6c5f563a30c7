//! The auditor's history: how many events a second it takes in beside its Postgres on the same
//! machine, and how quickly it answers when there are millions.
//!
//! [`ingest`]: commands and results lie in the streams, and an auditor that starts works them off.
//! [`query`]: a history of many rows is filled in, and the API is asked.

pub mod ingest;
pub mod query;

use std::fmt;
use std::path::Path;

use serde::Serialize;
use tempfile::TempDir;

use latchline_shared::kit::postgres::development::DevelopmentPostgres;

use crate::bench::report::Machine;
use crate::kafka::{Choice, Kafka};
use crate::process::free_port;
use ingest::Ingest;
use query::Query;

/// How much of each.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Records to work off; half are commands, half results.
    pub records: u64,
    /// Locks that they are about.
    pub locks: u64,
    /// Rows of the history that is asked.
    pub rows: u64,
    /// How often each question is asked.
    pub questions: u32,
}

impl Plan {
    /// What `docs/benchmarks.md` shows.
    pub fn full() -> Self {
        Self { records: 600_000, locks: 20_000, rows: 10_000_000, questions: 200 }
    }

    /// To see that it works.
    pub fn small() -> Self {
        Self { records: 2_000, locks: 100, rows: 20_000, questions: 20 }
    }
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    machine: Machine,
    kafka: String,
    plan: Plan,
    ingest: Ingest,
    queries: Vec<Query>,
}

/// Measures both, and tells each part as soon as it is there.
pub async fn measure(
    choice: Choice,
    plan: Plan,
    tell: impl Fn(&dyn fmt::Display),
) -> anyhow::Result<History> {
    let machine = Machine::this()?;
    let kafka = Kafka::start(choice).await?;
    let folder = tempfile::Builder::new().prefix("latchline-history-").tempdir()?;
    let ingest = ingest::measure(&kafka, postgres(&folder, "ingest").await?, &plan).await?;
    tell(&ingest);
    let queries = query::measure(&kafka, postgres(&folder, "query").await?, &plan).await?;
    Ok(History { machine, kafka: kafka.choice().name(), plan, ingest, queries })
}

/// A server that waits for its disk, as in production.
async fn postgres(folder: &TempDir, name: &str) -> anyhow::Result<DevelopmentPostgres> {
    let folder = folder.path().join(name);
    let start = move |folder: &Path| DevelopmentPostgres::start_in(folder, free_port()?);
    tokio::task::spawn_blocking(move || start(&folder)).await?
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, kernel, load_before } = &self.machine;
        writeln!(f, "{processor}, {cores} cores, Linux {kernel}, load {load_before} before; {}", self.kafka)?;
        write!(f, "\n{}", self.ingest)?;
        writeln!(
            f,
            "\nanswers at {} rows (ms)                       p50      p95      max   rows each",
            self.plan.rows
        )?;
        self.queries.iter().try_for_each(|query| writeln!(f, "{query}"))
    }
}

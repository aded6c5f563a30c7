//! Publishes what is in the table, the oldest first: read, publish, remove.
//!
//! One instance does it, the others stand by ([`Held`]). A batch is read, published, and then
//! exactly those rows are removed that Kafka has stored, before the next batch is read: so a row is
//! published only when those before it with the same key are, or were refused.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Message;
use super::metrics::Metrics;
use super::outage::Outage;
use super::table::{Held, Row};
use crate::fault::Fault;
use crate::kit::http::readiness::Condition;
use crate::kit::kafka::publisher::{Outgoing, Publisher};
use crate::kit::retry;

/// Most rows of a batch.
const ROWS_MAX: i64 = 500;
/// Most bytes of a batch, beside its last row.
const BYTES_MAX: i64 = 1024 * 1024;
/// How often is looked for rows though nobody says that there are some, and whether the one who
/// publishes is gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the backlog is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// A batch that takes longer is an outage.
const SLOW: Duration = Duration::from_secs(5);
/// A batch that takes longer is sent anew.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is under way when the process ends may take so long; then it is published again later.
const GRACE: Duration = Duration::from_secs(2);

/// Publishes the rows of one table.
pub struct Outbox {
    /// Connections that may read and change the table; one is used.
    pub pool: Pool,
    /// The table: "auditor.outbox", or "outbox" with a search path.
    pub table: String,
    /// Where the messages go.
    pub publisher: Publisher,
    /// Not ready during an outage.
    pub condition: Condition,
    /// What is counted.
    pub metrics: Metrics,
    /// Changes after each commit that may have written rows.
    pub commits: watch::Receiver<u64>,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be more.
    Went,
    /// All is published.
    Idle,
    /// Another instance publishes.
    Standby,
}

impl Outbox {
    /// Publishes until `token` is cancelled; for
    /// [`Shutdown::spawn`](crate::kit::shutdown::Shutdown::spawn).
    ///
    /// # Errors
    /// A bug: a statement that cannot work. Everything else is waited for.
    pub async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        let outage = Outage::new(self.table.clone(), self.condition.clone());
        let mut worker = Worker { outbox: self, outage, held: None, measure_at: Instant::now() };
        let grace = async {
            token.cancelled().await;
            sleep(GRACE).await;
        };
        // Cancel safety: what was published and is not removed yet is published again.
        tokio::select! {
            end = worker.run(&token) => end,
            () = grace => Ok(()),
        }
    }
}

struct Worker {
    outbox: Outbox,
    outage: Outage,
    held: Option<Held>,
    measure_at: Instant,
}

impl Worker {
    async fn run(&mut self, token: &CancellationToken) -> anyhow::Result<()> {
        let mut attempt = 0;
        while !token.is_cancelled() {
            let pause = match self.step().await {
                Ok(step) => {
                    attempt = 0;
                    self.outage.works();
                    match step {
                        Step::Went => continue,
                        Step::Standby => LOOK_EVERY,
                        Step::Idle => {
                            self.commit(token).await;
                            continue;
                        }
                    }
                }
                Err(Fault::Bug(why)) => anyhow::bail!("outbox {}: {why}", self.outbox.table),
                Err(Fault::Permanent(why)) => self.failed(attempt, None, &why),
                Err(Fault::Transient { after, why }) => self.failed(attempt, after, &why),
            };
            attempt += 1;
            // Cancel safety: neither keeps a state.
            tokio::select! {
                () = token.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Waits until there may be rows.
    async fn commit(&mut self, token: &CancellationToken) {
        let changed = async {
            if self.outbox.commits.changed().await.is_err() {
                // Nobody says so any more.
                std::future::pending::<()>().await;
            }
        };
        // Cancel safety: a commit that is missed is seen within a second.
        tokio::select! {
            () = token.cancelled() => {}
            () = sleep(LOOK_EVERY) => {}
            () = changed => {}
        }
    }

    /// Counts and tells a failure; how long to wait.
    fn failed(&mut self, attempt: u32, after: Option<Duration>, why: &str) -> Duration {
        self.outbox.metrics.failures.inc();
        self.outage.fails(why);
        let random = std::hash::RandomState::new().hash_one(attempt);
        retry::pause(attempt, random).max(after.unwrap_or_default())
    }

    /// One batch.
    async fn step(&mut self) -> Result<Step, Fault> {
        let held = match self.held.take() {
            Some(held) => held,
            None => match Held::take(&self.outbox.pool, &self.outbox.table).await.map_err(of_postgres)? {
                Some(held) => held,
                None => {
                    self.outbox.metrics.standby();
                    return Ok(Step::Standby);
                }
            },
        };
        // An error of Postgres closes the connection, so that another one is made.
        if self.measure_at <= Instant::now() {
            self.outbox.metrics.backlog(&held.backlog().await.map_err(of_postgres)?);
            self.measure_at = Instant::now() + MEASURE_EVERY;
        }
        self.outbox.publisher.prepare().await.map_err(|fault| of("kafka", fault))?;
        let rows = held.head(ROWS_MAX, BYTES_MAX).await.map_err(of_postgres)?;
        if rows.is_empty() {
            self.held = Some(held);
            return Ok(Step::Idle);
        }
        let fates = self.publish(&rows).await;
        held.remove(&fates.stored).await.map_err(of_postgres)?;
        self.outbox.metrics.published.inc_by(fates.stored.len() as u64);
        let seqs: Vec<i64> = fates.refused.iter().map(|(seq, _)| *seq).collect();
        held.refuse(&seqs).await.map_err(of_postgres)?;
        for (seq, why) in &fates.refused {
            self.outbox.metrics.refused.inc();
            error!(table = self.outbox.table, seq, error = why, "a message is refused for good");
        }
        if let Some(failure) = fates.failure {
            // The table is let go of: another instance may reach Kafka.
            return Err(failure);
        }
        self.held = Some(held);
        Ok(Step::Went)
    }

    async fn publish(&mut self, rows: &[Row]) -> Fates {
        let mut fates = Fates::default();
        let mut seqs = Vec::with_capacity(rows.len());
        let mut records = Vec::with_capacity(rows.len());
        for Row { seq, message } in rows {
            match message {
                Ok(Message { key, value, headers }) => {
                    seqs.push(*seq);
                    records.push(Outgoing { key, value, headers });
                }
                Err(why) => fates.refused.push((*seq, why.clone())),
            }
        }
        let mut publishing = pin!(self.outbox.publisher.publish_batch(&records, PATIENCE));
        let results = match timeout(SLOW, &mut publishing).await {
            Ok(results) => results,
            Err(_) => {
                self.outage.fails("kafka: does not answer");
                publishing.await
            }
        };
        for (seq, result) in seqs.into_iter().zip(results) {
            match result {
                Ok(()) => fates.stored.push(seq),
                Err(Fault::Permanent(why)) => fates.refused.push((seq, why.into_owned())),
                Err(fault) => {
                    fates.failure.get_or_insert(of("kafka", fault));
                }
            }
        }
        fates
    }
}

/// What became of a batch.
#[derive(Default)]
struct Fates {
    stored: Vec<i64>,
    refused: Vec<(i64, String)>,
    /// Why the others have to wait.
    failure: Option<Fault>,
}

fn of_postgres(fault: Fault) -> Fault {
    of("postgres", fault)
}

/// The fault, with whose it is in front.
fn of(whose: &str, fault: Fault) -> Fault {
    let named = |why: Cow<'static, str>| format!("{whose}: {why}").into();
    match fault {
        Fault::Permanent(why) => Fault::Permanent(named(why)),
        Fault::Transient { after, why } => Fault::Transient { after, why: named(why) },
        Fault::Bug(why) => Fault::Bug(named(why)),
    }
}

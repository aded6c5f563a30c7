//! The transactions: effect and offset together, or neither.
//!
//! Each locks the offsets it is about first, in one order (partition by partition, streams by
//! name), so a member that lost its partitions and the one that has them now wait for each other
//! and never deadlock; the second finds what the first has stored.
//!
//! Invariant: a connection whose transaction did not end well is closed, never given back to the
//! pool: its rollback cannot be waited for.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Pool, Transaction};
use tokio::time::timeout;
use tokio_postgres::Error;
use tracing::error;

use super::metrics::Metrics;
use super::plan::{Known, Plan, plan};
use super::{Decoded, Gap, Service};
use crate::fault::Fault;
use crate::kit::postgres::fault;

/// Longest transaction. Each statement has its own bound; this one is for a server that stands
/// still with its connections open.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// What a lane knows of its offsets, by stream.
pub(super) type Positions = BTreeMap<Arc<str>, Known>;

/// Records of one lane, and where each stream goes on behind them. There may be an offset without
/// items: of records that went to the dead-letter stream.
pub(super) struct Batch<T> {
    pub(super) lane: i32,
    pub(super) items: Vec<Decoded<T>>,
    pub(super) next: BTreeMap<Arc<str>, i64>,
}

/// What Kafka keeps of a partition.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) stream: Arc<str>,
    pub(super) partition: i32,
    /// The first offset there is.
    pub(super) low: i64,
    /// The next offset to come.
    pub(super) end: i64,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(super) enum Failure {
    Fault(Fault),
    /// Somebody else has moved this stream's offset.
    Fenced(Arc<str>),
}

/// Offsets and effects of one service.
pub(super) struct Store<S> {
    service: Arc<S>,
    pool: Pool,
    metrics: Metrics,
    reach: String,
    lock: String,
    insert: String,
    advance: String,
}

impl<S: Service> Store<S> {
    pub(super) fn new(service: Arc<S>, pool: Pool, schema: &str, metrics: Metrics) -> Self {
        let table = format!("{schema}.consumer_offset");
        Self {
            service,
            pool,
            metrics,
            reach: format!("select from {table} limit 1"),
            lock: format!(
                "select o.stream, o.next_offset from {table} o
                 join unnest($1::text[], $2::int[]) as wanted (stream, partition) using (stream, partition)
                 order by o.stream for update of o"
            ),
            insert: format!(
                "insert into {table} (stream, partition, next_offset) values ($1, $2, $3)
                 on conflict do nothing"
            ),
            advance: format!(
                "update {table} set next_offset = $4, updated_at = now()
                 where stream = $1 and partition = $2 and next_offset = $3"
            ),
        }
    }

    /// Whether Postgres answers and the table is there.
    pub(super) async fn reach(&self) -> Result<(), Fault> {
        let mut leased = self.lease().await?;
        let look = async { leased.client()?.execute(self.reach.as_str(), &[]).await.map_err(pg) };
        bounded(look).await?;
        leased.give_back();
        Ok(())
    }

    /// Decides where each assigned partition goes on. What was never read is written down as
    /// beginning now, and what is missing as lost.
    pub(super) async fn assign(&self, kept: &[Kept]) -> Result<Vec<Plan>, Fault> {
        let mut leased = self.lease().await?;
        let plans = bounded(self.assign_on(&mut leased, kept)).await?;
        leased.give_back();
        let lost = plans.iter().map(|plan| if let Plan::Gap { from, to } = plan { to - from } else { 0 });
        self.metrics.lost.inc_by(lost.sum::<i64>().unsigned_abs());
        Ok(plans)
    }

    async fn assign_on(&self, leased: &mut Leased, kept: &[Kept]) -> Result<Vec<Plan>, Fault> {
        let transaction = leased.client()?.transaction().await.map_err(pg)?;
        let mut plans = Vec::with_capacity(kept.len());
        let mut by_partition: BTreeMap<i32, Vec<Arc<str>>> = BTreeMap::new();
        for Kept { stream, partition, .. } in kept {
            by_partition.entry(*partition).or_default().push(Arc::clone(stream));
        }
        let mut stored = HashMap::new();
        for (partition, streams) in by_partition {
            for (stream, next) in self.lock(&transaction, partition, streams.iter()).await? {
                stored.insert((stream, partition), next);
            }
        }
        for Kept { stream, partition, low, end } in kept {
            let plan = plan(stored.get(&(stream.to_string(), *partition)).copied(), *low, *end);
            match plan {
                Plan::Start(_) | Plan::Stuck { .. } => {}
                Plan::First(offset) => {
                    let statement = transaction.prepare_cached(&self.insert).await.map_err(pg)?;
                    transaction.execute(&statement, &[&&**stream, partition, &offset]).await.map_err(pg)?;
                }
                Plan::Gap { from, to } => {
                    error!(%stream, partition, from, to, "records were deleted before they were read");
                    let gap = Gap { stream: Arc::clone(stream), partition: *partition, from, to };
                    self.service.lost(&transaction, &gap).await?;
                    self.advance(&transaction, stream, *partition, from, to).await?;
                }
            }
            plans.push(plan);
        }
        transaction.commit().await.map_err(pg)?;
        Ok(plans)
    }

    /// Stores the effect of a batch and its offsets. Records whose effect is stored already are
    /// taken out of the batch.
    pub(super) async fn batch(
        &self,
        positions: &mut Positions,
        batch: &mut Batch<S::Item>,
    ) -> Result<(), Failure> {
        let mut leased = self.lease().await?;
        bounded(self.batch_on(&mut leased, positions, batch)).await?;
        leased.give_back();
        Ok(())
    }

    async fn batch_on(
        &self,
        leased: &mut Leased,
        positions: &mut Positions,
        batch: &mut Batch<S::Item>,
    ) -> Result<(), Failure> {
        let transaction = leased.client()?.transaction().await.map_err(pg)?;
        let stored = self.judge(&transaction, batch.lane, positions, batch.next.keys()).await?;
        let is_new = |stream: &Arc<str>, offset: i64| stored.get(stream).is_some_and(|next| offset >= *next);
        let all = batch.items.len();
        batch.items.retain(|item| is_new(&item.record.stream, item.record.offset));
        self.metrics.redelivered.inc_by((all - batch.items.len()) as u64);
        batch.next.retain(|stream, next| is_new(stream, *next - 1));
        if !batch.items.is_empty() {
            self.service.store(&transaction, batch.lane, &batch.items).await?;
        }
        for (stream, next) in &batch.next {
            let expected = stored.get(stream).copied().unwrap_or_default();
            if !self.advance(&transaction, stream, batch.lane, expected, *next).await? {
                return Err(Failure::Fenced(Arc::clone(stream)));
            }
        }
        for (stream, before) in &stored {
            let after = batch.next.get(stream).copied().unwrap_or(*before);
            positions.insert(Arc::clone(stream), Known::InDoubt { before: *before, after });
        }
        transaction.commit().await.map_err(pg)?;
        for (stream, before) in &stored {
            let after = batch.next.get(stream).copied().unwrap_or(*before);
            positions.insert(Arc::clone(stream), Known::Stored(after));
        }
        Ok(())
    }

    /// Lets time pass for a lane that has read all there is.
    pub(super) async fn idle(&self, positions: &Positions, lane: i32, now_ms: i64) -> Result<(), Failure> {
        let mut leased = self.lease().await?;
        let idle = async {
            let transaction = leased.client()?.transaction().await.map_err(pg)?;
            self.judge(&transaction, lane, positions, positions.keys()).await?;
            self.service.idle(&transaction, lane, now_ms).await?;
            transaction.commit().await.map_err(pg)?;
            Ok::<_, Failure>(())
        };
        bounded(idle).await?;
        leased.give_back();
        Ok(())
    }

    /// Locks these offsets of a lane; where each goes on, if all are as we know them.
    async fn judge<'a>(
        &self,
        transaction: &Transaction<'_>,
        lane: i32,
        positions: &Positions,
        streams: impl Iterator<Item = &'a Arc<str>> + Clone,
    ) -> Result<BTreeMap<Arc<str>, i64>, Failure> {
        let stored = self.lock(transaction, lane, streams.clone()).await?;
        let judge = |stream: &Arc<str>| {
            let known = positions.get(stream)?;
            Some((Arc::clone(stream), known.judge(stored.get(&**stream).copied())?))
        };
        streams.map(|stream| judge(stream).ok_or_else(|| Failure::Fenced(Arc::clone(stream)))).collect()
    }

    async fn lock<'a>(
        &self,
        transaction: &Transaction<'_>,
        partition: i32,
        streams: impl Iterator<Item = &'a Arc<str>>,
    ) -> Result<HashMap<String, i64>, Fault> {
        let streams: Vec<&str> = streams.map(|stream| &**stream).collect();
        let partitions = vec![partition; streams.len()];
        let statement = transaction.prepare_cached(&self.lock).await.map_err(pg)?;
        let rows = transaction.query(&statement, &[&streams, &partitions]).await.map_err(pg)?;
        rows.iter().map(|row| Ok((row.try_get(0).map_err(pg)?, row.try_get(1).map_err(pg)?))).collect()
    }

    /// Moves an offset; false if it is not where we expect it.
    async fn advance(
        &self,
        transaction: &Transaction<'_>,
        stream: &str,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<bool, Fault> {
        let statement = transaction.prepare_cached(&self.advance).await.map_err(pg)?;
        let moved = transaction.execute(&statement, &[&stream, &partition, &from, &to]).await.map_err(pg)?;
        Ok(moved == 1)
    }

    async fn lease(&self) -> Result<Leased, Fault> {
        Ok(Leased(Some(self.pool.get().await.map_err(|error| fault::of_pool(&error))?)))
    }
}

/// A connection that is closed unless it is given back.
struct Leased(Option<Object>);

impl Leased {
    fn client(&mut self) -> Result<&mut Object, Fault> {
        self.0.as_mut().ok_or(Fault::Bug("the connection was given back".into()))
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

async fn bounded<T, E: From<Fault>>(transaction: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let late = |_| E::from(Fault::transient(format!("no answer within {TRANSACTION_TIMEOUT:?}")));
    timeout(TRANSACTION_TIMEOUT, transaction).await.map_err(late)?
}

fn pg(error: Error) -> Fault {
    fault::of(&error)
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

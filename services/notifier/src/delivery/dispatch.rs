//! The dispatcher of a channel: as many rows as there are free slots, each in a task of its own.
//!
//! Of the slots some are for critical rows alone, so that a provider that hangs on everything else
//! does not hold them up. Rows are leased only when there is a slot, a provider and leave for them;
//! nothing waits in memory.
//!
//! The end: nothing more is leased, what is under way is finished. What takes too long for that is left
//! alone; its lease runs out, and it is settled as an attempt that may have arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::listen::Wakes;
use latchline_shared::kit::retry;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::attempt::{Bench, random};
use super::provider::Provider;
use super::queue::{Wish, lease};

/// How much longer a lease is than an attempt can take: its end is to be written, too.
pub const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// Messages of a channel under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// Of any severity.
    pub ordinary: usize,
    /// As many more for critical ones alone.
    pub critical: usize,
    /// The longest that a provider takes for one.
    pub timeout: Duration,
}

/// Works off a channel.
pub struct Dispatcher<P> {
    bench: Arc<Bench<P>>,
    slots: Slots,
    drain: Duration,
    busy: Arc<Busy>,
    wakes: Wakes,
    is_failing: bool,
}

#[derive(Debug, Default)]
struct Busy {
    all: AtomicUsize,
    ordinary: AtomicUsize,
}

/// Taken until it is dropped, however its task ends.
struct Slot {
    busy: Arc<Busy>,
    is_critical: bool,
}

impl Slot {
    fn take(busy: &Arc<Busy>, is_critical: bool) -> Self {
        busy.all.fetch_add(1, Ordering::Relaxed);
        busy.ordinary.fetch_add(usize::from(!is_critical), Ordering::Relaxed);
        Self { busy: Arc::clone(busy), is_critical }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.busy.all.fetch_sub(1, Ordering::Relaxed);
        self.busy.ordinary.fetch_sub(usize::from(!self.is_critical), Ordering::Relaxed);
    }
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing: there may be more.
    Round,
    /// A free slot; there may be more.
    Slot,
    /// News: there is nothing due that could be sent.
    News,
    /// A provider.
    Provider(Duration),
}

impl<P: Provider> Dispatcher<P> {
    /// Nothing is done yet.
    pub fn new(bench: Bench<P>, slots: Slots, drain: Duration, wakes: Wakes) -> Self {
        Self { bench: Arc::new(bench), slots, drain, busy: Arc::default(), wakes, is_failing: false }
    }

    /// Works until the token is cancelled, and finishes what is under way.
    pub async fn run(mut self, token: CancellationToken) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        let mut attempt = 0;
        while !token.is_cancelled() {
            let next = match self.round(&mut tasks).await {
                Ok(next) => {
                    if std::mem::take(&mut self.is_failing) {
                        info!(channel = %self.bench.desk.channel, "the queue can be read again");
                    }
                    attempt = 0;
                    next
                }
                Err(Fault::Bug(why)) => anyhow::bail!("delivery of {}: {why}", self.bench.desk.channel),
                Err(fault) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        warn!(channel = %self.bench.desk.channel, error = %fault, "the queue cannot be read");
                    }
                    attempt += 1;
                    Next::Provider(retry::pause(attempt - 1, random()))
                }
            };
            self.wait(next, &mut tasks, &token).await;
        }
        let finish = async {
            while let Some(done) = tasks.join_next().await {
                self.joined(done);
            }
        };
        if timeout(self.drain, finish).await.is_err() {
            let (channel, attempts) = (self.bench.desk.channel, tasks.len());
            warn!(%channel, attempts, "attempts under way are left to their leases");
        }
        Ok(())
    }

    /// Leases what there is room for, and begins its attempts.
    async fn round(&mut self, tasks: &mut JoinSet<()>) -> Result<Next, Fault> {
        let Slots { ordinary, critical, timeout: longest } = self.slots;
        let free = (ordinary + critical).saturating_sub(self.busy.all.load(Ordering::Relaxed));
        if free == 0 {
            return Ok(Next::Slot);
        }
        let ordinary_free = ordinary.saturating_sub(self.busy.ordinary.load(Ordering::Relaxed));
        let (provider, name, room) = match self.bench.desk.next(Instant::now()) {
            Ok(next) => next,
            Err(wait) => return Ok(Next::Provider(wait)),
        };
        let wish = Wish {
            channel: self.bench.desk.channel,
            owner: &self.bench.owner,
            provider: name,
            lease: longest + LEASE_MARGIN,
            rows_max: free.min(room),
            ordinary_max: ordinary_free.min(room),
        };
        let has_ordinary = wish.ordinary_max > 0;
        let taken = lease(&self.bench.pool, wish).await?;
        let count = taken.leased.len() + taken.ended.len();
        for status in taken.ended {
            self.bench.metrics.ended(self.bench.desk.channel, status, 1);
        }
        let (mut refused, mut slots) = (Vec::new(), Vec::new());
        for row in taken.leased {
            match self.bench.desk.begin(provider, &row.address, Instant::now()) {
                Ok(pass) => {
                    let (bench, slot) = (Arc::clone(&self.bench), Slot::take(&self.busy, row.is_critical));
                    tasks.spawn(async move {
                        bench.attempt(row, pass).await;
                        drop(slot);
                    });
                }
                // Hosts are left alone row by row: any time after that, so that rows do not come back
                // together. For a provider that has just failed, another may be there.
                Err(wait) => {
                    let is_host = self.bench.desk.is_by_host(provider, &row.address);
                    let wait = wait + wait.mul_f64(random() as f64 / u64::MAX as f64);
                    refused.push((row.attempt, if is_host { wait } else { Duration::ZERO }));
                    slots.push(Slot::take(&self.busy, row.is_critical));
                }
            }
        }
        if !refused.is_empty() {
            let bench = Arc::clone(&self.bench);
            tasks.spawn(async move {
                bench.put_back(&refused).await;
                drop(slots);
            });
        }
        // Without a slot for them, ordinary rows may be due though none was found.
        Ok(match count {
            0 if !has_ordinary => Next::Slot,
            0 => Next::News,
            _ => Next::Round,
        })
    }

    /// Cancel safety: attempts are tasks of their own, and what is not heard is looked for.
    async fn wait(&mut self, next: Next, tasks: &mut JoinSet<()>, token: &CancellationToken) {
        while let Some(done) = tasks.try_join_next() {
            self.joined(done);
        }
        let wait = match next {
            Next::Round => return,
            Next::Provider(wait) => wait,
            Next::Slot | Next::News => Duration::MAX,
        };
        let listens = !matches!(next, Next::Provider(_));
        // A trial that has ended may have closed a breaker.
        let is_due = next != Next::News;
        let done = tokio::select! {
            () = token.cancelled() => None,
            () = self.wakes.next(), if listens => None,
            () = sleep(wait.min(Duration::from_secs(3_600))) => None,
            Some(done) = tasks.join_next(), if is_due => Some(done),
        };
        if let Some(done) = done {
            self.joined(done);
        }
    }

    fn joined(&self, done: Result<(), JoinError>) {
        if let Err(join) = done {
            // Its lease runs out, and it is settled as an attempt whose end nobody saw.
            error!(channel = %self.bench.desk.channel, error = %join, "an attempt has panicked");
        }
    }
}

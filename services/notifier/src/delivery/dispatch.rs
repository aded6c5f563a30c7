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

use super::attempt::{Bench, random, until};
use super::desk::Refused;
use super::policy::away;
use super::provider::Provider;
use super::queue::{Leased, Wish, lease};

/// How much longer a lease is than an attempt can take: its end is to be written, too.
pub const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// So long is waited for more free slots when there was none.
const GATHER: Duration = Duration::from_millis(5);

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

impl Slots {
    /// Messages under way to one host: as many stay free for the others.
    fn of_a_host(self) -> usize {
        (self.ordinary + self.critical).div_ceil(2)
    }
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
        let taken = lease(&self.bench.pool, wish).await?;
        let ordinary = taken.leased.iter().filter(|row| !row.is_critical).count();
        let mut is_all = taken.leased.len() < wish.rows_max && taken.ended.is_empty();
        for status in taken.ended {
            self.bench.metrics.ended(self.bench.desk.channel, status, 1);
        }
        let (mut refused, mut slots) = (Vec::new(), Vec::new());
        for row in taken.leased {
            match self.bench.desk.begin(provider, &row.address, self.slots.of_a_host(), Instant::now()) {
                Ok(pass) => {
                    let (bench, slot) = (Arc::clone(&self.bench), Slot::take(&self.busy, row.is_critical));
                    tasks.spawn(async move {
                        bench.attempt(row, pass).await;
                        drop(slot);
                    });
                }
                Err(why) => {
                    refused.push((row.attempt, self.stays_away(why, &row)));
                    slots.push(Slot::take(&self.busy, row.is_critical));
                }
            }
        }
        if !refused.is_empty() {
            is_all = false;
            let bench = Arc::clone(&self.bench);
            tasks.spawn(async move {
                bench.put_back(&refused).await;
                drop(slots);
            });
        }
        Ok(match is_all {
            // Some have made room again, or there was no room for more.
            false => Next::Round,
            // All that is critical is under way; of the rest there may be more than there are slots for.
            true if ordinary == wish.ordinary_max => Next::Slot,
            true => Next::News,
        })
    }

    /// How long a row that was not sent stays away.
    fn stays_away(&self, why: Refused, row: &Leased) -> Duration {
        let Bench { desk, settings, metrics, .. } = &*self.bench;
        match why {
            Refused::Provider(_) => Duration::ZERO,
            // Any time after that, so that rows do not come back together.
            Refused::Host(wait) => wait + wait.mul_f64(random() as f64 / u64::MAX as f64),
            Refused::Crowded(wait) => {
                metrics.crowded(desk.channel);
                away(settings, row.is_critical, wait, until(row.expires_at))
            }
        }
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
            if next == Next::Slot {
                self.gather(tasks, token).await;
            }
        }
    }

    /// Where one slot is free soon others are: a lease for several costs what one for one does.
    /// Cancel safety: as above.
    async fn gather(&self, tasks: &mut JoinSet<()>, token: &CancellationToken) {
        let enough = (self.slots.ordinary + self.slots.critical) / 2;
        let gathered = async {
            while self.busy.all.load(Ordering::Relaxed) > enough
                && let Some(done) = tasks.join_next().await
            {
                self.joined(done);
            }
        };
        let _ = timeout(GATHER, token.run_until_cancelled(gathered)).await;
    }

    fn joined(&self, done: Result<(), JoinError>) {
        if let Err(join) = done {
            // Its lease runs out, and it is settled as an attempt whose end nobody saw.
            error!(channel = %self.bench.desk.channel, error = %join, "an attempt has panicked");
        }
    }
}

//! Many connections of one role: opened with a bound on how many at once, at a rate or as fast as
//! they come, kept alive from the first on, and ended together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::bench::fleet::Close;
use crate::load::connection::Connection;
use crate::load::hello::Role;
use crate::load::pace::Pace;
use crate::load::run::Run;
use crate::load::schedule::{Span, even};
use crate::load::tally::{Cause, held};

/// Slices of half a keep alive, in each of which as many connections say PINGREQ.
const PING_SLICES: usize = 100;
/// How long a connection that was cut tries to come back, from when that was due.
const COME_BACK_US_MAX: u64 = 60_000_000;
/// Between two attempts of one connection.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How connections are opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// How many.
    pub count: u32,
    /// How many at once.
    pub at_once: u32,
    /// When each is due.
    pub due: Due,
}

/// When a connection is due.
#[derive(Debug, Clone, Copy)]
pub enum Due {
    /// When it is its turn: as soon as one of those before it is there.
    OnTurn,
    /// All at this moment of the run, however long they wait for their turn.
    At(u64),
    /// So many a second from now on.
    Rate(f64),
}

/// How often a connection tries to come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempts {
    /// What goes wrong is a fault.
    One,
    /// Until it is there, or a minute late; its delay runs on.
    Many,
}

/// Open connections; they end when it is dropped.
pub struct Crowd {
    /// In the order of their numbers.
    pub members: Vec<Arc<Connection>>,
    /// Those that read, and the one that keeps them alive.
    tasks: JoinSet<()>,
}

/// What those who open share.
struct Queue {
    run: Arc<Run>,
    role: Role,
    opening: Opening,
    attempts: Attempts,
    from_us: u64,
    next: AtomicU32,
    permits: Semaphore,
    arrived: Arc<Arrived>,
    tasks: Mutex<JoinSet<()>>,
}

/// Those that are there, in the order in which they came.
type Arrived = Mutex<Vec<Arc<Connection>>>;

impl Crowd {
    /// Opens connections. Those that do not come about are counted; if none does, that is an error.
    pub async fn open(run: &Arc<Run>, role: Role, opening: Opening) -> anyhow::Result<Self> {
        Self::gather(run, role, opening, Attempts::One).await
    }

    /// Opens connections that were cut before. The broker may not have let go of the old ones yet, and
    /// may have no room for the new; so, as locks do, they try again.
    pub async fn come_back(run: &Arc<Run>, role: Role, opening: Opening) -> anyhow::Result<Self> {
        Self::gather(run, role, opening, Attempts::Many).await
    }

    async fn gather(
        run: &Arc<Run>,
        role: Role,
        opening: Opening,
        attempts: Attempts,
    ) -> anyhow::Result<Self> {
        let queue = Arc::new(Queue::new(run, role, opening, attempts));
        let from_us = queue.from_us;
        let _pace = match opening.due {
            Due::Rate(per_second) => {
                let due = even(per_second, Span { from_us, to_us: u64::MAX });
                let due = due.take(opening.count as usize);
                let paced = Arc::clone(&queue);
                Some(Pace::start(run, due, move |_, _| paced.permits.add_permits(1))?)
            }
            Due::OnTurn | Due::At(_) => {
                queue.permits.add_permits(opening.count as usize);
                None
            }
        };
        held(&queue.tasks).spawn(keep_alive(run.settings.keep_alive_s, Arc::clone(&queue.arrived)));
        let mut openers = JoinSet::new();
        for _ in 0..opening.at_once.clamp(1, opening.count.max(1)) {
            openers.spawn(Arc::clone(&queue).open());
        }
        while let Some(opened) = openers.join_next().await {
            opened.context("an opener died")?;
        }
        let mut members = held(&queue.arrived).clone();
        if members.is_empty() && opening.count > 0 {
            let first = run.tally.faults().into_iter().next();
            bail!("no connection: {}", first.map_or_else(|| "unknown why".to_owned(), |fault| fault.first));
        }
        members.sort_by_key(|member| member.number());
        let tasks = std::mem::take(&mut *held(&queue.tasks));
        Ok(Self { members, tasks })
    }

    /// Ends all in order.
    pub async fn leave(mut self) {
        self.members.iter().for_each(|member| member.say_goodbye());
        self.tasks.shutdown().await;
    }

    /// Ends all at once, without a word.
    pub async fn cut(mut self, close: Close) -> anyhow::Result<()> {
        for member in &self.members {
            member.leave();
            if close == Close::Rst {
                member.end_abruptly()?;
            }
        }
        self.tasks.shutdown().await;
        Ok(())
    }
}

/// Keeps connections alive, those to come as well; runs until the crowd ends.
async fn keep_alive(keep_alive_s: u16, members: Arc<Arrived>) {
    if keep_alive_s == 0 {
        return;
    }
    let mut ticks = interval(Duration::from_secs(keep_alive_s.into()) / (2 * PING_SLICES as u32));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for slice in (0..PING_SLICES).cycle() {
        ticks.tick().await;
        let slice: Vec<_> = held(&members).iter().skip(slice).step_by(PING_SLICES).map(Arc::clone).collect();
        for member in slice {
            // Whether it has ended is its reader's to say.
            member.ping();
        }
    }
}

impl Queue {
    fn new(run: &Arc<Run>, role: Role, opening: Opening, attempts: Attempts) -> Self {
        Self {
            from_us: run.tally.now_us(),
            run: Arc::clone(run),
            role,
            opening,
            attempts,
            next: AtomicU32::new(0),
            permits: Semaphore::new(0),
            arrived: Arc::default(),
            tasks: Mutex::default(),
        }
    }

    async fn open(self: Arc<Self>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.opening.count {
                return;
            }
            // The semaphore is never closed.
            let Ok(permit) = self.permits.acquire().await else { return };
            permit.forget();
            let due_us = match self.opening.due {
                Due::OnTurn => self.run.tally.now_us(),
                Due::At(due_us) => due_us,
                Due::Rate(per_second) => self.from_us + (f64::from(number) * 1e6 / per_second) as u64,
            };
            self.open_one(number, due_us).await;
        }
    }

    async fn open_one(&self, number: u32, due_us: u64) {
        let tally = &self.run.tally;
        loop {
            let (cause, error) = match Connection::open(Arc::clone(&self.run), self.role, number).await {
                Ok(reader) => {
                    let connection = Arc::clone(&reader.connection);
                    connection.note_open(due_us);
                    held(&self.tasks).spawn(reader.run());
                    return held(&self.arrived).push(connection);
                }
                Err(refusal) => refusal,
            };
            let what = || format!("{}: {error:#}", self.role.client_id(&self.run, number));
            if !self.may_try_again(cause, due_us) {
                return tally.wrong(cause, what);
            }
            tally.tried_again(cause, what);
            sleep(RETRY_PAUSE).await;
        }
    }

    fn may_try_again(&self, cause: Cause, due_us: u64) -> bool {
        let passes = matches!(cause, Cause::Unreachable | Cause::Refused | Cause::Closed | Cause::Silent);
        let late_us = self.run.tally.now_us().saturating_sub(due_us);
        self.attempts == Attempts::Many && passes && late_us < COME_BACK_US_MAX
    }
}

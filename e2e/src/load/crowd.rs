//! Many connections of one role: opened with a bound on how many at once, at a rate or as fast as
//! they come, and ended together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::bench::fleet::Close;
use crate::client::packet::PING_REQUEST;
use crate::load::connection::Connection;
use crate::load::hello::Role;
use crate::load::pace::Pace;
use crate::load::run::Run;
use crate::load::schedule::{Span, even};
use crate::load::tally::held;

/// Slices of half a keep alive, in each of which as many connections say PINGREQ.
const PING_SLICES: usize = 100;

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

/// Open connections; they end when it is dropped.
pub struct Crowd {
    /// In the order of their numbers.
    pub members: Vec<Arc<Connection>>,
    readers: JoinSet<()>,
}

/// What those who open share.
struct Queue {
    run: Arc<Run>,
    role: Role,
    opening: Opening,
    from_us: u64,
    next: AtomicU32,
    permits: Semaphore,
    readers: Mutex<JoinSet<()>>,
}

impl Crowd {
    /// Opens connections. Those that do not come about are counted; if none does, that is an error.
    pub async fn open(run: &Arc<Run>, role: Role, opening: Opening) -> anyhow::Result<Self> {
        let from_us = run.tally.now_us();
        let queue = Arc::new(Queue {
            run: Arc::clone(run),
            role,
            opening,
            from_us,
            next: AtomicU32::new(0),
            permits: Semaphore::new(0),
            readers: Mutex::default(),
        });
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
        let mut openers = JoinSet::new();
        for _ in 0..opening.at_once.clamp(1, opening.count.max(1)) {
            openers.spawn(Arc::clone(&queue).open());
        }
        let mut members = Vec::with_capacity(opening.count as usize);
        while let Some(opened) = openers.join_next().await {
            members.append(&mut opened.context("an opener died")?);
        }
        if members.is_empty() && opening.count > 0 {
            let first = run.tally.faults().into_iter().next();
            bail!("no connection: {}", first.map_or_else(|| "unknown why".to_owned(), |fault| fault.first));
        }
        members.sort_by_key(|member: &Arc<Connection>| member.number());
        let readers = std::mem::take(&mut *held(&queue.readers));
        Ok(Self { members, readers })
    }

    /// Ends all in order.
    pub async fn leave(mut self) {
        self.members.iter().for_each(|member| member.say_goodbye());
        self.readers.shutdown().await;
    }

    /// Ends all at once, without a word.
    pub async fn cut(mut self, close: Close) -> anyhow::Result<()> {
        for member in &self.members {
            member.leave();
            if close == Close::Rst {
                member.end_abruptly()?;
            }
        }
        self.readers.shutdown().await;
        Ok(())
    }
}

/// Keeps connections alive for as long as it is polled.
pub async fn keep_alive(members: &[Arc<Connection>], keep_alive_s: u16) {
    if keep_alive_s == 0 || members.is_empty() {
        return std::future::pending().await;
    }
    let slices = members.chunks(members.len().div_ceil(PING_SLICES));
    let mut ticks = interval(Duration::from_secs(keep_alive_s.into()) / (2 * PING_SLICES as u32));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for slice in slices.cycle() {
        ticks.tick().await;
        for member in slice {
            // Whether it has ended is its reader's to say.
            let _ = member.put(&PING_REQUEST);
        }
    }
}

impl Queue {
    async fn open(self: Arc<Self>) -> Vec<Arc<Connection>> {
        let mut opened = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.opening.count {
                return opened;
            }
            // The semaphore is never closed.
            let Ok(permit) = self.permits.acquire().await else { return opened };
            permit.forget();
            let due_us = match self.opening.due {
                Due::OnTurn => self.run.tally.now_us(),
                Due::At(due_us) => due_us,
                Due::Rate(per_second) => self.from_us + (f64::from(number) * 1e6 / per_second) as u64,
            };
            match Connection::open(Arc::clone(&self.run), self.role, number).await {
                Ok(reader) => {
                    let connection = Arc::clone(&reader.connection);
                    connection.note_open(due_us);
                    held(&self.readers).spawn(reader.run());
                    opened.push(connection);
                }
                Err((cause, error)) => {
                    let who = self.role.client_id(&self.run, number);
                    self.run.tally.wrong(cause, || format!("{who}: {error:#}"));
                }
            }
        }
    }
}

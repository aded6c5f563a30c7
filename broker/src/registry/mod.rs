//! Who is connected, and whose session is parked until its client comes back.
//!
//! A client id has at most one session, and a session at most one connection (MQTT 5, section
//! 3.1.4): a second connection signals the first and waits until that has let go. Sessions are
//! kept in shards by client id, so connects of different clients do not wait for each other.
//!
//! Invariant: an entry is either online, and then its session is in the connection's task, or
//! parked, and then the session is here; its mailbox is the same all along.

mod entry;
pub mod timers;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use latchline_shared::kit::clock;
use latchline_shared::message::Client;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::session::Session;
use crate::session::mailbox::{Mailbox, QueueLimits, SessionKey, Signal};
use entry::Entry;
pub use entry::{Due, Ended, Parked, Status};
use timers::Timers;

const SHARDS: usize = 64;

/// How long a connection may take to let go of its session.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(10);

/// All sessions of this broker.
pub struct Registry {
    shards: Box<[Shard]>,
    hasher: RandomState,
    next_key: AtomicU64,
    next_connection: AtomicU64,
    count: AtomicUsize,
    sessions_max: usize,
    queue_limits: QueueLimits,
    /// Reminders for parked sessions.
    pub timers: Timers,
}

#[derive(Default)]
struct Shard {
    sessions: Mutex<HashMap<ByteString, Entry>>,
    /// A connection has let go of its session.
    let_go: Notify,
}

/// A session that now belongs to the caller's connection.
pub struct Attached {
    /// The client, with the number of its connection.
    pub client: Arc<Client>,
    /// The session.
    pub session: Session,
    /// Its mailbox, already online.
    pub mailbox: Arc<Mailbox>,
    /// Whether it was there before (Session Present).
    pub present: bool,
    /// A session of the same client id that the clean start ended.
    pub ended: Option<Ended>,
    /// Whether another connection had to let go of it.
    pub taken_over: bool,
}

/// What came of one look at a client's session.
enum Attempt {
    Attached(Attached),
    Full,
    /// Another connection has it and has been told to let go.
    Taken(Client),
}

/// Why a session cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The bound on sessions is reached.
    #[error("too many sessions")]
    Full,
    /// The connection that has the session does not let go.
    #[error("the other connection of this client does not let go")]
    Busy,
}

impl Registry {
    /// An empty registry for at most `sessions_max` sessions, connected and parked.
    pub fn new(sessions_max: usize, queue_limits: QueueLimits) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            next_key: AtomicU64::new(1),
            next_connection: AtomicU64::new(clock::unix_ms() * 1000),
            count: AtomicUsize::new(0),
            sessions_max,
            queue_limits,
            timers: Timers::default(),
        }
    }

    /// Sessions, connected and parked.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that grows with each connection, also over restarts while the clock does not go
    /// back: it starts from the time in microseconds.
    pub fn next_connection_number(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the session of a client for its new connection: signals another connection of it, and
    /// waits until that has let go. The client gets the number of its connection here.
    ///
    /// Ordering: the connections of one client id have their numbers in the order in which they
    /// have the session.
    /// Cancel safety: nothing is taken until it returns.
    pub async fn attach(
        &self,
        mut client: Client,
        clean_start: bool,
        window: u16,
    ) -> Result<Attached, AttachError> {
        let mut taken_over = false;
        // For all rounds together: others of the shard let go all the time.
        let deadline = Instant::now() + LET_GO_TIMEOUT;
        loop {
            let shard = self.shard(&client.id);
            let mut let_go = std::pin::pin!(shard.let_go.notified());
            // Registered before the look, so that no letting go is missed.
            let_go.as_mut().enable();
            client = match self.try_attach(shard, client, clean_start, window) {
                Attempt::Attached(attached) => return Ok(Attached { taken_over, ..attached }),
                Attempt::Full => return Err(AttachError::Full),
                Attempt::Taken(client) => client,
            };
            taken_over = true;
            timeout_at(deadline.into(), let_go).await.map_err(|_elapsed| AttachError::Busy)?;
        }
    }

    fn try_attach(&self, shard: &Shard, client: Client, clean_start: bool, window: u16) -> Attempt {
        let mut sessions = lock(&shard.sessions);
        if let Some(Entry::Online { mailbox, .. }) = sessions.get(&client.id) {
            mailbox.signal(Signal::Takeover);
            return Attempt::Taken(client);
        }
        let parked = match sessions.remove(&client.id) {
            Some(Entry::Parked(parked)) => Some(self.woken(*parked)),
            _ => None,
        };
        if parked.is_none() && self.count.fetch_add(1, Ordering::Relaxed) >= self.sessions_max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Attempt::Full;
        }
        let client = Arc::new(Client { session: self.next_connection_number(), ..client });
        let attached = match parked {
            // A client that is back in time takes its will back (MQTT 5, section 3.1.3.2.2).
            Some(Parked { mut session, mailbox, client: last, .. })
                if !clean_start && is_same_identity(&last, &client) =>
            {
                session.resume(window);
                let client = Arc::clone(&client);
                Attached { client, session, mailbox, present: true, ended: None, taken_over: false }
            }
            other => {
                let key = SessionKey(self.next_key.fetch_add(1, Ordering::Relaxed));
                let mailbox = Arc::new(Mailbox::new(key, client.id.clone(), self.queue_limits));
                Attached {
                    client: Arc::clone(&client),
                    session: Session::new(window),
                    mailbox,
                    present: false,
                    ended: other.map(Parked::end),
                    taken_over: false,
                }
            }
        };
        attached.mailbox.set_online();
        let mailbox = Arc::clone(&attached.mailbox);
        sessions.insert(client.id.clone(), Entry::Online { mailbox, client });
        Attempt::Attached(attached)
    }

    /// Lets go of a session whose connection is over, and keeps it until it expires.
    pub fn park(&self, parked: Parked) {
        let client_id = parked.client.id.clone();
        let key = parked.mailbox.key();
        let due = parked.next_due();
        let shard = self.shard(&client_id);
        {
            let mut sessions = lock(&shard.sessions);
            sessions.insert(client_id.clone(), Entry::Parked(Box::new(parked)));
            // Ordering: before anybody can take the session, and the reminder back.
            if let Some(due) = due {
                self.timers.set(due, key, client_id);
            }
        }
        shard.let_go.notify_waiters();
    }

    /// Lets go of a session whose connection is over, and forgets it. The client's next session, if
    /// there is one already, stays.
    pub fn end(&self, mailbox: &Mailbox) {
        let shard = self.shard(mailbox.client_id());
        {
            let mut sessions = lock(&shard.sessions);
            let is_it = sessions.get(mailbox.client_id()).is_some_and(|entry| entry.key() == mailbox.key());
            if is_it {
                sessions.remove(mailbox.client_id());
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        shard.let_go.notify_waiters();
    }

    /// What is due for a parked session: its will, its end, or nothing if the client came back.
    pub fn due(&self, client_id: &ByteString, key: SessionKey, now: Instant) -> Due {
        let mut sessions = lock(&self.shard(client_id).sessions);
        let Some(Entry::Parked(parked)) = sessions.get_mut(client_id) else {
            return Due::Nothing;
        };
        if parked.mailbox.key() != key {
            return Due::Nothing;
        }
        if parked.expires_at.is_some_and(|expires_at| expires_at <= now) {
            let Some(Entry::Parked(parked)) = sessions.remove(client_id) else {
                return Due::Nothing;
            };
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Due::End(Box::new(parked.end()));
        }
        let Some((_, will)) = parked.will.take_if(|(due, _)| *due <= now) else {
            return Due::Nothing;
        };
        if let Some(next) = parked.next_due() {
            self.timers.set(next, key, client_id.clone());
        }
        Due::Will(Arc::clone(&parked.client), will)
    }

    /// Ends a parked session at the administrator's wish.
    pub fn evict(&self, client_id: &str) -> Option<Ended> {
        let mut sessions = lock(&self.shard(client_id).sessions);
        if !matches!(sessions.get(client_id), Some(Entry::Parked(_))) {
            return None;
        }
        let Some(Entry::Parked(parked)) = sessions.remove(client_id) else {
            return None;
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(self.woken(*parked).end())
    }

    /// A session that is no longer parked needs no reminder.
    fn woken(&self, parked: Parked) -> Parked {
        if let Some(due) = parked.next_due() {
            self.timers.take_back(due, parked.mailbox.key());
        }
        parked
    }

    /// Sends a signal to the connection of a client. `false` if it is not connected.
    pub fn signal(&self, client_id: &str, signal: Signal) -> bool {
        match lock(&self.shard(client_id).sessions).get(client_id) {
            Some(Entry::Online { mailbox, .. }) => {
                mailbox.signal(signal);
                true
            }
            _ => false,
        }
    }

    /// Sends a signal to all connections.
    pub fn signal_all(&self, signal: Signal) {
        for shard in &self.shards {
            for entry in lock(&shard.sessions).values() {
                if let Entry::Online { mailbox, .. } = entry {
                    mailbox.signal(signal);
                }
            }
        }
    }

    /// Everybody who is connected.
    pub fn online(&self) -> Vec<Arc<Client>> {
        let mut clients = Vec::new();
        for shard in &self.shards {
            clients.extend(lock(&shard.sessions).values().filter_map(|entry| match entry {
                Entry::Online { client, .. } => Some(Arc::clone(client)),
                Entry::Parked(_) => None,
            }));
        }
        clients
    }

    /// Looks at the session of a client.
    pub fn status(&self, client_id: &str) -> Option<Status> {
        lock(&self.shard(client_id).sessions).get(client_id).map(Entry::status)
    }

    /// Sessions in the order of their client ids, from behind `after`, `limit` at most.
    ///
    /// Each page looks at every id: it is for people, not for the hot path.
    pub fn page(&self, after: &str, limit: usize) -> Vec<Status> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            ids.extend(lock(&shard.sessions).keys().filter(|id| &***id > after).cloned());
        }
        ids.sort_unstable();
        ids.truncate(limit);
        ids.iter().filter_map(|id| self.status(id)).collect()
    }

    fn shard(&self, client_id: &str) -> &Shard {
        let hash = self.hasher.hash_one(client_id);
        &self.shards[hash as usize % SHARDS]
    }
}

/// Whether what waits for the one may be given to the other. A client id alone does not say so: it
/// may have been given to somebody else since.
fn is_same_identity(last: &Client, now: &Client) -> bool {
    last.username == now.username && last.role == now.role
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

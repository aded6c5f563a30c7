//! Connections that have nothing to do at the moment.
//!
//! The one that was used last is used next; so when there is less to do, the others grow old and are
//! closed. There are never more than there were messages under way at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a server has to say good-bye.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections to one server.
pub(super) struct Pool {
    idle: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each with when it was used, the oldest first.
    connections: Vec<(Instant, AsyncSmtpConnection)>,
    /// Whether somebody closes those that grow old.
    is_watched: bool,
}

impl Pool {
    pub(super) fn new(idle: Duration) -> Arc<Self> {
        Arc::new(Self { idle, state: Mutex::default() })
    }

    /// One that was used before, if there is one that is young enough.
    pub(super) fn take(&self) -> Option<AsyncSmtpConnection> {
        let (at, connection) = self.state().connections.pop()?;
        (at.elapsed() < self.idle).then_some(connection)
    }

    /// It may be used again.
    pub(super) fn give(self: &Arc<Self>, connection: AsyncSmtpConnection) {
        let mut state = self.state();
        state.connections.push((Instant::now(), connection));
        if !std::mem::replace(&mut state.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state().connections.len()
    }

    /// Those that are too old, and when the next will be; none: nobody watches any more.
    fn old(&self) -> (Vec<AsyncSmtpConnection>, Option<Instant>) {
        let now = Instant::now();
        let mut state = self.state();
        let young = state.connections.partition_point(|(at, _)| *at + self.idle <= now);
        let old = state.connections.drain(..young).map(|(_, connection)| connection).collect();
        let next = state.connections.first().map(|(at, _)| *at + self.idle);
        state.is_watched = next.is_some();
        (old, next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that have grown old, until there are none or the pool is gone.
async fn watch(pool: Weak<Pool>) {
    loop {
        let Some((old, next)) = pool.upgrade().map(|pool| pool.old()) else { return };
        for mut connection in old {
            // Whoever does not say good-bye is left all the same.
            let _ = timeout(QUIT_TIMEOUT, connection.quit()).await;
        }
        let Some(next) = next else { return };
        sleep_until(next).await;
    }
}

//! How a process ends: one token that everybody listens to, and a list of the tasks that must have
//! ended before the process may.
//!
//! Two kinds of task. A **service** ([`Shutdown::spawn`]) lives as long as the process: whatever
//! ends it before the shutdown was requested (an error, a panic, even `Ok`) is a failure, and the
//! failure requests the shutdown. A **piece of work** ([`Shutdown::track`]) comes and goes, like a
//! connection: a panic ends that piece only (the panic hook has logged it).
//!
//! Invariant: the first failure is kept, later ones are logged.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::anyhow;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

/// Handle of the shutdown; clones are the same shutdown.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<&'static str, usize>,
    failure: Option<anyhow::Error>,
}

/// What still ran when the deadline of [`Shutdown::drain`] passed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{tasks} tasks still running at the deadline, among them the services {services:?}")]
pub struct Unfinished {
    /// Number of tasks, services included.
    pub tasks: usize,
    /// Names of the services.
    pub services: Vec<&'static str>,
}

impl Shutdown {
    /// A shutdown that nobody has requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token, for `select!` and for child tokens.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Asks everybody to end.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether the end was asked for.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the end is asked for. Cancel safety: keeps no state.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Starts a task that lives until the shutdown is requested. If it ends earlier, that is a
    /// failure of the process.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        *self.state().services.entry(name).or_default() += 1;
        let handle = tokio::spawn(task);
        let shutdown = self.clone();
        self.tracker.spawn(async move {
            let end = handle.await;
            shutdown.ended(name, end);
        });
    }

    /// Starts a task that may end at any time, but must have ended before the process does.
    pub fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tracker.spawn(task));
    }

    /// Declares the process failed, and requests its end.
    pub fn fail(&self, failure: anyhow::Error) {
        error!(error = format!("{failure:#}"), "process failed");
        self.state().failure.get_or_insert(failure);
        self.request();
    }

    /// Takes the first failure, if there was one.
    pub fn take_failure(&self) -> Option<anyhow::Error> {
        self.state().failure.take()
    }

    /// Waits until every task has ended, at most until the deadline.
    pub async fn drain(&self, deadline: Duration) -> Result<(), Unfinished> {
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        Err(Unfinished {
            tasks: self.tracker.len(),
            services: self.state().services.keys().copied().collect(),
        })
    }

    fn ended(&self, name: &'static str, end: Result<anyhow::Result<()>, tokio::task::JoinError>) {
        {
            let services = &mut self.state().services;
            if let Some(count) = services.get_mut(name) {
                *count -= 1;
            }
            services.retain(|_, count| *count > 0);
        }
        match end {
            Ok(Ok(())) if self.is_requested() => debug!(task = name, "task ended"),
            Ok(Ok(())) => self.fail(anyhow!("task {name} ended although nobody asked it to")),
            Ok(Err(failure)) => self.fail(failure.context(format!("task {name} failed"))),
            Err(join) if join.is_panic() => self.fail(anyhow!("task {name} panicked")),
            Err(_) => debug!(task = name, "task cancelled"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn services_end_on_request_without_failure() {
        let shutdown = Shutdown::new();
        for name in ["one", "two"] {
            let token = shutdown.token().clone();
            shutdown.spawn(name, async move {
                token.cancelled().await;
                Ok(())
            });
        }
        assert!(!shutdown.is_requested());
        shutdown.request();
        assert_eq!(shutdown.drain(SOON).await, Ok(()));
        assert!(shutdown.take_failure().is_none());
    }

    #[tokio::test]
    async fn a_service_that_ends_early_ends_the_process() {
        async fn failed(task: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> String {
            let shutdown = Shutdown::new();
            shutdown.spawn("frail", task);
            tokio::time::timeout(SOON, shutdown.requested()).await.unwrap();
            format!("{:#}", shutdown.take_failure().unwrap())
        }
        assert_eq!(failed(async { Ok(()) }).await, "task frail ended although nobody asked it to");
        assert_eq!(failed(async { Err(anyhow!("no luck")) }).await, "task frail failed: no luck");
        assert_eq!(failed(async { panic!("on purpose") }).await, "task frail panicked");
    }

    #[tokio::test]
    async fn a_service_that_fails_while_ending_is_a_failure() {
        let shutdown = Shutdown::new();
        let token = shutdown.token().clone();
        shutdown.spawn("flush", async move {
            token.cancelled().await;
            Err(anyhow!("disk full"))
        });
        shutdown.request();
        shutdown.drain(SOON).await.unwrap();
        assert_eq!(format!("{:#}", shutdown.take_failure().unwrap()), "task flush failed: disk full");
    }

    #[tokio::test]
    async fn the_first_failure_is_kept() {
        let shutdown = Shutdown::new();
        shutdown.fail(anyhow!("first"));
        shutdown.fail(anyhow!("second"));
        assert_eq!(shutdown.take_failure().unwrap().to_string(), "first");
    }

    #[tokio::test]
    async fn a_panic_in_a_piece_of_work_ends_only_that() {
        let shutdown = Shutdown::new();
        shutdown.track(async { panic!("on purpose") });
        assert_eq!(shutdown.drain(SOON).await, Ok(()));
        assert!(!shutdown.is_requested());
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_names_what_still_runs() {
        let shutdown = Shutdown::new();
        shutdown.spawn("deaf", std::future::pending());
        shutdown.track(std::future::pending());
        shutdown.request();
        let unfinished = shutdown.drain(SOON).await.unwrap_err();
        assert_eq!(unfinished, Unfinished { tasks: 2, services: vec!["deaf"] });
    }
}

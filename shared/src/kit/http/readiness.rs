//! Whether the process can do its work right now, and if not, why: a registry of named checks.
//!
//! A check is asked on each `GET /readyz`, so it must answer from memory. What takes a round trip
//! is found out by a task, which sets a [`Condition`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The registry; clones are the same registry.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Check>>>);

impl Readiness {
    /// A registry without checks, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that answers from memory; the error says why it is not ready.
    pub fn check(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        lock(&self.0).insert(name, Arc::new(check));
    }

    /// Adds a condition that somebody sets; until then it is not ready because of `why`.
    pub fn condition(&self, name: &'static str, why: impl Into<String>) -> Condition {
        let condition = Condition(Arc::new(Mutex::new(Err(why.into()))));
        let state = Arc::clone(&condition.0);
        self.check(name, move || lock(&state).clone());
        condition
    }

    /// The checks that are not ready, and why; empty if the process is ready.
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        // Asked without the lock, so that a check may do what it likes.
        let checks: Vec<_> = lock(&self.0).iter().map(|(name, check)| (*name, Arc::clone(check))).collect();
        checks.into_iter().filter_map(|(name, check)| Some((name, check().err()?))).collect()
    }
}

/// A check whose answer is set; clones are the same condition.
#[derive(Clone)]
pub struct Condition(Arc<Mutex<Result<(), String>>>);

impl Condition {
    /// It is ready now.
    pub fn ready(&self) {
        *lock(&self.0) = Ok(());
    }

    /// It is not ready any more.
    pub fn not_ready(&self, why: impl Into<String>) {
        *lock(&self.0) = Err(why.into());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_must_be_ready() {
        let readiness = Readiness::new();
        assert!(readiness.reasons().is_empty());
        let kafka = readiness.condition("kafka", "not yet connected");
        readiness.check("disk", || Ok(()));
        assert_eq!(readiness.reasons(), BTreeMap::from([("kafka", "not yet connected".to_owned())]));
        kafka.ready();
        assert!(readiness.reasons().is_empty());
        kafka.not_ready("gone");
        readiness.check("disk", || Err("full".to_owned()));
        let expected = BTreeMap::from([("disk", "full".to_owned()), ("kafka", "gone".to_owned())]);
        assert_eq!(readiness.reasons(), expected);
    }
}

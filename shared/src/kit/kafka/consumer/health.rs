//! Whether reading goes on, and if not, why: the readiness check, and two lines in the log for each
//! outage however many lanes it hits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::kit::kafka::link::Link;

/// Where something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Before there is a member.
    Start,
    /// In a lane.
    Lane(i32),
}

/// The state of one reader.
#[derive(Debug)]
pub(super) struct Health {
    name: &'static str,
    link: Arc<Link>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_assigned: bool,
    troubles: BTreeMap<Place, String>,
    /// When the first of them began.
    since: Option<Instant>,
    stuck: Vec<String>,
}

impl Health {
    pub(super) fn new(name: &'static str, link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self { name, link, inner: Mutex::default() })
    }

    /// Partitions were assigned; those that cannot be read have a reason.
    pub(super) fn assigned(&self, stuck: Vec<String>) {
        let mut inner = self.lock();
        inner.is_assigned = true;
        inner.stuck = stuck;
    }

    /// A transient fault.
    pub(super) fn fails(&self, place: Place, why: String) {
        let mut inner = self.lock();
        if inner.since.is_none() {
            warn!(reader = self.name, error = why, "reading waits");
            inner.since = Some(Instant::now());
        }
        inner.troubles.insert(place, why);
    }

    /// What failed works again.
    pub(super) fn works(&self, place: Place) {
        let mut inner = self.lock();
        inner.troubles.remove(&place);
        if inner.troubles.is_empty()
            && let Some(since) = inner.since.take()
        {
            let outage_ms = since.elapsed().as_millis() as u64;
            info!(reader = self.name, outage_ms, "reading goes on");
        }
    }

    /// The place is no more; whether what failed works again is not known.
    pub(super) fn forget(&self, place: Place) {
        self.lock().troubles.remove(&place);
    }

    /// The readiness check.
    pub(super) fn check(&self) -> Result<(), String> {
        let inner = self.lock();
        let mut reasons = inner.stuck.clone();
        // Usually they all say the same.
        let troubles: Vec<_> = inner.troubles.values().collect();
        reasons.extend(troubles.first().map(|why| (*why).clone()));
        if !self.link.is_up() {
            reasons.push(format!("kafka: cannot be reached: {}", self.link.failure()));
        }
        if !inner.is_assigned && reasons.is_empty() {
            reasons.push("kafka: no partitions assigned yet".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_check_says_what_is_wrong() {
        let link = Link::new("test");
        let health = Health::new("test", Arc::clone(&link));
        assert_eq!(health.check(), Err("kafka: cannot be reached: no answer".to_owned()));
        link.answered();
        assert_eq!(health.check(), Err("kafka: no partitions assigned yet".to_owned()));
        health.fails(Place::Start, "postgres: gone".to_owned());
        assert_eq!(health.check(), Err("postgres: gone".to_owned()));
        health.works(Place::Start);
        health.assigned(Vec::new());
        assert_eq!(health.check(), Ok(()));
        health.fails(Place::Lane(1), "postgres: gone".to_owned());
        health.fails(Place::Lane(2), "postgres: gone".to_owned());
        health.works(Place::Lane(1));
        assert_eq!(health.check(), Err("postgres: gone".to_owned()));
        health.forget(Place::Lane(2));
        assert_eq!(health.check(), Ok(()));
        health.assigned(vec!["stream a partition 1: stuck".to_owned()]);
        assert_eq!(health.check(), Err("stream a partition 1: stuck".to_owned()));
    }
}

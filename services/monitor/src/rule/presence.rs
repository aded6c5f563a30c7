//! Silence: what a clock saw that was watching (docs/adr/0010).
//!
//! All times that follow are computed, so it does not matter when within a phase of watching one
//! looks. Before the watch has lasted a heartbeat, nothing is said.

use super::threshold::{Flapping, Offline};

/// What the lane's clock shows, and whether it can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The time, in Unix milliseconds.
    pub now_ms: i64,
    /// Since when the lane has kept up without a break; none if it does not.
    pub live_since_ms: Option<i64>,
    /// Whether the alarm of the fleet is open, its condition true.
    pub fleet_is_down: bool,
    /// When that condition was last over.
    pub fleet_recovered_at_ms: Option<i64>,
}

impl Clock {
    /// Since when silence counts; none if it does not.
    pub(crate) fn watched_from(&self, rule: &Offline) -> Option<i64> {
        self.live_since_ms
            .map(|since| since.saturating_add(rule.watch_ms))
            .filter(|from| *from <= self.now_ms)
    }

    /// Before this no silence of a single lock is told.
    fn fair_from(&self, watched_from_ms: i64) -> i64 {
        self.fleet_recovered_at_ms.map_or(watched_from_ms, |recovered| recovered.max(watched_from_ms))
    }

    /// When a lock that has been offline since then alarms.
    pub(crate) fn offline_at(&self, offline_since_ms: i64, watched_from_ms: i64, rule: &Offline) -> i64 {
        offline_since_ms.max(self.fair_from(watched_from_ms)).saturating_add(rule.hold_ms)
    }

    /// When its alarm is worse.
    pub(crate) fn worse_at(&self, last_report_at_ms: i64, watched_from_ms: i64, rule: &Offline) -> i64 {
        last_report_at_ms.saturating_add(rule.worse_after_ms).max(self.fair_from(watched_from_ms))
    }

    /// Whether a lock with these edges comes and goes. What was before the fleet recovered was not
    /// the lock.
    pub(crate) fn flaps(&self, edges: &[i64], rule: &Flapping) -> bool {
        let Some(last) = edges.last() else { return false };
        let oldest = last.saturating_sub(rule.window_ms).max(self.fleet_recovered_at_ms.unwrap_or(i64::MIN));
        let recent = edges.iter().filter(|edge| **edge > oldest).count();
        recent >= usize::from(rule.edges_min) && self.now_ms < last.saturating_add(rule.window_ms)
    }
}

/// Remembers that a lock came or went.
pub(crate) fn edge(edges: &mut Vec<i64>, at_ms: i64, rule: &Flapping) {
    forget(edges, at_ms, rule);
    edges.push(at_ms);
    let most = usize::from(rule.edges_min);
    let more = edges.len().saturating_sub(most);
    edges.drain(..more);
}

/// Removes edges that are too old to count.
pub(crate) fn forget(edges: &mut Vec<i64>, at_ms: i64, rule: &Flapping) {
    edges.retain(|edge| *edge > at_ms.saturating_sub(rule.window_ms));
}

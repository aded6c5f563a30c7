//! The fleet: many locks that fall silent at once are one thing that is wrong, and not the locks.

use latchline_shared::alarm::{AlarmType, Origin};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::is_new_span;
use super::threshold::Fleet;
use crate::signal::{Signal, What};

/// What the lanes that are live see together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Locks.
    pub locks: u64,
    /// Of these, how many are offline.
    pub offline: u64,
    /// Of these, how many fell silent within the last window.
    pub lost: u64,
    /// Lanes with locks online, but without a report for long.
    pub silent_lanes: u64,
}

/// What is remembered from one look to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// Whether the fleet is down.
    pub is_down: bool,
    /// While it is, since when so few are offline that it is about to be over.
    pub few_since_ms: Option<i64>,
    /// When it was last looked at.
    pub seen_at_ms: i64,
}

/// Looks at the fleet: whether it falls, has recovered, or is still down.
pub fn decide(rule: &Fleet, totals: &Totals, remembered: &mut Remembered, now_ms: i64) -> Option<Signal> {
    let before_ms = std::mem::replace(&mut remembered.seen_at_ms, now_ms);
    let Some(severity) = rule.severity else {
        remembered.few_since_ms = None;
        return std::mem::take(&mut remembered.is_down).then(|| signal(now_ms, What::End, totals));
    };
    let is_falling = is_falling(rule, totals);
    if !remembered.is_down {
        remembered.is_down = is_falling;
        remembered.few_since_ms = None;
        return is_falling.then(|| signal(now_ms, What::Begin(severity), totals));
    }
    let few = !is_falling && percent(totals.offline, totals.locks) < rule.end_percent;
    remembered.few_since_ms = few.then(|| remembered.few_since_ms.unwrap_or(now_ms));
    let over_at_ms = remembered.few_since_ms.map(|since| since.saturating_add(rule.end_delay_ms));
    match over_at_ms.filter(|over| *over <= now_ms) {
        Some(over_at_ms) => {
            *remembered = Remembered { seen_at_ms: now_ms, ..Remembered::default() };
            Some(signal(over_at_ms, What::End, totals))
        }
        None => is_new_span(before_ms, now_ms).then(|| signal(now_ms, What::Hold, totals)),
    }
}

fn is_falling(rule: &Fleet, totals: &Totals) -> bool {
    let share = percent(totals.lost, totals.locks) > rule.lost_percent && totals.lost >= rule.lost_min;
    totals.lost > rule.lost_max || share || totals.silent_lanes > 0
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn signal(at_ms: i64, what: What, totals: &Totals) -> Signal {
    let Totals { locks, offline, lost, silent_lanes } = totals;
    let value = json!({ "locks": locks, "offline": offline, "lost": lost, "silent_lanes": silent_lanes });
    Signal { alarm: AlarmType::FleetConnectivity, at_ms, what, value, origin: Origin::Clock }
}

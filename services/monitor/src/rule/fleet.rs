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
    /// How many were offline before it fell: nobody waits for those.
    pub before: u64,
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
        remembered.before = totals.offline.saturating_sub(totals.lost);
        remembered.few_since_ms = None;
        return is_falling.then(|| signal(now_ms, What::Begin(severity), totals));
    }
    let fallen = totals.offline.saturating_sub(remembered.before);
    let few = !is_falling && percent(fallen, totals.locks) < rule.end_percent;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::load::Rules;

    /// A line: second, locks, offline, lost, silent lanes, and what is said.
    fn check(expected: &str) {
        let rules = Rules::load(None).expect("the default is valid");
        let mut remembered = Remembered::default();
        let mut played = String::new();
        for line in expected.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
            let [second, locks, offline, lost, silent_lanes] = numbers[..] else { panic!("{line}") };
            let totals = Totals { locks, offline, lost, silent_lanes };
            // It is kept between two looks.
            let json = serde_json::to_string(&remembered).unwrap();
            remembered = serde_json::from_str(&json).unwrap();
            let signal = decide(rules.fleet(), &totals, &mut remembered, second as i64 * 1_000);
            played += &format!("{second} {locks} {offline} {lost} {silent_lanes}");
            if let Some(signal) = signal {
                played += &format!(" {:?} {}", signal.what, signal.at_ms / 1_000);
            }
            played.push('\n');
        }
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(played.trim(), expected.join("\n"));
    }

    #[test]
    fn many_locks_at_once_are_the_fleet() {
        check(
            "
            1 5000 100 100 0
            2 5000 101 101 0 Begin(Critical) 2
            3 5000 5000 4999 0
            70 5000 5000 0 0
            600 5000 4000 0 0 Hold 600
            601 5000 4000 0 0
            700 5000 250 0 0
            701 5000 249 0 0
            900 5000 250 0 0
            901 5000 249 0 0
            1200 5000 100 0 0 Hold 1200
            1200 5000 100 0 0
            1203 5000 100 0 0 End 1201
            1204 5000 100 0 0
            1205 5000 201 101 0 Begin(Critical) 1205
            ",
        );
    }

    #[test]
    fn a_fifth_of_a_small_fleet_is_the_fleet_if_it_is_more_than_a_few() {
        check(
            "
            1 10 9 9 0
            2 0 0 0 0
            3 50 10 10 0
            4 49 10 10 0 Begin(Critical) 4
            ",
        );
    }

    #[test]
    fn a_silent_partition_is_the_fleet_until_it_speaks() {
        check(
            "
            1 1000 0 0 0
            2 1000 0 0 1 Begin(Critical) 2
            400 1000 0 0 1
            401 1000 0 0 0
            650 1000 0 0 1 Hold 650
            651 1000 0 0 0
            951 1000 0 0 0 End 951
            ",
        );
    }

    #[test]
    fn what_is_switched_off_is_over() {
        let rules = Rules::load(None).expect("the default is valid");
        let off = Fleet { severity: None, ..rules.fleet().clone() };
        let totals = Totals { locks: 1_000, offline: 500, lost: 500, silent_lanes: 0 };
        let mut remembered = Remembered::default();
        assert!(decide(&off, &totals, &mut remembered, 1).is_none());
        assert!(decide(rules.fleet(), &totals, &mut remembered, 2).is_some());
        assert_eq!(decide(&off, &totals, &mut remembered, 3).unwrap().what, What::End);
        assert!(decide(&off, &totals, &mut remembered, 4).is_none());
    }
}

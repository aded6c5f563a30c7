//! What time does to the locks of a lane: delays end, and silence counts.

use super::watch::Position;
use super::{Effects, Lane, locate};
use crate::alarm::sweep::fleet::FleetState;
use crate::rule::presence::Clock;

/// Most locks that change in one look; further ones do in the next. All that follows from time says
/// when, so it does not matter when it is noticed.
const CHANGES_MAX: usize = 20_000;

impl Lane {
    /// Whether it is time for another look at the clock.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.watch.is_due(now_ms)
    }

    /// Ends the delays that ended by `until_ms`, and looks for silence at `now_ms`.
    pub fn tick(
        &mut self,
        now_ms: i64,
        until_ms: i64,
        position: Position,
        fleet: FleetState,
        effects: &mut Effects,
    ) {
        self.watch.look(now_ms, position);
        self.passed_ms = until_ms;
        let live_since_ms = self.watch.live_since_ms();
        let horizon_ms = if live_since_ms.is_some() { until_ms.max(now_ms) } else { until_ms };
        let FleetState { is_down: fleet_is_down, recovered_at_ms: fleet_recovered_at_ms } = fleet;
        let clock = Clock { now_ms, live_since_ms, fleet_is_down, fleet_recovered_at_ms };
        for index in 0..self.due_ms.len() {
            if self.due_ms[index] <= horizon_ms {
                self.look(index, until_ms, &clock, effects);
            }
            if self.changed.len() >= CHANGES_MAX {
                break;
            }
        }
        let window_ms = self.rules.fleet().window_ms;
        self.silent.retain(|(_, since_ms)| now_ms - since_ms < window_ms);
    }

    fn look(&mut self, index: usize, until_ms: i64, clock: &Clock, effects: &mut Effects) {
        let place = self.place(index);
        let entry = &mut self.locks[index];
        let (lock, rules) = (&mut entry.lock, self.rules.of(&entry.id));
        lock.pass(rules, until_ms, &mut self.signals);
        let has_turned = lock.lapse(rules, clock, &mut self.signals);
        let has_changed = has_turned || !self.signals.is_empty();
        locate(&entry.id, &place, self.signals.drain(..), &mut effects.signals);
        if has_changed {
            self.change(index);
        }
    }
}

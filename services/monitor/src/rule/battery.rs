//! Batteries: low, nearly empty, and falling faster than batteries do.
//!
//! The first reading of each ten minutes is remembered for an hour: enough to see a fall, and for
//! the hour's median that forecasts are made of.

use serde::{Deserialize, Serialize};

use super::Step;
use super::threshold::Level;
use crate::lock::memory::{Fall, Hour};

/// Length of a slot, in milliseconds.
const SLOT_MS: i64 = 600_000;

/// Slots of an hour.
const SLOTS: usize = 6;

/// No reading.
const NONE: u16 = u16::MAX;

/// A good battery of a report, against thresholds that are apart: so many in a row at or beyond the
/// one that counts now.
pub(crate) fn level(percent: f32, is_raised: bool, row: &mut u8, level: &Level) -> Step {
    let (counts, enough, step) = match is_raised {
        false => (percent <= level.raise_percent, level.raise_reports, Step::Begin),
        true => (percent >= level.end_percent, level.end_reports, Step::End),
    };
    *row = if counts { row.saturating_add(1) } else { 0 };
    if *row < enough {
        return Step::Stay;
    }
    *row = 0;
    step
}

/// A percentage in tenths, as far as locks measure.
pub(crate) fn tenths(percent: f32) -> u16 {
    (percent.clamp(0.0, 100.0) * 10.0).round() as u16
}

/// Readings of the last hour, one for each of six slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// The newest slot, since 1970.
    slot: u32,
    /// By slot modulo six, in tenths of a percent.
    tenths: [u16; SLOTS],
}

impl Default for Readings {
    fn default() -> Self {
        Self { slot: 0, tenths: [NONE; SLOTS] }
    }
}

impl Readings {
    /// Whether there has been none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many points the battery has fallen, in tenths: from the highest reading of the last six
    /// slots, or the last one before it, or what it was after the last fall.
    pub(crate) fn fall(&self, at_ms: i64, tenths: u16, last: Option<u16>, fall: Option<Fall>) -> u16 {
        let slot = slot(at_ms);
        let oldest = slot.saturating_sub(SLOTS as u32 - 1);
        let fall = fall.filter(|fall| !is_forgotten(*fall, at_ms));
        let remembered =
            self.slots().filter(|(at, _)| *at >= oldest && fall.is_none_or(|fall| *at > fall.slot));
        let candidates = remembered.map(|(_, tenths)| tenths).chain(last).chain(fall.map(|fall| fall.tenths));
        candidates.max().map_or(0, |highest| highest.saturating_sub(tenths))
    }

    /// Remembers a reading, if it is the first of its slot.
    pub(crate) fn put(&mut self, at_ms: i64, tenths: u16) {
        let slot = slot(at_ms);
        if slot < self.slot {
            return;
        }
        for passed in (self.slot.saturating_add(1)..=slot).rev().take(SLOTS) {
            self.tenths[place(passed)] = NONE;
        }
        self.slot = slot;
        let first = &mut self.tenths[place(slot)];
        if *first == NONE {
            *first = tenths;
        }
    }

    /// The median of the newest hour that had readings, if it is over.
    pub(crate) fn finished(&self, at_ms: i64) -> Option<Hour> {
        let hour = hour_of(self.slot);
        if hour_of(slot(at_ms)) <= hour {
            return None;
        }
        let mut tenths: Vec<u16> =
            self.slots().filter(|(slot, _)| hour_of(*slot) == hour).map(|(_, tenths)| tenths).collect();
        tenths.sort_unstable();
        let middle = tenths.len() / 2;
        let median = match tenths.len() % 2 {
            _ if tenths.is_empty() => return None,
            0 => (tenths[middle - 1] + tenths[middle]).div_ceil(2),
            _ => tenths[middle],
        };
        Some(Hour { day: (hour / 24) as i32, hour: (hour % 24) as u8, tenths: median })
    }

    /// Slots that have a reading.
    fn slots(&self) -> impl Iterator<Item = (u32, u16)> {
        let oldest = self.slot.saturating_sub(SLOTS as u32 - 1);
        (oldest..=self.slot)
            .map(|slot| (slot, self.tenths[place(slot)]))
            .filter(|(_, tenths)| *tenths != NONE)
    }
}

/// Whether a fall is so old that no reading before it is remembered.
pub(crate) fn is_forgotten(fall: Fall, at_ms: i64) -> bool {
    fall.slot.saturating_add(SLOTS as u32) <= slot(at_ms)
}

/// The slot of a time. Times before 1970 and after 51000 have the first and the last.
pub(crate) fn slot(at_ms: i64) -> u32 {
    u32::try_from(at_ms.div_euclid(SLOT_MS).max(0)).unwrap_or(u32::MAX)
}

fn hour_of(slot: u32) -> u32 {
    slot / SLOTS as u32
}

fn place(slot: u32) -> usize {
    slot as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn readings(of: &[(i64, u16)]) -> Readings {
        let mut readings = Readings::default();
        for (minute, tenths) in of {
            readings.put(minute * MINUTE_MS, *tenths);
        }
        readings
    }

    #[test]
    fn the_first_reading_of_a_slot_is_remembered_for_an_hour() {
        let kept = readings(&[(1, 500), (2, 400), (11, 480), (59, 470)]);
        assert_eq!(kept.slots().collect::<Vec<_>>(), [(0, 500), (1, 480), (5, 470)]);
        let later = readings(&[(1, 500), (11, 480), (59, 470), (60, 460)]);
        assert_eq!(later.slots().collect::<Vec<_>>(), [(1, 480), (5, 470), (6, 460)]);
        let much_later = readings(&[(1, 500), (11, 480), (59, 470), (1_000, 460)]);
        assert_eq!(much_later.slots().collect::<Vec<_>>(), [(100, 460)]);
    }

    #[test]
    fn a_fall_is_from_the_highest_of_the_hour() {
        let of = |at, tenths, last, fall| {
            readings(&[(0, 500), (10, 450), (50, 460)]).fall(at * MINUTE_MS, tenths, last, fall)
        };
        assert_eq!(of(59, 390, None, None), 110, "from the first");
        assert_eq!(of(60, 390, None, None), 70, "which is too old now");
        assert_eq!(of(59, 510, None, None), 0, "a rise is no fall");
        assert_eq!(of(59, 390, Some(600), None), 210, "from the one before");
        assert_eq!(of(59, 390, None, Some(Fall { slot: 1, tenths: 440 })), 70, "after another fall");
        assert_eq!(of(200, 390, None, Some(Fall { slot: 1, tenths: 440 })), 0, "all forgotten");
    }

    #[test]
    fn an_hour_has_a_median_when_it_is_over() {
        let mut readings = readings(&[(60, 500), (70, 480), (80, 470), (110, 100)]);
        assert_eq!(readings.finished(119 * MINUTE_MS), None);
        let hour = Hour { day: 0, hour: 1, tenths: 475 };
        assert_eq!(readings.finished(120 * MINUTE_MS), Some(hour));
        readings.put(25 * 60 * MINUTE_MS, 333);
        assert_eq!(readings.finished(100 * 60 * MINUTE_MS), Some(Hour { day: 1, hour: 1, tenths: 333 }));
    }
}

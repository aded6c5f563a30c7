//! What the rules remember of a lock, beside its present state.
//!
//! There are a million in memory, and each report writes one to Postgres as JSON: so it is one flat
//! struct without heap, but for what is rare; what is as it is at first is not written. A newer
//! monitor's fields are ignored. Reading back what was written gives the same.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rule::battery::Readings;
use crate::rule::set::AlarmSet;

/// What the rules remember of a lock.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Conditions that hold.
    #[serde(skip_serializing_if = "AlarmSet::is_empty")]
    pub raised: AlarmSet,
    /// Since when nobody has locked again.
    #[serde(skip_serializing_if = "Since::is_none")]
    pub open: Since,
    /// Since when the bolt is between its ends.
    #[serde(skip_serializing_if = "Since::is_none")]
    pub partial: Since,
    /// Since when the bolt is on its way.
    #[serde(skip_serializing_if = "Since::is_none")]
    pub moving: Since,
    /// Since when the door is ajar; once that is raised, since when it is closed.
    #[serde(skip_serializing_if = "Since::is_none")]
    pub ajar: Since,
    /// When the last result came.
    #[serde(skip_serializing_if = "Since::is_none")]
    pub result_at: Since,
    /// Hash of the process of the last result.
    #[serde(skip_serializing_if = "is_default")]
    pub process: u64,
    /// Hash of the last payload.
    #[serde(skip_serializing_if = "is_default")]
    pub payload: u64,
    /// The lock's own number of its start and of its last report; only if `numbered`.
    #[serde(skip_serializing_if = "is_default")]
    pub boot: u64,
    /// See `boot`.
    #[serde(skip_serializing_if = "is_default")]
    pub seq: u64,
    /// What few locks have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rare: Option<Box<Rare>>,
    /// Batteries of the last hour.
    #[serde(skip_serializing_if = "Readings::is_empty")]
    pub readings: Readings,
    /// The hour of the last forecast, since 1970.
    #[serde(skip_serializing_if = "is_default")]
    pub forecast: u32,
    /// Reports in a row that count for raising or ending `battery_low`.
    #[serde(skip_serializing_if = "is_default")]
    pub low: u8,
    /// The same for `battery_critical`.
    #[serde(skip_serializing_if = "is_default")]
    pub critical: u8,
    /// Reports of an unknown state in a row.
    #[serde(skip_serializing_if = "is_default")]
    pub unknown: u8,
    /// Good reports in a row, while `invalid_report` is raised.
    #[serde(skip_serializing_if = "is_default")]
    pub good: u8,
    /// Reports in a row, while `device_offline` is raised.
    #[serde(skip_serializing_if = "is_default")]
    pub back: u8,
    /// What the lock last said of its door, plus one; 0 if nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub door: u8,
    /// Whether there are readings whose hour has not been handed out.
    #[serde(skip_serializing_if = "is_default")]
    pub measured: bool,
    /// Whether the lock has numbered its last report.
    #[serde(skip_serializing_if = "is_default")]
    pub numbered: bool,
    /// Whether the last report said that too many wrong codes were entered.
    #[serde(skip_serializing_if = "is_default")]
    pub wrong_code: bool,
    /// Whether `left_unlocked` is worse already.
    #[serde(skip_serializing_if = "is_default")]
    pub open_worse: bool,
    /// Whether `device_offline` is worse already.
    #[serde(skip_serializing_if = "is_default")]
    pub offline_worse: bool,
}

/// What few locks have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rare {
    /// When it came or went, from old to new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<i64>,
    /// When it reported what could not be read, from old to new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub invalid: Vec<i64>,
    /// The last fall of the battery: its reading is what counts, not what was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall: Option<Fall>,
    /// Finished hours that nobody has taken yet, from old to new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hour>,
}

/// The battery after it fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fall {
    /// In which ten minutes since 1970.
    pub slot: u32,
    /// In tenths of a percent.
    pub tenths: u16,
}

/// The battery of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// Days since 1970-01-01 (UTC).
    pub day: i32,
    /// From 0 to 23.
    pub hour: u8,
    /// Median, in tenths of a percent.
    pub tenths: u16,
}

impl Hour {
    /// When it was over.
    pub fn end_ms(&self) -> i64 {
        (i64::from(self.day) * 24 + i64::from(self.hour) + 1) * 3_600_000
    }
}

impl Memory {
    /// Reads what [`Memory::write`] wrote.
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Appends it as JSON.
    pub fn write(&self, json: &mut Vec<u8>) {
        serde_json::to_writer(json, self).expect("numbers and words are JSON, and memory takes them");
    }

    /// What few locks have, to be written to.
    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives memory back once nothing rare is left.
    pub(crate) fn drop_empty_rare(&mut self) {
        if self.rare.as_deref().is_some_and(|rare| *rare == Rare::default()) {
            self.rare = None;
        }
    }
}

/// A time in Unix milliseconds, or none, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since(i64);

impl Since {
    /// None.
    pub const NONE: Self = Self(i64::MIN);

    /// This time.
    pub fn at(ms: i64) -> Self {
        Self(ms)
    }

    /// The time, if there is one.
    pub fn get(self) -> Option<i64> {
        (self != Self::NONE).then_some(self.0)
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Sets the time if there is none.
    pub fn get_or_set(&mut self, ms: i64) {
        if self.is_none() {
            *self = Self(ms);
        }
    }

    /// So much later; the end of time if there is none.
    pub fn after(self, delay_ms: i64) -> i64 {
        if self.is_none() { i64::MAX } else { self.0.saturating_add(delay_ms) }
    }
}

impl Default for Since {
    fn default() -> Self {
        Self::NONE
    }
}

impl Serialize for Since {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|ms| ms.map_or(Self::NONE, Self))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::{Hour, Rare};
    use crate::lock::{Lock, Seen};

    #[test]
    fn a_million_fit() {
        assert!(size_of::<Lock>() <= 200, "{}", size_of::<Lock>());
    }

    #[test]
    fn hours_wait_until_they_are_taken() {
        const HOUR_MS: i64 = 3_600_000;
        let mut lock = Lock::new(&Seen { at_ms: 0, offset: 0, dup: false, payload_hash: 0 });
        let [first, second] = [1, 2].map(|hour| Hour { day: 1, hour, tenths: 500 });
        lock.memory.rare = Some(Box::new(Rare { hours: vec![first, second], ..Rare::default() }));
        let end_ms = 26 * HOUR_MS;
        assert_eq!(first.end_ms(), end_ms);
        assert_eq!(lock.take_hour(end_ms + 4, 5), None);
        assert_eq!(lock.take_hour(end_ms + 5, 5), Some(first));
        assert_eq!(lock.take_hour(end_ms + HOUR_MS, 5), None);
        assert_eq!(lock.take_hour(end_ms + 2 * HOUR_MS, 5), Some(second));
        assert_eq!((lock.take_hour(i64::MAX, 5), lock.memory.rare), (None, None));
    }
}

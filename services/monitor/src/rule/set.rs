//! A set of alarm types in one word: there is one for each of a million locks.

use std::borrow::Cow;
use std::fmt;

use latchline_shared::alarm::AlarmType;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of alarm types. In JSON a list of their words, so that it outlives a change of their order;
/// words that are not known are left out.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct AlarmSet(u64);

impl AlarmSet {
    /// Whether the type is in it.
    pub fn contains(self, alarm: AlarmType) -> bool {
        self.0 & bit(alarm) != 0
    }

    /// Adds a type; whether it is new.
    pub fn insert(&mut self, alarm: AlarmType) -> bool {
        let is_new = !self.contains(alarm);
        self.0 |= bit(alarm);
        is_new
    }

    /// Removes a type; whether it was there.
    pub fn remove(&mut self, alarm: AlarmType) -> bool {
        let was_there = self.contains(alarm);
        self.0 &= !bit(alarm);
        was_there
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// What is in both.
    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Its types, in their order.
    pub fn iter(self) -> impl Iterator<Item = AlarmType> {
        AlarmType::ALL.iter().copied().filter(move |alarm| self.contains(*alarm))
    }
}

fn bit(alarm: AlarmType) -> u64 {
    const { assert!(AlarmType::ALL.len() <= 64) };
    1 << alarm as u32
}

impl FromIterator<AlarmType> for AlarmSet {
    fn from_iter<I: IntoIterator<Item = AlarmType>>(alarms: I) -> Self {
        let mut set = Self::default();
        for alarm in alarms {
            set.insert(alarm);
        }
        set
    }
}

impl fmt::Debug for AlarmSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(AlarmType::name)).finish()
    }
}

impl Serialize for AlarmSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(AlarmType::name))
    }
}

impl<'de> Deserialize<'de> for AlarmSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = AlarmSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of alarm types")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<AlarmSet, A::Error> {
                let mut set = AlarmSet::default();
                while let Some(word) = words.next_element::<Cow<'de, str>>()? {
                    if let Some(alarm) = AlarmType::from_name(&word) {
                        set.insert(alarm);
                    }
                }
                Ok(set)
            }
        }
        deserializer.deserialize_seq(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_place_of_its_own() {
        let mut set = AlarmSet::default();
        for (before, alarm) in AlarmType::ALL.iter().enumerate() {
            assert_eq!(set.iter().count(), before);
            assert!(set.insert(*alarm) && !set.insert(*alarm), "{alarm}");
        }
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<AlarmSet>(&json).unwrap(), set);
        for alarm in AlarmType::ALL {
            assert!(set.remove(*alarm) && !set.remove(*alarm), "{alarm}");
        }
        assert!(set.is_empty());
    }

    #[test]
    fn a_word_of_a_newer_monitor_is_left_out() {
        let set: AlarmSet = serde_json::from_str(r#"["tamper","burning"]"#).unwrap();
        assert_eq!(set, AlarmSet::from_iter([AlarmType::Tamper]));
    }
}

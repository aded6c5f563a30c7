//! What a lock's `lock_state` means (contract, section 5).
//!
//! Makers number the states in ways that contradict each other (1 is unlocked here and locked
//! there), so the profile is configured, per fleet or per lock, and never guessed from values.
//!
//! Invariant: a number that a profile does not list is [`LockState::Unknown`], never a guess.

use serde::{Deserialize, Deserializer};

use crate::command::Action;

/// The state of a lock, whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockState {
    /// The bolt is thrown.
    Locked,
    /// The bolt is withdrawn.
    Unlocked,
    /// The motor is blocked.
    Fault,
    /// The lock does not know, or we do not know the number.
    Unknown,
    /// The bolt is between its ends.
    NotFullyLocked,
    /// The latch is pulled.
    Unlatched,
    /// On the way to locked.
    Locking,
    /// On the way to unlocked.
    Unlocking,
}

impl LockState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Locked,
        Self::Unlocked,
        Self::Fault,
        Self::Unknown,
        Self::NotFullyLocked,
        Self::Unlatched,
        Self::Locking,
        Self::Unlocking,
    ];

    /// Its canonical name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::Fault => "fault",
            Self::Unknown => "unknown",
            Self::NotFullyLocked => "not_fully_locked",
            Self::Unlatched => "unlatched",
            Self::Locking => "locking",
            Self::Unlocking => "unlocking",
        }
    }

    /// The state with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a lock in this state has done what it was told.
    pub fn is_success_of(self, action: Action) -> bool {
        match action {
            Action::Unlock => matches!(self, Self::Unlocked | Self::Unlatched),
            Action::Lock => self == Self::Locked,
            Action::Unlatch => self == Self::Unlatched,
        }
    }
}

/// A number, read by a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What it means.
    pub state: LockState,
    /// Whether the profile lists the number; if not, somebody should look at the lock.
    pub known: bool,
}

/// How a maker numbers the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// 0 to 4 as in BACnet (`BACnetLockStatus`), 5 to 8 beyond it.
    Reference,
    /// Matter, Door Lock cluster, `DlLockState`.
    Matter,
    /// Nuki's `lockState`.
    Nuki,
    /// TTLock's `queryOpenState`.
    Ttlock,
    /// Tedee's lock state.
    Tedee,
    /// Z-Wave, Door Lock command class: unsecured or secured.
    Zwave,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Reference, Self::Matter, Self::Nuki, Self::Ttlock, Self::Tedee, Self::Zwave];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Matter => "matter",
            Self::Nuki => "nuki",
            Self::Ttlock => "ttlock",
            Self::Tedee => "tedee",
            Self::Zwave => "zwave",
        }
    }

    /// What the number means.
    pub fn read(self, raw: i64) -> Reading {
        match self.numbers().iter().find(|(number, _)| *number == raw) {
            Some((_, state)) => Reading { state: *state, known: true },
            None => Reading { state: LockState::Unknown, known: false },
        }
    }

    fn numbers(self) -> &'static [(i64, LockState)] {
        use LockState::{Fault, Locked, Locking, NotFullyLocked, Unknown, Unlatched, Unlocked, Unlocking};
        match self {
            Self::Reference => &[
                (0, Locked),
                (1, Unlocked),
                (2, Fault),
                (3, Unknown),
                (4, Unknown),
                (5, NotFullyLocked),
                (6, Unlatched),
                (7, Locking),
                (8, Unlocking),
            ],
            Self::Matter => &[(0, NotFullyLocked), (1, Locked), (2, Unlocked), (3, Unlatched)],
            Self::Nuki => &[
                (0, Unknown), // not calibrated
                (1, Locked),
                (2, Unlocking),
                (3, Unlocked),
                (4, Locking),
                (5, Unlatched),
                (6, Unlocked),   // lock 'n' go
                (7, Unlocking),  // unlatching
                (0xfc, Unknown), // calibrates
                (0xfd, Unknown), // boots
                (0xfe, Fault),   // motor blocked
                (0xff, Unknown),
            ],
            Self::Ttlock => &[(0, Locked), (1, Unlocked), (2, Unknown)],
            Self::Tedee => {
                &[(2, Unlocked), (3, NotFullyLocked), (4, Unlocking), (5, Locking), (6, Locked), (9, Unknown)]
            }
            Self::Zwave => &[(0, Unlocked), (255, Locked)],
        }
    }
}

/// Which lock has which profile: the `[profiles]` table, the same in every service.
#[derive(Debug, Clone, Deserialize)]
pub struct Profiles {
    /// The profile of a lock that is not listed.
    pub default: Profile,
    /// Locks of other makers; of several that match, the longest wins.
    pub locks: Vec<Exception>,
}

/// Locks that do not have the default profile.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// A lock's id, or how ids begin with a `*` at the end.
    pub lock: Pattern,
    /// Their profile.
    pub profile: Profile,
}

impl Profiles {
    /// The profile of this lock.
    pub fn of(&self, lock_id: &str) -> Profile {
        let matching = self.locks.iter().filter(|exception| exception.lock.matches(lock_id));
        matching.max_by_key(|exception| exception.lock.length()).map_or(self.default, |best| best.profile)
    }
}

/// An id, or with a `*` at its end how ids begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    is_prefix: bool,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self { text: prefix.to_owned(), is_prefix: true },
            None => Self { text: text.to_owned(), is_prefix: false },
        }
    }

    /// Whether the id is meant.
    pub fn matches(&self, id: &str) -> bool {
        if self.is_prefix { id.starts_with(&self.text) } else { id == self.text }
    }

    /// How much of an id it tells; a whole id tells more than its beginning.
    pub fn length(&self) -> usize {
        2 * self.text.len() + usize::from(!self.is_prefix)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_reads_its_numbers_and_no_others() {
        for (profile, table) in [
            (
                Profile::Reference,
                "0 locked 1 unlocked 2 fault 3 unknown 4 unknown 5 not_fully_locked 6 unlatched 7 locking 8 unlocking",
            ),
            (Profile::Matter, "0 not_fully_locked 1 locked 2 unlocked 3 unlatched"),
            (
                Profile::Nuki,
                "0 unknown 1 locked 2 unlocking 3 unlocked 4 locking 5 unlatched 6 unlocked 7 unlocking \
                 252 unknown 253 unknown 254 fault 255 unknown",
            ),
            (Profile::Ttlock, "0 locked 1 unlocked 2 unknown"),
            (Profile::Tedee, "2 unlocked 3 not_fully_locked 4 unlocking 5 locking 6 locked 9 unknown"),
            (Profile::Zwave, "0 unlocked 255 locked"),
        ] {
            let words: Vec<&str> = table.split_whitespace().collect();
            let expected = |raw: i64| {
                let listed = words.chunks(2).find(|pair| pair[0] == raw.to_string());
                listed.map_or(Reading { state: LockState::Unknown, known: false }, |pair| Reading {
                    state: LockState::from_name(pair[1]).unwrap(),
                    known: true,
                })
            };
            for raw in (-2..300).chain([i64::MIN, i64::MAX]) {
                assert_eq!(profile.read(raw), expected(raw), "{} {raw}", profile.name());
            }
        }
    }

    #[test]
    fn an_action_succeeds_in_its_states_only() {
        for (action, states) in [
            (Action::Unlock, &["unlocked", "unlatched"][..]),
            (Action::Lock, &["locked"]),
            (Action::Unlatch, &["unlatched"]),
        ] {
            for state in LockState::ALL {
                assert_eq!(
                    state.is_success_of(action),
                    states.contains(&state.name()),
                    "{action:?} {state:?}"
                );
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for state in LockState::ALL {
            assert_eq!(LockState::from_name(state.name()), Some(state));
        }
        assert_eq!(LockState::from_name("ajar"), None);
        for profile in Profile::ALL {
            let read: Profile = serde_json::from_value(profile.name().into()).unwrap();
            assert_eq!(read, profile);
        }
    }

    #[test]
    fn the_longest_pattern_tells_the_profile() {
        let profiles: Profiles = serde_json::from_str(
            r#"{"default": "reference", "locks": [
                {"lock": "12*", "profile": "nuki"},
                {"lock": "123*", "profile": "matter"},
                {"lock": "123", "profile": "zwave"}]}"#,
        )
        .unwrap();
        for (lock, profile) in [
            ("1", Profile::Reference),
            ("12", Profile::Nuki),
            ("129", Profile::Nuki),
            ("123", Profile::Zwave),
            ("1234", Profile::Matter),
            ("x123", Profile::Reference),
        ] {
            assert_eq!(profiles.of(lock), profile, "{lock}");
        }
    }
}

//! What a user can be told of: the type of the event, how bad it is, and the facts that go into the
//! text.
//!
//! Invariant: [`Facts`] is kept in Postgres and filled into templates; every text in it may come from
//! a stranger (a lock's id is what an MQTT client calls itself).

use latchline_shared::alarm::{self, AlarmType, Change};
use latchline_shared::{text, words};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What happened. The words of results and alarms are one namespace: a preference names one, and
/// `unlock_failed` is the same whoever tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// The lock was unlocked (or its latch pulled) as it was told.
    Unlocked,
    /// The lock was locked as it was told.
    Locked,
    /// The lock was told to lock and did not.
    LockFailed,
    /// An alarm changed; [`AlarmType::UnlockFailed`] also stands for a result.
    Alarm(AlarmType),
    /// Several notifications in one.
    Digest,
    /// The code that verifies a contact.
    Verification,
    /// Somebody tries whether messages arrive.
    Test,
}

impl EventType {
    /// The lock was told to unlock and did not.
    pub const UNLOCK_FAILED: Self = Self::Alarm(AlarmType::UnlockFailed);

    const OWN: [(Self, &'static str); 6] = [
        (Self::Unlocked, "unlocked"),
        (Self::Locked, "locked"),
        (Self::LockFailed, "lock_failed"),
        (Self::Digest, "digest"),
        (Self::Verification, "verification"),
        (Self::Test, "test"),
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = Self::OWN.into_iter().map(|(event, _)| event);
        own.chain(AlarmType::ALL.iter().copied().map(Self::Alarm))
    }

    /// Those that a user can choose.
    pub fn choices() -> impl Iterator<Item = Self> {
        Self::all().filter(|event| !matches!(event, Self::Digest | Self::Verification | Self::Test))
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alarm(alarm) => alarm.name(),
            own => Self::OWN.into_iter().find(|(one, _)| *one == own).map_or("", |(_, name)| name),
        }
    }

    /// The one with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|event| event.name() == name)
    }
}

impl std::fmt::Display for EventType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom(format!("{} is no event type", text::bounded(&name)));
        Self::from_name(&name).ok_or_else(unknown)
    }
}

words! {
    /// How bad it is, from nothing to much: those of alarms, and below them what is as it should be.
    Severity {
        /// All is well.
        Info = "info",
        /// Should be looked at.
        Warning = "warning",
        /// Needs work, not now.
        Minor = "minor",
        /// Needs somebody soon.
        Major = "major",
        /// Needs somebody now.
        Critical = "critical",
    }
}

impl From<alarm::Severity> for Severity {
    fn from(severity: alarm::Severity) -> Self {
        match severity {
            alarm::Severity::Warning => Self::Warning,
            alarm::Severity::Minor => Self::Minor,
            alarm::Severity::Major => Self::Major,
            alarm::Severity::Critical => Self::Critical,
        }
    }
}

words! {
    /// How a user is told.
    Channel {
        /// E-mail (RFC 5321).
        Email = "email",
        /// SMS, by an HTTP gateway.
        Sms = "sms",
        /// An HTTP request (Standard Webhooks).
        Webhook = "webhook",
    }
}

/// What templates are filled with. What does not apply is not there.
///
/// What a newer version has written into a row is left out, not refused: instances of two versions
/// work off one table while a new one is rolled out. Where somebody writes facts by hand, [`Facts::unknown`]
/// finds what was misspelt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The lock; empty: none.
    pub client_id: String,
    /// What the user calls it; empty: nothing.
    pub lock_name: String,
    /// When it happened, in Unix milliseconds.
    pub at_ms: i64,
    /// Of a result: `unlock`, `lock`, `unlatch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Of a result: `ok`, `denied`, `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Of a result: why it failed (contract, section 5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<i64>,
    /// Of a result: the lock's canonical state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_state: Option<String>,
    /// Percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery: Option<f32>,
    /// Of an alarm: what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Of an alarm: since when, in Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raised_at_ms: Option<i64>,
    /// Of an alarm: how often it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i32>,
    /// Of an alarm: the last value that was looked at.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// Of a digest: what it tells of, the newest last; at most [`Facts::ITEMS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<DigestItem>,
    /// Of a digest: how many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
    /// Of a verification: the code. Removed once it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl Facts {
    /// Most items that a digest lists.
    pub const ITEMS_MAX: usize = 20;

    const NAMES: [&str; 15] = [
        "client_id",
        "lock_name",
        "at_ms",
        "action",
        "outcome",
        "error",
        "lock_state",
        "battery",
        "change",
        "raised_at_ms",
        "count",
        "value",
        "items",
        "more",
        "code",
    ];

    /// Where in these facts a name stands that is none (`items[0].facts.lok_name`).
    pub fn unknown(facts: &Value) -> Option<String> {
        let fields = facts.as_object()?;
        let unknown = fields.keys().find(|name| !Self::NAMES.contains(&name.as_str()));
        unknown.map(|name| text::bounded(name)).or_else(|| {
            let items = fields.get("items")?.as_array()?;
            items.iter().enumerate().find_map(|(index, item)| {
                let fields = item.as_object()?;
                let unknown = fields.keys().find(|name| !DigestItem::NAMES.contains(&name.as_str()));
                let place = unknown
                    .map(|name| text::bounded(name))
                    .or_else(|| Self::unknown(fields.get("facts")?).map(|place| format!("facts.{place}")));
                place.map(|place| format!("items[{index}].{place}"))
            })
        })
    }
}

/// One notification in a digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DigestItem {
    /// What happened.
    pub event_type: EventType,
    /// How bad it is.
    pub severity: Severity,
    /// What is known of it; without items of its own.
    pub facts: Facts,
}

impl DigestItem {
    const NAMES: [&str; 3] = ["event_type", "severity", "facts"];
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_are_not_ambiguous() {
        let mut names = std::collections::HashSet::new();
        for event in EventType::all() {
            assert_eq!(EventType::from_name(event.name()), Some(event));
            assert!(!event.name().is_empty() && names.insert(event.name()), "{event}");
        }
        assert_eq!(EventType::from_name("unlock_failed"), Some(EventType::UNLOCK_FAILED));
        assert_eq!(EventType::from_name(""), None);
        assert!(Severity::Info < Severity::from(alarm::Severity::Warning));
    }

    #[test]
    fn facts_are_kept() {
        let facts = Facts { client_id: "1".to_owned(), at_ms: 7, ..Facts::default() };
        let json = serde_json::to_value(&facts).unwrap();
        assert_eq!(json, serde_json::json!({"client_id": "1", "lock_name": "", "at_ms": 7}));
        assert_eq!(serde_json::from_value::<Facts>(json).unwrap(), facts);
    }

    fn names(json: &Value) -> Vec<&str> {
        json.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn facts_of_a_newer_version_are_read_and_a_name_that_is_none_is_found() {
        let text = || Some("x".to_owned());
        // All of them: a new one must be named here, too.
        let all = Facts {
            client_id: String::new(),
            lock_name: String::new(),
            at_ms: 1,
            action: text(),
            outcome: text(),
            error: Some(1),
            lock_state: text(),
            battery: Some(1.0),
            change: Some(Change::Raised),
            raised_at_ms: Some(1),
            count: Some(1),
            value: Value::from(1),
            items: vec![DigestItem {
                event_type: EventType::Unlocked,
                severity: Severity::Info,
                facts: Facts::default(),
            }],
            more: 1,
            code: text(),
        };
        let mut json = serde_json::to_value(&all).unwrap();
        for (mut found, mut expected) in
            [(names(&json), Facts::NAMES.to_vec()), (names(&json["items"][0]), DigestItem::NAMES.to_vec())]
        {
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
        assert_eq!(Facts::unknown(&json), None);
        for (pointer, place) in
            [("/items/0/facts", "items[0].facts.newer"), ("/items/0", "items[0].newer"), ("", "newer")]
        {
            json.pointer_mut(pointer).unwrap()["newer"] = Value::Null;
            assert_eq!(Facts::unknown(&json).as_deref(), Some(place));
            assert_eq!(serde_json::from_value::<Facts>(json.clone()).unwrap(), all);
        }
        for strange in [Value::Null, serde_json::json!([]), serde_json::json!({"items": [1, {"facts": 2}]})] {
            assert_eq!(Facts::unknown(&strange), None);
        }
    }
}

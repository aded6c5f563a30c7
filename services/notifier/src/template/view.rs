//! What a template sees of a notification.
//!
//! Every name is always there (undefined names are errors): a text that does not apply is empty, a number
//! is none. Whatever comes from a stranger has been through [`clean`].

use jiff::tz::TimeZone;
use latchline_shared::alarm::AlarmType;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::clean::{clean, clip, short_id};
use super::payload::timestamp;
use super::phrases::{EventPhrase, Phrases, Reason, Words};
use crate::event::{EventType, Facts, Severity};

/// Longest name of a lock in a mail, longest value, and most values.
const NAME_UNITS_MAX: usize = 100;
const VALUE_UNITS_MAX: usize = 120;
const VALUES_MAX: usize = 16;
/// Most of what an SMS counts.
const COUNT_MAX: usize = 9_999;
/// Integers beyond it that stand where a time may be are one: 2001 in milliseconds.
const TIME_MS_MIN: i64 = 1_000_000_000_000;

/// What a template sees.
#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    id: String,
    locale: &'a str,
    kind: &'static str,
    /// What happened.
    #[serde(flatten)]
    pub(super) entry: Entry,
    lock_name: String,
    client_id: String,
    action: String,
    outcome: String,
    lock_state: String,
    error: Option<i64>,
    change: &'static str,
    count: Option<i32>,
    /// Rows of a table: what is known beside that.
    details: Vec<Detail>,
    /// Of a digest, the newest last.
    items: Vec<Entry>,
    /// Of a digest: the worst, and of several the newest.
    pub(super) top: Option<Entry>,
    total: usize,
    others: usize,
    more: usize,
    code: String,
    words: &'a Words,
}

/// An event, as itself or in a digest.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    event: &'static str,
    severity: &'static str,
    severity_word: String,
    title: String,
    headline: String,
    happened: String,
    advice: String,
    sms: String,
    /// Why a command failed.
    reason: String,
    reason_sms: String,
    /// What the user calls the lock, or the end of its id; empty if it is about none.
    pub(super) lock: String,
    /// Percent.
    battery: Option<i64>,
    time: String,
    at: String,
}

#[derive(Debug, Serialize)]
struct Detail {
    label: String,
    text: String,
}

/// Which templates an event has: those of its own come first.
pub(super) fn kind(event: EventType, facts: &Facts) -> &'static str {
    match event {
        EventType::Digest => "digest",
        EventType::Verification => "verification",
        EventType::Test => "test",
        EventType::Unlocked | EventType::Locked | EventType::LockFailed => "result",
        EventType::UNLOCK_FAILED if facts.change.is_none() => "result",
        EventType::Alarm(_) => "alarm",
    }
}

/// Whom a message is for, as far as words go.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) locale: &'a str,
    pub(super) phrases: &'a Phrases,
    pub(super) zone: &'a TimeZone,
}

impl<'a> Reader<'a> {
    /// What a template sees of a notification.
    pub(super) fn view(
        self,
        event: EventType,
        severity: Severity,
        id: Uuid,
        facts: &Facts,
    ) -> Result<View<'a>, String> {
        let phrases = self.phrases;
        let entry = self.entry(event, severity, facts)?;
        let items = facts.items.iter().map(|item| self.entry(item.event_type, item.severity, &item.facts));
        let items = items.collect::<Result<Vec<_>, _>>()?;
        let total = items.len().saturating_add(facts.more).min(COUNT_MAX);
        // The last of the worst.
        let top = facts.items.iter().zip(&items).max_by_key(|(item, _)| item.severity);
        let code = facts.code.as_deref().unwrap_or_default();
        if event == EventType::Verification && code.is_empty() {
            return Err("the code is gone".to_owned());
        }
        Ok(View {
            id: id.to_string(),
            locale: self.locale,
            kind: kind(event, facts),
            lock_name: clip(&clean(&facts.lock_name), NAME_UNITS_MAX),
            client_id: clean(&facts.client_id),
            action: word(&phrases.action, facts.action.as_deref()),
            outcome: word(&phrases.outcome, facts.outcome.as_deref()),
            lock_state: word(&phrases.lock_state, facts.lock_state.as_deref()),
            error: facts.error,
            change: facts.change.map_or("", latchline_shared::alarm::Change::name),
            count: facts.count,
            details: self.details(&entry, facts)?,
            top: top.map(|(_, entry)| entry.clone()),
            total,
            others: total.saturating_sub(1),
            more: facts.more.min(COUNT_MAX),
            code: clip(&clean(code), 12),
            words: &phrases.words,
            items,
            entry,
        })
    }

    fn entry(self, event: EventType, severity: Severity, facts: &Facts) -> Result<Entry, String> {
        let phrases = self.phrases;
        let is_alarm = matches!(event, EventType::Alarm(_));
        let change = facts.change.filter(|_| is_alarm).map(latchline_shared::alarm::Change::name);
        let EventPhrase { title, .. } = phrases.event(event.name(), None)?;
        let phrase = phrases.event(event.name(), change)?;
        let reason = self.reason(event, facts);
        let at = timestamp(facts.at_ms).to_zoned(self.zone.clone());
        let is_about_locks = !matches!(event, EventType::Digest | EventType::Verification | EventType::Test);
        Ok(Entry {
            event: event.name(),
            severity: severity.name(),
            severity_word: word(&phrases.severity, Some(severity.name())),
            title,
            headline: phrase.title,
            happened: phrase.happened,
            advice: phrase.advice,
            sms: phrase.sms,
            reason: reason.text,
            reason_sms: reason.sms,
            lock: match lock(facts) {
                none if none.is_empty() && is_about_locks => word(&phrases.words, Some("fleet")),
                lock => lock,
            },
            battery: battery(facts),
            time: phrases.short_time(&at)?,
            at: phrases.full_time(&at)?,
        })
    }

    /// Why it failed, if it did and that is known.
    fn reason(self, event: EventType, facts: &Facts) -> Reason {
        let is_alarm_of_it = event == EventType::Alarm(AlarmType::UnlockFailed) && facts.change.is_some();
        let said = |key: &str| facts.value.get(key).filter(|_| is_alarm_of_it);
        let outcome = facts.outcome.as_deref().or_else(|| said("result").and_then(Value::as_str));
        let error = facts.error.or_else(|| said("error").and_then(Value::as_i64));
        match (outcome, error) {
            (Some("ok"), _) | (None, None) => Reason { text: String::new(), sms: String::new() },
            (_, Some(code)) => self.phrases.reason(code),
            // That it failed has been said already.
            (Some("failed"), None) => Reason { text: String::new(), sms: String::new() },
            (Some(outcome), None) => {
                let text = word(&self.phrases.outcome, Some(outcome));
                Reason { sms: clip(&text, 12), text }
            }
        }
    }

    fn details(self, entry: &Entry, facts: &Facts) -> Result<Vec<Detail>, String> {
        let phrases = self.phrases;
        let optional = |words: &Words, value: &Option<String>| {
            value.as_deref().map(|value| word(words, Some(value))).unwrap_or_default()
        };
        let raised_at = match facts.raised_at_ms {
            Some(at_ms) if at_ms != facts.at_ms => self.time(at_ms)?,
            _ => String::new(),
        };
        let percent = facts.battery.map(f64::from).filter(|percent| percent.is_finite());
        let mut rows: Vec<Detail> = [
            ("time", entry.at.clone()),
            ("lock", clip(&clean(&facts.lock_name), NAME_UNITS_MAX)),
            ("lock_id", clean(&facts.client_id)),
            ("action", optional(&phrases.action, &facts.action)),
            ("lock_state", optional(&phrases.lock_state, &facts.lock_state)),
            ("battery", percent.map(|percent| format!("{}%", number(percent))).unwrap_or_default()),
            ("raised_at", raised_at),
            (
                "count",
                facts.count.filter(|count| *count > 1).map(|count| count.to_string()).unwrap_or_default(),
            ),
        ]
        .into_iter()
        .map(|(name, text)| Detail { label: word(&phrases.words, Some(name)), text })
        .collect();
        match &facts.value {
            Value::Object(values) => {
                for (key, value) in values.iter().take(VALUES_MAX) {
                    let label = clip(&word(&phrases.value, Some(key)), VALUE_UNITS_MAX);
                    rows.push(Detail { label, text: self.value(key, value)? });
                }
            }
            other => {
                rows.push(Detail { label: word(&phrases.value, Some("value")), text: self.value("", other)? })
            }
        }
        rows.retain(|row| !row.text.is_empty());
        Ok(rows)
    }

    /// A part of an alarm's value, which may be anything.
    fn value(self, key: &str, value: &Value) -> Result<String, String> {
        let phrases = self.phrases;
        Ok(match value {
            Value::Null => String::new(),
            Value::Bool(yes) => word(&phrases.words, Some(if *yes { "yes" } else { "no" })),
            Value::Number(one) => match one.as_i64() {
                Some(at_ms) if at_ms >= TIME_MS_MIN && (key.ends_with("since") || key.ends_with("_at")) => {
                    self.time(at_ms)?
                }
                Some(_) => one.to_string(),
                None => one.as_f64().map_or_else(|| one.to_string(), number),
            },
            Value::String(text) => {
                let words = match key {
                    "action" => &phrases.action,
                    "result" => &phrases.outcome,
                    "lock_state" => &phrases.lock_state,
                    _ => return Ok(clip(&clean(text), VALUE_UNITS_MAX)),
                };
                clip(&word(words, Some(text)), VALUE_UNITS_MAX)
            }
            Value::Array(values) => {
                let texts = values.iter().take(VALUES_MAX).map(|value| match value {
                    Value::String(text) => clean(text),
                    other => clean(&other.to_string()),
                });
                clip(&texts.collect::<Vec<_>>().join(", "), VALUE_UNITS_MAX)
            }
            Value::Object(_) => clip(&clean(&value.to_string()), VALUE_UNITS_MAX),
        })
    }

    fn time(self, at_ms: i64) -> Result<String, String> {
        self.phrases.full_time(&timestamp(at_ms).to_zoned(self.zone.clone()))
    }
}

/// What people call the lock, or how they know it.
fn lock(facts: &Facts) -> String {
    let name = clean(&facts.lock_name);
    if !name.is_empty() {
        return clip(&name, NAME_UNITS_MAX);
    }
    match short_id(&clean(&facts.client_id)) {
        nothing if nothing.is_empty() && !facts.client_id.is_empty() => "?".to_owned(),
        id => id,
    }
}

/// The word for something of ours; a stranger's word as it is.
fn word(words: &Words, key: Option<&str>) -> String {
    let Some(key) = key else { return String::new() };
    words.get(key).cloned().unwrap_or_else(|| clip(&clean(key), VALUE_UNITS_MAX))
}

/// Whole percent, rather too few than too many.
fn battery(facts: &Facts) -> Option<i64> {
    let percent =
        facts.battery.map(f64::from).or_else(|| facts.value.get("battery").and_then(Value::as_f64))?;
    #[expect(clippy::cast_possible_truncation, reason = "it is between 0 and 100")]
    percent.is_finite().then(|| percent.clamp(0.0, 100.0).floor() as i64)
}

fn number(number: f64) -> String {
    let rounded = (number * 100.0).round() / 100.0;
    if rounded.is_finite() { clip(&rounded.to_string(), 24) } else { number.to_string() }
}

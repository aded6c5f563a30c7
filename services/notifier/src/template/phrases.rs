//! The phrases of a language: what every event is called, what happened, what to do about it, and the
//! words around that.
//!
//! A file replaces single keys of the phrases below it, so that a folder that corrects one word goes on to
//! get our new ones. Invariant: there is no key in it that is not there below, since that would be a typo
//! that nobody notices; but for `[value]` and `[error]`, whose keys are a lock's.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use jiff::Zoned;
use jiff::fmt::strtime;
use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::clean::units;

/// Words by key.
pub(super) type Words = BTreeMap<String, String>;

/// Tables whose keys are not ours alone.
const OPEN_TABLES: [&str; 2] = ["value", "error"];

/// The phrases of a language.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Phrases {
    /// What stands around the rest.
    pub(super) words: Words,
    time: Time,
    /// By [`crate::event::Severity`].
    pub(super) severity: Words,
    /// What a lock can be told.
    pub(super) action: Words,
    /// How a command ended.
    pub(super) outcome: Words,
    /// By canonical state.
    pub(super) lock_state: Words,
    error: BTreeMap<String, Reason>,
    change: BTreeMap<String, ChangePhrase>,
    /// What an alarm's value consists of.
    pub(super) value: Words,
    event: BTreeMap<String, EventPhrase>,
}

/// How times are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Time {
    short: String,
    full: String,
    months: [String; 12],
    weekdays: [String; 7],
}

/// Why a command failed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// A sentence.
    pub(super) text: String,
    /// Two words.
    pub(super) sms: String,
}

/// What became of an alarm, around the phrase of its type.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangePhrase {
    title: String,
    sms: String,
    happened: String,
}

/// What is said of an event.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventPhrase {
    /// What it is called.
    pub(super) title: String,
    /// A sentence.
    pub(super) happened: String,
    /// What people can do; perhaps nothing.
    pub(super) advice: String,
    /// What it is called in an SMS.
    pub(super) sms: String,
}

impl Phrases {
    /// From a complete document.
    pub(super) fn new(document: Table, file: &str) -> anyhow::Result<Self> {
        let phrases: Self = document.try_into().with_context(|| file.to_owned())?;
        phrases.check().with_context(|| file.to_owned())?;
        Ok(phrases)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (name, phrase) in &self.change {
            for (key, text) in
                [("title", &phrase.title), ("sms", &phrase.sms), ("happened", &phrase.happened)]
            {
                if !text.contains(&format!("{{{key}}}")) {
                    bail!("change.{name}.{key}: {{{key}}} is missing");
                }
            }
        }
        let some_time = Zoned::default();
        for (key, format) in [("short", &self.time.short), ("full", &self.time.full)] {
            self.time(format, &some_time).map_err(|why| anyhow::anyhow!("time.{key}: {why}"))?;
        }
        if !self.error.contains_key("other") {
            bail!("error.other is missing");
        }
        Ok(())
    }

    /// What is said of an event, and of its change if it is an alarm's.
    pub(super) fn event(&self, event: &str, change: Option<&str>) -> Result<EventPhrase, String> {
        let phrase = self.event.get(event).ok_or_else(|| format!("event.{event} is missing"))?;
        let Some(change) = change else { return Ok(phrase.clone()) };
        let around = self.change.get(change).ok_or_else(|| format!("change.{change} is missing"))?;
        let is_over = matches!(change, "returned_to_normal" | "cleared" | "expired");
        Ok(EventPhrase {
            title: around.title.replace("{title}", &phrase.title),
            happened: around.happened.replace("{happened}", &phrase.happened),
            advice: if is_over { String::new() } else { phrase.advice.clone() },
            sms: around.sms.replace("{sms}", &phrase.sms),
        })
    }

    /// Why a command failed, by the code of contract, section 5.
    pub(super) fn reason(&self, code: i64) -> Reason {
        if let Some(reason) = self.error.get(&code.to_string()) {
            return reason.clone();
        }
        let digits = code.to_string();
        let short = if units(&digits) <= 5 { &digits } else { "?" };
        match self.error.get("other") {
            Some(other) => Reason {
                text: other.text.replace("{error}", &digits),
                sms: other.sms.replace("{error}", short),
            },
            None => Reason { text: digits.clone(), sms: short.to_owned() },
        }
    }

    /// The time as an SMS has it.
    pub(super) fn short_time(&self, at: &Zoned) -> Result<String, String> {
        self.time(&self.time.short, at)
    }

    /// The time as a mail has it, with its zone.
    pub(super) fn full_time(&self, at: &Zoned) -> Result<String, String> {
        self.time(&self.time.full, at)
    }

    fn time(&self, format: &str, at: &Zoned) -> Result<String, String> {
        let month = usize::from(at.month().unsigned_abs()).saturating_sub(1);
        let weekday = usize::from(at.weekday().to_monday_zero_offset().unsigned_abs());
        let text = strtime::format(format, at).map_err(|error| error.to_string())?;
        let month = self.time.months.get(month).map_or("", String::as_str);
        let weekday = self.time.weekdays.get(weekday).map_or("", String::as_str);
        Ok(text.replace("{month}", month).replace("{weekday}", weekday))
    }
}

/// The document `below` with what `source` has instead.
pub(super) fn merged(mut below: Table, source: &str, file: &str) -> anyhow::Result<Table> {
    let document = DeTable::parse(source).with_context(|| file.to_owned())?;
    let merge = Merge { source, file };
    merge.table(&mut below, document.get_ref(), "")?;
    Ok(below)
}

struct Merge<'a> {
    source: &'a str,
    file: &'a str,
}

impl Merge<'_> {
    fn table(&self, below: &mut Table, above: &DeTable<'_>, path: &str) -> anyhow::Result<()> {
        for (key, value) in above {
            let name = key.get_ref().as_ref();
            let place = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let is_open = OPEN_TABLES.contains(&path);
            match (value.get_ref(), below.get_mut(name)) {
                (DeValue::Table(table), Some(Value::Table(below))) => self.table(below, table, &place)?,
                (DeValue::String(text), Some(Value::String(below))) => *below = text.to_string(),
                (DeValue::Array(_), Some(below @ Value::Array(_))) => *below = self.value(value, &place)?,
                (_, None) if is_open => {
                    below.insert(name.to_owned(), self.value(value, &place)?);
                }
                (_, None) => bail!("{}: {place}: unknown key", self.place(key.span().start)),
                (_, Some(_)) => bail!("{}: {place}: wrong type", self.place(value.span().start)),
            }
        }
        Ok(())
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, place: &str) -> anyhow::Result<Value> {
        Ok(match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Array(values) => {
                Value::Array(values.iter().map(|one| self.value(one, place)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => {
                let entry = |(key, value): (&Spanned<_>, _)| {
                    Ok((
                        AsRef::<str>::as_ref(key.get_ref() as &toml::de::DeString<'_>).to_owned(),
                        self.value(value, place)?,
                    ))
                };
                Value::Table(table.iter().map(entry).collect::<anyhow::Result<_>>()?)
            }
            _ => bail!("{}: {place}: is no text", self.place(value.span().start)),
        })
    }

    fn place(&self, at: usize) -> String {
        let line = self.source.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        format!("{} line {line}", self.file)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    const ENGLISH: &str = include_str!("../../templates/en/phrases.toml");
    const JAPANESE: &str = include_str!("../../templates/ja/phrases.toml");

    fn phrases(source: &str) -> Phrases {
        Phrases::new(source.parse().unwrap(), "phrases.toml").unwrap()
    }

    fn keys(table: &Table, path: &str, found: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                Value::Table(table) => keys(table, &format!("{path}.{key}"), found),
                _ => found.push(format!("{path}.{key}")),
            }
        }
    }

    #[test]
    fn both_languages_say_the_same() {
        let mut found = [Vec::new(), Vec::new()];
        keys(&ENGLISH.parse().unwrap(), "", &mut found[0]);
        keys(&JAPANESE.parse().unwrap(), "", &mut found[1]);
        assert_eq!(found[0], found[1]);
        phrases(JAPANESE);
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        let at = Timestamp::from_millisecond(1_783_811_700_000).unwrap();
        let zoned = |name| at.to_zoned(TimeZone::get(name).unwrap());
        let (tokyo, berlin) = (zoned("Asia/Tokyo"), zoned("Europe/Berlin"));
        let (english, japanese) = (phrases(ENGLISH), phrases(JAPANESE));
        assert_eq!(japanese.short_time(&tokyo).unwrap(), "7/12 08:15");
        assert_eq!(japanese.full_time(&tokyo).unwrap(), "2026年7月12日(日) 08:15:00 JST (UTC+09:00)");
        assert_eq!(english.short_time(&tokyo).unwrap(), "12 Jul 08:15");
        assert_eq!(english.full_time(&berlin).unwrap(), "Sun 12 Jul 2026, 01:15:00 CEST (UTC+02:00)");
    }

    #[test]
    fn reasons_are_words() {
        let english = phrases(ENGLISH);
        assert_eq!(english.reason(100).sms, "bad signature");
        assert_eq!(english.reason(77).sms, "error 77");
        assert_eq!(english.reason(i64::MIN).sms, "error ?");
        assert!(english.reason(i64::MIN).text.contains("-9223372036854775808"));
    }

    #[test]
    fn single_keys_are_replaced() {
        let below: Table = ENGLISH.parse().unwrap();
        let above = "[event.unlocked]\nsms = \"open\"\n[error.55]\ntext = \"rain\"\nsms = \"wet\"\n[value]\nx = \"y\"\n";
        let both = Phrases::new(merged(below, above, "f").unwrap(), "f").unwrap();
        assert_eq!(both.event("unlocked", None).unwrap().sms, "open");
        assert_eq!(both.event("unlocked", None).unwrap().title, "Unlocked");
        assert_eq!((both.reason(55).text.as_str(), both.value["x"].as_str()), ("rain", "y"));
    }

    #[test]
    fn a_typo_is_found() {
        for (above, expected) in [
            ("[event.unlocked]\nsms = \"a\"\ntitel = \"b\"", "f line 3: event.unlocked.titel: unknown key"),
            ("[event.unlokced]", "f line 1: event.unlokced: unknown key"),
            ("\n[event]\nunlocked = 1", "f line 3: event.unlocked: wrong type"),
            ("[value]\nx = 1", "f line 2: value.x: is no text"),
            ("[words]\nlock = \"a", "TOML parse error at line 2"),
        ] {
            let error = merged(ENGLISH.parse().unwrap(), above, "f").unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
        for (above, expected) in [
            ("[change.raised]\nsms = \"a\"", "f: change.raised.sms: {sms} is missing"),
            ("[time]\nshort = \"%!\"", "f: time.short: "),
            ("[time]\nmonths = [\"a\"]", "f: "),
        ] {
            let document = merged(ENGLISH.parse().unwrap(), above, "f").unwrap();
            let error = Phrases::new(document, "f").unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}

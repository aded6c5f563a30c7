//! The parameters of a request, taken one by one, so that those that nobody takes are found.
//!
//! Strict on purpose: a filter that is misspelt, empty or given twice would otherwise widen the
//! answer, and somebody would believe that there was no replay. All that is wrong is told at once.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use jiff::Timestamp;
use uuid::Uuid;

use crate::kit::http::problem::Problem;

/// Longest value of a parameter.
const VALUE_BYTES_MAX: usize = 1024;
/// Times that make sense, so that none leaves the range of Postgres.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=9998;

/// What was given and not yet taken.
#[derive(Debug)]
pub struct Params {
    given: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Params {
    /// Of the pairs of a query string.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut params = Self { given: BTreeMap::new(), problems: Vec::new() };
        for (name, value) in pairs {
            if let Some(why) = unfit(&value) {
                params.problems.push(format!("{}: {why}", quoted(&name)));
            }
            if params.given.contains_key(&name) {
                params.problems.push(format!("{}: is given twice", quoted(&name)));
            }
            params.given.insert(name, value);
        }
        params
    }

    /// A text.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.given.remove(name)
    }

    /// A value of the form that `parse` reads; its error follows the name.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.text(name)?;
        parse(&value).map_err(|why| self.problem(name, why)).ok()
    }

    /// One of some words.
    pub fn word<T>(&mut self, name: &'static str, words: &[(&'static str, T)]) -> Option<T>
    where
        T: Copy,
    {
        self.parsed(name, |value| {
            let known = words.iter().find(|(word, _)| *word == value);
            let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            known.map(|(_, one)| *one).ok_or_else(|| format!("must be one of {}", all()))
        })
    }

    /// A number within bounds.
    pub fn number(&mut self, name: &'static str, bounds: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.parsed(name, |value| {
            let number = value.parse().ok().filter(|number| bounds.contains(number));
            number.ok_or_else(|| format!("must be a number from {} to {}", bounds.start(), bounds.end()))
        })
    }

    /// `true` or `false`; false if it is not given.
    pub fn flag(&mut self, name: &'static str) -> bool {
        self.word(name, &[("true", true), ("false", false)]).unwrap_or(false)
    }

    /// A point in time, in milliseconds.
    pub fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        self.parsed(name, time)
    }

    /// Something that is wrong and that only the caller of this knows.
    pub fn problem(&mut self, name: &'static str, why: impl std::fmt::Display) {
        self.problems.push(format!("{name}: {why}"));
    }

    /// Nothing more is taken: 400 if anything was wrong, or is left.
    pub fn finish(mut self) -> Result<(), Problem> {
        let unknown =
            self.given.keys().map(|name| format!("{}: is no parameter of this route", quoted(name)));
        self.problems.extend(unknown);
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(bad(self.problems.join("; ")))
    }
}

/// 400 with what is wrong.
pub fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// 404 with what is not there.
pub fn not_found(what: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
}

/// An id of ours out of a path; what is none is of nothing.
pub fn uuid(text: &str, what: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| not_found(what))
}

/// An id out of a path.
pub fn id(name: &'static str, value: String) -> Result<String, Problem> {
    match unfit(&value) {
        Some(why) => Err(bad(format!("{name}: {why}"))),
        None => Ok(value),
    }
}

/// Why no text that we keep can be this.
fn unfit(value: &str) -> Option<String> {
    if value.is_empty() {
        Some("is empty".to_owned())
    } else if value.len() > VALUE_BYTES_MAX {
        Some(format!("has more than {VALUE_BYTES_MAX} bytes"))
    } else if value.contains('\0') {
        Some("holds the character U+0000".to_owned())
    } else {
        None
    }
}

fn time(value: &str) -> Result<Timestamp, String> {
    let form = "must be a time with offset as 2026-01-31T12:00:00Z or 2026-01-31T12:00:00%2B09:00 (RFC 3339)";
    let time: Timestamp = value.parse().map_err(|_| form.to_owned())?;
    let time = time.round(jiff::Unit::Millisecond).map_err(|_| form.to_owned())?;
    let year = time.to_zoned(jiff::tz::TimeZone::UTC).year();
    if YEARS.contains(&year) {
        return Ok(time);
    }
    Err(format!("must be in the years {} to {}", YEARS.start(), YEARS.end()))
}

/// A name that somebody else chose, for a message.
fn quoted(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut params = params(&[
            ("a", "1"),
            ("a", "2"),
            ("b", ""),
            ("c", "x\0"),
            ("d", "101"),
            ("e", "yes"),
            ("f", "2026-01-31"),
            ("g\n", "x"),
        ]);
        assert_eq!(params.text("a").as_deref(), Some("2"));
        params.text("b");
        params.text("c");
        assert_eq!(params.number("d", 1..=100), None);
        assert!(!params.flag("e"));
        assert_eq!(params.time("f"), None);
        let detail = params.finish().unwrap_err().detail.unwrap();
        let problems: Vec<_> = detail.split("; ").collect();
        assert_eq!(
            problems[..4],
            [
                "a: is given twice",
                "b: is empty",
                "c: holds the character U+0000",
                "d: must be a number from 1 to 100",
            ]
        );
        assert_eq!(problems[4], "e: must be one of true, false");
        assert!(problems[5].starts_with("f: must be a time with offset"));
        assert_eq!(problems[6], "g\u{fffd}: is no parameter of this route");
    }

    #[test]
    fn times_need_an_offset() {
        for (text, expected) in [
            ("2026-01-31T12:00:00Z", Some(1_769_860_800_000)),
            ("2026-01-31T12:00:00.1234Z", Some(1_769_860_800_123)),
            ("2026-01-31T21:00:00+09:00", Some(1_769_860_800_000)),
            ("2026-01-31T12:00:00", None),
            ("2026-01-31T12:00:00 09:00", None),
            ("2026-01-31", None),
            ("-004713-01-01T00:00:00Z", None),
            ("9999-12-30T00:00:00Z", None),
            ("now", None),
            ("1769860800", None),
        ] {
            assert_eq!(time(text).ok().map(Timestamp::as_millisecond), expected, "{text}");
        }
    }
}

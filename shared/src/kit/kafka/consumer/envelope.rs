//! What all services read alike in the bridge's records: the value, its time, its lock, its headers
//! (contract, section 2). What is wrong here is poison, whoever reads it.

use serde::de::DeserializeOwned;

use super::{Poison, Record};
use crate::text::bounded;
use crate::topic;

/// 2000-01-01 and 2100-01-01: a time outside is none.
const TS_MS: std::ops::Range<u64> = 946_684_800_000..4_102_444_800_000;

/// The value, as JSON.
pub fn parse<T: DeserializeOwned>(record: &Record) -> Result<T, Poison> {
    serde_json::from_slice(&record.value).map_err(|error| poison("value", error.to_string()))
}

/// The time of a record, in Unix milliseconds.
pub fn time(ts: u64) -> Result<i64, Poison> {
    let at_ms = i64::try_from(ts).ok().filter(|_| TS_MS.contains(&ts));
    at_ms.ok_or_else(|| poison("ts", format!("ts {ts} is not between 2000 and 2100")))
}

/// The lock of `devices/{id}/{kind}`.
pub fn lock_of<'a>(name: &'a str, kind: &str) -> Result<&'a str, Poison> {
    let rest = |lock: &str| name.strip_prefix("devices/").and_then(|rest| rest.strip_prefix(lock));
    let is_kind = |lock: &&str| rest(lock).and_then(|rest| rest.strip_prefix('/')) == Some(kind);
    topic::lock_id(name)
        .filter(is_kind)
        .ok_or_else(|| poison("topic", format!("{} is not devices/{{id}}/{kind}", bounded(name))))
}

/// A header that is yes or no, if it is there and is either.
pub fn flag(record: &Record, name: &str) -> Option<bool> {
    match record.header(name) {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    }
}

/// Why a record cannot be used.
pub fn poison(class: &'static str, message: String) -> Poison {
    Poison { class, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_its_lock() {
        assert_eq!(lock_of("devices/1/state", "state"), Ok("1"));
        for name in ["devices/1/command", "devices/1/state/x", "devices//state", "state", "devices/1/x/state"]
        {
            assert_eq!(lock_of(name, "state").unwrap_err().class, "topic", "{name}");
        }
    }

    #[test]
    fn a_time_is_of_this_century() {
        for ts in [0, 946_684_799_999, 4_102_444_800_000, u64::MAX] {
            assert_eq!(time(ts).unwrap_err().class, "ts", "{ts}");
        }
        assert_eq!(time(946_684_800_000), Ok(946_684_800_000));
    }

    #[test]
    fn a_flag_is_yes_or_no() {
        for (value, expected) in [("true", Some(true)), ("false", Some(false)), ("TRUE", None)] {
            let headers = vec![("dup".to_owned(), value.into())];
            let (stream, key, timestamp_ms) = ("s".into(), None, None);
            let record =
                Record { stream, partition: 0, offset: 0, timestamp_ms, key, value: Vec::new(), headers };
            assert_eq!((flag(&record, "dup"), flag(&record, "retain")), (expected, None));
        }
    }
}

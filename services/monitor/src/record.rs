//! Records as the monitor reads them: what one means before anything is known of its lock.
//!
//! Pure, and outside of any transaction: 20,000 of them come in a second, so JSON is read once, and
//! what is not needed is not kept. Ids are compared here, as they came; what goes on is bounded
//! ([`bounded`]).
//!
//! Only what is no record at all is poison. A payload that cannot be read is something that a lock
//! did, and a rule looks at it.

use latchline_shared::finding::FindingRecord;
use latchline_shared::kit::kafka::consumer::envelope::{flag, lock_of, parse, poison, time};
use latchline_shared::kit::kafka::consumer::{Poison, Record};
use latchline_shared::record::{PublishRecord, header};
use latchline_shared::report::Report;
use latchline_shared::text::bounded;

use crate::settings::Streams;

/// So far may the clock of a broker's node be ahead of Kafka's.
const AHEAD_MAX_MS: i64 = 300_000;

/// What happened.
#[derive(Debug, Clone)]
pub enum Item {
    /// A lock said how it is.
    Report(Reported),
    /// The auditor found something.
    Finding(FindingRecord),
}

/// A record of the stream of states.
#[derive(Debug, Clone)]
pub struct Reported {
    /// The lock, by the topic.
    pub lock: String,
    /// When the broker saw it, in Unix milliseconds.
    pub at_ms: i64,
    /// Whether the topic, the publisher and the payload, if it can be read, name one lock.
    pub is_of_one_lock: bool,
    /// Whether it may be one that is stored already.
    pub is_dup: bool,
    /// Of the payload's bytes, to know the same one again.
    pub payload_hash: u64,
    /// What it said, or why that cannot be read.
    pub report: Result<Report, String>,
}

/// Reads a record of one of the streams.
pub fn decode(record: &Record, streams: &Streams) -> Result<Item, Poison> {
    match &*record.stream {
        stream if stream == streams.states => report(record).map(Item::Report),
        stream if Some(stream) == streams.findings.as_deref() => finding(record).map(Item::Finding),
        stream => Err(poison("stream", format!("{stream} is no stream of the monitor"))),
    }
}

fn report(record: &Record) -> Result<Reported, Poison> {
    let value: PublishRecord = parse(record)?;
    let lock = lock_of(&value.topic, "state")?;
    let at_ms = not_ahead(record, time(value.ts)?)?;
    let report = Report::read(&value.payload);
    let is_of_one_lock =
        value.publisher == lock && report.as_ref().map_or(true, |report| report.client_id == lock);
    Ok(Reported {
        lock: bounded(lock),
        at_ms,
        is_of_one_lock,
        is_dup: flag(record, header::DUP) == Some(true),
        payload_hash: hash(&value.payload),
        report,
    })
}

fn finding(record: &Record) -> Result<FindingRecord, Poison> {
    let finding: FindingRecord = parse(record)?;
    time(u64::try_from(finding.at).unwrap_or_default())?;
    Ok(finding)
}

/// The time, unless it is long after Kafka got the record: one such report would make all that follow
/// late, and end the delays of other locks.
fn not_ahead(record: &Record, at_ms: i64) -> Result<i64, Poison> {
    match record.timestamp_ms {
        Some(stored_ms) if at_ms.saturating_sub(stored_ms) > AHEAD_MAX_MS => {
            Err(poison("ts", format!("ts {at_ms} is long after Kafka's {stored_ms}")))
        }
        _ => Ok(at_ms),
    }
}

/// FNV-1a: kept in tables, so it must be the same in every build.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use latchline_shared::message::Qos;
    use latchline_shared::record::{Publish, write_publish};

    use super::*;

    const LOCK: &str = "10083618796833171";
    const STATE: &str = r#"{"process_id":"1","action":"unlock","battery":83.4,"lock_state":1,"version":1.1,"client_id":"10083618796833171"}"#;
    const TS: u64 = 1_574_751_635_845;

    fn streams() -> Streams {
        let findings = Some("audit_finding".to_owned());
        Streams { states: "message_state".to_owned(), findings, alarms: None }
    }

    fn record(stream: &str, value: Vec<u8>) -> Record {
        Record {
            stream: stream.into(),
            partition: 0,
            offset: 7,
            timestamp_ms: None,
            key: None,
            value,
            headers: vec![("dup".to_owned(), b"true".to_vec())],
        }
    }

    fn publish<'a>(topic: &'a str, payload: &'a str) -> Publish<'a> {
        let payload = payload.as_bytes();
        Publish { publisher: LOCK, username: "", topic, payload, qos: Qos::AtLeastOnce, node: "n", ts: TS }
    }

    fn state(publish: &Publish<'_>) -> Result<Reported, Poison> {
        let mut value = Vec::new();
        write_publish(&mut value, publish);
        let Item::Report(reported) = decode(&record("message_state", value), &streams())? else {
            panic!("a report")
        };
        Ok(reported)
    }

    #[test]
    fn a_report_is_read() {
        let topic = format!("devices/{LOCK}/state");
        let reported = state(&publish(&topic, STATE)).unwrap();
        assert_eq!((reported.lock.as_str(), reported.at_ms, reported.is_dup), (LOCK, TS as i64, true));
        assert_eq!(reported.payload_hash, 6_109_417_129_951_394_790, "it is kept in tables");
        assert_eq!(reported.report.unwrap().battery, Some(83.4));
    }

    #[test]
    fn topic_publisher_and_payload_name_one_lock() {
        let topic = format!("devices/{LOCK}/state");
        let other = STATE.replace(LOCK, "2");
        for (topic, publisher, payload, expected) in [
            (topic.as_str(), LOCK, STATE, true),
            ("devices/2/state", LOCK, STATE, false),
            (&topic, "2", STATE, false),
            (&topic, LOCK, &other, false),
            (&topic, LOCK, "nonsense", true),
            (&topic, "2", "nonsense", false),
        ] {
            let reported = state(&Publish { publisher, ..publish(topic, payload) }).unwrap();
            assert_eq!(reported.is_of_one_lock, expected, "{topic} {publisher} {payload}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_report_nevertheless() {
        let topic = format!("devices/{LOCK}/state");
        for payload in ["", "{}", &STATE.replace("83.4", "NaN"), &STATE.replace(":1,", ":\"1\",")] {
            assert!(state(&publish(&topic, payload)).unwrap().report.is_err(), "{payload}");
        }
        for battery in ["900", "\"83.4 %\"", "null"] {
            let report = state(&publish(&topic, &STATE.replace("83.4", battery))).unwrap().report.unwrap();
            assert_eq!((report.battery, report.flaws), (None, vec!["battery"]), "{battery}");
        }
    }

    #[test]
    fn what_is_no_record_is_poison() {
        let class = |result: Result<Reported, Poison>| result.unwrap_err().class;
        assert_eq!(class(state(&publish("devices/1/command", STATE))), "topic");
        assert_eq!(class(state(&Publish { ts: 946_684_799_999, ..publish("devices/1/state", STATE) })), "ts");
        for stream in ["message_state", "audit_finding"] {
            for value in ["", "{}", "null", r#"{"client_id":"1","topic":"devices/1/state","payload":"*"}"#] {
                let poison = decode(&record(stream, value.into()), &streams()).unwrap_err();
                assert_eq!(poison.class, "value", "{stream} {value}");
            }
        }
        assert_eq!(decode(&record("other", Vec::new()), &streams()).unwrap_err().class, "stream");
    }

    #[test]
    fn a_finding_is_read() {
        let value = |at: i64| {
            format!(
                r#"{{"client_id":"1","at":{at},"kind":"command","verdict":"replay","findings":[],"severity":"critical","chain_id":3,"seq":17}}"#
            )
        };
        let read = |at| decode(&record("audit_finding", value(at).into_bytes()), &streams());
        let Item::Finding(finding) = read(TS as i64).unwrap() else { panic!("a finding") };
        assert_eq!((finding.verdict.as_str(), finding.seq), ("replay", 17));
        assert_eq!(read(-1).unwrap_err().class, "ts");
    }

    #[test]
    fn no_report_is_from_the_future() {
        for (ahead_ms, expected) in [(-3_600_000, true), (0, true), (300_000, true), (300_001, false)] {
            let mut value = Vec::new();
            write_publish(&mut value, &publish(&format!("devices/{LOCK}/state"), STATE));
            let mut record = record("message_state", value);
            record.timestamp_ms = Some(TS as i64 - ahead_ms);
            assert_eq!(decode(&record, &streams()).is_ok(), expected, "{ahead_ms}");
        }
    }

    #[test]
    fn no_text_is_refused_by_postgres() {
        let topic = format!("devices/{}/state", "x\0".repeat(5_000));
        let lock = state(&publish(&topic, STATE)).unwrap().lock;
        assert!(lock.len() < 256 && !lock.contains('\0'));
    }
}

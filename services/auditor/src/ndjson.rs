//! Rows as lines of JSON: what an export and an archive hold, and what is verified without the
//! database. A line has every column, so it proves as much as the row does.
//!
//! Hashes are hexadecimal, the raw record is base64, times are RFC 3339; ids, offsets and numbers
//! beyond 2^53 stay exact because ids and `xid` are strings. Invariant: `read(write(row)) == row`
//! for every row that [`crate::history::append`] can store.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use latchline_shared::hex;
use serde::{Deserialize, Serialize};

use crate::chain::Hash;
use crate::event::{Direction, Event, Kind, Place, Row, Severity};

/// A line that is no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a row of history: {0}")]
pub struct NotARow(String);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    chain_id: i16,
    seq: i64,
    occurred_at: String,
    ingested_at: String,
    xid: String,
    direction: String,
    kind: String,
    client_id: String,
    process_id: Option<String>,
    action: Option<String>,
    lock_state: Option<String>,
    lock_state_raw: Option<i64>,
    battery: Option<f32>,
    publisher: Option<String>,
    receiver: Option<String>,
    username: Option<String>,
    verdict: String,
    findings: Vec<String>,
    severity: i16,
    reason: Option<String>,
    nonce_str: Option<String>,
    cmd_ts: Option<String>,
    skew_ms: Option<i64>,
    sign_bits: Option<i16>,
    kid: Option<String>,
    raw: Option<String>,
    raw_sha256: String,
    k_topic: String,
    k_partition: i32,
    k_offset: i64,
    mid: Option<String>,
    node: Option<String>,
    qos: Option<i16>,
    leaf_hash: String,
    chain_hash: String,
    detail_hash: String,
}

/// Adds the line of a row, with its line break.
pub fn write(row: &Row, out: &mut Vec<u8>) {
    let event = row.event.clone();
    let line = Line {
        chain_id: row.chain_id,
        seq: row.seq,
        occurred_at: time(event.occurred_at_ms.saturating_mul(1_000)),
        ingested_at: time(row.ingested_at_us),
        xid: row.xid.to_string(),
        direction: event.direction.name().to_owned(),
        kind: event.kind.name().to_owned(),
        client_id: event.client_id,
        process_id: event.process_id,
        action: event.action,
        lock_state: event.lock_state,
        lock_state_raw: event.lock_state_raw,
        battery: event.battery,
        publisher: event.publisher,
        receiver: event.receiver,
        username: event.username,
        verdict: event.verdict,
        findings: event.findings,
        severity: event.severity.level(),
        reason: event.reason,
        nonce_str: event.nonce_str,
        cmd_ts: event.cmd_ts.map(|ts| time(ts.saturating_mul(1_000_000))),
        skew_ms: event.skew_ms,
        sign_bits: event.sign_bits,
        kid: event.kid,
        raw: (!row.raw_removed).then(|| BASE64.encode(&event.raw)),
        raw_sha256: hex::encode(&row.raw_sha256),
        k_topic: event.place.stream,
        k_partition: event.place.partition,
        k_offset: event.place.offset,
        mid: event.mid,
        node: event.node,
        qos: event.qos,
        leaf_hash: hex::encode(&row.leaf_hash),
        chain_hash: hex::encode(&row.chain_hash),
        detail_hash: hex::encode(&row.detail_hash),
    };
    serde_json::to_writer(&mut *out, &line).expect("texts and numbers make JSON, and memory takes it");
    out.push(b'\n');
}

/// The row of a line.
pub fn read(line: &[u8]) -> Result<Row, NotARow> {
    let line: Line = serde_json::from_slice(line).map_err(|error| NotARow(error.to_string()))?;
    let raw = line.raw.as_deref().map(|raw| BASE64.decode(raw)).transpose();
    let raw = raw.map_err(|_| NotARow("raw is not base64".to_owned()))?;
    Ok(Row {
        raw_removed: raw.is_none(),
        raw_sha256: hash(&line.raw_sha256, "raw_sha256")?,
        chain_id: line.chain_id,
        seq: line.seq,
        ingested_at_us: micros(&line.ingested_at, 1, "ingested_at")?,
        xid: line.xid.parse().map_err(|_| NotARow("xid is not a number".to_owned()))?,
        leaf_hash: hash(&line.leaf_hash, "leaf_hash")?,
        chain_hash: hash(&line.chain_hash, "chain_hash")?,
        detail_hash: hash(&line.detail_hash, "detail_hash")?,
        event: Event {
            occurred_at_ms: micros(&line.occurred_at, 1_000, "occurred_at")?,
            direction: word(Direction::from_name(&line.direction), "direction")?,
            kind: word(Kind::from_name(&line.kind), "kind")?,
            client_id: line.client_id,
            process_id: line.process_id,
            action: line.action,
            lock_state: line.lock_state,
            lock_state_raw: line.lock_state_raw,
            battery: line.battery,
            publisher: line.publisher,
            receiver: line.receiver,
            username: line.username,
            verdict: line.verdict,
            findings: line.findings,
            severity: word(Severity::from_level(line.severity), "severity")?,
            reason: line.reason,
            nonce_str: line.nonce_str,
            cmd_ts: line.cmd_ts.map(|ts| micros(&ts, 1_000_000, "cmd_ts")).transpose()?,
            skew_ms: line.skew_ms,
            sign_bits: line.sign_bits,
            kid: line.kid,
            raw: raw.unwrap_or_default(),
            place: Place { stream: line.k_topic, partition: line.k_partition, offset: line.k_offset },
            mid: line.mid,
            node: line.node,
            qos: line.qos,
        },
    })
}

/// RFC 3339; what the calendar does not have, in Unix microseconds.
fn time(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}

fn micros(text: &str, unit_us: i64, name: &str) -> Result<i64, NotARow> {
    let time: Timestamp = text.parse().map_err(|_| NotARow(format!("{name} is not a time")))?;
    let unit_ns = i128::from(unit_us) * 1_000;
    if time.as_nanosecond() % unit_ns != 0 {
        return Err(NotARow(format!("{name} is too precise")));
    }
    Ok(time.as_microsecond() / unit_us)
}

fn hash(text: &str, name: &str) -> Result<Hash, NotARow> {
    hex::decode(text).ok_or_else(|| NotARow(format!("{name} is not a hash")))
}

fn word<T>(word: Option<T>, name: &str) -> Result<T, NotARow> {
    word.ok_or_else(|| NotARow(format!("{name} is none of ours")))
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::chain::Head;
    use crate::chain::tests::full;

    fn line(row: &Row) -> String {
        let mut out = Vec::new();
        write(row, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_for_each_row() {
        let mut row = Head::genesis(3).link(3, full(5), 1_767_225_600_123_456, u64::MAX);
        let text = line(&row);
        assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
        for part in [
            r#""chain_id":3,"seq":1,"occurred_at":"2026-01-01T00:00:00.005Z","#,
            r#""ingested_at":"2026-01-01T00:00:00.123456Z","xid":"18446744073709551615","#,
            r#""battery":83.4,"#,
            r#""cmd_ts":"2026-01-01T00:00:00Z","#,
            r#""raw":"eyAibiI6NX0=","#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(read(text.as_bytes()), Ok(row.clone()));
        row.event.raw.clear();
        row.raw_removed = true;
        assert!(line(&row).contains(r#""raw":null"#));
        assert_eq!(read(line(&row).as_bytes()), Ok(row));
    }

    #[test]
    fn what_is_no_row_is_refused() {
        let good = line(&Head::genesis(3).link(3, full(5), 1_767_225_600_123_456, 9));
        for (old, new, expected) in [
            ("{", "", "not a row of history: "),
            ("\"kind\":\"command\"", "\"kind\":\"party\"", "kind is none of ours"),
            ("\"severity\":3", "\"severity\":4", "severity is none of ours"),
            ("00:00:00.005Z", "00:00:00.0051Z", "occurred_at is too precise"),
            (".123456Z", ".1234567Z", "ingested_at is too precise"),
            ("\"xid\":\"9\"", "\"xid\":\"-9\"", "xid is not a number"),
            ("\"raw\":\"ey", "\"raw\":\"e?", "raw is not base64"),
            ("\"leaf_hash\":\"", "\"leaf_hash\":\"00", "leaf_hash is not a hash"),
            ("\"qos\":1", "\"qos\":1,\"extra\":1", "unknown field `extra`"),
            ("\"raw_sha256\"", "\"raw_sha\"", "unknown field"),
        ] {
            assert!(good.contains(old), "{old}");
            let text = good.replacen(old, new, 1);
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{new}: {error}");
        }
    }

    prop_compose! {
        fn any_event()(
            times in (-60_000_000_000_000i64..200_000_000_000_000, option::of(-60_000_000_000i64..200_000_000_000)),
            texts in proptest::collection::vec(option::of(".{0,12}"), 12),
            verdict in ".{0,12}",
            findings in proptest::collection::vec(".{0,8}", 0..4),
            battery in option::of(any::<f32>().prop_filter("finite", |n| n.is_finite())),
            numbers in (option::of(any::<i64>()), option::of(any::<i64>()), option::of(any::<i16>()), option::of(any::<i16>())),
            place in (any::<i32>(), any::<i64>()),
            words in (0..3usize, 0..7usize, 0..4usize),
            raw in proptest::collection::vec(any::<u8>(), 0..40),
        ) -> Event {
            let text = |index: usize| texts[index].clone();
            Event {
                occurred_at_ms: times.0,
                direction: Direction::ALL[words.0],
                kind: Kind::ALL[words.1],
                client_id: text(0).unwrap_or_default(),
                process_id: text(1),
                action: text(2),
                lock_state: text(3),
                lock_state_raw: numbers.0,
                battery,
                publisher: text(4),
                receiver: text(5),
                username: text(6),
                verdict,
                findings,
                severity: Severity::ALL[words.2],
                reason: text(7),
                nonce_str: text(8),
                cmd_ts: times.1,
                skew_ms: numbers.1,
                sign_bits: numbers.2,
                kid: text(9),
                raw,
                place: Place { stream: "message_state".to_owned(), partition: place.0, offset: place.1 },
                mid: text(10),
                node: text(11),
                qos: numbers.3,
            }
        }
    }

    proptest! {
        #[test]
        fn every_row_comes_back(event in any_event(), chain_id: i16, xid: u64, removed: bool) {
            let mut row = Head::genesis(chain_id).link(chain_id, event, 1_700_000_000_000_001, xid);
            if removed {
                row.raw_removed = true;
                row.event.raw.clear();
            }
            let back = read(line(&row).as_bytes()).unwrap();
            prop_assert_eq!(back.event.battery.map(f32::to_bits), row.event.battery.map(f32::to_bits));
            prop_assert_eq!(&back, &row);
            prop_assert_eq!(Head::genesis(chain_id).follows(&back), Ok(()));
        }
    }
}

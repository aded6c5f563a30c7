//! Events as CSV (RFC 4180) for spreadsheets, which execute what looks like a formula: a text that
//! begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets a `'` in front, which they show
//! as the text that follows. Numbers are left alone: nothing can hide in them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use csv::{Terminator, WriterBuilder};
use latchline_shared::hex;

use super::view::time_ms;
use crate::event::Row;

const COLUMNS: [&str; 33] = [
    "chain_id",
    "seq",
    "occurred_at",
    "ingested_at",
    "direction",
    "kind",
    "client_id",
    "process_id",
    "action",
    "lock_state",
    "lock_state_raw",
    "battery",
    "publisher",
    "receiver",
    "username",
    "verdict",
    "findings",
    "severity",
    "reason",
    "nonce_str",
    "cmd_ts",
    "skew_ms",
    "sign_bits",
    "kid",
    "stream",
    "partition",
    "offset",
    "mid",
    "node",
    "qos",
    "raw_sha256",
    "chain_hash",
    "raw",
];

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A sheet that is written part by part.
#[derive(Debug)]
pub struct Sheet {
    has_raw: bool,
    has_bom: bool,
    is_begun: bool,
}

impl Sheet {
    /// A sheet, with the raw records or without, with a byte order mark or without.
    pub fn new(has_raw: bool, has_bom: bool) -> Self {
        Self { has_raw, has_bom, is_begun: false }
    }

    /// The next lines, the first time behind the names of the columns.
    pub fn write(&mut self, rows: &[Row]) -> Result<Vec<u8>, csv::Error> {
        let mut out = Vec::new();
        if self.has_bom && !self.is_begun {
            out.extend(BYTE_ORDER_MARK);
        }
        let columns = if self.has_raw { COLUMNS.len() } else { COLUMNS.len() - 1 };
        let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
        if !self.is_begun {
            writer.write_record(&COLUMNS[..columns])?;
            self.is_begun = true;
        }
        for row in rows {
            let cells = cells(row);
            writer.write_record(cells[..columns].iter().map(|cell| cell.as_bytes()))?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }
}

/// The cells of a row, in the order of [`COLUMNS`].
fn cells(row: &Row) -> [Cow<'_, str>; COLUMNS.len()] {
    let event = &row.event;
    [
        number(Some(row.chain_id)),
        number(Some(row.seq)),
        time_ms(event.occurred_at_ms).into(),
        time_ms(row.ingested_at_us.div_euclid(1000)).into(),
        event.direction.name().into(),
        event.kind.name().into(),
        text(&event.client_id),
        optional(&event.process_id),
        optional(&event.action),
        optional(&event.lock_state),
        number(event.lock_state_raw),
        number(event.battery),
        optional(&event.publisher),
        optional(&event.receiver),
        optional(&event.username),
        text(&event.verdict),
        guarded(event.findings.join(" ").into()),
        event.severity.name().into(),
        optional(&event.reason),
        optional(&event.nonce_str),
        event.cmd_ts.map(|seconds| time_ms(seconds.saturating_mul(1000))).unwrap_or_default().into(),
        number(event.skew_ms),
        number(event.sign_bits),
        optional(&event.kid),
        text(&event.place.stream),
        number(Some(event.place.partition)),
        number(Some(event.place.offset)),
        optional(&event.mid),
        optional(&event.node),
        number(event.qos),
        hex::encode(&row.raw_sha256).into(),
        hex::encode(&row.chain_hash).into(),
        guarded(STANDARD.encode(&event.raw).into()),
    ]
}

fn number<'a>(number: Option<impl ToString>) -> Cow<'a, str> {
    number.map(|number| number.to_string()).unwrap_or_default().into()
}

fn optional(value: &Option<String>) -> Cow<'_, str> {
    text(value.as_deref().unwrap_or_default())
}

fn text(value: &str) -> Cow<'_, str> {
    guarded(value.into())
}

fn guarded(value: Cow<'_, str>) -> Cow<'_, str> {
    if value.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{value}").into() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn row(event: Event) -> Row {
        Row {
            event,
            raw_removed: false,
            raw_sha256: [0; 32],
            chain_id: 1,
            seq: 2,
            ingested_at_us: 0,
            xid: 3,
            leaf_hash: [0; 32],
            chain_hash: [0; 32],
            detail_hash: [0; 32],
        }
    }

    #[test]
    fn what_a_spreadsheet_would_execute_is_guarded_and_all_else_comes_back() {
        for (value, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@sum(a1)", "'@sum(a1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("a=1", "a=1"),
            ("'=1", "'=1"),
            ("a,b\"c\r\nd", "a,b\"c\r\nd"),
            ("錠", "錠"),
            ("", ""),
        ] {
            let event = Event {
                client_id: value.to_owned(),
                publisher: Some(value.to_owned()),
                findings: vec![value.to_owned()],
                skew_ms: Some(-5),
                raw: vec![0xf8],
                ..Event::default()
            };
            let out = Sheet::new(true, false).write(&[row(event)]).unwrap();
            assert!(out.ends_with(b"\r\n"));
            let mut reader = csv::Reader::from_reader(out.as_slice());
            assert_eq!(reader.headers().unwrap(), &COLUMNS[..]);
            let record = reader.records().next().unwrap().unwrap();
            for column in ["client_id", "publisher", "findings"] {
                let index = COLUMNS.iter().position(|name| *name == column).unwrap();
                assert_eq!(&record[index], expected, "{column} {value:?}");
            }
            let skew = COLUMNS.iter().position(|name| *name == "skew_ms").unwrap();
            assert_eq!((&record[skew], record.iter().next_back()), ("-5", Some("'+A==")));
        }
    }

    #[test]
    fn a_sheet_begins_once() {
        let mut sheet = Sheet::new(false, true);
        let first = sheet.write(&[]).unwrap();
        assert!(first.starts_with("\u{feff}chain_id,seq,".as_bytes()) && first.ends_with(b",chain_hash\r\n"));
        let second = sheet.write(&[row(Event::default())]).unwrap();
        assert!(second.starts_with(b"1,2,1970-01-01T00:00:00.000Z,"));
    }
}

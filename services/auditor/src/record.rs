//! Records as the auditor reads them: what one means before anything is known of others.
//!
//! The costly part of a verdict (JSON, a hash, a signature) is done here, outside of any
//! transaction. Ids are compared here too, as they came; what goes on is bounded ([`bounded`]).
//!
//! Only what is no record at all is poison. A payload that cannot be read is something that
//! happened, and is written down as such.

use latchline_shared::kit::kafka::consumer::envelope::{flag, lock_of, parse, poison, time};
use latchline_shared::kit::kafka::consumer::{Poison, Record};
use latchline_shared::record::{DeliveredRecord, PublishRecord, RejectedRecord, header};
use latchline_shared::report::Report;
use latchline_shared::text::bounded;
use serde::Deserialize;

use crate::keys::Keys;
use crate::verdict::{Examined, examine};

/// The `[streams]` table: which stream holds what.
#[derive(Debug, Clone, Deserialize)]
pub struct Streams {
    /// What locks report (`message.publish` of `devices/+/state`).
    pub states: String,
    /// Commands that were delivered (`message.acked` of `devices/+/command`).
    pub commands: String,
    /// Commands that were refused (`message.rejected` of `devices/+/command`).
    pub rejected: String,
}

/// What happened.
#[derive(Debug, Clone)]
pub struct Item {
    /// The lock, by the topic.
    pub lock: String,
    /// When the broker saw it, in Unix milliseconds.
    pub at_ms: i64,
    /// The broker's node.
    pub node: String,
    /// QoS of the message.
    pub qos: i16,
    /// The broker's id of the message, if it gives one.
    pub mid: Option<String>,
    /// Whether the publisher marked it as sent again, if the broker says so.
    pub dup: Option<bool>,
    /// User name of the publisher (reports, attempts) or the receiver (commands).
    pub username: Option<String>,
    /// Client id of the publisher.
    pub publisher: String,
    /// What it was.
    pub what: What,
}

/// What a record is of.
#[derive(Debug, Clone)]
pub enum What {
    /// A lock said how it is.
    Report {
        /// Whether the topic, the publisher and the payload, if it can be read, name one lock.
        is_of_one_lock: bool,
        /// What it said, or why that cannot be read.
        report: Result<Box<Report>, String>,
    },
    /// A command was delivered.
    Command {
        /// Client id of the receiver.
        receiver: String,
        /// Whether that is the lock.
        is_at_lock: bool,
        /// The command.
        examined: Box<Examined>,
    },
    /// A command was refused by the broker.
    Attempt {
        /// Why: the guard's verdict, or the cause of the access rules.
        reason: String,
        /// The command.
        examined: Box<Examined>,
    },
}

/// Reads a record of one of the streams.
pub fn decode(record: &Record, streams: &Streams, keys: &Keys) -> Result<Item, Poison> {
    match &*record.stream {
        stream if stream == streams.states => report(record),
        stream if stream == streams.commands => command(record, keys),
        stream if stream == streams.rejected => attempt(record, keys),
        stream => Err(poison("stream", format!("{stream} is no stream of the auditor"))),
    }
}

fn report(record: &Record) -> Result<Item, Poison> {
    let value: PublishRecord = parse(record)?;
    let lock = lock_of(&value.topic, "state")?;
    let report = Report::read(&value.payload);
    let is_of_one_lock =
        value.publisher == lock && report.as_ref().map_or(true, |report| report.client_id == lock);
    let what = What::Report { is_of_one_lock, report: report.map(Box::new) };
    let Common { at_ms, qos, mid, dup } = common(record, value.ts, value.qos)?;
    Ok(Item {
        lock: bounded(lock),
        at_ms,
        node: bounded(&value.node),
        qos,
        mid,
        dup,
        username: username(&value.username),
        publisher: bounded(&value.publisher),
        what,
    })
}

fn command(record: &Record, keys: &Keys) -> Result<Item, Poison> {
    let value: DeliveredRecord = parse(record)?;
    let lock = lock_of(&value.topic, "command")?;
    let Common { at_ms, qos, mid, .. } = common(record, value.ts, value.qos)?;
    // `dup` says whether the lock got it again, which says nothing about who sent it.
    let dup = flag(record, header::PUBLISHER_DUP);
    Ok(Item {
        lock: bounded(lock),
        at_ms,
        node: bounded(&value.node),
        qos,
        mid,
        dup,
        username: username(&value.username),
        publisher: bounded(&value.publisher),
        what: What::Command {
            receiver: bounded(&value.receiver),
            is_at_lock: value.receiver == lock,
            examined: Box::new(examine(&value.payload, lock, keys, at_ms)),
        },
    })
}

fn attempt(record: &Record, keys: &Keys) -> Result<Item, Poison> {
    let value: RejectedRecord = parse(record)?;
    let lock = lock_of(&value.topic, "command")?;
    let Common { at_ms, qos, mid, dup } = common(record, value.ts, value.qos)?;
    Ok(Item {
        lock: bounded(lock),
        at_ms,
        node: bounded(&value.node),
        qos,
        mid,
        dup,
        username: username(&value.username),
        publisher: bounded(&value.publisher),
        what: What::Attempt {
            reason: bounded(&value.reason),
            examined: Box::new(examine(&value.payload, lock, keys, at_ms)),
        },
    })
}

struct Common {
    at_ms: i64,
    qos: i16,
    mid: Option<String>,
    dup: Option<bool>,
}

fn common(record: &Record, ts: u64, qos: u8) -> Result<Common, Poison> {
    let at_ms = time(ts)?;
    let dup = flag(record, header::DUP);
    let mid = record.header(header::MID).filter(|mid| !mid.is_empty()).map(bounded);
    Ok(Common { at_ms, qos: i16::from(qos), mid, dup })
}

fn username(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| bounded(name))
}

#[cfg(test)]
mod tests {
    use latchline_shared::message::Qos;
    use latchline_shared::record::{Delivery, Publish, write_delivery, write_publish, write_rejected};

    use super::*;

    const LOCK: &str = "10083618796833171";
    const STATE: &str = r#"{"process_id":"1","action":"unlock","battery":83.4,"lock_state":1,"version":1.1,"client_id":"10083618796833171"}"#;

    fn streams() -> Streams {
        let [states, commands, rejected] =
            ["message_state", "message_command", "message_command_rejected"].map(str::to_owned);
        Streams { states, commands, rejected }
    }

    fn record(stream: &str, value: Vec<u8>) -> Record {
        let headers = vec![("mid".to_owned(), b"m1".to_vec()), ("dup".to_owned(), b"true".to_vec())];
        Record {
            stream: stream.into(),
            partition: 0,
            offset: 7,
            timestamp_ms: None,
            key: None,
            value,
            headers,
        }
    }

    fn publish<'a>(topic: &'a str, payload: &'a str, ts: u64) -> Publish<'a> {
        Publish {
            publisher: LOCK,
            username: "",
            topic,
            payload: payload.as_bytes(),
            qos: Qos::AtLeastOnce,
            node: "n",
            ts,
        }
    }

    fn read(stream: &str, value: Vec<u8>) -> Result<Item, Poison> {
        decode(&record(stream, value), &streams(), &Keys::default())
    }

    fn state(publish: &Publish<'_>) -> Result<Item, Poison> {
        let mut value = Vec::new();
        write_publish(&mut value, publish);
        read("message_state", value)
    }

    #[test]
    fn a_report_is_read() {
        let topic = format!("devices/{LOCK}/state");
        let item = state(&publish(&topic, STATE, 1_574_751_635_845)).unwrap();
        assert_eq!((item.lock.as_str(), item.at_ms, item.qos), (LOCK, 1_574_751_635_845, 1));
        assert_eq!((item.mid.as_deref(), item.dup, item.username), (Some("m1"), Some(true), None));
        assert!(matches!(item.what, What::Report { is_of_one_lock: true, report: Ok(_) }));
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
            let item = state(&Publish { publisher, ..publish(topic, payload, 1_574_751_635_845) }).unwrap();
            let What::Report { is_of_one_lock, .. } = item.what else { panic!("a report") };
            assert_eq!(is_of_one_lock, expected, "{topic} {publisher} {payload}");
        }
    }

    #[test]
    fn a_command_knows_its_receiver_and_an_attempt_its_reason() {
        let topic = format!("devices/{LOCK}/command");
        for (receiver, expected) in [(LOCK, true), ("eve", false)] {
            let mut value = Vec::new();
            let Publish { username, topic, payload, qos, node, ts, .. } =
                publish(&topic, "{}", 1_574_751_635_845);
            let publisher = "backend";
            write_delivery(
                &mut value,
                &Delivery { receiver, username, publisher, topic, payload, qos, node, ts },
            );
            let item = read("message_command", value).unwrap();
            assert_eq!(item.publisher, "backend");
            let What::Command { is_at_lock, .. } = item.what else { panic!("a command") };
            assert_eq!(is_at_lock, expected);
        }
        let mut value = Vec::new();
        write_rejected(&mut value, &publish(&topic, "{}", 1_574_751_635_845), "replay");
        let item = read("message_command_rejected", value).unwrap();
        let What::Attempt { reason, .. } = item.what else { panic!("an attempt") };
        assert_eq!(reason, "replay");
    }

    #[test]
    fn what_is_no_record_is_poison() {
        let ts = 1_574_751_635_845;
        let class = |result: Result<Item, Poison>| result.unwrap_err().class;
        for topic in
            ["devices/1/command", "devices/1/state/x", "devices//state", "state", "devices/1/x/state"]
        {
            assert_eq!(class(state(&publish(topic, STATE, ts))), "topic", "{topic}");
        }
        for ts in [0, 946_684_799_999, 4_102_444_800_000, u64::MAX] {
            assert_eq!(class(state(&publish("devices/1/state", STATE, ts))), "ts", "{ts}");
        }
        assert!(state(&publish("devices/1/state", STATE, 946_684_800_000)).is_ok());
        for value in [
            "",
            "{}",
            "null",
            r#"{"client_id":"1","topic":"devices/1/state","payload":"*","qos":1,"node":"n","ts":1574751635845}"#,
        ] {
            assert_eq!(class(read("message_state", value.into())), "value", "{value}");
        }
        assert_eq!(class(read("other", Vec::new())), "stream");
    }

    #[test]
    fn no_text_is_refused_by_postgres() {
        let long = "x".repeat(10_000);
        let topic = format!("devices/{long}/state");
        let item =
            state(&Publish { publisher: "a\0", node: &long, ..publish(&topic, STATE, 1_574_751_635_845) })
                .unwrap();
        assert!(item.lock.len() < 256 && item.node.len() < 256 && item.publisher == "a\u{fffd}");
    }
}

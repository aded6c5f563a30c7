//! Puts records into the streams as the bridge would, without a broker: for tests and measurements
//! of what reads them.

use std::time::Duration;

use anyhow::Context;
use latchline_shared::command::Action;
use latchline_shared::command::draft::{Draft, SignLength, sign_command};
use latchline_shared::keys::MasterKey;
use latchline_shared::message::Qos;
use latchline_shared::record::{Delivery, Publish, header, write_delivery, write_publish};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use crate::stack::{command_topic, state_topic};

const NODE: &str = "latchline@127.0.0.1";
const FLUSH_DEADLINE: Duration = Duration::from_secs(120);
const FULL_RETRY_DELAY: Duration = Duration::from_millis(5);

/// A record on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The lock.
    pub key: String,
    /// The value, as the bridge writes it.
    pub value: Vec<u8>,
    /// The broker's id of the message.
    pub mid: u128,
}

/// A producer for the streams.
pub struct Feed(ThreadedProducer<DefaultProducerContext>);

impl Feed {
    /// Opens it.
    pub fn open(bootstrap: &str) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create()
            .context("make a producer")?;
        Ok(Self(producer))
    }

    /// Sends a record; waits while the producer is full.
    pub fn send(&self, stream: &str, unsent: &Unsent) -> anyhow::Result<()> {
        self.send_as(stream, unsent, "false")
    }

    /// As [`Feed::send`], of a message that the publisher sent again.
    pub fn send_again(&self, stream: &str, unsent: &Unsent) -> anyhow::Result<()> {
        self.send_as(stream, unsent, "true")
    }

    fn send_as(&self, stream: &str, unsent: &Unsent, dup: &str) -> anyhow::Result<()> {
        let mid = format!("{:032x}", unsent.mid);
        let headers = OwnedHeaders::new()
            .insert(Header { key: header::MID, value: Some(&mid) })
            .insert(Header { key: header::DUP, value: Some(dup) });
        let mut record =
            BaseRecord::<str, [u8]>::to(stream).key(&unsent.key).payload(&unsent.value).headers(headers);
        loop {
            match self.0.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(FULL_RETRY_DELAY);
                }
                Err((error, _)) => return Err(error).context("send a record"),
            }
        }
    }

    /// Waits until all are stored.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.0.flush(FLUSH_DEADLINE).context("not all records are stored")
    }
}

/// A report of a lock, seen at `ts_ms`. [`Report::of`] is a heartbeat of a healthy lock.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The lock.
    pub lock: &'a str,
    /// When the broker saw it, in Unix milliseconds.
    pub ts_ms: u64,
    /// Percent.
    pub battery: f32,
    /// The state as the lock numbers it.
    pub lock_state: i64,
    /// Which command it answers; empty if none.
    pub process_id: &'a str,
    /// What the lock was told.
    pub action: &'a str,
    /// Further fields of the payload, each with a comma in front.
    pub more: &'a str,
}

impl<'a> Report<'a> {
    /// Locked, its battery full, nothing to answer.
    pub fn of(lock: &'a str, ts_ms: u64) -> Self {
        Self { lock, ts_ms, battery: 90.0, lock_state: 0, process_id: "", action: "heartbeat", more: "" }
    }

    /// What the lock sends.
    pub fn payload(&self) -> String {
        let Self { lock, battery, lock_state, process_id, action, more, .. } = self;
        format!(
            r#"{{"process_id":"{process_id}","action":"{action}","battery":{battery:.1},"lock_state":{lock_state},"version":1.1,"client_id":"{lock}"{more}}}"#
        )
    }

    /// The record of it.
    pub fn record(&self) -> Unsent {
        report(self.lock, self.payload().as_bytes(), self.ts_ms)
    }
}

/// The record of a report with any payload.
pub fn report(lock: &str, payload: &[u8], ts_ms: u64) -> Unsent {
    let mut value = Vec::new();
    let publish = Publish {
        publisher: lock,
        username: "",
        topic: &state_topic(lock),
        payload,
        qos: Qos::AtLeastOnce,
        node: NODE,
        ts: ts_ms,
    };
    write_publish(&mut value, &publish);
    Unsent { key: lock.to_owned(), value, mid: u128::from(ts_ms) }
}

/// What happens at one lock: command `n` and its result, seen at `ts_ms`.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The lock.
    pub lock: &'a str,
    /// Makes process, nonce and message ids unique among the scenes of a lock.
    pub n: u64,
    /// When the broker saw it, in Unix milliseconds.
    pub ts_ms: u64,
}

impl Scene<'_> {
    /// Its process.
    pub fn process_id(&self) -> String {
        format!("{:016}", self.n)
    }

    /// The record of the acknowledged command.
    pub fn command(&self, master: &MasterKey) -> anyhow::Result<Unsent> {
        let (process_id, nonce) = (self.process_id(), format!("n{:015}", self.n));
        let draft = Draft {
            process_id: &process_id,
            action: Action::Unlock,
            nonce: &nonce,
            ts: i64::try_from(self.ts_ms / 1000)?,
            ttl: None,
            kid: None,
            extra: &[],
        };
        let payload = sign_command(&draft, self.lock, &master.command_key(self.lock), SignLength::Full)?;
        let mut value = Vec::new();
        let delivery = Delivery {
            receiver: self.lock,
            username: "",
            publisher: "operator",
            topic: &command_topic(self.lock),
            payload: payload.as_bytes(),
            qos: Qos::AtLeastOnce,
            node: NODE,
            ts: self.ts_ms,
        };
        write_delivery(&mut value, &delivery);
        Ok(Unsent { key: self.lock.to_owned(), value, mid: u128::from(self.n) << 1 })
    }

    /// The record of the report that answers it.
    pub fn result(&self) -> Unsent {
        let (lock, process_id) = (self.lock, self.process_id());
        let payload = format!(
            r#"{{"process_id":"{process_id}","action":"unlock","battery":83.4,"lock_state":1,"version":1.1,"client_id":"{lock}","result":"ok"}}"#
        );
        let mut value = Vec::new();
        let publish = Publish {
            publisher: lock,
            username: "",
            topic: &state_topic(lock),
            payload: payload.as_bytes(),
            qos: Qos::AtLeastOnce,
            node: NODE,
            ts: self.ts_ms + 40,
        };
        write_publish(&mut value, &publish);
        Unsent { key: lock.to_owned(), value, mid: u128::from(self.n) << 1 | 1 }
    }
}

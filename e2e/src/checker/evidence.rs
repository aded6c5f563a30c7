//! What the system has of what was promised: plain data, wherever it was found.

use std::collections::BTreeMap;

use crate::kafka::reader::Record;

/// A stream and one of its partitions.
pub type Place = (String, i32);

/// Everything that was found.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// All records of all streams, those of one partition in its order.
    pub records: Vec<Record>,
    /// The offset behind the last record of each partition of each stream.
    pub ends: BTreeMap<Place, i64>,
    /// How far each service says that it has read.
    pub offsets: Vec<Offset>,
    /// The audit history, but for what nobody on the wire did (reading it, say).
    pub events: Vec<Event>,
    /// What is wrong with the history's chains, if anything is.
    pub chains: Option<String>,
    /// Lock and process of what the auditor waits for: the other half of it shall come.
    pub awaited: Vec<(String, String)>,
    /// What the monitor knows of each lock.
    pub states: BTreeMap<String, State>,
    /// What the notifier told, or tried to.
    pub notifications: Vec<Notification>,
    /// How often the mail server and the gateway took a message, by the id of its notification.
    pub arrivals: BTreeMap<String, u32>,
}

/// How far a service has read a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offset {
    /// Which service.
    pub service: &'static str,
    /// The partition.
    pub place: Place,
    /// The next offset that it reads.
    pub next: i64,
}

/// A row of the audit history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// `command`, `attempt`, `result`, `change` or `finding`.
    pub kind: String,
    /// The lock.
    pub lock: String,
    /// The process.
    pub process_id: String,
    /// The verdict.
    pub verdict: String,
    /// What is wrong.
    pub findings: Vec<String>,
    /// The record that it is about.
    pub place: Place,
    /// The record's offset.
    pub offset: i64,
    /// The chain that it is in, and its number there.
    pub row: (i16, i64),
}

/// What the monitor knows of a lock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    /// The record that it knows it from.
    pub last_offset: i64,
    /// The state's number.
    pub lock_state: Option<i64>,
    /// The battery's charge.
    pub battery: Option<f32>,
}

/// A message to somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// Its id.
    pub id: String,
    /// What happened.
    pub event_type: String,
    /// `email` or `sms`.
    pub channel: String,
    /// The lock.
    pub lock: String,
    /// The process; empty if it is not about a result.
    pub process_id: String,
    /// The alarm and the number of its change, if it is about that.
    pub alarm: Option<(String, i32)>,
    /// What became of it.
    pub status: String,
    /// Attempts of which nobody knows whether they arrived.
    pub ambiguous: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { last_offset: -1, lock_state: None, battery: None }
    }
}

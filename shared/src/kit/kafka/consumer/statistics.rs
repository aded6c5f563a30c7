//! What the client library's statistics tell, each second, of the partitions that are read.
//!
//! They are the only place that says which partition has been read to its end: the library's own
//! event names the partition and not the stream.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

/// A server that has not said anything for so long may hide records that it has.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// One look.
#[derive(Debug, Deserialize)]
pub(super) struct Statistics {
    brokers: HashMap<String, Broker>,
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    nodeid: i32,
    source: String,
    state: String,
    /// Microseconds since it last said something.
    rxidle: i64,
}

#[derive(Debug, Deserialize)]
struct Topic {
    partitions: HashMap<String, Partition>,
}

/// A partition, as the library sees it.
#[derive(Debug, Deserialize)]
pub(super) struct Partition {
    partition: i32,
    /// The server that it is fetched from.
    broker: i32,
    /// Where its end was when it was reached last.
    eof_offset: i64,
    /// What is fetched next.
    next_offset: i64,
    /// Where its end is, for us and for all.
    ls_offset: i64,
    hi_offset: i64,
}

impl Statistics {
    /// What the library wrote.
    pub(super) fn parse(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// The partition of a stream, if it is known.
    pub(super) fn partition(&self, stream: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(stream)?.partitions.values().find(|own| own.partition == partition)
    }

    /// The end of a partition that has been fetched to its end, from a server that still answers.
    pub(super) fn end_reached(&self, stream: &str, partition: i32) -> Option<i64> {
        let partition = self.partition(stream, partition)?;
        let end = partition.eof_offset;
        let is_at_end = end >= 0 && end == partition.next_offset && end >= partition.ls_offset;
        (is_at_end && self.answers(partition.broker)).then_some(end)
    }

    fn answers(&self, node: i32) -> bool {
        self.brokers.values().any(|broker| {
            broker.nodeid == node
                && broker.source != "logical"
                && broker.state == "UP"
                && u64::try_from(broker.rxidle).is_ok_and(|idle| idle < SILENCE_MAX.as_micros() as u64)
        })
    }
}

impl Partition {
    /// How many records there are from `next` on, if that is known.
    pub(super) fn behind(&self, next: i64) -> Option<i64> {
        (self.hi_offset >= 0).then(|| (self.hi_offset - next).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(state: &str, source: &str, rxidle: i64, eof: i64, next: i64, ls: i64) -> Statistics {
        let json = format!(
            r#"{{"name": "rdkafka", "brokers": {{"a:1/1": {{"nodeid": 1, "source": "{source}",
            "state": "{state}", "rxidle": {rxidle}}}}}, "topics": {{"a": {{"partitions": {{
            "3": {{"partition": 3, "broker": 1, "eof_offset": {eof}, "next_offset": {next},
            "ls_offset": {ls}, "hi_offset": 12}}}}}}}}}}"#
        );
        Statistics::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_end_is_reached_only_at_a_server_that_answers() {
        for (state, source, rxidle, eof, next, ls, expected) in [
            ("UP", "learned", 400_000, 12, 12, 12, Some(12)),
            ("UP", "learned", 0, 0, 0, 0, Some(0)),
            ("UP", "learned", 0, 12, 13, 13, None),
            ("UP", "learned", 0, 12, 12, 14, None),
            ("UP", "learned", 0, -1001, -1001, -1001, None),
            ("UP", "learned", 6_000_000, 12, 12, 12, None),
            ("UP", "learned", -1, 12, 12, 12, None),
            ("TRY_CONNECT", "learned", 0, 12, 12, 12, None),
            ("UP", "logical", 0, 12, 12, 12, None),
        ] {
            let statistics = statistics(state, source, rxidle, eof, next, ls);
            let case = format!("{state} {source} {rxidle} {eof} {next} {ls}");
            assert_eq!(statistics.end_reached("a", 3), expected, "{case}");
            assert_eq!(statistics.end_reached("a", 4), None, "{case}");
            assert_eq!(statistics.end_reached("b", 3), None, "{case}");
        }
    }

    #[test]
    fn lag_is_never_negative() {
        let statistics = statistics("UP", "learned", 0, 0, 0, 0);
        let partition = statistics.partition("a", 3).unwrap();
        assert_eq!([10, 12, 13].map(|next| partition.behind(next)), [Some(2), Some(0), Some(0)]);
    }
}

//! All streams of the whole system, created before anyone needs them, with the same number of
//! partitions wherever a lock's records are, so that these stay in order across streams.

use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::kit::kafka::publisher::Publisher;
use latchline_shared::kit::kafka::publisher::stream::Stream;
use latchline_shared::kit::kafka::topics::{self, Missing, Topic};
use rdkafka::ClientConfig;

use crate::stack::{ALARMS, CHECKPOINTS, COMMANDS, FINDINGS, REJECTED, STATES};

/// Streams with as many partitions as is asked for.
pub const OF_LOCKS: [&str; 5] = [STATES, COMMANDS, REJECTED, ALARMS, FINDINGS];
/// Who puts aside records of which streams; one partition each.
pub const DEAD_LETTERS: [(&str, &[&str]); 3] = [
    ("auditor", &[STATES, COMMANDS, REJECTED]),
    ("monitor", &[STATES, FINDINGS]),
    ("notifier", &[STATES, ALARMS]),
];

/// How long Kafka may take for each answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Kafka's word for its own default of copies.
const DEFAULT_REPLICATION: i32 = -1;

/// Creates what is missing and returns all names. A stream with another number of partitions is an
/// error: nothing would start in order on it.
pub async fn create(servers: &str, partitions: i32) -> anyhow::Result<Vec<String>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("client.id", "latchline-topics");
    let wanted = wanted(partitions);
    let counts = topics::ensure(&config, &wanted, Missing::Create, TIMEOUT).await?;
    for (topic, found) in wanted.iter().zip(counts) {
        ensure!(
            usize::try_from(topic.partitions)? == found,
            "stream {} has {found} partitions, not {}: streams keep the number that they were made with",
            topic.name,
            topic.partitions
        );
    }
    // It alone keeps the newest of each key, so it is made as the auditor makes it.
    let checkpoints = Publisher::new("checkpoints", config, Stream::compacted(CHECKPOINTS))?;
    checkpoints.prepare().await.with_context(|| format!("stream {CHECKPOINTS}"))?;
    let names = wanted.into_iter().map(|topic| topic.name);
    Ok(names.chain([CHECKPOINTS.to_owned()]).collect())
}

fn wanted(partitions: i32) -> Vec<Topic> {
    let topic = |name: String, partitions| Topic { name, partitions, replication: DEFAULT_REPLICATION };
    let mut wanted: Vec<Topic> = OF_LOCKS.iter().map(|name| topic((*name).to_owned(), partitions)).collect();
    for (service, streams) in DEAD_LETTERS {
        wanted.extend(streams.iter().map(|stream| topic(format!("{stream}.{service}.dlq"), 1)));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_made_once() {
        let wanted = wanted(12);
        let mut names: Vec<&str> = wanted.iter().map(|topic| topic.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), wanted.len());
        for topic in &wanted {
            let expected = if topic.name.ends_with(".dlq") { 1 } else { 12 };
            assert_eq!(topic.partitions, expected, "{}", topic.name);
        }
        assert!(names.contains(&"lock_alarm.notifier.dlq") && names.contains(&"audit_finding"));
    }
}

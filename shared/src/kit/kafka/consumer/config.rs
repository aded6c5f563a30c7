//! The `[consumer]` table, the same in every service that reads streams.
//!
//! What bounds memory: each lane's queue by records and by bytes, and the client library's own
//! queue by bytes. The properties that exactly-once rests on are fixed.

use std::time::Duration;

use rdkafka::ClientConfig;
use serde::Deserialize;

use crate::kit::config::value;
use crate::kit::kafka::client::Kafka;

/// Properties that a guarantee rests on: offsets live in Postgres, a truncated stream is an error,
/// partition n of all streams goes to the same member.
const FIXED: [(&str, &str); 7] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("partition.assignment.strategy", "range"),
    ("enable.partition.eof", "true"),
    ("allow.auto.create.topics", "false"),
];

/// Properties that have a setting here, or that are none of an operator's business.
const OWN: [&str; 6] = [
    "group.id",
    "group.instance.id",
    "group.protocol",
    "queued.max.messages.kbytes",
    "test.mock.num.brokers",
    "transactional.id",
];

/// How streams are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    /// Consumer group: its members share the partitions.
    pub group: String,
    /// Static membership: a member of this name that restarts within the session's timeout keeps
    /// its partitions. Each instance needs another one.
    #[serde(deserialize_with = "value::optional")]
    pub instance_id: Option<String>,
    /// Most records in one transaction.
    pub batch_records_max: usize,
    /// How long a lane waits for a batch to fill; a full one goes at once.
    #[serde(rename = "batch_wait_ms", deserialize_with = "value::milliseconds")]
    pub batch_wait: Duration,
    /// Most records that wait in one lane; beyond it, reading waits.
    pub lane_records_max: usize,
    /// Most bytes that wait in one lane; a larger record waits alone.
    pub lane_bytes_max: usize,
    /// Bytes that the client library may read ahead, over all partitions.
    pub prefetch_bytes_max: usize,
    /// How long a lane may take for its present transaction when partitions go to another member,
    /// or the process ends; then it is rolled back.
    #[serde(rename = "drain_timeout_ms", deserialize_with = "value::milliseconds")]
    pub drain_timeout: Duration,
    /// Where Kafka is.
    pub kafka: Kafka,
}

impl Consumer {
    /// The usual settings for a group.
    pub fn of_group(group: impl Into<String>, kafka: Kafka) -> Self {
        Self {
            group: group.into(),
            instance_id: None,
            batch_records_max: 500,
            batch_wait: Duration::from_millis(20),
            lane_records_max: 2_000,
            lane_bytes_max: 4 * 1024 * 1024,
            prefetch_bytes_max: 8 * 1024 * 1024,
            drain_timeout: Duration::from_secs(5),
            kafka,
        }
    }

    /// The client library's configuration. Reads the password's file.
    pub(super) fn client_config(&self, client_id: &str) -> anyhow::Result<ClientConfig> {
        let mut config = self.kafka.client_config(client_id)?;
        for (name, value) in FIXED {
            config.set(name, value);
        }
        config
            .set("group.id", &self.group)
            .set("queued.max.messages.kbytes", (self.prefetch_bytes_max / 1024).to_string());
        if let Some(instance_id) = &self.instance_id {
            config.set("group.instance.id", instance_id);
        }
        Ok(config)
    }

    /// Adds every problem, each with `path` in front.
    pub fn problems(&self, path: &str, problems: &mut Vec<String>) {
        if self.group.is_empty() {
            problems.push(format!("{path}.group: must not be empty"));
        }
        for (name, value, range) in [
            ("batch_records_max", self.batch_records_max as u128, 1..=100_000),
            ("batch_wait_ms", self.batch_wait.as_millis(), 0..=10_000),
            ("lane_records_max", self.lane_records_max as u128, 1..=1_000_000),
            ("lane_bytes_max", self.lane_bytes_max as u128, 1_024..=1_073_741_824),
            ("prefetch_bytes_max", self.prefetch_bytes_max as u128, 1_024..=2_000_000_000),
            ("drain_timeout_ms", self.drain_timeout.as_millis(), 1..=120_000),
        ] {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                problems.push(format!("{path}.{name}: must be from {least} to {most}"));
            }
        }
        let fixed: Vec<&str> = FIXED.iter().map(|(name, _)| *name).chain(OWN).collect();
        self.kafka.problems(&format!("{path}.kafka"), &fixed, problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
        group = "auditor"
        instance_id = ""
        batch_records_max = 500
        batch_wait_ms = 20
        lane_records_max = 2_000
        lane_bytes_max = 4_194_304
        prefetch_bytes_max = 8_388_608
        drain_timeout_ms = 5_000
        [kafka]
        servers = "127.0.0.1:9092"
        protocol = "plaintext"
        sasl_mechanism = ""
        user = ""
        password = ""
        password_file = ""
        ca_file = ""
        [kafka.properties]
        "fetch.wait.max.ms" = "10"
    "#;

    fn problems(consumer: &Consumer) -> Vec<String> {
        let mut problems = Vec::new();
        consumer.problems("consumer", &mut problems);
        problems
    }

    #[test]
    fn the_table_is_read_and_makes_a_client() {
        let mut consumer: Consumer = toml::from_str(TABLE).unwrap();
        assert_eq!(problems(&consumer), Vec::<String>::new());
        consumer.instance_id = Some("one".to_owned());
        let config = consumer.client_config("auditor").unwrap();
        for (name, value) in [
            ("group.id", "auditor"),
            ("group.instance.id", "one"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "error"),
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.wait.max.ms", "10"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
        assert!(config.create_native_config().is_ok());
        let usual = Consumer::of_group("auditor", Kafka::plaintext("127.0.0.1:9092"));
        assert_eq!(problems(&usual), Vec::<String>::new());
    }

    #[test]
    fn all_problems_come_at_once() {
        let mut consumer = Consumer::of_group("", Kafka::plaintext("127.0.0.1"));
        consumer.batch_records_max = 0;
        consumer.drain_timeout = Duration::ZERO;
        for name in ["auto.offset.reset", "group.id"] {
            consumer.kafka.properties.insert(name.to_owned(), "earliest".to_owned());
        }
        let expected = [
            "consumer.group: must not be empty",
            "consumer.batch_records_max: must be from 1 to 100000",
            "consumer.drain_timeout_ms: must be from 1 to 120000",
            "consumer.kafka.servers: \"127.0.0.1\" is not host:port",
            "consumer.kafka.properties.\"auto.offset.reset\": cannot be set, a guarantee rests on it",
            "consumer.kafka.properties.\"group.id\": cannot be set, a guarantee rests on it",
        ];
        assert_eq!(problems(&consumer), expected);
    }

    #[test]
    fn fixed_properties_are_properties() {
        for name in FIXED.map(|(name, _)| name).into_iter().chain(OWN) {
            let error = ClientConfig::new().set(name, "no such value").create_native_config().err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(!text.contains("No such configuration property"), "{text}");
        }
    }
}

//! The `[bridge]` table of the broker's configuration; each key is explained in
//! `config/broker.toml`, which holds the defaults.
//!
//! Types say what a setting is; [`Validate`] says which settings are wrong or fight each other. A
//! reference system's file ([`crate::reference`]) is laid over the table by [`Config::effective`]:
//! what the file says holds.

use std::path::PathBuf;
use std::time::Duration;

use latchline_shared::hook::Call;
use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::kafka::client::Kafka;
use latchline_shared::topic;
use serde::{Deserialize, Deserializer, de};

use crate::reference::{self, Reference, Warning};

/// The hooks that rules can name (contract, section 2): the seven of the reference, and one more.
pub(crate) const HOOKS: [Call; 8] = [
    Call::ClientConnected,
    Call::ClientDisconnected,
    Call::SessionSubscribed,
    Call::SessionUnsubscribed,
    Call::MessagePublish,
    Call::MessageRejected,
    Call::MessageDeliver,
    Call::MessageAcked,
];

/// Properties of the client library that the guarantees of the bridge rest on, or that have a
/// setting in `[bridge]`.
const FIXED: [&str; 24] = [
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "transactional.id",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "message.send.max.retries",
    "retries",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "queuing.strategy",
    "delivery.report.only.error",
    "partitioner",
    "allow.auto.create.topics",
    "test.mock.num.brokers",
    "compression.type",
    "compression.codec",
    "linger.ms",
    "queue.buffering.max.ms",
    "batch.size",
    "message.max.bytes",
];

/// The bridge's settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Whether there is a bridge at all.
    pub enabled: bool,
    /// A configuration file of the reference system.
    #[serde(deserialize_with = "value::optional")]
    pub reference_file: Option<PathBuf>,
    /// How batches are packed.
    pub compression: Compression,
    /// How long a record waits for others.
    #[serde(rename = "linger_ms", deserialize_with = "value::milliseconds")]
    pub linger: Duration,
    /// Largest batch, before compression.
    pub batch_bytes: u32,
    /// Largest record.
    pub record_bytes_max: u32,
    /// Whether topics that are missing are created.
    pub create_topics: bool,
    /// Partitions of a topic that is created.
    pub partitions: u16,
    /// Copies of a topic that is created; 0 leaves it to the cluster.
    pub replication: u16,
    /// Where Kafka is.
    pub kafka: Kafka,
    /// What goes where.
    #[serde(deserialize_with = "value::list")]
    pub rules: Vec<Rule>,
}

/// One rule: which events of a hook go to which topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The hook.
    #[serde(deserialize_with = "hook")]
    pub hook: Call,
    /// MQTT filter; everything without. Message and session hooks only.
    pub filter: Option<String>,
    /// Kafka topic.
    pub topic: String,
}

/// How batches are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Little work, good results on JSON.
    Lz4,
    /// More work, better results.
    Zstd,
    /// For consumers that know nothing newer.
    Gzip,
    /// For consumers that know nothing newer.
    Snappy,
}

impl Compression {
    /// The client library's word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
        }
    }
}

/// The hook with this name; `message.delivered` is the reference's other name for one of them.
pub(crate) fn hook_by_name(name: &str) -> Option<Call> {
    let name = if name == "message.delivered" { Call::MessageDeliver.name() } else { name };
    HOOKS.into_iter().find(|call| call.name() == name)
}

/// Whether events of this hook have a topic or filter that a rule can be limited to.
pub(crate) fn takes_filter(hook: Call) -> bool {
    !matches!(hook, Call::ClientConnected | Call::ClientDisconnected)
}

fn hook<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Call, D::Error> {
    let name = String::deserialize(deserializer)?;
    hook_by_name(&name).ok_or_else(|| {
        let known = HOOKS.map(Call::name).join(", ");
        de::Error::custom(format!("hook: no hook {name:?}, there are {known}"))
    })
}

impl Rule {
    /// What is wrong with the rule alone.
    pub(crate) fn problem(&self) -> Option<String> {
        if !is_kafka_topic(&self.topic) {
            let topic = &self.topic;
            return Some(format!("topic: {topic:?} is no Kafka topic (1 to 249 of a-z A-Z 0-9 . _ -)"));
        }
        let filter = self.filter.as_ref()?;
        if !takes_filter(self.hook) {
            return Some(format!("filter: {} has no topic to filter by", self.hook.name()));
        }
        (!topic::is_topic_filter(filter)).then(|| format!("filter: {filter:?} is no topic filter"))
    }
}

/// Kafka's own rule for names.
fn is_kafka_topic(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

impl Config {
    /// The configuration with the reference file laid over it, and what the file says in vain.
    ///
    /// # Errors
    /// Everything that is wrong with the file, one problem a line.
    pub fn effective(&self) -> Result<(Self, Vec<Warning>), Vec<String>> {
        let Some(file) = &self.reference_file else { return Ok((self.clone(), Vec::new())) };
        let path = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| vec![format!("bridge.reference_file: cannot read {path}: {error}")])?;
        let reference = reference::parse(&text).map_err(|errors| {
            errors.iter().map(|error| format!("bridge.reference_file: {path}: {error}")).collect::<Vec<_>>()
        })?;
        Ok(self.overlaid(reference))
    }

    fn overlaid(&self, reference: Reference) -> (Self, Vec<Warning>) {
        let mut config = self.clone();
        config.reference_file = None;
        if let Some(servers) = reference.servers {
            config.kafka.servers = servers;
        }
        config.compression = reference.compression.unwrap_or(config.compression);
        config.batch_bytes = reference.batch_bytes.unwrap_or(config.batch_bytes);
        config.rules = reference.rules;
        (config, reference.warnings)
    }

    /// Rules alone, and beside each other.
    fn rule_problems(&self, problems: &mut Vec<String>) {
        if self.rules.is_empty() {
            problems.push("bridge.rules: there are none, set bridge.enabled = false".to_owned());
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if let Some(problem) = rule.problem() {
                problems.push(format!("bridge.rules[{index}]: {problem}"));
            }
            if let Some(first) = self.rules[..index].iter().position(|other| other == rule) {
                problems.push(format!("bridge.rules[{index}]: is rule [{first}] again"));
            }
        }
    }
}

impl Validate for Config {
    fn problems(&self, problems: &mut Vec<String>) {
        if !self.enabled {
            return;
        }
        let config = match self.effective() {
            Ok((config, _)) => config,
            Err(errors) => return problems.extend(errors),
        };
        config.kafka.problems("bridge.kafka", &FIXED, problems);
        config.rule_problems(problems);
        for (name, value, range) in [
            ("linger_ms", config.linger.as_millis(), 0..=900_000),
            ("batch_bytes", u128::from(config.batch_bytes), 1_000..=1_000_000_000),
            ("record_bytes_max", u128::from(config.record_bytes_max), 1_000..=1_000_000_000),
            ("partitions", u128::from(config.partitions), 1..=10_000),
            ("replication", u128::from(config.replication), 0..=100),
        ] {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                problems.push(format!("bridge.{name}: must be from {least} to {most}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Broker {
        bridge: Config,
    }

    fn defaults() -> Config {
        toml::from_str::<Broker>(include_str!("../../config/broker.toml")).unwrap().bridge
    }

    fn problems(config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        config.problems(&mut problems);
        problems
    }

    fn rule(hook: Call, filter: Option<&str>, topic: &str) -> Rule {
        Rule { hook, filter: filter.map(str::to_owned), topic: topic.to_owned() }
    }

    #[test]
    fn the_defaults_are_the_reference_rules_and_the_rejected() {
        let config = defaults();
        assert_eq!(problems(&config), Vec::<String>::new());
        assert_eq!(
            config.rules,
            [
                rule(Call::MessagePublish, Some("devices/+/state"), "message_state"),
                rule(Call::MessageAcked, Some("devices/+/command"), "message_command"),
                rule(Call::MessageRejected, Some("devices/+/command"), "message_command_rejected"),
            ]
        );
    }

    #[test]
    fn fixed_properties_are_properties() {
        for name in FIXED {
            let error = rdkafka::ClientConfig::new().set(name, "no such value").create_native_config().err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(!text.contains("No such configuration property"), "{text}");
        }
    }

    #[test]
    fn hooks_have_their_names() {
        for call in HOOKS {
            assert_eq!(hook_by_name(call.name()), Some(call));
        }
        assert_eq!(hook_by_name("message.delivered"), Some(Call::MessageDeliver));
        assert_eq!(hook_by_name("client.authenticate"), None);
        let error =
            toml::from_str::<Rule>("hook = \"message.published\"\ntopic = \"a\"").unwrap_err().to_string();
        assert!(error.contains("no hook \"message.published\", there are client.connected, "), "{error}");
    }

    #[test]
    fn problems_of_rules_are_found_at_once() {
        let mut config = defaults();
        config.rules = vec![
            rule(Call::MessagePublish, Some("a/#/b"), "a"),
            rule(Call::MessagePublish, None, "a b"),
            rule(Call::ClientConnected, Some("#"), "a"),
            rule(Call::MessagePublish, None, ".."),
            rule(Call::MessageDeliver, Some("#"), "a"),
            rule(Call::MessageDeliver, Some("#"), "a"),
        ];
        assert_eq!(
            problems(&config),
            [
                "bridge.rules[0]: filter: \"a/#/b\" is no topic filter",
                "bridge.rules[1]: topic: \"a b\" is no Kafka topic (1 to 249 of a-z A-Z 0-9 . _ -)",
                "bridge.rules[2]: filter: client.connected has no topic to filter by",
                "bridge.rules[3]: topic: \"..\" is no Kafka topic (1 to 249 of a-z A-Z 0-9 . _ -)",
                "bridge.rules[5]: is rule [4] again",
            ]
        );
        config.enabled = false;
        assert_eq!(problems(&config), Vec::<String>::new());
    }

    #[test]
    fn bounds_and_fixed_properties_are_checked() {
        let mut config = defaults();
        config.rules.clear();
        config.partitions = 0;
        config.record_bytes_max = 10;
        config.kafka.properties.insert("acks".to_owned(), "1".to_owned());
        assert_eq!(
            problems(&config),
            [
                "bridge.kafka.properties.\"acks\": cannot be set, a guarantee rests on it",
                "bridge.rules: there are none, set bridge.enabled = false",
                "bridge.record_bytes_max: must be from 1000 to 1000000000",
                "bridge.partitions: must be from 1 to 10000",
            ]
        );
    }

    #[test]
    fn a_reference_file_is_laid_over() {
        let file = std::env::temp_dir().join(format!("latchline-bridge-{}.conf", std::process::id()));
        let mut config = defaults();
        config.reference_file = Some(file.clone());
        assert!(problems(&config)[0].starts_with("bridge.reference_file: cannot read "));

        std::fs::write(
            &file,
            "bridge.kafka.servers = k:9092\nbridge.kafka.hook.client.connected.1 = {\"topic\":\"c\"}\n\
             bridge.kafka.produce = async\n",
        )
        .unwrap();
        let (effective, warnings) = config.effective().unwrap();
        assert_eq!(effective.kafka.servers, "k:9092");
        assert_eq!(effective.rules, [rule(Call::ClientConnected, None, "c")]);
        assert_eq!(effective.compression, config.compression);
        assert_eq!(warnings.len(), 1);

        std::fs::write(&file, "nonsense\nbridge.kafka.servers = nowhere\n").unwrap();
        let found = problems(&config);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains(".conf: line 1: "), "{found:?}");
        std::fs::remove_file(&file).unwrap();
    }
}

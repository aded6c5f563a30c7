//! A configuration file of the reference system's Kafka bridge, read as it stands.
//!
//! Its format: `key = value` on lines of their own, comments on lines that begin with `#`, a key
//! that is set twice holds as it was set last; a hook's value is a JSON object. What has a meaning
//! here is used. What has none is named in a [`Warning`], so that nobody believes in a setting
//! without effect; what cannot be understood is an [`Error`], and all come at once.
//!
//! Pure: text in, settings out. It never panics, whatever the text.

use std::collections::BTreeMap;
use std::fmt;

use latchline_shared::kit::kafka::client::is_server;
use serde_json::Value;

use crate::config::{Compression, Rule, hook_by_name, takes_filter};

const PREFIX: &str = "bridge.kafka.";

/// What a reference file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    /// Kafka's servers.
    pub servers: Option<String>,
    /// How batches are packed.
    pub compression: Option<Compression>,
    /// Largest batch.
    pub batch_bytes: Option<u32>,
    /// The rules, in the order of their lines.
    pub rules: Vec<Rule>,
    /// What has no effect here.
    pub warnings: Vec<Warning>,
}

/// A setting without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key, or the field in a hook's value.
    pub key: String,
    /// Why it has no effect.
    pub why: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.key, self.why)
    }
}

/// A line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Error {
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Reads a file.
///
/// # Errors
/// Every line that cannot be understood.
pub fn parse(text: &str) -> Result<Reference, Vec<Error>> {
    let mut parser = Parser::default();
    // Key to the line and value that hold; in the order of lines again below.
    let mut settings: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            parser.error(number, format!("{line:?} is not key = value"));
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if let Some((earlier, _)) = settings.insert(key, (number, value)) {
            parser.warn(earlier, key, format!("is set again in line {number}"));
        }
    }
    let mut settings: Vec<_> = settings.into_iter().collect();
    settings.sort_by_key(|(_, (line, _))| *line);
    for (key, (line, value)) in settings {
        parser.setting(line, key, value);
    }
    parser.reference.warnings.sort_by_key(|warning| warning.line);
    parser.errors.sort_by_key(|error| error.line);
    if parser.errors.is_empty() { Ok(parser.reference) } else { Err(parser.errors) }
}

#[derive(Default)]
struct Parser {
    reference: Reference,
    errors: Vec<Error>,
}

impl Parser {
    fn warn(&mut self, line: usize, key: impl Into<String>, why: impl Into<String>) {
        self.reference.warnings.push(Warning { line, key: key.into(), why: why.into() });
    }

    fn error(&mut self, line: usize, problem: String) {
        self.errors.push(Error { line, problem });
    }

    fn setting(&mut self, line: usize, key: &str, value: &str) {
        let Some(name) = key.strip_prefix(PREFIX) else {
            return self.warn(line, key, "does not belong to the Kafka bridge");
        };
        if let Some(hook) = name.strip_prefix("hook.") {
            return self.hook(line, key, hook, value);
        }
        match (name, value) {
            ("servers", _) => self.servers(line, value),
            ("producer.compression", _) => match compression(value) {
                Some(compression) => self.reference.compression = Some(compression),
                None => self.error(line, format!("{key}: {value:?} is no compression")),
            },
            ("producer.max_batch_bytes", _) => match bytes(value) {
                Some(bytes) => self.reference.batch_bytes = Some(bytes),
                None => self.error(line, format!("{key}: {value:?} is no number of bytes")),
            },
            // What is always so here.
            ("encode_payload_type", "base64")
            | ("produce", "sync")
            | ("producer.required_acks", "all_isr")
            | ("ssl", "off" | "false") => {}
            ("encode_payload_type", _) => {
                self.warn(line, key, "payloads are always base64, so that no byte of them is lost");
            }
            ("produce" | "produce.sync_timeout", _) => {
                self.warn(line, key, "an acknowledgement always waits for Kafka, without a limit");
            }
            ("producer.required_acks", _) => {
                self.warn(line, key, "records are always stored by all in-sync replicas");
            }
            ("replayq_dir" | "producer.replayq_seg_bytes", _) => {
                self.warn(line, key, "nothing is queued on disk: what is not in Kafka is not acknowledged");
            }
            _ if name == "ssl" || name.starts_with("ssl.") => {
                self.warn(line, key, "is not supported, see protocol and ca_file in [bridge.kafka]");
            }
            _ => self.warn(line, key, "is not supported"),
        }
    }

    fn servers(&mut self, line: usize, value: &str) {
        let servers: Vec<_> = value.split(',').map(str::trim).collect();
        match servers.iter().find(|server| !is_server(server)) {
            Some(server) => self.error(line, format!("{PREFIX}servers: {server:?} is not host:port")),
            None => self.reference.servers = Some(servers.join(",")),
        }
    }

    /// `hook.{hook}.{n} = {"filter": …, "topic": …}`
    fn hook(&mut self, line: usize, key: &str, hook: &str, value: &str) {
        let name = match hook.rsplit_once('.') {
            Some((name, number)) if number.parse::<u32>().is_ok() => name,
            _ => return self.error(line, format!("{key}: does not end in a number")),
        };
        let Some(call) = hook_by_name(name) else {
            return self.error(line, format!("{key}: there is no hook {name:?}"));
        };
        let fields = match serde_json::from_str(value) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return self.error(line, format!("{key}: the value is no JSON object")),
            Err(error) => return self.error(line, format!("{key}: the value is no JSON object: {error}")),
        };
        let mut rule = Rule { hook: call, filter: None, topic: String::new() };
        for (field, value) in fields {
            let Value::String(text) = value else {
                self.error(line, format!("{key}: {field} is no string"));
                continue;
            };
            match field.as_str() {
                "topic" => rule.topic = text,
                "filter" if takes_filter(call) => rule.filter = Some(text),
                "filter" => {
                    self.warn(line, format!("{key} filter"), format!("{name} has no topic to filter by"))
                }
                _ => self.field(line, key, &field, &text),
            }
        }
        match rule.problem() {
            Some(problem) => self.error(line, format!("{key}: {problem}")),
            None if self.reference.rules.contains(&rule) => {
                self.warn(line, key, "is the same as an earlier rule")
            }
            None => self.reference.rules.push(rule),
        }
    }

    fn field(&mut self, line: usize, key: &str, field: &str, text: &str) {
        let why = match (field, text) {
            // What is always so here.
            ("format", "json") | ("key", "${clientid}") | ("strategy", "first_key_dispatch" | "key") => {
                return;
            }
            ("key", _) => "records are keyed by the lock's id, else by the client id",
            ("strategy", _) => "records go to partitions by their key, so that those of a lock stay in order",
            ("format", _) => "records are always JSON",
            _ => "is not supported",
        };
        self.warn(line, format!("{key} {field}"), why);
    }
}

fn compression(value: &str) -> Option<Compression> {
    match value {
        "no_compression" => Some(Compression::None),
        "snappy" => Some(Compression::Snappy),
        "gzip" => Some(Compression::Gzip),
        "lz4" => Some(Compression::Lz4),
        "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

/// `1024KB`, `1MB`, `1000`.
fn bytes(value: &str) -> Option<u32> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match value[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    digits.trim().parse::<u32>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use latchline_shared::hook::Call;
    use proptest::prelude::{any, proptest};

    use super::*;

    /// As the reference system ships it, with all hooks on.
    const STOCK: &str = r##"
##--------------------------------------------------------------------
## Kafka Bridge
##--------------------------------------------------------------------
## bridge.kafka.servers = 127.0.0.1:9092,127.0.0.2:9092,127.0.0.3:9092
bridge.kafka.servers = 127.0.0.1:9092, kafka-2:9093
bridge.kafka.connection_strategy = per_partition
bridge.kafka.min_metadata_refresh_interval = 5S
bridge.kafka.produce = sync
bridge.kafka.produce.sync_timeout = 3S
# bridge.kafka.replayq_dir = /tmp/emqx_bridge_kafka/
bridge.kafka.producer.required_acks = none
bridge.kafka.producer.max_batch_bytes = 1024KB
bridge.kafka.producer.compression = snappy
bridge.kafka.encode_payload_type = base64
bridge.kafka.sock.sndbuf = 1MB
bridge.kafka.hook.client.connected.1     = {"topic":"client_connected"}
bridge.kafka.hook.client.disconnected.1  = {"topic":"client_disconnected"}
bridge.kafka.hook.session.subscribed.1   = {"filter":"#", "topic":"session_subscribed"}
bridge.kafka.hook.session.unsubscribed.1 = {"filter":"#", "topic":"session_unsubscribed"}
bridge.kafka.hook.message.publish.1      = {"filter":"devices/+/state", "topic":"message_state"}
bridge.kafka.hook.message.delivered.1    = {"filter":"#", "topic":"message_delivered", "strategy":"random"}
bridge.kafka.hook.message.acked.1        = {"filter":"devices/+/command", "topic":"message_command", "key":"${clientid}", "format":"json"}
"##;

    fn rule(hook: Call, filter: Option<&str>, topic: &str) -> Rule {
        Rule { hook, filter: filter.map(str::to_owned), topic: topic.to_owned() }
    }

    fn warned(text: &str) -> Vec<(usize, String)> {
        parse(text).unwrap().warnings.into_iter().map(|warning| (warning.line, warning.key)).collect()
    }

    fn errors(text: &str) -> Vec<String> {
        parse(text).unwrap_err().iter().map(Error::to_string).collect()
    }

    #[test]
    fn the_stock_file_is_understood() {
        let reference = parse(STOCK).unwrap();
        assert_eq!(reference.servers.as_deref(), Some("127.0.0.1:9092,kafka-2:9093"));
        assert_eq!(reference.compression, Some(Compression::Snappy));
        assert_eq!(reference.batch_bytes, Some(1_048_576));
        assert_eq!(
            reference.rules,
            [
                rule(Call::ClientConnected, None, "client_connected"),
                rule(Call::ClientDisconnected, None, "client_disconnected"),
                rule(Call::SessionSubscribed, Some("#"), "session_subscribed"),
                rule(Call::SessionUnsubscribed, Some("#"), "session_unsubscribed"),
                rule(Call::MessagePublish, Some("devices/+/state"), "message_state"),
                rule(Call::MessageDeliver, Some("#"), "message_delivered"),
                rule(Call::MessageAcked, Some("devices/+/command"), "message_command"),
            ]
        );
        assert_eq!(
            warned(STOCK),
            [
                (7, "bridge.kafka.connection_strategy".to_owned()),
                (8, "bridge.kafka.min_metadata_refresh_interval".to_owned()),
                (10, "bridge.kafka.produce.sync_timeout".to_owned()),
                (12, "bridge.kafka.producer.required_acks".to_owned()),
                (16, "bridge.kafka.sock.sndbuf".to_owned()),
                (22, "bridge.kafka.hook.message.delivered.1 strategy".to_owned()),
            ]
        );
    }

    #[test]
    fn what_has_no_effect_is_named() {
        for (line, key) in [
            ("bridge.kafka.encode_payload_type = plain", "bridge.kafka.encode_payload_type"),
            ("bridge.kafka.produce = async", "bridge.kafka.produce"),
            ("bridge.kafka.replayq_dir = /tmp", "bridge.kafka.replayq_dir"),
            ("bridge.kafka.ssl.cacertfile = ca.pem", "bridge.kafka.ssl.cacertfile"),
            ("bridge.kafka.no_such = 1", "bridge.kafka.no_such"),
            ("listener.tcp.external = 1883", "listener.tcp.external"),
            (
                r#"bridge.kafka.hook.message.publish.1 = {"topic":"a","key":"${username}"}"#,
                "bridge.kafka.hook.message.publish.1 key",
            ),
            (
                r#"bridge.kafka.hook.message.publish.1 = {"topic":"a","strategy":"roundrobin"}"#,
                "bridge.kafka.hook.message.publish.1 strategy",
            ),
            (
                r#"bridge.kafka.hook.message.publish.1 = {"topic":"a","pool":"pool1"}"#,
                "bridge.kafka.hook.message.publish.1 pool",
            ),
            (
                r##"bridge.kafka.hook.client.connected.1 = {"topic":"a","filter":"#"}"##,
                "bridge.kafka.hook.client.connected.1 filter",
            ),
        ] {
            assert_eq!(warned(line), [(1, key.to_owned())], "{line}");
        }
    }

    #[test]
    fn a_key_set_twice_holds_as_set_last() {
        let text = "bridge.kafka.servers = a:1\n\nbridge.kafka.servers = b:2\n";
        assert_eq!(parse(text).unwrap().servers.as_deref(), Some("b:2"));
        assert_eq!(warned(text), [(1, "bridge.kafka.servers".to_owned())]);
    }

    #[test]
    fn what_cannot_be_understood_comes_at_once() {
        let text = r##"
bridge.kafka.servers
bridge.kafka.servers = nowhere
bridge.kafka.hook.message.publish.1 = {"filter":"a/#/b","topic":"a"}
bridge.kafka.hook.message.publish.2 = {"filter":"#"}
bridge.kafka.hook.message.publish.3 = {"filter":"#"
bridge.kafka.hook.message.publish.4 = "a"
bridge.kafka.hook.message.publish = {"topic":"a"}
bridge.kafka.hook.message.dropped.1 = {"topic":"a"}
bridge.kafka.hook.message.acked.1 = {"topic":1}
bridge.kafka.producer.compression = brotli
bridge.kafka.producer.max_batch_bytes = 5000000000
"##;
        let expected = [
            "line 2: \"bridge.kafka.servers\" is not key = value",
            "line 3: bridge.kafka.servers: \"nowhere\" is not host:port",
            "line 4: bridge.kafka.hook.message.publish.1: filter: \"a/#/b\" is no topic filter",
            "line 5: bridge.kafka.hook.message.publish.2: topic: \"\" is no Kafka topic",
            "line 6: bridge.kafka.hook.message.publish.3: the value is no JSON object: ",
            "line 7: bridge.kafka.hook.message.publish.4: the value is no JSON object",
            "line 8: bridge.kafka.hook.message.publish: does not end in a number",
            "line 9: bridge.kafka.hook.message.dropped.1: there is no hook \"message.dropped\"",
            "line 10: bridge.kafka.hook.message.acked.1: topic is no string",
            "line 10: bridge.kafka.hook.message.acked.1: topic: \"\" is no Kafka topic",
            "line 11: bridge.kafka.producer.compression: \"brotli\" is no compression",
            "line 12: bridge.kafka.producer.max_batch_bytes: \"5000000000\" is no number of bytes",
        ];
        let errors = errors(text);
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.starts_with(expected), "{error} for {expected}");
        }
    }

    #[test]
    fn line_ends_and_marks_do_not_matter() {
        let reference = parse("\u{feff}bridge.kafka.servers=a:1\r\n  # comment\r\n").unwrap();
        assert_eq!(reference.servers.as_deref(), Some("a:1"));
        assert_eq!(parse("").unwrap(), Reference::default());
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_on_likely_text(
            lines in proptest::collection::vec(
                (
                    "(bridge\\.kafka\\.)?(servers|produce|hook\\.(message|client)\\.(publish|connected)\\.[0-9]{0,3}|producer\\.(compression|max_batch_bytes)|ssl\\.é)",
                    " ?[=#]? ?",
                    "\\PC{0,12}|\\{\"topic\":\\PC{0,6}\\}|[0-9]{0,12}[a-zA-Z]{0,3}",
                ),
                0..8,
            )
        ) {
            let text: String = lines.iter().map(|(key, equals, value)| format!("{key}{equals}{value}\n")).collect();
            match parse(&text) {
                Ok(reference) => assert!(reference.rules.iter().all(|rule| rule.problem().is_none())),
                Err(errors) => assert!(!errors.is_empty()),
            }
        }
    }
}

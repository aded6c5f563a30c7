//! How to reach Kafka: the settings that every client shares, as a client's configuration.
//!
//! The words are Kafka's own (`sasl_ssl`, `SCRAM-SHA-512`), so that they can be copied from
//! what a cluster's operator hands out. Whatever else the client library can be told goes into
//! `properties`, except what has a setting of its own or what a guarantee rests on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::kit::config::value;

/// Properties that have a setting of their own, with its name.
const OWN_SETTING: [(&str, &str); 12] = [
    ("bootstrap.servers", "servers"),
    ("metadata.broker.list", "servers"),
    ("security.protocol", "protocol"),
    ("sasl.mechanism", "sasl_mechanism"),
    ("sasl.mechanisms", "sasl_mechanism"),
    ("sasl.username", "user"),
    ("sasl.password", "password"),
    ("ssl.ca.location", "ca_file"),
    ("client.id", "node"),
    // What the link is seen by; see `super::link`.
    ("statistics.interval.ms", "nothing"),
    ("log.queue", "nothing"),
    ("log_level", "log.level"),
];

/// Where Kafka is and how to log in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, several separated by commas.
    pub servers: String,
    /// Encryption and login.
    pub protocol: Protocol,
    /// How to log in, with the two `sasl_…` protocols.
    #[serde(deserialize_with = "value::optional")]
    pub sasl_mechanism: Option<Mechanism>,
    /// User to log in as.
    #[serde(deserialize_with = "value::optional")]
    pub user: Option<String>,
    /// Its password.
    #[serde(deserialize_with = "value::optional")]
    pub password: Option<SecretString>,
    /// File with the password.
    #[serde(deserialize_with = "value::optional")]
    pub password_file: Option<PathBuf>,
    /// Authorities that sign Kafka's certificates, PEM; unset: the system's.
    #[serde(deserialize_with = "value::optional")]
    pub ca_file: Option<PathBuf>,
    /// Further properties of the client library.
    pub properties: BTreeMap<String, String>,
}

/// Encryption and login (`security.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Neither.
    Plaintext,
    /// TLS.
    Ssl,
    /// Login in the clear.
    SaslPlaintext,
    /// TLS and login.
    SaslSsl,
}

/// How to log in (`sasl.mechanism`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// The password as it is.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Challenge and response, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Challenge and response, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    fn has_login(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Kafka {
    /// Servers in the clear, and nothing else.
    pub fn plaintext(servers: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            protocol: Protocol::Plaintext,
            sasl_mechanism: None,
            user: None,
            password: None,
            password_file: None,
            ca_file: None,
            properties: BTreeMap::new(),
        }
    }

    /// The configuration of a client that calls itself `client_id`.
    ///
    /// Reads the password's file. `properties` come last.
    pub fn client_config(&self, client_id: &str) -> anyhow::Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.servers)
            .set("client.id", client_id)
            .set("security.protocol", self.protocol.name())
            .set("statistics.interval.ms", super::link::STATISTICS_INTERVAL_MS)
            // After an outage the first connection should not wait for long.
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true")
            .set("enable.metrics.push", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        if self.protocol.has_login() {
            let password = value::secret("password", self.password.as_ref(), self.password_file.as_deref())?
                .context("password is not set")?;
            config
                .set("sasl.mechanism", self.sasl_mechanism.context("sasl_mechanism is not set")?.name())
                .set("sasl.username", self.user.as_deref().context("user is not set")?)
                .set("sasl.password", password.expose_secret());
        }
        if let Some(file) = &self.ca_file {
            config.set("ssl.ca.location", file.to_str().context("ca_file is not UTF-8")?);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        Ok(config)
    }

    /// Adds every problem, each with `path` in front. `fixed` names the properties that a
    /// guarantee of the caller's rests on, which cannot be set.
    pub fn problems(&self, path: &str, fixed: &[&str], problems: &mut Vec<String>) {
        for server in self.servers.split(',').map(str::trim) {
            if !is_server(server) {
                problems.push(format!("{path}.servers: {server:?} is not host:port"));
            }
        }
        for (name, unset) in [
            ("sasl_mechanism", self.sasl_mechanism.is_none()),
            ("user", self.user.is_none()),
            ("password", self.password.is_none() && self.password_file.is_none()),
        ] {
            if self.protocol.has_login() && unset {
                let protocol = self.protocol.name();
                problems.push(format!("{path}.{name}: must be set with protocol = \"{protocol}\""));
            } else if !self.protocol.has_login() && !unset {
                problems.push(format!("{path}.{name}: is not used, protocol has no sasl"));
            }
        }
        if self.ca_file.is_some() && !self.protocol.has_tls() {
            problems.push(format!("{path}.ca_file: is not used, protocol has no ssl"));
        }
        if let Err(error) = value::secret("password", self.password.as_ref(), self.password_file.as_deref()) {
            problems.push(format!("{path}.{error:#}"));
        }
        value::check_readable(&format!("{path}.ca_file"), self.ca_file.as_deref(), problems);
        for (name, value) in &self.properties {
            if let Some(problem) = property_problem(name, value, fixed) {
                problems.push(format!("{path}.properties.\"{name}\": {problem}"));
            }
        }
    }
}

/// Whether this is `host:port`.
pub fn is_server(server: &str) -> bool {
    server
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn property_problem(name: &str, value: &str, fixed: &[&str]) -> Option<String> {
    if fixed.contains(&name) {
        return Some("cannot be set, a guarantee rests on it".to_owned());
    }
    if let Some((_, setting)) = OWN_SETTING.iter().find(|(property, _)| *property == name) {
        return Some(format!("cannot be set here, it follows from {setting}"));
    }
    let error = ClientConfig::new().set(name, value).create_native_config().err()?;
    Some(describe(&error))
}

/// An error of the client library in short: its code, and never a setting, which may be a secret.
pub fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, problem, ..) => problem.clone(),
        error => error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(kafka: &Kafka) -> Vec<String> {
        let mut problems = Vec::new();
        kafka.problems("kafka", &["acks"], &mut problems);
        problems
    }

    #[test]
    fn settings_become_properties() {
        let kafka: Kafka = toml::from_str(
            r#"servers = "a:9092,b:9092"
            protocol = "sasl_ssl"
            sasl_mechanism = "SCRAM-SHA-512"
            user = "latchline"
            password = "swordfish"
            password_file = ""
            ca_file = "/etc/ca.pem"
            properties = { "socket.timeout.ms" = "1000" }"#,
        )
        .unwrap();
        let config = kafka.client_config("me").unwrap();
        for (name, value) in [
            ("bootstrap.servers", "a:9092,b:9092"),
            ("client.id", "me"),
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "latchline"),
            ("sasl.password", "swordfish"),
            ("ssl.ca.location", "/etc/ca.pem"),
            ("socket.timeout.ms", "1000"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
        assert!(!format!("{kafka:?}").contains("swordfish"));
        assert!(config.create_native_config().is_ok());
    }

    #[test]
    fn all_problems_come_at_once() {
        let mut kafka = Kafka::plaintext("a:9092, b, :9092, c:0");
        kafka.protocol = Protocol::SaslSsl;
        kafka.ca_file = Some("/no/such/file".into());
        for (name, value) in
            [("acks", "1"), ("no.such", "1"), ("socket.timeout.ms", "soon"), ("sasl.password", "swordfish")]
        {
            kafka.properties.insert(name.to_owned(), value.to_owned());
        }
        let problems = problems(&kafka);
        let expected = [
            "kafka.servers: \"b\" is not host:port",
            "kafka.servers: \":9092\" is not host:port",
            "kafka.servers: \"c:0\" is not host:port",
            "kafka.sasl_mechanism: must be set with protocol = \"sasl_ssl\"",
            "kafka.user: must be set with protocol = \"sasl_ssl\"",
            "kafka.password: must be set with protocol = \"sasl_ssl\"",
            "kafka.ca_file: cannot open /no/such/file",
            "kafka.properties.\"acks\": cannot be set, a guarantee rests on it",
            "kafka.properties.\"no.such\": No such configuration property",
            "kafka.properties.\"sasl.password\": cannot be set here, it follows from password",
            "kafka.properties.\"socket.timeout.ms\": ",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem} for {expected}");
        }
    }

    #[test]
    fn what_is_not_used_is_a_problem() {
        let mut kafka = Kafka::plaintext("[::1]:9092");
        assert_eq!(problems(&kafka), Vec::<String>::new());
        kafka.user = Some("latchline".to_owned());
        kafka.ca_file = Some("/dev/null".into());
        assert_eq!(
            problems(&kafka),
            [
                "kafka.user: is not used, protocol has no sasl",
                "kafka.ca_file: is not used, protocol has no ssl"
            ]
        );
    }
}

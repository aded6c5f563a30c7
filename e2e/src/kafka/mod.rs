//! The Kafka that tests, the demo and the tools use.
//!
//! `KAFKA` chooses: `apache` (a node of our own, real and durable), `dev` (the development Kafka, in
//! this process, no Java) or `host:port` (one that is there already). Without it: Apache Kafka
//! where Java 17 and Maven are found, else the development Kafka. Whoever uses it says which
//! ([`Choice::name`]), because the development Kafka proves less.

pub mod apache;
pub mod jars;
pub mod reader;

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};
use latchline_shared::kit::kafka::development::DevelopmentKafka;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use crate::kafka::apache::Apache;
use crate::process::Watch;

const ADMIN_DEADLINE: Duration = Duration::from_secs(60);
const VARIABLE: &str = "KAFKA";

/// Which Kafka to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// A node of our own.
    Apache,
    /// The development Kafka.
    Development,
    /// One that is there already.
    External(String),
}

impl Choice {
    /// What `KAFKA` says, else the best that can be had here; looked up once per process.
    pub fn of_environment() -> anyhow::Result<Self> {
        static CHOICE: OnceLock<Result<Choice, String>> = OnceLock::new();
        let choice = CHOICE.get_or_init(|| match std::env::var(VARIABLE).as_deref() {
            Ok("") | Err(_) => Ok(Self::best()),
            Ok(text) => Self::parse(text).map_err(|error| error.to_string()),
        });
        choice.clone().map_err(anyhow::Error::msg)
    }

    /// What it is, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Apache => format!("Apache Kafka {}", jars::VERSION),
            Self::Development => {
                "the development Kafka (in memory; Java 17 and Maven bring Apache Kafka)".to_owned()
            }
            Self::External(bootstrap) => format!("the Kafka at {bootstrap}"),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "apache" => Self::Apache,
            "dev" => Self::Development,
            address if address.contains(':') => Self::External(address.to_owned()),
            _ => bail!("{VARIABLE} is apache, dev or host:port, not {text}"),
        })
    }

    fn best() -> Self {
        if !jars::available() {
            return Self::Development;
        }
        match jars::folder() {
            Ok(_) => Self::Apache,
            Err(error) => {
                // Java and Maven are here, the network may not be.
                tracing::warn!(error = format!("{error:#}"), "Apache Kafka cannot be fetched");
                Self::Development
            }
        }
    }
}

/// A running Kafka; one of our own ends when dropped.
#[derive(Debug)]
pub enum Kafka {
    /// A node of our own, in a process that can be stopped, killed and paused.
    Apache(Apache),
    /// The development Kafka.
    Development(DevelopmentKafka),
    /// Somebody else's, by its bootstrap address.
    External(String),
}

impl Kafka {
    /// Starts (or only names) the Kafka of this choice.
    pub async fn start(choice: Choice) -> anyhow::Result<Self> {
        Ok(match choice {
            Choice::Apache => Self::Apache(Apache::start_new().await?),
            Choice::Development => Self::Development(DevelopmentKafka::start(&[])?),
            Choice::External(bootstrap) => Self::External(bootstrap),
        })
    }

    /// Address to connect to.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Apache(apache) => apache.bootstrap(),
            Self::Development(development) => development.bootstrap().to_owned(),
            Self::External(bootstrap) => bootstrap.clone(),
        }
    }

    /// Its process, if it has one of its own here.
    pub fn process_id(&self) -> Option<u32> {
        match self {
            Self::Apache(apache) => apache.process_id().ok(),
            Self::Development(_) | Self::External(_) => None,
        }
    }

    /// Sees its end, if it has a process of its own here.
    pub fn watch(&self) -> Option<Watch> {
        match self {
            Self::Apache(apache) => apache.watch().ok(),
            Self::Development(_) | Self::External(_) => None,
        }
    }

    /// What it is.
    pub fn choice(&self) -> Choice {
        match self {
            Self::Apache(_) => Choice::Apache,
            Self::Development(_) => Choice::Development,
            Self::External(bootstrap) => Choice::External(bootstrap.clone()),
        }
    }

    /// Creates a stream; that it is there already is not an error.
    pub async fn create_stream(&self, stream: &str, partitions: i32) -> anyhow::Result<()> {
        match self {
            Self::Development(development) => match development.create_topic(stream, partitions) {
                Err(error) if format!("{error:#}").contains("TopicAlreadyExists") => Ok(()),
                result => result,
            },
            Self::Apache(_) | Self::External(_) => create_stream(&self.bootstrap(), stream, partitions).await,
        }
    }

    /// Makes it refuse connections; what it has stored stays.
    pub async fn go_down(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Apache(apache) => apache.stop().await,
            Self::Development(development) => development.go_down(),
            Self::External(_) => bail!("a Kafka of somebody else is not taken down"),
        }
    }

    /// Ends [`Kafka::go_down`].
    pub async fn come_up(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Apache(apache) => apache.start().await,
            Self::Development(development) => development.come_up(),
            Self::External(_) => Ok(()),
        }
    }

    /// Makes it a black hole: it accepts connections and requests, and answers nothing.
    pub async fn go_silent(&self) -> anyhow::Result<()> {
        match self {
            Self::Apache(apache) => apache.pause().await,
            Self::Development(development) => development.go_silent(),
            Self::External(_) => bail!("a Kafka of somebody else is not silenced"),
        }
    }

    /// Ends [`Kafka::go_silent`].
    pub fn answer_again(&self) -> anyhow::Result<()> {
        match self {
            Self::Apache(apache) => apache.resume(),
            Self::Development(development) => development.answer_again(),
            Self::External(_) => Ok(()),
        }
    }
}

async fn create_stream(bootstrap: &str, stream: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let new = NewTopic::new(stream, partitions, TopicReplication::Fixed(-1));
    let options =
        AdminOptions::new().request_timeout(Some(ADMIN_DEADLINE)).operation_timeout(Some(ADMIN_DEADLINE));
    let results = admin
        .create_topics([&new], &options)
        .await
        .with_context(|| format!("create stream {stream} at {bootstrap}"))?;
    match results.first() {
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => bail!("create stream {stream} at {bootstrap}: {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses() {
        assert_eq!(Choice::parse("apache").unwrap(), Choice::Apache);
        assert_eq!(Choice::parse("dev").unwrap(), Choice::Development);
        assert_eq!(Choice::parse("k:9092").unwrap(), Choice::External("k:9092".to_owned()));
        assert!(Choice::parse("redpanda").is_err());
    }
}

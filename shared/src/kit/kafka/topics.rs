//! Topics that must exist before anything is written or read.
//!
//! Asks first and creates only what is missing, because a client may be allowed to look and not to
//! create, and because the development Kafka does not answer admin calls. Looking never creates:
//! a topic that the cluster makes up has a number of partitions that nobody chose.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use tokio::runtime::Handle;
use tokio::task;
use tracing::info;

use crate::kit::kafka::client::describe;

/// Pause between two looks for a topic that is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A topic as it is created if it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
}

/// What to do about a topic that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Create it.
    Create,
    /// It is an error.
    Refuse,
}

/// Why topics are not there.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// Kafka does not answer; it may later.
    #[error("no answer from kafka: {0}")]
    Unreachable(String),
    /// The settings do not make a client.
    #[error("the settings do not make a kafka client: {0}")]
    Settings(String),
    /// They are missing and may not be created.
    #[error("kafka has no topic {}, and creating topics is switched off", .0.join(", "))]
    Missing(Vec<String>),
    /// They are missing and could not be created.
    #[error("kafka has no topic {}, and creating it failed: {why}", .names.join(", "))]
    NotCreated {
        /// Which ones.
        names: Vec<String>,
        /// What Kafka said.
        why: String,
    },
    /// Kafka does not let us see it.
    #[error("kafka does not give access to topic {name}: {why}")]
    Refused {
        /// Which one.
        name: String,
        /// What Kafka said.
        why: RDKafkaErrorCode,
    },
}

impl TopicsError {
    /// Whether it is worth while to try again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Makes sure that all of `topics` exist, and returns how many partitions each has, in the same
/// order. Kafka has `timeout` to answer each question.
pub async fn ensure(
    config: &ClientConfig,
    topics: &[Topic],
    missing: Missing,
    timeout: Duration,
) -> Result<Vec<usize>, TopicsError> {
    let mut config = config.clone();
    config.set("allow.auto.create.topics", "false");
    let topics = topics.to_vec();
    // Making and dropping a client, and asking for metadata, block.
    task::spawn_blocking(move || ensure_blocking(&config, &topics, missing, timeout))
        .await
        .unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}

fn ensure_blocking(
    config: &ClientConfig,
    topics: &[Topic],
    missing: Missing,
    timeout: Duration,
) -> Result<Vec<usize>, TopicsError> {
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| TopicsError::Settings(describe(&error)))?;
    let mut counts = Vec::with_capacity(topics.len());
    let mut absent = Vec::new();
    for topic in topics {
        counts.push(match partitions(&admin, &topic.name, timeout)? {
            Some(count) => count,
            None => {
                absent.push(topic);
                topic.partitions as usize
            }
        });
    }
    let existing = match missing {
        _ if absent.is_empty() => Vec::new(),
        Missing::Refuse => {
            return Err(TopicsError::Missing(absent.iter().map(|topic| topic.name.clone()).collect()));
        }
        Missing::Create => create(&admin, &absent, timeout)?,
    };
    for (count, topic) in counts.iter_mut().zip(topics) {
        if existing.contains(&topic.name.as_str()) {
            *count = partitions_soon(&admin, &topic.name, timeout)?;
        }
    }
    Ok(counts)
}

/// How many partitions a topic has that exists, but that not every broker has heard of yet.
fn partitions_soon(
    admin: &AdminClient<DefaultClientContext>,
    name: &str,
    timeout: Duration,
) -> Result<usize, TopicsError> {
    let until = Instant::now() + timeout;
    loop {
        if let Some(count) = partitions(admin, name, timeout)? {
            return Ok(count);
        }
        if Instant::now() >= until {
            return Err(TopicsError::Unreachable(format!("topic {name} exists and is not to be seen")));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// How many partitions a topic has; none if there is no such topic.
fn partitions(
    admin: &AdminClient<DefaultClientContext>,
    name: &str,
    timeout: Duration,
) -> Result<Option<usize>, TopicsError> {
    let metadata = admin
        .inner()
        .fetch_metadata(Some(name), timeout)
        .map_err(|error| TopicsError::Unreachable(describe(&error)))?;
    let Some(topic) = metadata.topics().first() else { return Ok(None) };
    match topic.error() {
        None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => {
            Ok(Some(topic.partitions().len()))
        }
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Ok(None),
        Some(error) => Err(TopicsError::Refused { name: name.to_owned(), why: error.into() }),
    }
}

/// Creates topics, and returns the names of those that somebody else created meanwhile.
fn create<'a>(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[&'a Topic],
    timeout: Duration,
) -> Result<Vec<&'a str>, TopicsError> {
    let new: Vec<_> = topics
        .iter()
        .map(|topic| NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication)))
        .collect();
    let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
    let results = Handle::current().block_on(admin.create_topics(&new, &options)).map_err(|error| {
        let names = topics.iter().map(|topic| topic.name.clone()).collect();
        TopicsError::NotCreated { names, why: describe(&error) }
    })?;
    let mut existing = Vec::new();
    for (result, topic) in results.into_iter().zip(topics) {
        match result {
            Ok(_) => {
                let Topic { name, partitions, replication } = topic;
                info!(topic = name, partitions, replication, "created a kafka topic");
            }
            // Another node was faster, or the broker that was asked had not heard of it yet.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => existing.push(topic.name.as_str()),
            Err((name, code)) => {
                return Err(TopicsError::NotCreated { names: vec![name], why: code.to_string() });
            }
        }
    }
    Ok(existing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::kafka::client::Kafka;
    use crate::kit::kafka::development::DevelopmentKafka;

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn topic(name: &str) -> Topic {
        Topic { name: name.to_owned(), partitions: 12, replication: 1 }
    }

    fn config(kafka: &DevelopmentKafka) -> ClientConfig {
        Kafka::plaintext(kafka.bootstrap()).client_config("test").unwrap()
    }

    #[tokio::test]
    async fn topics_that_exist_are_counted() {
        let kafka = DevelopmentKafka::start(&[("a", 3), ("b", 4)]).unwrap();
        let counts = ensure(&config(&kafka), &[topic("b"), topic("a")], Missing::Refuse, TIMEOUT).await;
        assert_eq!(counts.unwrap(), [4, 3]);
    }

    #[tokio::test]
    async fn missing_topics_are_named() {
        let kafka = DevelopmentKafka::start(&[("a", 3)]).unwrap();
        let wanted = [topic("b"), topic("a"), topic("c")];
        for _ in 0..2 {
            let error = ensure(&config(&kafka), &wanted, Missing::Refuse, TIMEOUT).await.unwrap_err();
            assert_eq!(error.to_string(), "kafka has no topic b, c, and creating topics is switched off");
            assert!(!error.is_transient());
        }
    }

    #[tokio::test]
    async fn a_kafka_that_does_not_create_is_reported() {
        let kafka = DevelopmentKafka::start(&[]).unwrap();
        let error = ensure(&config(&kafka), &[topic("b")], Missing::Create, TIMEOUT).await.unwrap_err();
        assert!(error.to_string().starts_with("kafka has no topic b, and creating it failed: "), "{error}");
    }

    #[tokio::test]
    async fn a_kafka_that_is_away_may_come_back() {
        let kafka = DevelopmentKafka::start(&[("a", 3)]).unwrap();
        kafka.go_down().unwrap();
        let error = ensure(&config(&kafka), &[topic("a")], Missing::Create, TIMEOUT).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
}

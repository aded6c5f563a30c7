//! The stream that is published to, and how it is made if it is missing.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use tokio::task;
use tracing::{info, warn};

use crate::fault::Fault;
use crate::kit::kafka::client::describe;
use crate::kit::kafka::topics::{self, Missing, Topic, TopicsError};

/// How long Kafka may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Kafka's word for its own default of copies.
const DEFAULT_REPLICATION: i32 = -1;

/// A stream, as it is created if it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: Partitions,
    /// What Kafka forgets.
    pub cleanup: Cleanup,
    /// Copies of each partition; -1: as many as is the cluster's default.
    pub replication: i32,
}

/// How many partitions a stream gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    /// So many.
    Fixed(i32),
    /// As many as this stream has, which somebody else creates: with the same keys, a lock's records
    /// are then in partitions of the same number.
    Like(String),
}

/// What Kafka forgets of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// What is too old, by the cluster's default.
    Delete,
    /// All but the newest record of each key.
    Compact,
}

impl Stream {
    /// The newest of something under each key: one compacted partition.
    pub fn compacted(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: Partitions::Fixed(1),
            cleanup: Cleanup::Compact,
            replication: DEFAULT_REPLICATION,
        }
    }

    /// Events, with as many partitions as `other` has.
    pub fn like(name: impl Into<String>, other: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: Partitions::Like(other.into()),
            cleanup: Cleanup::Delete,
            replication: DEFAULT_REPLICATION,
        }
    }

    /// Makes sure that it is there.
    pub(super) async fn ensure(&self, config: &ClientConfig) -> Result<(), Fault> {
        let wanted = match &self.partitions {
            Partitions::Fixed(count) => *count,
            Partitions::Like(other) => count(config, other)
                .await?
                .ok_or_else(|| Fault::transient(format!("stream {other} is not there yet")))?,
        };
        match count(config, &self.name).await? {
            Some(found) => {
                if found != wanted {
                    warn!(stream = self.name, found, wanted, "a stream has another number of partitions");
                }
                Ok(())
            }
            None => self.create(config, wanted).await,
        }
    }

    async fn create(&self, config: &ClientConfig, partitions: i32) -> Result<(), Fault> {
        let config = config.clone();
        // Making a client blocks.
        let admin = task::spawn_blocking(move || config.create::<AdminClient<DefaultClientContext>>())
            .await
            .map_err(|error| Fault::transient(error.to_string()))?
            .map_err(|error| Fault::transient(describe(&error)))?;
        let policy = match self.cleanup {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
        };
        let new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(self.replication))
            .set("cleanup.policy", policy);
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let results = admin.create_topics(&[new], &options).await;
        // Dropping one blocks, too.
        drop(task::spawn_blocking(move || drop(admin)));
        match results.map_err(|error| Fault::transient(describe(&error)))?.pop() {
            None | Some(Ok(_)) => {
                info!(topic = self.name, partitions, policy, "created a kafka topic");
                Ok(())
            }
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((name, code))) => Err(Fault::transient(format!("create topic {name}: {code}"))),
        }
    }
}

/// How many partitions a stream has, if it is there.
async fn count(config: &ClientConfig, name: &str) -> Result<Option<i32>, Fault> {
    // Looked for, not created here: only the name counts.
    let topic = Topic { name: name.to_owned(), partitions: 1, replication: DEFAULT_REPLICATION };
    match topics::ensure(config, &[topic], Missing::Refuse, TIMEOUT).await {
        Ok(counts) => Ok(counts.first().and_then(|count| i32::try_from(*count).ok())),
        Err(TopicsError::Missing(_)) => Ok(None),
        Err(error) => Err(Fault::transient(error.to_string())),
    }
}

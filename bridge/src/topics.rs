//! The topics of the rules: looked for at start, and again whenever one seems to be gone.
//!
//! A topic that somebody deletes is created again, if the configuration says so; otherwise the
//! bridge is not ready until somebody has created it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use latchline_shared::kit::kafka::topics::{self, Missing, Topic, TopicsError};
use rdkafka::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::deliveries::Deliveries;
use crate::rules::Rules;

/// How long Kafka may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// The question whether all streams of the rules exist.
pub(crate) struct TopicLook {
    client: ClientConfig,
    topics: Vec<Topic>,
    missing: Missing,
}

impl TopicLook {
    pub(crate) fn new(config: &Config, rules: &Rules, client: ClientConfig) -> Self {
        let topic = |stream: Arc<str>| Topic {
            name: stream.to_string(),
            partitions: i32::from(config.partitions),
            // Kafka's word for its own default.
            replication: if config.replication == 0 { -1 } else { i32::from(config.replication) },
        };
        let topics = rules.streams().into_iter().map(topic).collect();
        Self { client, topics, missing: if config.create_topics { Missing::Create } else { Missing::Refuse } }
    }

    /// Looks now, and later whenever a topic seems to be gone. `has_topics` says what was seen last.
    ///
    /// Kafka's being away is no error: then it looks until it is back.
    pub(crate) async fn watch(
        self,
        deliveries: &Arc<Deliveries>,
        has_topics: &Arc<AtomicBool>,
    ) -> Result<JoinSet<()>, TopicsError> {
        match self.once().await {
            Ok(()) => {
                deliveries.link.answered();
                has_topics.store(true, Ordering::Release);
            }
            Err(error) if error.is_transient() => {
                warn!(%error, "kafka is away, its topics are checked later");
                deliveries.topics_doubted.notify_one();
            }
            Err(error) => return Err(error),
        }
        let (deliveries, has_topics) = (Arc::clone(deliveries), Arc::clone(has_topics));
        let mut task = JoinSet::new();
        task.spawn(async move { self.whenever_doubted(&deliveries, &has_topics).await });
        Ok(task)
    }

    async fn once(&self) -> Result<(), TopicsError> {
        let partitions = topics::ensure(&self.client, &self.topics, self.missing, TIMEOUT).await?;
        let names: Vec<_> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        if partitions.windows(2).any(|pair| pair[0] != pair[1]) {
            // Not an error: it matters only to consumers that join the streams by partition.
            warn!(topics = ?names, ?partitions, "the topics differ in their number of partitions");
        } else {
            info!(topics = ?names, partitions = partitions.first(), "kafka's topics are there");
        }
        Ok(())
    }

    /// Runs until the bridge ends.
    async fn whenever_doubted(&self, deliveries: &Deliveries, has_topics: &AtomicBool) {
        loop {
            deliveries.topics_doubted.notified().await;
            has_topics.store(false, Ordering::Release);
            self.until_found().await;
            has_topics.store(true, Ordering::Release);
            // The producer may take a while to see it, too.
            sleep(PAUSE).await;
        }
    }

    /// Runs until the topics are there.
    async fn until_found(&self) {
        let mut is_reported = false;
        while let Err(error) = self.once().await {
            if !error.is_transient() && !is_reported {
                error!(%error, "the bridge's topics are not there");
                is_reported = true;
            }
            sleep(PAUSE).await;
        }
    }
}

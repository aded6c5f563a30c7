//! A reader: one membership of a consumer group after the other, as long as the process lives.
//!
//! A membership begins only when Postgres answers and the streams are there, so that a member that
//! could do nothing does not disturb the others.

use std::collections::HashMap;
use std::future::Future;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use deadpool_postgres::Pool;
use prometheus_client::metrics::counter::Counter;
use rdkafka::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Service;
use super::config::Consumer;
use super::deadletter::DeadLetters;
use super::health::{Health, Place};
use super::membership::{self, End};
use super::metrics::Metrics;
use super::store::Store;
use crate::fault::Fault;
use crate::kit::http::readiness::Readiness;
use crate::kit::kafka::link::Link;
use crate::kit::kafka::topics::{self, Missing, Topic, TopicsError};
use crate::kit::retry;

/// How long Kafka may take to say which streams there are.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(5);
/// How long leaving the group may take, beside the lanes.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A membership that lasted so long did not fail at once.
const LONG: Duration = Duration::from_secs(60);

/// What is read, and what is done with it.
pub struct Reader<S> {
    /// How it is read.
    pub settings: Consumer,
    /// The service's name: in logs, in Kafka, and in the names of dead-letter streams
    /// (`<stream>.<name>.dlq`).
    pub name: &'static str,
    /// Postgres schema with the table `consumer_offset`.
    pub schema: &'static str,
    /// The streams; all with the same number of partitions.
    pub streams: Vec<String>,
    /// What is done with the records.
    pub service: Arc<S>,
    /// Connections that may write offsets and effects: one for each lane, else lanes wait for each
    /// other.
    pub pool: Pool,
    /// What is counted.
    pub metrics: Metrics,
    /// Gets the check `consumer`.
    pub readiness: Readiness,
}

/// What all parts of a reader share.
pub(super) struct Shared<S> {
    pub(super) name: &'static str,
    pub(super) schema: &'static str,
    pub(super) settings: Consumer,
    pub(super) streams: Vec<String>,
    pub(super) client: ClientConfig,
    pub(super) service: Arc<S>,
    pub(super) store: Store<S>,
    pub(super) dead_letters: DeadLetters,
    pub(super) metrics: Metrics,
    pub(super) link: Arc<Link>,
    pub(super) health: Arc<Health>,
    records: HashMap<String, Counter>,
}

impl<S: Service> Reader<S> {
    /// Reads until `token` is cancelled; for [`Shutdown::spawn`](crate::kit::shutdown::Shutdown::spawn).
    /// The readiness check is there from this call on, also while nobody has polled the future yet.
    ///
    /// # Errors
    /// A bug: a statement that cannot work, or settings that make no client. Everything else is
    /// waited for.
    pub fn run(self, token: CancellationToken) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
        let shared = self.share();
        async move { Arc::new(shared?).run(&token).await }
    }

    fn share(self) -> anyhow::Result<Shared<S>> {
        let Self { settings, name, schema, streams, service, pool, metrics, readiness } = self;
        let link = Link::new(name);
        let health = Health::new(name, Arc::clone(&link));
        let check = Arc::clone(&health);
        readiness.check("consumer", move || check.check());
        Ok(Shared {
            name,
            schema,
            client: settings.client_config(name).context("the consumer's kafka settings")?,
            dead_letters: DeadLetters::new(name, settings.kafka.client_config(name)?),
            store: Store::new(Arc::clone(&service), pool, schema, metrics.clone()),
            records: streams.iter().map(|stream| (stream.clone(), metrics.records(stream))).collect(),
            settings,
            streams,
            service,
            metrics,
            link,
            health,
        })
    }
}

impl<S: Service> Shared<S> {
    /// One membership after the other.
    async fn run(self: Arc<Self>, token: &CancellationToken) -> anyhow::Result<()> {
        let mut attempt = 0;
        while !token.is_cancelled() {
            // Cancel safety: what is asked may be asked again.
            let prepared = tokio::select! {
                () = token.cancelled() => return Ok(()),
                prepared = self.prepare() => prepared,
            };
            let why = match prepared {
                Ok(()) => {
                    let began_at = Instant::now();
                    let end = Arc::clone(&self).membership(token).await?;
                    if began_at.elapsed() > LONG {
                        attempt = 0;
                    }
                    match end {
                        End::Shutdown => return Ok(()),
                        End::Failed(why) => bail!(why),
                        End::OutOfRange => "kafka: records were deleted before they were read".to_owned(),
                        End::Rejoin(why) => why,
                    }
                }
                Err(Fault::Transient { why, .. }) => why.into_owned(),
                Err(fault) => bail!(fault),
            };
            self.health.fails(Place::Start, why);
            let random = std::hash::RandomState::new().hash_one(attempt);
            tokio::select! {
                () = token.cancelled() => {}
                () = sleep(retry::pause(attempt, random)) => attempt += 1,
            }
        }
        Ok(())
    }

    /// A record was read.
    pub(super) fn records(&self, stream: &str) {
        if let Some(counter) = self.records.get(stream) {
            counter.inc();
        }
    }

    /// Whether a membership could do anything.
    async fn prepare(&self) -> Result<(), Fault> {
        self.store.reach().await.map_err(|fault| match fault {
            Fault::Transient { after, why } => {
                Fault::Transient { after, why: format!("postgres: {why}").into() }
            }
            fault => fault,
        })?;
        let client = self
            .settings
            .kafka
            .client_config(self.name)
            .map_err(|error| Fault::transient(format!("{error:#}")))?;
        // Looked for, never created: what is in them is somebody else's.
        let topic = |name: &String| Topic { name: name.clone(), partitions: 1, replication: -1 };
        let streams: Vec<_> = self.streams.iter().map(topic).collect();
        let counts =
            topics::ensure(&client, &streams, Missing::Refuse, KAFKA_TIMEOUT).await.map_err(absent)?;
        self.link.answered();
        if counts.windows(2).any(|pair| pair[0] != pair[1]) {
            let streams = self.streams.join(", ");
            let why = format!("kafka: {streams} must have the same number of partitions, not {counts:?}");
            return Err(Fault::transient(why));
        }
        let letters = self.dead_letters.topics(&self.streams);
        topics::ensure(&client, &letters, Missing::Create, KAFKA_TIMEOUT).await.map_err(absent)?;
        Ok(())
    }

    async fn membership(self: Arc<Self>, token: &CancellationToken) -> anyhow::Result<End> {
        let patience = self.settings.drain_timeout * 2 + LEAVE_TIMEOUT;
        let (name, runtime, cancelled) = (self.name, Handle::current(), token.clone());
        let (done, mut end) = oneshot::channel();
        let poll = move || {
            let end = membership::run(self, runtime, &cancelled);
            if done.send(end).is_err() {
                debug!(reader = name, "left the group late");
            }
        };
        thread::Builder::new()
            .name(format!("{name}-consumer"))
            .spawn(poll)
            .context("start the consumer's thread")?;
        tokio::select! {
            end = &mut end => return end.context("the consumer's thread panicked"),
            () = token.cancelled() => {}
        }
        match timeout(patience, end).await {
            Ok(end) => end.context("the consumer's thread panicked"),
            Err(_) => {
                warn!(reader = name, ?patience, "kafka does not let us leave the group");
                Ok(End::Shutdown)
            }
        }
    }
}

fn absent(error: TopicsError) -> Fault {
    match error {
        TopicsError::Settings(_) => Fault::Bug(error.to_string().into()),
        error => Fault::transient(format!("kafka: {error}")),
    }
}

//! The development Kafka: the client library's mock cluster in this process.
//!
//! It speaks Kafka's protocol on a loopback port, so every client can use it, and it can go away
//! and come back on command. It is memory only, and not a storage: it keeps 5 MiB a partition, does
//! not answer admin calls (create topics here), looks nothing up by time, does not compact, and
//! stores a batch twice that was sent again after a timeout. Consumers set `fetch.wait.max.ms` to
//! 10, because new data does not wake a waiting fetch.
//!
//! The cluster is not `Send`, so it lives on a thread of its own and takes orders by channel.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const BROKERS: i32 = 1;
const ALL_BROKERS: i32 = -1;

/// Longer than any client waits.
const SILENCE: Duration = Duration::from_secs(24 * 3600);

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Order = Box<dyn FnOnce(&Cluster) + Send>;

/// How long it may take to hand out what it has.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A record as it is stored, its texts as far as they are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key; empty if it has none.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

/// A running development Kafka; it ends when dropped.
#[derive(Debug)]
pub struct DevelopmentKafka {
    bootstrap: String,
    /// None while dropping.
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl DevelopmentKafka {
    /// Starts one with these topics: name and number of partitions.
    pub fn start(topics: &[(&str, i32)]) -> anyhow::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let (started, start) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("development-kafka".to_owned())
            .spawn(move || match Cluster::new(BROKERS) {
                Ok(cluster) => {
                    // The receiver is gone only if the caller panicked; then the inbox ends, too.
                    let _ = started.send(Ok(cluster.bootstrap_servers()));
                    // Runs until the last sender is dropped.
                    inbox.into_iter().for_each(|order| order(&cluster));
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })
            .context("start the development Kafka's thread")?;
        let bootstrap = start.recv().context("the development Kafka's thread ended")??;
        let kafka = Self { bootstrap, orders: Some(orders), thread: Some(thread) };
        for (name, partitions) in topics {
            kafka.create_topic(name, *partitions)?;
        }
        Ok(kafka)
    }

    /// `127.0.0.1:port`, the port chosen by the kernel.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a topic. Clients that ask for a topic that is not there may create it as well,
    /// unless they forbid themselves to (`allow.auto.create.topics`).
    pub fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        let topic = name.to_owned();
        self.order(move |cluster| cluster.create_topic(&topic, partitions, BROKERS))
            .with_context(|| format!("create topic {name}"))
    }

    /// What is stored in a partition by now. Blocks.
    pub fn records(&self, topic: &str, partition: i32) -> anyhow::Result<Vec<Stored>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            // The library wants a name even of who joins no group.
            .set("group.id", "development")
            .set("fetch.wait.max.ms", "10")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        consumer.assign(&assignment)?;
        let (low, end) = consumer.fetch_watermarks(topic, partition, READ_TIMEOUT)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (low..end)
            .map(|_| {
                let message = consumer.poll(READ_TIMEOUT).context("no record came")??;
                let headers = message.headers().map(|headers| {
                    headers.iter().map(|h| (h.key.to_owned(), text(h.value.unwrap_or_default()))).collect()
                });
                Ok(Stored {
                    key: message.key().map(text).unwrap_or_default(),
                    value: message.payload().unwrap_or_default().to_vec(),
                    headers: headers.unwrap_or_default(),
                })
            })
            .collect()
    }

    /// Closes all connections and refuses new ones.
    pub fn go_down(&self) -> anyhow::Result<()> {
        self.order(|cluster| cluster.broker_down(ALL_BROKERS)).context("take the development Kafka down")
    }

    /// Accepts connections again, on the same port and with the same records.
    pub fn come_up(&self) -> anyhow::Result<()> {
        self.order(|cluster| cluster.broker_up(ALL_BROKERS)).context("bring the development Kafka up")
    }

    /// Keeps connections and takes requests, but answers none.
    pub fn go_silent(&self) -> anyhow::Result<()> {
        self.order(|cluster| cluster.broker_round_trip_time(ALL_BROKERS, SILENCE))
            .context("silence the development Kafka")
    }

    /// Answers again, first what it owes.
    pub fn answer_again(&self) -> anyhow::Result<()> {
        self.order(|cluster| cluster.broker_round_trip_time(ALL_BROKERS, Duration::ZERO))
            .context("let the development Kafka answer")
    }

    /// Answers the next produce requests with these errors, one each, and stores nothing of them.
    pub fn refuse_produce(&self, errors: Vec<RDKafkaRespErr>) -> anyhow::Result<()> {
        self.order(move |cluster| {
            cluster.request_errors(RDKafkaApiKey::Produce, &errors);
            Ok(())
        })
    }

    /// Denies that there is such a topic when a client asks for it.
    pub fn hide_topic(&self, name: &str) -> anyhow::Result<()> {
        self.answer_for_topic(name, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
    }

    /// Admits again that there is such a topic.
    pub fn show_topic(&self, name: &str) -> anyhow::Result<()> {
        self.answer_for_topic(name, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
    }

    fn answer_for_topic(&self, name: &str, answer: RDKafkaRespErr) -> anyhow::Result<()> {
        let topic = name.to_owned();
        self.order(move |cluster| cluster.topic_error(&topic, answer))
    }

    fn order(&self, order: impl FnOnce(&Cluster) -> KafkaResult<()> + Send + 'static) -> anyhow::Result<()> {
        let (done, result) = mpsc::channel();
        self.orders
            .as_ref()
            .and_then(|orders| {
                let order = move |cluster: &Cluster| {
                    let _ = done.send(order(cluster));
                };
                orders.send(Box::new(order)).ok()
            })
            .ok_or_else(|| anyhow!("the development Kafka has ended"))?;
        Ok(result.recv().context("the development Kafka has ended")??)
    }
}

impl Drop for DevelopmentKafka {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic on the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Instant;

    use super::*;

    fn partitions(kafka: &DevelopmentKafka, topic: &str, timeout: Duration) -> KafkaResult<usize> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("allow.auto.create.topics", "false")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
        Ok(metadata.topics()[0].partitions().len())
    }

    #[test]
    fn serves_its_topics_and_ends_when_dropped() {
        let kafka = DevelopmentKafka::start(&[("message_state", 3), ("message_command", 4)]).unwrap();
        let timeout = Duration::from_secs(10);
        assert_eq!(partitions(&kafka, "message_state", timeout), Ok(3));
        assert_eq!(partitions(&kafka, "message_command", timeout), Ok(4));
        assert_eq!(partitions(&kafka, "no_such", timeout), Ok(0));
        kafka.create_topic("later", 2).unwrap();
        assert_eq!(partitions(&kafka, "later", timeout), Ok(2));

        let address = kafka.bootstrap().to_owned();
        drop(kafka);
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
    }

    #[test]
    fn goes_down_and_comes_up() {
        let kafka = DevelopmentKafka::start(&[("a", 1)]).unwrap();
        kafka.go_down().unwrap();
        assert!(TcpStream::connect(kafka.bootstrap()).is_err(), "connections are refused");
        kafka.come_up().unwrap();
        assert_eq!(partitions(&kafka, "a", Duration::from_secs(10)), Ok(1));
    }

    #[test]
    fn goes_silent_and_answers_again() {
        let kafka = DevelopmentKafka::start(&[("a", 1)]).unwrap();
        kafka.go_silent().unwrap();
        assert!(TcpStream::connect(kafka.bootstrap()).is_ok(), "connections are accepted");
        let asked_at = Instant::now();
        assert!(partitions(&kafka, "a", Duration::from_millis(300)).is_err(), "nobody answers");
        assert!(asked_at.elapsed() >= Duration::from_millis(300));
        kafka.answer_again().unwrap();
        assert_eq!(partitions(&kafka, "a", Duration::from_secs(10)), Ok(1));
    }
}

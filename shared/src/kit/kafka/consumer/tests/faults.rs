//! What goes wrong stops what it must, and nothing else.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::kit::postgres::development::DevelopmentPostgres;

/// The letters of a dead-letter stream: value and headers.
fn letters(lab: &Lab, stream: &str, count: usize) -> Vec<(String, Vec<(String, String)>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", lab.kafka.bootstrap())
        .set("group.id", "letters")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(stream, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let mut letters = Vec::new();
    while letters.len() < count {
        let message = consumer.poll(SOON).expect("a letter").unwrap();
        assert_eq!(message.key(), Some(&b"key"[..]));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message.headers().unwrap();
        let headers = headers.iter().map(|h| (h.key.to_owned(), text(h.value.unwrap()))).collect();
        letters.push((text(message.payload().unwrap()), headers));
    }
    let (low, end) = consumer.fetch_watermarks(stream, 0, SOON).unwrap();
    assert_eq!(end - low, count as i64, "letters in {stream}");
    letters
}

fn header<'a>(letter: &'a (String, Vec<(String, String)>), name: &str) -> &'a str {
    letter.1.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_goes_to_the_dead_letters_and_reading_goes_on() {
    let lab = Lab::new().await;
    lab.produce("a", 1, ["0", "1", "poison", "3", "4", "poison"]).await;
    // Kafka does not take the first letter at once.
    lab.kafka.refuse_produce(vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]).unwrap();
    let member = lab.member();
    lab.until("select next_offset from lab.consumer_offset where stream = 'a' and partition = 1", 6).await;
    assert_eq!(lab.effects("a", 1).await, [0, 1, 3, 4]);
    let letters = letters(&lab, "a.lab.dlq", 2);
    for (letter, offset) in letters.iter().zip(["2", "5"]) {
        assert_eq!(letter.0, "poison");
        for (name, expected) in [
            ("x-orig-topic", "a"),
            ("x-orig-partition", "1"),
            ("x-orig-offset", offset),
            ("x-error-class", "bad"),
            ("x-error-message", "as it says"),
            ("x-service", "lab"),
        ] {
            assert_eq!(header(letter, name), expected, "{name}");
        }
        assert!(header(letter, "x-orig-timestamp").parse::<u64>().is_ok());
    }
    assert_eq!(member.metrics.retries.get(), 1);
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_refuses_is_found_among_the_others() {
    let lab = Lab::new().await;
    lab.produce("a", 1, ["0", "1", "refuse", "poison", "4", "refuse"]).await;
    lab.produce("b", 1, ["0", "1"]).await;
    let member = lab.member();
    lab.until("select sum(next_offset)::bigint from lab.consumer_offset where partition = 1", 8).await;
    assert_eq!(lab.effects("a", 1).await, [0, 1, 4]);
    assert_eq!(lab.effects("b", 1).await, [0, 1]);
    let mut classes: Vec<_> = letters(&lab, "a.lab.dlq", 3)
        .iter()
        .map(|letter| format!("{} {}", header(letter, "x-orig-offset"), header(letter, "x-error-class")))
        .collect();
    classes.sort();
    assert_eq!(classes, ["2 refused", "3 bad", "5 refused"]);
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bugs_end_the_reader() {
    for (value, expected) in [("bug", "lane 1: on purpose"), ("panic", "a lane panicked")] {
        let lab = Lab::new().await;
        lab.produce("a", 1, ["0", value]).await;
        let member = lab.member();
        assert_eq!(member.failure().await, expected);
        assert_eq!(lab.number("select count(*) from lab.effect").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_go_away_and_come_back() {
    let mut server = DevelopmentPostgres::start().unwrap();
    let lab = Lab::with(&server.settings("postgres")).await;
    let settings = Consumer { lane_records_max: 10, batch_records_max: 5, ..lab.settings() };
    let member = lab.member_with(settings, lab.pool.clone(), Semaphore::MAX_PERMITS);
    lab.produce_many("a", 1, 20).await;
    lab.until_effects(20).await;
    server.stop();
    for partition in 0..PARTITIONS {
        lab.produce_many("a", partition, 100).await;
    }
    member.until_reason("postgres: ").await;
    eventually(SOON, "all lanes are paused", async || member.metrics.paused_lanes.get() == 3).await;
    server.resume().unwrap();
    lab.until_effects(320).await;
    for (partition, count) in [(0, 100), (1, 120), (2, 100)] {
        assert_eq!(lab.effects("a", partition).await, (0..count).collect::<Vec<_>>(), "{partition}");
    }
    member.until_ready().await;
    assert!(member.metrics.retries.get() > 0);
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_may_go_away_and_come_back() {
    let lab = Lab::new().await;
    let member = lab.member();
    lab.produce_many("a", 1, 10).await;
    lab.until_effects(10).await;
    lab.kafka.go_down().unwrap();
    member.until_reason("kafka: cannot be reached").await;
    lab.kafka.come_up().unwrap();
    lab.produce_many("a", 1, 10).await;
    lab.until_effects(20).await;
    assert_eq!(lab.effects("a", 1).await, (0..20).collect::<Vec<_>>());
    member.until_ready().await;
    // A Kafka that does not answer does not keep the process from ending.
    lab.kafka.go_silent().unwrap();
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_member_joins_while_postgres_is_away() {
    let mut server = DevelopmentPostgres::start().unwrap();
    let lab = Lab::with(&server.settings("postgres")).await;
    server.stop();
    let member = lab.member();
    member.until_reason("postgres: ").await;
    assert_eq!(member.metrics.rebalances.get(), 0);
    server.resume().unwrap();
    member.until_ready().await;
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_missing_or_differ_are_waited_for() {
    let lab = Lab::new().await;
    let service = lab.member().service;
    let reader = |streams: [&str; 2]| {
        let (readiness, token) = (Readiness::new(), CancellationToken::new());
        let reader = Reader {
            settings: lab.settings(),
            name: "lab",
            schema: "lab",
            streams: streams.map(str::to_owned).to_vec(),
            service: Arc::clone(&service),
            pool: lab.pool.clone(),
            metrics: Metrics::new(&mut Registry::default()),
            readiness: readiness.clone(),
        };
        (tokio::spawn(reader.run(token.clone())), readiness, token)
    };
    for (streams, expected) in [
        (["a", "absent"], "kafka: kafka has no topic absent"),
        (["a", "a.lab.dlq"], "kafka: a, a.lab.dlq must have the same number of partitions, not [3, 1]"),
    ] {
        let (task, readiness, token) = reader(streams);
        let reason = || readiness.reasons().remove("consumer").unwrap_or_default();
        eventually(SOON, expected, async || reason().starts_with(expected)).await;
        token.cancel();
        task.await.unwrap().unwrap();
    }
}

/// Passes bytes between clients and `server`. The first time that the commit of an effect has been
/// answered, it keeps the answer and hangs up; then it is no longer armed.
async fn proxy(server: u16, is_armed: &Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let is_armed = Arc::clone(is_armed);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(pass(client, server, Arc::clone(&is_armed)));
        }
    });
    port
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    is_armed: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let contains = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let (mut has_effect, mut is_commit) = (false, false);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = &up[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                has_effect |= contains(bytes, b"into lab.effect");
                is_commit = has_effect && contains(bytes, b"COMMIT\0");
                server.write_all(bytes).await?;
            }
            read = server.read(&mut down) => {
                let bytes = &down[..read?];
                if bytes.is_empty() || is_commit && is_armed.swap(false, Ordering::SeqCst) {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_not_repeated() {
    let server = DevelopmentPostgres::start().unwrap();
    let lab = Lab::with(&server.settings("postgres")).await;
    let url = server.url("postgres");
    let port = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.parse().unwrap();
    let is_armed = Arc::new(AtomicBool::new(true));
    let mut settings = server.settings("postgres");
    let url = format!("postgres://latchline@127.0.0.1:{}/postgres", proxy(port, &is_armed).await);
    settings.url = secrecy::SecretString::from(url);
    let member = lab.member_with(lab.settings(), settings.pool("lab", None).unwrap(), Semaphore::MAX_PERMITS);
    lab.produce_many("a", 1, 10).await;
    lab.until_effects(10).await;
    lab.produce_many("a", 1, 10).await;
    lab.until_effects(20).await;
    assert_eq!(lab.effects("a", 1).await, (0..20).collect::<Vec<_>>());
    assert!(!is_armed.load(Ordering::SeqCst), "no answer was lost");
    assert!(member.metrics.redelivered.get() > 0);
    assert_eq!((member.metrics.retries.get(), member.metrics.fenced.get()), (1, 0));
    member.end().await;
}

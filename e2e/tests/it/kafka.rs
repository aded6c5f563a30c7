//! The Kafka that the other tests stand on does what they need of it.

use std::time::Duration;

use latchline_e2e::kafka::reader::{From, Reader, Record};
use latchline_e2e::kafka::{Choice, Kafka, jars};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

const DEADLINE: Duration = Duration::from_secs(60);

fn producer(bootstrap: &str) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .unwrap()
}

async fn store(producer: &FutureProducer, value: &str) {
    let headers = OwnedHeaders::new().insert(Header { key: "hook", value: Some("test") });
    let record = FutureRecord::to("stream").key("lock-1").payload(value).headers(headers);
    producer.send(record, DEADLINE).await.unwrap();
}

async fn values_until(kafka: &Kafka, last: &str) -> Vec<String> {
    let text = |record: &Record| String::from_utf8_lossy(&record.value).into_owned();
    let mut reader = Reader::open(&kafka.bootstrap(), &["stream"], From::Beginning).await.unwrap();
    let enough = |records: &[Record]| records.iter().any(|record| text(record) == last);
    reader.read_until(DEADLINE, enough).await.unwrap().iter().map(text).collect()
}

/// What holds for both: records come back as they were stored, outages are what they are called.
async fn check(kafka: &mut Kafka) {
    kafka.create_stream("stream", 3).await.unwrap();
    let bootstrap = kafka.bootstrap();
    let producer = producer(&bootstrap);
    store(&producer, "1").await;
    let mut reader = Reader::open(&bootstrap, &["stream"], From::Beginning).await.unwrap();
    let first = reader.read(1, DEADLINE).await.unwrap().remove(0);
    assert_eq!(
        (first.stream.as_str(), first.key.as_deref(), first.header("hook"), first.offset),
        ("stream", Some("lock-1"), "test", 0)
    );

    kafka.go_silent().await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), store(&producer, "2")).await;
    assert!(waiting.is_err(), "nobody answers");
    kafka.answer_again().unwrap();
    store(&producer, "3").await;

    kafka.go_down().await.unwrap();
    assert!(std::net::TcpStream::connect(&bootstrap).is_err(), "connections are refused");
    kafka.come_up().await.unwrap();
    store(&producer, "4").await;
    // "2" was given up by its caller, not by the producer, which sent it when it could.
    assert_eq!(values_until(kafka, "4").await, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn the_development_kafka_goes_away_and_comes_back() {
    check(&mut Kafka::start(Choice::Development).await.unwrap()).await;
}

#[tokio::test]
#[expect(clippy::disallowed_macros, reason = "a test that does not run says so")]
async fn apache_kafka_keeps_what_it_stored_through_pause_stop_and_kill() {
    if !jars::available() {
        println!("no Java 17 and Maven here: Apache Kafka is not tested");
        return;
    }
    let mut kafka = Kafka::start(Choice::Apache).await.unwrap();
    check(&mut kafka).await;
    let Kafka::Apache(apache) = &mut kafka else { unreachable!() };
    apache.kill().unwrap();
    assert!(apache.pause().await.is_err(), "there is nothing to pause");
    apache.start().await.unwrap();
    kafka.create_stream("stream", 3).await.expect("that it is there already is not an error");
    assert_eq!(values_until(&kafka, "4").await, ["1", "2", "3", "4"]);

    let error = Reader::open(&kafka.bootstrap(), &["nowhere"], From::End).await.err().unwrap();
    assert!(format!("{error:#}").contains("nowhere"), "{error:#}");
}

//! Against the development Kafka.

use std::time::Duration;

use rdkafka::types::RDKafkaRespErr::{
    self, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as TOO_LARGE, RD_KAFKA_RESP_ERR_NO_ERROR as NO_ERROR,
};

use super::stream::{Cleanup, Partitions};
use super::*;
use crate::kit::kafka::client::Kafka;
use crate::kit::kafka::development::{DevelopmentKafka, Stored};

const SOON: Duration = Duration::from_secs(30);

pub(crate) fn publisher(kafka: &DevelopmentKafka, stream: Stream) -> Publisher {
    let config = Kafka::plaintext(kafka.bootstrap()).client_config("tests").unwrap();
    Publisher::new("tests", config, stream).unwrap()
}

fn fixed(name: &str) -> Stream {
    let partitions = Partitions::Fixed(1);
    Stream { name: name.to_owned(), partitions, cleanup: Cleanup::Delete, replication: -1 }
}

fn values(kafka: &DevelopmentKafka, stream: &str) -> Vec<String> {
    let records = kafka.records(stream, 0).unwrap();
    records.into_iter().map(|record| String::from_utf8(record.value).unwrap()).collect()
}

/// The results in one letter each: stored, refused, to be tried again.
async fn publish(publisher: &Publisher, values: &[&str]) -> String {
    let records: Vec<_> =
        values.iter().map(|value| Outgoing { key: "k", value: value.as_bytes(), headers: &[] }).collect();
    let results = publisher.publish_batch(&records, SOON).await;
    let letter = |result: &Result<(), Fault>| match result {
        Ok(()) => 's',
        Err(Fault::Permanent(_)) => 'r',
        Err(_) => 't',
    };
    results.iter().map(letter).collect()
}

#[tokio::test]
async fn records_are_stored_with_their_headers_where_the_bridge_stores_their_key() {
    let kafka = DevelopmentKafka::start(&[("a", 12), ("b", 12)]).unwrap();
    let publisher = publisher(&kafka, Stream::like("a", "b"));
    let headers = [("x".to_owned(), "1".to_owned()), ("y".to_owned(), "ü".to_owned())];
    let records = [Outgoing { key: "lock-1", value: b"{}", headers: &headers }];
    assert_eq!(publisher.publish_batch(&records, SOON).await, [Ok(())]);
    // By Java's murmur2: what Kafka's own producers do with this key.
    let partition = i32::try_from(murmur2(b"lock-1") & 0x7fff_ffff).unwrap() % 12;
    let expected = Stored { key: "lock-1".to_owned(), value: b"{}".to_vec(), headers: headers.to_vec() };
    assert_eq!(kafka.records("a", partition).unwrap(), [expected]);
}

/// org.apache.kafka.common.utils.Utils.murmur2.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    for (n, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * n);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[tokio::test]
async fn a_refused_request_is_taken_apart() {
    let kafka = DevelopmentKafka::start(&[("a", 1)]).unwrap();
    let publisher = publisher(&kafka, fixed("a"));
    assert_eq!(publish(&publisher, &["0"]).await, "s");
    // All three together, then the second of them alone.
    kafka.refuse_produce(vec![TOO_LARGE, NO_ERROR, TOO_LARGE]).unwrap();
    assert_eq!(publish(&publisher, &["1", "2", "3"]).await, "srs");
    assert_eq!(values(&kafka, "a"), ["0", "1", "3"]);
}

#[tokio::test]
async fn what_is_too_large_for_the_client_is_refused_at_once() {
    let kafka = DevelopmentKafka::start(&[("a", 1)]).unwrap();
    let publisher = publisher(&kafka, fixed("a"));
    let large = "x".repeat(2_000_000);
    assert_eq!(publish(&publisher, &["1", &large, "3"]).await, "srs");
    assert_eq!(values(&kafka, "a"), ["1", "3"]);
}

#[tokio::test]
async fn nothing_overtakes_what_could_not_be_stored() {
    let kafka = DevelopmentKafka::start(&[("a", 1)]).unwrap();
    let unauthorised = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let publisher = publisher(&kafka, fixed("a"));
    kafka.refuse_produce(vec![unauthorised]).unwrap();
    let many: Vec<String> = (0..20_000).map(|n| format!("{n:0100}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let results = publish(&publisher, &many).await;
    // Not shown: they are long.
    assert!(!results.contains('s'), "the first request is refused, so nothing is stored");
    assert!(!publish(&publisher, &many).await.contains('t'));
    assert!(values(&kafka, "a") == many);
}

#[tokio::test]
async fn a_kafka_that_is_away_is_waited_for() {
    let kafka = DevelopmentKafka::start(&[("a", 1)]).unwrap();
    let publisher = publisher(&kafka, fixed("a"));
    assert_eq!(publish(&publisher, &["0"]).await, "s");
    kafka.go_down().unwrap();
    let record = [Outgoing { key: "k", value: b"1", headers: &[] }];
    let late = publisher.publish_batch(&record, Duration::from_millis(300)).await;
    assert!(matches!(late[0], Err(Fault::Transient { .. })), "{late:?}");
    let publishing = publish(&publisher, &["1", "2"]);
    let (results, ()) = tokio::join!(publishing, async { kafka.come_up().unwrap() });
    assert_eq!(results, "ss");
    let mut values = values(&kafka, "a");
    // The one that was late may have been stored beside.
    values.dedup();
    assert_eq!(values, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_stream_waits_for_the_one_that_it_is_like() {
    let kafka = DevelopmentKafka::start(&[("a", 3)]).unwrap();
    let publisher = publisher(&kafka, Stream::like("a", "b"));
    let fault = publisher.publish("k", b"1").await.unwrap_err();
    assert_eq!(fault, Fault::transient("stream b is not there yet"));
    kafka.create_topic("b", 3).unwrap();
    publisher.publish("k", b"1").await.unwrap();
}

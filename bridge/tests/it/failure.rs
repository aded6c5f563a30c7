//! The producer fails for good and is replaced; a topic goes away.

use std::collections::BTreeSet;
use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::kit::testing::eventually;
use rdkafka::types::RDKafkaRespErr;

use crate::app::{App, DEADLINE, all_stored, assert_in_order, client, has_all, settled};

/// The development Kafka does not check sequences, so a batch that follows a refused one would be
/// stored. With this linger the second batch is not sent before the first has been refused.
const LINGER: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_producer_stores_what_the_old_one_did_not() {
    const ROUNDS: u64 = 4;
    const EACH: u64 = 300;
    let app = App::start_with(|config| config.linger = LINGER).await;
    let locks: Vec<_> = (0..5).map(|lock| client(&format!("lock-{lock}"))).collect();
    for round in 0..ROUNDS {
        // The request at the head of the line is out of sequence: the library gives up.
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        app.kafka.refuse_produce(vec![error]).unwrap();
        let mut receipts = Vec::new();
        for n in 1..=EACH {
            // Long enough to meet the old producer, the closed gate and the new producer.
            tokio::time::sleep(Duration::from_millis(1)).await;
            receipts.extend(locks.iter().map(|lock| app.publish(lock, round * EACH + n)));
        }
        all_stored(receipts).await;
    }
    assert_eq!(app.metric("broker_bridge_producer_replacements_total"), ROUNDS.to_string());
    assert_eq!(app.metric("broker_bridge_pending_records"), "0");
    assert_eq!(app.bridge.ready(), Ok(()));

    let records = app.read("message_state", |records| has_all(records, locks.len(), ROUNDS * EACH));
    assert_in_order(&records, ROUNDS * EACH);
    let dups: BTreeSet<_> = records.iter().map(|record| record.header("dup")).collect();
    assert_eq!(dups.into_iter().collect::<Vec<_>>(), ["false", "true"], "what is sent again says so");
}

#[tokio::test]
async fn a_record_that_breaks_every_producer_is_given_up() {
    let app = App::start().await;
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    app.kafka.refuse_produce(vec![error; 5]).unwrap();
    let lock = client("lock");
    assert!(settled(app.publish(&lock, 1)).await.is_err());
    all_stored(vec![app.publish(&lock, 2)]).await;
}

#[tokio::test]
async fn a_topic_that_is_gone_is_looked_for() {
    let app = App::start_with(|config| {
        for (name, value) in
            [("topic.metadata.refresh.interval.ms", "100"), ("topic.metadata.propagation.max.ms", "1")]
        {
            config.kafka.properties.insert(name.to_owned(), value.to_owned());
        }
    })
    .await;
    let lock = client("lock");
    all_stored(vec![app.publish(&lock, 1)]).await;

    app.kafka.hide_topic("message_state").unwrap();
    eventually(DEADLINE, "records are refused", async || {
        let result = settled(app.publish(&lock, 0)).await;
        matches!(result, Err(Fault::Permanent(why)) if why.contains("UnknownTopic"))
    })
    .await;
    let not_ready = Err("kafka's topics have not been seen".to_owned());
    eventually(DEADLINE, "the bridge is not ready", async || app.bridge.ready() == not_ready).await;

    app.kafka.show_topic("message_state").unwrap();
    eventually(DEADLINE, "records are stored", async || settled(app.publish(&lock, 0)).await.is_ok()).await;
    eventually(DEADLINE, "the bridge is ready", async || app.bridge.ready().is_ok()).await;
}

//! Kafka goes away and comes back: nothing settles in between, nothing is lost.

use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::kit::testing::eventually;
use latchline_shared::message::Client;
use latchline_shared::receipt::Receipt;

use crate::app::{
    A_WHILE, App, DEADLINE, all_stored, assert_in_order, client, has_all, none_settles, settled,
};

const LOCKS: usize = 5;

fn locks() -> Vec<Client> {
    (0..LOCKS).map(|lock| client(&format!("lock-{lock}"))).collect()
}

/// One message of each lock.
fn round(app: &App, locks: &[Client], n: u64) -> Vec<Receipt> {
    locks.iter().map(|lock| app.publish(lock, n)).collect()
}

async fn is_ready(app: &App, expected: bool) {
    let what = if expected { "the bridge is ready" } else { "the bridge is not ready" };
    eventually(DEADLINE, what, async || app.bridge.ready().is_ok() == expected).await;
}

#[tokio::test]
async fn a_kafka_that_refuses_connections() {
    let app = App::start().await;
    let locks = locks();
    all_stored(round(&app, &locks, 1)).await;
    assert_eq!(app.bridge.ready(), Ok(()));

    app.kafka.go_down().unwrap();
    let mut receipts: Vec<_> = (2..=20).flat_map(|n| round(&app, &locks, n)).collect();
    none_settles(&mut receipts).await;
    is_ready(&app, false).await;
    eventually(DEADLINE, "the outage is seen", async || app.metric("broker_bridge_outage") == "1").await;
    assert_eq!(app.bridge.flush(A_WHILE).await, receipts.len());

    app.kafka.come_up().unwrap();
    all_stored(receipts).await;
    is_ready(&app, true).await;
    all_stored(round(&app, &locks, 21)).await;
    let records = app.read("message_state", |records| has_all(records, LOCKS, 21));
    assert_in_order(&records, 21);
}

#[tokio::test]
async fn a_kafka_that_does_not_answer() {
    let app = App::start().await;
    let locks = locks();
    all_stored(round(&app, &locks, 1)).await;

    app.kafka.go_silent().unwrap();
    let mut receipts: Vec<_> = (2..=20).flat_map(|n| round(&app, &locks, n)).collect();
    none_settles(&mut receipts).await;
    // Requests time out and are sent again, over and over; that is no reason to settle either.
    is_ready(&app, false).await;
    none_settles(&mut receipts).await;

    app.kafka.answer_again().unwrap();
    all_stored(receipts).await;
    is_ready(&app, true).await;
    // The development Kafka stores a batch twice that is sent again; the order holds all the same.
    let records = app.read("message_state", |records| has_all(records, LOCKS, 20));
    assert_in_order(&records, 20);
}

#[tokio::test]
async fn a_bridge_that_ends_in_an_outage_fails_its_receipts() {
    let app = App::start().await;
    let locks = locks();
    app.kafka.go_down().unwrap();
    let receipts = round(&app, &locks, 1);
    assert_eq!(app.bridge.flush(Duration::from_millis(50)).await, LOCKS);
    drop(app.bridge);
    for receipt in receipts {
        let fault = settled(receipt).await.unwrap_err();
        assert!(matches!(fault, Fault::Transient { .. }), "{fault:?}");
    }
}

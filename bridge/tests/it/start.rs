//! How the bridge starts, and how it does not.

use std::error::Error;

use latchline_bridge::Bridge;
use latchline_shared::hook::Call;
use latchline_shared::kit::kafka::development::DevelopmentKafka;
use latchline_shared::kit::testing::eventually;
use prometheus_client::registry::Registry;

use crate::app::{self, DEADLINE, NODE, all_stored, client, none_settles, rule, start_error};

#[tokio::test]
async fn a_missing_topic_is_named() {
    let kafka = DevelopmentKafka::start(&[("message_state", 4), ("message_command_rejected", 4)]).unwrap();
    let mut config = app::config(&kafka);
    config.create_topics = false;
    let error = start_error(&config).await;
    assert_eq!(error.to_string(), "the bridge's topics are not there");
    assert_eq!(
        error.source().unwrap().to_string(),
        "kafka has no topic message_command, and creating topics is switched off"
    );
}

#[tokio::test]
async fn a_kafka_that_is_away_at_start_is_waited_for() {
    let topics = ["message_state", "message_command", "message_command_rejected"].map(|name| (name, 4));
    let kafka = DevelopmentKafka::start(&topics).unwrap();
    kafka.go_down().unwrap();
    let config = app::config(&kafka);
    let bridge = Bridge::start(&config, NODE, &mut Registry::default()).await.unwrap();
    assert!(bridge.ready().unwrap_err().starts_with("kafka cannot be reached: "));
    let lock = client("lock");
    let mut receipts: Vec<_> =
        (1..=3).map(|n| app::publish(&bridge, &lock, "devices/lock/state", app::payload(n))).collect();
    none_settles(&mut receipts).await;

    kafka.come_up().unwrap();
    all_stored(receipts).await;
    eventually(DEADLINE, "the bridge is ready", async || bridge.ready().is_ok()).await;
    let records = app::read(kafka.bootstrap(), "message_state", |records| records.len() >= 3);
    app::assert_in_order(&records, 3);
}

#[tokio::test]
async fn what_is_wrong_with_a_reference_file_is_told() {
    let kafka = DevelopmentKafka::start(&[]).unwrap();
    let mut config = app::config(&kafka);
    config.reference_file = Some("/no/such/file".into());
    let error = start_error(&config).await.to_string();
    assert!(error.contains("bridge.reference_file: cannot read /no/such/file"), "{error}");
}

#[tokio::test]
async fn only_hooks_with_rules_are_called() {
    use latchline_shared::hook::Hook;
    let app = app::App::start_with(|config| {
        config.rules = vec![
            rule(Call::MessageAcked, Some("devices/+/command"), "message_command"),
            rule(Call::ClientConnected, None, "presence"),
        ];
    })
    .await;
    assert_eq!(app.bridge.calls(), [Call::ClientConnected, Call::MessageAcked]);
    assert_eq!(app.bridge.name(), "bridge");
    assert_eq!(app.config.rules.len(), 2);
}

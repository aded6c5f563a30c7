//! What is stored, and when receipts settle.

use std::sync::Arc;
use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::hook::{Call, Delivered, Hook};
use latchline_shared::message::Qos;
use latchline_shared::record::DeliveredRecord;
use tokio::task::JoinSet;

use crate::app::{self, App, NODE, all_stored, assert_in_order, client, has_all, message, rule, settled};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_records_are_stored_in_order() {
    const LOCKS: usize = 50;
    const EACH: u64 = 200;
    let app = App::start().await;
    let mut locks = JoinSet::new();
    for lock in 0..LOCKS {
        let (bridge, client) = (Arc::clone(&app.bridge), client(&format!("lock-{lock}")));
        locks.spawn(async move {
            let topic = format!("devices/{}/state", client.id);
            let receipts = (1..=EACH).map(|n| app::publish(&bridge, &client, &topic, app::payload(n)));
            all_stored(receipts.collect()).await;
        });
    }
    while let Some(lock) = locks.join_next().await {
        lock.unwrap();
    }
    assert_eq!(app.bridge.flush(Duration::from_secs(5)).await, 0);
    assert_eq!(
        app.metric("broker_bridge_records_total{hook=\"message.publish\",result=\"stored\"}"),
        "10000"
    );
    assert_eq!(app.metric("broker_bridge_pending_bytes"), "0");
    assert_eq!(app.metric("broker_bridge_store_seconds_count"), "10000");

    let records = app.read("message_state", |records| records.len() >= 10_000);
    assert_eq!(app::count(app.kafka.bootstrap(), "message_state"), 10_000, "nothing is stored twice");
    assert!(has_all(&records, LOCKS, EACH));
    assert_in_order(&records, EACH);
    for record in &records {
        let value = record.published();
        assert_eq!((&value.publisher, &*value.username, &*value.node), (&record.key, "", NODE));
        assert_eq!(value.topic, format!("devices/{}/state", record.key));
        assert_eq!(value.payload, app::payload(record.n()).into_bytes());
        assert_eq!(record.timestamp, value.ts as i64);
        let headers: Vec<_> = record.headers.keys().map(String::as_str).collect();
        assert_eq!(headers, ["dup", "hook", "mid", "packet_id", "peer", "protocol", "retain", "seq"]);
        assert_eq!((record.header("hook"), record.header("dup")), ("message.publish", "false"));
    }
}

#[tokio::test]
async fn a_locks_records_have_one_partition_number() {
    let app = App::start().await;
    let operator = client("backend");
    for lock in 0..20 {
        let lock = client(&format!("lock-{lock}"));
        let command = message(&operator, &format!("devices/{}/command", lock.id), "{}");
        let delivery = Delivered {
            message: &command,
            qos: Qos::AtLeastOnce,
            dup: false,
            retain: false,
            packet_id: Some(9),
        };
        all_stored(vec![app.publish(&lock, 1), app.bridge.message_acked(&lock, &delivery)]).await;
    }
    let states = app.read("message_state", |records| records.len() >= 20);
    let commands = app.read("message_command", |records| records.len() >= 20);
    for command in &commands {
        let state = states.iter().find(|state| state.key == command.key).unwrap();
        assert_eq!(state.partition, command.partition);
        let value: DeliveredRecord = serde_json::from_slice(&command.value).unwrap();
        assert_eq!((&value.receiver, &*value.publisher), (&command.key, "backend"));
        assert_eq!((command.header("hook"), command.n()), ("message.acked", 1));
    }
    assert!(states.iter().any(|state| state.partition != states[0].partition), "keys spread");
}

/// Computed with Kafka's own `Utils.murmur2`: consumers that look for a key in a partition, and
/// other producers, agree with the bridge.
#[tokio::test]
async fn keys_land_where_javas_producers_put_them() {
    let app = App::start().await;
    for id in ["21", "foobar", "a-little-bit-long-string", "abc"] {
        all_stored(vec![app.publish(&client(id), 1)]).await;
    }
    let records = app.read("message_state", |records| records.len() >= 4);
    for (key, murmur2) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("abc", 479_470_107),
    ] {
        let record = records.iter().find(|record| record.key == key).unwrap();
        assert_eq!(record.partition, (murmur2 & 0x7fff_ffff) % app::PARTITIONS, "{key}");
    }
}

#[tokio::test]
async fn every_hook_has_its_record() {
    let all = [
        Call::ClientConnected,
        Call::ClientDisconnected,
        Call::SessionSubscribed,
        Call::SessionUnsubscribed,
        Call::MessagePublish,
        Call::MessageDeliver,
        Call::MessageAcked,
    ];
    let app = App::start_with(|config| {
        config.rules = all.map(|hook| rule(hook, None, "all")).to_vec();
    })
    .await;
    assert_eq!(app.bridge.calls(), all);
    let me = client("me");
    let message = message(&me, "a/b", "payload");
    let delivery =
        Delivered { message: &message, qos: Qos::AtLeastOnce, dup: true, retain: true, packet_id: None };
    all_stored(vec![
        app.bridge.client_connected(&me),
        app.bridge.session_subscribed(&me, "$share/g/a/+", Qos::AtLeastOnce),
        app::publish(&app.bridge, &me, "a/b", "payload"),
        app.bridge.message_deliver(&me, &delivery),
        app.bridge.message_acked(&me, &delivery),
        app.bridge.session_unsubscribed(&me, "$share/g/a/+", Qos::AtLeastOnce),
        app.bridge.client_disconnected(&me, "keep_alive"),
    ])
    .await;
    let records = app.read("all", |records| records.len() >= 7);
    let hooks: Vec<_> = records.iter().map(|record| record.header("hook")).collect();
    assert_eq!(
        hooks,
        [
            "client.connected",
            "session.subscribed",
            "message.publish",
            "message.deliver",
            "message.acked",
            "session.unsubscribed",
            "client.disconnected"
        ],
        "one client's records are in order"
    );
    assert_eq!(records[0].header("session"), records[6].header("session"));
    let subscribed = String::from_utf8(records[1].value.clone()).unwrap();
    assert!(subscribed.starts_with(r#"{"client_id":"me","topic":"$share/g/a/+","qos":1,"#), "{subscribed}");
}

#[tokio::test]
async fn one_number_is_shared_by_all_records_of_a_message() {
    let app = App::start_with(|config| {
        config.rules = vec![
            rule(Call::MessagePublish, Some("devices/+/state"), "message_state"),
            rule(Call::MessagePublish, Some("devices/#"), "everything"),
        ];
    })
    .await;
    let lock = client("lock");
    for (topic, is_bridged) in [
        ("devices/lock/state", true),
        ("other", false),
        ("devices/lock/log", true),
        ("devices/lock/state", true),
    ] {
        let receipt = app::publish(&app.bridge, &lock, topic, "{}");
        assert_eq!(receipt.is_settled(), !is_bridged, "{topic}");
        assert_eq!(settled(receipt).await, Ok(()));
    }
    let numbers = |stream, count| -> Vec<u64> {
        app.read(stream, |records| records.len() >= count).iter().map(app::Stored::n).collect()
    };
    assert_eq!(numbers("message_state", 2), [1, 3]);
    assert_eq!(numbers("everything", 3), [1, 2, 3]);
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_and_takes_no_number() {
    let app = App::start_with(|config| config.record_bytes_max = 10_000).await;
    let lock = client("lock");
    all_stored(vec![app.publish(&lock, 1)]).await;
    let too_large = app::publish(&app.bridge, &lock, "devices/lock/state", vec![b'x'; 20_000]);
    let fault = settled(too_large).await.unwrap_err();
    assert!(matches!(&fault, Fault::Permanent(why) if why.contains("MessageSizeTooLarge")), "{fault:?}");
    all_stored(vec![app.publish(&lock, 2)]).await;
    let records = app.read("message_state", |records| records.len() >= 2);
    assert_in_order(&records, 2);
    let refused = "broker_bridge_records_total{hook=\"message.publish\",result=\"permanent\"}";
    assert_eq!(app.metric(refused), "1");
    assert_eq!(app.metric("broker_bridge_pending_records"), "0");
}

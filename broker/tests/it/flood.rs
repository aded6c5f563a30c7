//! More than a receiver takes: publishers are held back, and only a receiver that makes no room in
//! time loses messages. The independent client is witness at full speed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use latchline_shared::kit::testing::eventually;
use rumqttc::v5::mqttbytes::QoS as Qos5;
use rumqttc::v5::{AsyncClient as Client5, Event as Event5, Incoming as Incoming5, MqttOptions as Options5};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::app::App;
use crate::raw::SOON;
use crate::raw::bytes::{Connect, PING, Publish, V5, VERSIONS, puback, subscribe};
use crate::raw::read::Packet;

fn options(app: &App, id: &str) -> MqttOptions {
    MqttOptions::new(id, app.tcp().ip().to_string(), app.tcp().port())
}

#[tokio::test]
async fn a_publisher_waits_for_a_receiver_without_room() {
    let app = App::start(|config| {
        (config.limits.queue_messages_max, config.limits.inflight_max) = (10, 2);
    })
    .await;
    for version in VERSIONS {
        let mut receiver = app.client(version, "receiver").await;
        receiver.subscribe("t/+", 1).await;
        let mut publisher = app.client(version, "publisher").await;
        for id in 1..=20 {
            publisher.send_publish(&Publish::new("t/a", id.to_string()).qos(1, id)).await;
        }
        // Ten are queued, at most two more in the air; pings are answered meanwhile.
        let (mut acked, mut pings) = (0, 0);
        while acked < 10 || pings < 5 {
            publisher.send(&PING).await;
            match publisher.next().await {
                Packet::Pingresp => pings += 1,
                other => {
                    acked += 1;
                    assert_eq!(other, Packet::Puback(acked, 0));
                }
            }
        }
        assert!(acked <= 12, "{acked}");
        // Who does not publish to it is not held back.
        let mut other = app.client(version, "other").await;
        other.publish(&Publish::new("elsewhere", "x").qos(1, 1)).await;
        for id in 1..=20 {
            assert_eq!(receiver.payload().await, id.to_string());
        }
        while acked < 20 {
            match publisher.next().await {
                Packet::Pingresp => {}
                other => {
                    acked += 1;
                    assert_eq!(other, Packet::Puback(acked, 0));
                }
            }
        }
        publisher.vanish();
        app.forgotten("publisher").await;
        receiver.goodbye().await;
    }
    assert_eq!(app.dropped("slow_receiver"), 0);
    assert!(app.paused("slow_receiver") >= 2);
}

#[tokio::test]
async fn a_receiver_that_makes_no_room_in_time_loses_messages_until_it_does() {
    let app = App::start(|config| {
        (config.limits.queue_messages_max, config.limits.inflight_max) = (4, 1);
        config.limits.slow_receiver_wait = Duration::from_millis(300);
    })
    .await;
    let mut receiver = app.client(V5, "receiver").await;
    receiver.subscribe("t", 2).await;
    let mut publisher = app.client(V5, "publisher").await;
    let since = Instant::now();
    for id in 1..=10 {
        publisher.publish(&Publish::new("t", id.to_string()).qos(1, id)).await;
    }
    // One wait for the first that had no room; the others behind it are not waited for again.
    let waited = since.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(2), "{waited:?}");
    assert_eq!(app.dropped("slow_receiver"), 5);
    publisher.publish(&Publish::new("t", "QoS 0 never waits")).await;
    publisher.quiet().await;
    assert_eq!(app.dropped("slow_receiver_qos0"), 1);
    for id in 1..=5 {
        assert_eq!(receiver.payload().await, id.to_string());
    }
    receiver.quiet().await;
    // With room again it is waited for again.
    for id in 1..=5 {
        publisher.publish(&Publish::new("t", id.to_string()).qos(1, id)).await;
    }
    publisher.send_publish(&Publish::new("t", "6").qos(1, 6)).await;
    for id in 1..=6 {
        assert_eq!(receiver.payload().await, id.to_string());
    }
    assert_eq!(publisher.next().await, Packet::Puback(6, 0));
    assert_eq!(app.dropped("slow_receiver"), 5);
}

#[tokio::test]
async fn a_goodbye_behind_a_held_back_message_is_heard() {
    let app = App::start(|config| {
        (config.limits.queue_messages_max, config.limits.inflight_max) = (1, 1);
    })
    .await;
    let mut watcher = app.client(V5, "watcher").await;
    watcher.subscribe("will", 0).await;
    let mut receivers = Vec::new();
    for version in VERSIONS {
        let topic = format!("t{version}");
        let mut receiver = app.client(version, &format!("receiver{version}")).await;
        receiver.subscribe(&topic, 1).await;
        let connect = Connect::new(version, &format!("publisher{version}"));
        let (mut publisher, _) = app.connect(&connect.keep_alive(1).will("will", "no goodbye")).await;
        for id in 1..=4 {
            publisher.send_publish(&Publish::new(&topic, id.to_string()).qos(1, id)).await;
        }
        publisher.send(&[0xe0, 0]).await;
        drop(publisher);
        receivers.push(receiver);
    }
    // Longer than the keep alive.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for receiver in &mut receivers {
        for id in 1..=4 {
            assert_eq!(receiver.payload().await, id.to_string());
        }
    }
    for version in VERSIONS {
        app.forgotten(&format!("publisher{version}")).await;
    }
    watcher.quiet().await;
}

#[tokio::test]
async fn a_client_that_floods_itself_gets_everything() {
    const MESSAGES: u16 = 1000;
    let app = App::start(|config| {
        (config.limits.queue_messages_max, config.limits.inflight_max) = (10, 4);
        config.limits.receive_max = MESSAGES;
    })
    .await;
    for version in VERSIONS {
        let mut client = app.client(version, "client").await;
        client.subscribe("t", 1).await;
        let flood: Vec<u8> = (1..=MESSAGES)
            .flat_map(|id| Publish::new("t", id.to_string()).qos(1, id).bytes(version))
            .collect();
        client.send(&flood).await;
        let (mut received, mut acked) = (0, 0);
        while received < MESSAGES || acked < MESSAGES {
            match client.next().await {
                Packet::Publish(message) => {
                    received += 1;
                    assert_eq!(message.text(), received.to_string());
                    client.send(&puback(message.id)).await;
                }
                other => {
                    acked += 1;
                    assert_eq!(other, Packet::Puback(acked, 0));
                }
            }
        }
        client.goodbye().await;
    }
    assert_eq!(app.dropped("slow_receiver"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_that_flood_each_other_get_everything() {
    const MESSAGES: usize = 2000;
    let app = App::start(|config| {
        (config.limits.queue_messages_max, config.limits.inflight_max) = (10, 4);
    })
    .await;
    let subscribed = Arc::new(Barrier::new(2));
    let mut tasks = tokio::task::JoinSet::new();
    for (own, other) in [("one", "two"), ("two", "one")] {
        let (client, mut events) = AsyncClient::new(options(&app, own), 10);
        client.subscribe(own, QoS::AtLeastOnce).await.unwrap();
        let subscribed = Arc::clone(&subscribed);
        tasks.spawn(async move {
            let (mut received, mut acked) = (0, 0);
            let mut publisher = None;
            while received < MESSAGES || acked < MESSAGES {
                match timeout(SOON * 2, events.poll()).await.expect("an event in time").unwrap() {
                    Event::Incoming(Incoming::SubAck(_)) => {
                        let (client, subscribed) = (client.clone(), Arc::clone(&subscribed));
                        publisher = Some(tokio::spawn(async move {
                            subscribed.wait().await;
                            for number in 0..MESSAGES {
                                let payload = number.to_string();
                                client.publish(other, QoS::AtLeastOnce, false, payload).await.unwrap();
                            }
                        }));
                    }
                    Event::Incoming(Incoming::Publish(_)) => received += 1,
                    Event::Incoming(Incoming::PubAck(_)) => acked += 1,
                    _ => {}
                }
            }
            publisher.expect("a publisher").await.unwrap();
        });
    }
    while let Some(done) = timeout(SOON * 2, tasks.join_next()).await.expect("no deadlock") {
        done.unwrap();
    }
    assert!(app.paused("slow_receiver") > 0, "it was no flood");
    assert_eq!(app.dropped("slow_receiver"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_thousand_messages_arrive_in_the_order_of_each_publisher() {
    const PUBLISHERS: usize = 6;
    const MESSAGES: usize = 10_000;
    let app = App::start(|_| {}).await;
    let mut options5 = Options5::new("subscriber", app.tcp().ip().to_string(), app.tcp().port());
    options5.set_max_packet_size(Some(1 << 20));
    let (subscriber, mut events) = Client5::new(options5, 10);
    subscriber.subscribe("devices/+/state", Qos5::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event5::Incoming(Incoming5::SubAck(_))) {}
    let mut tasks = tokio::task::JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (client, mut events) = AsyncClient::new(options(&app, &format!("lock{publisher}")), 100);
        tasks.spawn(async move {
            let mut acked = 0;
            while acked < MESSAGES {
                let event = timeout(SOON * 2, events.poll()).await.expect("an event in time").unwrap();
                acked += usize::from(matches!(event, Event::Incoming(Incoming::PubAck(_))));
            }
        });
        tasks.spawn(async move {
            let topic = format!("devices/lock{publisher}/state");
            for number in 0..MESSAGES {
                client.publish(&topic, QoS::AtLeastOnce, false, number.to_string()).await.unwrap();
            }
        });
    }
    let mut next = BTreeMap::new();
    for _ in 0..PUBLISHERS * MESSAGES {
        let publish = loop {
            let event = timeout(SOON * 2, events.poll()).await.expect("a message in time").unwrap();
            if let Event5::Incoming(Incoming5::Publish(publish)) = event {
                break publish;
            }
        };
        let number: usize = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
        let expected = next.entry(publish.topic).or_insert(0);
        assert_eq!(number, *expected, "in order, none twice");
        *expected += 1;
    }
    tasks.join_all().await;
    assert_eq!(next.len(), PUBLISHERS);
    assert_eq!(app.dropped("slow_receiver"), 0);
}

#[tokio::test]
async fn one_stuck_receiver_holds_back_nobody_for_long() {
    let app = App::start(|config| {
        (config.limits.queue_messages_max, config.limits.inflight_max) = (50, 10);
        config.limits.slow_receiver_wait = Duration::from_millis(200);
    })
    .await;
    let mut stuck = app.client(V5, "stuck").await;
    stuck.send(&subscribe(V5, 1, &[], &[("t", 1)])).await;
    stuck.next().await;
    let mut healthy = app.client(V5, "healthy").await;
    healthy.subscribe("t", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    for id in 1..=200 {
        publisher.publish(&Publish::new("t", id.to_string()).qos(1, id)).await;
        assert_eq!(healthy.payload().await, id.to_string());
    }
    eventually(SOON, "its loss is counted", async || app.dropped("slow_receiver") == 140).await;
}

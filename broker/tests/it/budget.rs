//! What waits for storage is bounded, for one connection and for all: past the bound nothing more
//! is read, below it reading goes on, and nobody is forgotten.

use std::sync::Arc;
use std::time::Duration;

use latchline_shared::hook::Call;
use latchline_shared::kit::testing::{Seed, eventually};

use crate::app::App;
use crate::hooks::Held;
use crate::raw::SOON;
use crate::raw::bytes::{PING, Publish, V3, V5, VERSIONS};
use crate::raw::read::Packet;

const PUBLISH: &[Call] = &[Call::MessagePublish];

/// What a message of 300 bytes counts for: its topic, its payload in base64, and a frame.
const MESSAGE_BYTES: usize = 1 + 400 + 1024;

fn message(id: u16) -> Publish {
    Publish::new("t", [b'x'; 300]).qos(1, id)
}

#[tokio::test]
async fn one_connection_is_paused_at_its_bound_and_goes_on() {
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |config| {
        config.limits.inflight_bytes_per_connection = 5 * MESSAGE_BYTES;
        config.limits.receive_max = 100;
    })
    .await;
    for version in VERSIONS {
        let before = app.paused("connection_bytes");
        let mut other = app.client(version, "other").await;
        let mut client = app.client(version, "client").await;
        for id in 1..=50 {
            client.send_publish(&message(id)).await;
        }
        eventually(SOON, "reading is paused", async || app.paused("connection_bytes") > before).await;
        assert_eq!(held.open(), 5);
        // Others go on.
        other.send_publish(&message(1)).await;
        held.waits_for(6).await;
        held.settle(5);
        assert_eq!(other.next().await, Packet::Puback(1, 0));
        // Each acknowledgement makes room for one message.
        for id in 1..=50 {
            held.settle(0);
            assert_eq!(client.next().await, Packet::Puback(id, 0));
            held.waits_for(usize::from(50 - id).min(5)).await;
        }
        client.quiet().await;
        client.goodbye().await;
        other.goodbye().await;
    }
    app.settled().await;
}

#[tokio::test]
async fn a_paused_client_is_not_taken_for_a_silent_one() {
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |config| {
        config.limits.inflight_bytes_per_connection = 1;
        config.limits.packet_timeout = Duration::from_millis(100);
    })
    .await;
    let connect = crate::raw::bytes::Connect::new(V5, "client").keep_alive(1);
    let (mut client, _) = app.connect(&connect).await;
    client.send_publish(&message(1)).await;
    held.waits_for(1).await;
    // It pings as it should, and its last packet is not even whole.
    for _ in 0..5 {
        client.send(&PING).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    client.send(&PING[..1]).await;
    held.settle(0);
    assert_eq!(client.next().await, Packet::Puback(1, 0));
    for _ in 0..5 {
        assert_eq!(client.next().await, Packet::Pingresp);
    }
    client.send(&PING[1..]).await;
    assert_eq!(client.next().await, Packet::Pingresp);
}

#[tokio::test]
async fn all_connections_are_paused_at_the_total_bound_and_go_on() {
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |config| config.limits.inflight_bytes_total = 10 * MESSAGE_BYTES).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(app.client(VERSIONS[number % 2], &format!("client{number}")).await);
    }
    for client in &mut clients {
        for id in 1..=5 {
            client.send_publish(&message(id)).await;
        }
    }
    // At most two were done before the bound was reached.
    eventually(SOON, "everybody is paused", async || app.paused("total_bytes") >= 18).await;
    // Each connection may exceed the bound by the one message that it was at.
    assert!(held.open() < 10 + 20, "{} messages wait", held.open());
    let all = async {
        for client in &mut clients {
            for id in 1..=5 {
                assert_eq!(client.next().await, Packet::Puback(id, 0));
            }
        }
    };
    let settle = async {
        loop {
            held.settle_all();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = all => {}
        () = settle => {}
    }
    app.settled().await;
}

#[tokio::test]
async fn nobody_connects_while_the_record_of_it_has_no_room() {
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |config| config.limits.inflight_bytes_total = 1).await;
    let mut client = app.client(V5, "client").await;
    client.send_publish(&message(1)).await;
    held.waits_for(1).await;
    for (version, code) in [(V3, 3), (V5, 0x89)] {
        let connect = crate::raw::bytes::Connect::new(version, "other");
        assert_eq!(app.connect(&connect).await.1.code, code);
    }
    held.settle(0);
    assert_eq!(client.next().await, Packet::Puback(1, 0));
    app.client(V5, "other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_under_stress() {
    const CLIENTS: usize = 60;
    const MESSAGES: u16 = 60;
    let seed = Seed::of_this_run();
    let mut random = seed.random("no_wake_up_is_lost_under_stress");
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |config| {
        config.limits.inflight_bytes_per_connection = 3 * MESSAGE_BYTES;
        config.limits.inflight_bytes_total = 7 * MESSAGE_BYTES;
    })
    .await;
    let app = Arc::new(app);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (app, vanishes) = (Arc::clone(&app), random.chance(10));
        tasks.spawn(async move {
            // The bound also refuses connects; they come again.
            let connect = crate::raw::bytes::Connect::new(VERSIONS[number % 2], &format!("client{number}"));
            let mut client = loop {
                let (client, connack) = app.connect(&connect).await;
                if connack.code == 0 {
                    break client;
                }
            };
            for id in 1..=MESSAGES {
                client.send_publish(&message(id)).await;
                if vanishes && id == MESSAGES / 2 {
                    return;
                }
            }
            for id in 1..=MESSAGES {
                assert_eq!(client.next().await, Packet::Puback(id, 0));
            }
            client.goodbye().await;
        });
    }
    let settler = async {
        loop {
            // As many as there are, so that everything passes through "none" again and again.
            while held.open() > 0 {
                held.settle(random.index(held.open()));
            }
            tokio::task::yield_now().await;
        }
    };
    let all = async { while tasks.join_next().await.transpose().expect("no client fails").is_some() {} };
    tokio::select! {
        () = settler => {}
        done = tokio::time::timeout(SOON * 3, all) => done.expect("everybody is served"),
    }
    eventually(SOON, "all connections are gone", async || {
        held.settle_all();
        app.metric("broker_session_connections") == 0
    })
    .await;
    held.settle_all();
    app.settled().await;
}

#[tokio::test]
async fn a_receiver_whose_records_wait_gets_no_more() {
    let held = Held::new(&[Call::MessageDeliver, Call::MessageAcked]);
    let app = App::with_hook(&held, |config| {
        config.limits.inflight_bytes_per_connection = 4 * MESSAGE_BYTES;
    })
    .await;
    let mut receiver = app.client(V5, "receiver").await;
    receiver.subscribe("t", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    for id in 1..=20 {
        publisher.publish(&message(id)).await;
    }
    for _ in 1..=4 {
        receiver.message().await;
    }
    receiver.send(&PING).await;
    eventually(SOON, "reading is paused", async || app.paused("connection_bytes") == 1).await;
    assert_eq!(held.open(), 4);
    assert_eq!(held.settle_all(), 4);
    let receive = async {
        let mut received = 4;
        while received < 20 {
            match receiver.next().await {
                Packet::Publish(message) => {
                    received += 1;
                    receiver.acknowledge(&message).await;
                }
                other => assert_eq!(other, Packet::Pingresp),
            }
        }
    };
    let settle = async {
        while held.of(Call::MessageAcked).len() < 16 {
            assert!(held.open() <= 5, "{} records wait", held.open());
            held.settle_all();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SOON, async { tokio::join!(receive, settle) }).await.expect("everything arrives");
    held.settle_all();
    app.settled().await;
}

#[tokio::test]
async fn the_total_bound_holds_for_what_is_delivered_too() {
    let held = Held::new(&[Call::MessageDeliver]);
    let app = App::with_hook(&held, |config| config.limits.inflight_bytes_total = 3 * MESSAGE_BYTES).await;
    let mut receivers = Vec::new();
    for number in 0..10 {
        let mut receiver = app.client(V5, &format!("receiver{number}")).await;
        receiver.subscribe("t", 0).await;
        receivers.push(receiver);
    }
    let mut publisher = app.client(V5, "publisher").await;
    publisher.send_publish(&Publish { qos: 0, ..message(0) }).await;
    publisher.send_publish(&Publish { qos: 0, ..message(0) }).await;
    held.waits_for(3).await;
    let mut delivered = 0;
    while delivered < 20 {
        eventually(SOON, "more is delivered", async || held.open() > 0).await;
        assert!(held.open() <= 3, "{} records wait", held.open());
        delivered += held.settle_all();
    }
    for receiver in &mut receivers {
        receiver.message().await;
        receiver.message().await;
    }
    app.settled().await;
}

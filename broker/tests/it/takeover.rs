//! A second connection with the same client id takes the session over.

use std::sync::Arc;

use latchline_shared::hook::Call;
use latchline_shared::kit::testing::{Seed, eventually};

use crate::app::App;
use crate::hooks::{Held, Rejects};
use crate::raw::bytes::{Connect, Publish, V5, VERSIONS};
use crate::raw::read::Packet;
use crate::raw::{Raw, SOON};

#[tokio::test]
async fn the_old_connection_ends_and_the_session_goes_on() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let connect = Connect::kept(version, &format!("client{version}"));
        let mut old = app.resume(&connect, false).await;
        old.subscribe("t", 1).await;
        let mut publisher = app.client(version, "publisher").await;
        publisher.publish(&Publish::new("t", "first").qos(1, 1)).await;
        let unacknowledged = old.message().await;
        let mut new = app.resume(&connect, true).await;
        old.ended(0x8e).await;
        let again = new.receive().await;
        assert_eq!((again.id, again.dup), (unacknowledged.id, true));
        publisher.publish(&Publish::new("t", "second").qos(1, 1)).await;
        assert_eq!(new.payload().await, "second");
        // With a clean start it does not go on.
        let mut clean = app.resume(&Connect { clean: true, ..connect.clone() }, false).await;
        new.ended(0x8e).await;
        publisher.publish(&Publish::new("t", "third").qos(1, 1)).await;
        clean.quiet().await;
        clean.goodbye().await;
        publisher.goodbye().await;
    }
    assert_eq!(app.metric("broker_session_takeovers_total"), 4);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_taken_over_at_once() {
    let app = App::start(|config| config.limits.queue_bytes_max = 64 << 20).await;
    let connect = Connect::kept(V5, "client");
    let mut old = app.resume(&connect, false).await;
    old.subscribe("t", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    // More than all socket buffers hold.
    for id in 1..=32 {
        publisher.publish(&Publish::new("t", vec![b'x'; 250_000]).qos(1, id)).await;
    }
    let mut new = tokio::time::timeout(SOON / 2, app.resume(&connect, true)).await.expect("nobody waits");
    assert!(new.receive().await.dup);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn take_over_storms_leave_one_connection_and_events_in_pairs() {
    const CLIENTS: usize = 4;
    const CONNECTIONS: usize = 40;
    let recorder = Held::recorder();
    let app = Arc::new(App::with_hook(&recorder, |_| {}).await);
    let mut random = Seed::of_this_run().random("take_over_storms_leave_one_connection_and_events_in_pairs");
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        for _ in 0..CONNECTIONS {
            let (app, version, clean, hasty) =
                (Arc::clone(&app), *random.choose(&VERSIONS), random.chance(30), random.chance(20));
            tasks.push(tokio::spawn(async move {
                let connect = Connect { clean, ..Connect::kept(version, &format!("client{client}")) };
                let mut raw = Raw::open(app.tcp(), version).await;
                raw.send(&connect.bytes()).await;
                if hasty {
                    return None;
                }
                match raw.next().await {
                    Packet::Connack(connack) => assert_eq!(connack.code, 0),
                    other => panic!("{other:?}"),
                }
                Some(raw)
            }));
        }
    }
    let mut connections = Vec::new();
    for task in tasks {
        connections.extend(task.await.unwrap());
    }
    eventually(SOON, "one connection of each client at most", async || {
        app.metric("broker_session_connections") <= CLIENTS as u64
    })
    .await;
    let mut alive = 0;
    for mut raw in connections {
        raw.try_send(&[0xc0, 0]).await;
        alive += usize::from(raw.next_or_end().await == Some(Packet::Pingresp));
    }
    assert!(alive <= CLIENTS, "{alive} connections of {CLIENTS} clients live");
    for client in 0..CLIENTS {
        let connect = Connect::new(V5, &format!("client{client}"));
        app.connect(&connect).await.0.goodbye().await;
    }
    eventually(SOON, "nobody is connected", async || app.metric("broker_session_connections") == 0).await;
    for client in 0..CLIENTS {
        let id = format!("client{client}");
        let events: Vec<_> = recorder.events().into_iter().filter(|event| event.client == id).collect();
        for (index, pair) in events.chunks(2).enumerate() {
            let [connected, disconnected] = pair else { panic!("{id}: {pair:?} has no pair") };
            assert_eq!(
                (connected.call, disconnected.call),
                (Call::ClientConnected, Call::ClientDisconnected)
            );
            assert_eq!(connected.session, disconnected.session, "{id}: pair {index}");
        }
        let sessions: Vec<_> = events.iter().step_by(2).map(|event| event.session).collect();
        assert!(sessions.is_sorted_by(|before, after| before < after), "{id}: {sessions:?} do not grow");
    }
}

#[tokio::test]
async fn a_publisher_that_is_taken_over_while_it_is_held_back_harms_nobody_else() {
    let rejects = Arc::new(Rejects);
    let app = App::with_hook(&rejects, |config| {
        (config.limits.queue_messages_max, config.limits.inflight_max) = (4, 2);
    })
    .await;
    let mut receiver = app.client(V5, "receiver").await;
    receiver.subscribe("t", 1).await;
    let connect = Connect::new(V5, "publisher");
    let (mut publisher, _) = app.connect(&connect).await;
    for id in 1..=6 {
        publisher.publish(&Publish::new("t", id.to_string()).qos(1, id)).await;
    }
    publisher.send_publish(&Publish::new("t", "held back").qos(1, 7)).await;
    eventually(SOON, "the publisher is held back", async || app.paused("slow_receiver") > 0).await;
    let (mut again, _) = app.connect(&connect).await;
    publisher.ended(0x8e).await;
    // It was not acknowledged, so it comes again; and is held back again, not dropped.
    again.send_publish(&Publish::new("t", "held back").qos(1, 7)).await;
    eventually(SOON, "the publisher is held back again", async || app.paused("slow_receiver") > 1).await;
    for id in 1..=6 {
        assert_eq!(receiver.payload().await, id.to_string());
    }
    assert_eq!(again.next().await, Packet::Puback(7, 0));
    assert_eq!(receiver.payload().await, "held back");
    receiver.quiet().await;
}

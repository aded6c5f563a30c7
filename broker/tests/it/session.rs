//! Sessions that outlive their connections: resumed, expired, with messages waiting.

use crate::app::App;
use crate::raw::bytes::{Connect, Publish, V3, V5, VERSIONS, disconnect};
use crate::raw::read::Packet;

#[tokio::test]
async fn a_kept_session_waits_with_its_messages_in_order() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let connect = Connect::kept(version, "kept");
        let mut client = app.resume(&connect, false).await;
        client.subscribe("t/#", 2).await;
        client.vanish();
        app.parked("kept").await;
        let mut publisher = app.client(version, "publisher").await;
        for id in 1..=50 {
            publisher.publish(&Publish::new("t/a", id.to_string()).qos(1 + (id % 2) as u8, id)).await;
        }
        publisher.publish(&Publish::new("t/a", "QoS 0 does not wait")).await;
        publisher.goodbye().await;
        let mut client = app.resume(&connect, true).await;
        for id in 1..=50 {
            let received = client.receive().await;
            assert_eq!((received.text(), received.dup), (&*id.to_string(), false));
        }
        client.quiet().await;
        client.goodbye().await;
        // A clean start forgets it.
        let mut client = app.resume(&Connect { clean: true, ..connect.clone() }, false).await;
        let mut publisher = app.client(version, "publisher").await;
        publisher.publish(&Publish::new("t/a", "x").qos(1, 1)).await;
        client.quiet().await;
        assert_eq!(app.server.broker.router.subscription_count(), 0);
        client.goodbye().await;
        publisher.goodbye().await;
        app.resume(&Connect { clean: true, ..Connect::new(version, "kept") }, false).await.goodbye().await;
    }
    assert_eq!(app.dropped("offline_qos0"), 2);
}

#[tokio::test]
async fn a_session_without_expiry_ends_with_its_connection() {
    let app = App::start(|_| {}).await;
    for connect in [
        Connect::new(V3, "client"),
        Connect::new(V5, "client"),
        Connect { clean: false, ..Connect::new(V5, "client") },
        Connect { clean: false, ..Connect::new(V5, "client") }.with(&[0x11, 0, 0, 0, 0]),
    ] {
        let mut client = app.resume(&connect, false).await;
        client.subscribe("t", 1).await;
        client.vanish();
        app.forgotten("client").await;
        assert_eq!(app.server.broker.router.subscription_count(), 0);
    }
    assert_eq!(app.server.broker.registry.len(), 0);
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over() {
    let app = App::start(|config| config.limits.session_expiry_s_max = 1).await;
    for connect in [
        Connect { clean: false, ..Connect::new(V5, "short") }.with(&[0x11, 0, 0, 0, 1]),
        Connect { clean: false, ..Connect::new(V5, "for ever") }.with(&[0x11, 0xff, 0xff, 0xff, 0xff]),
        Connect { clean: false, ..Connect::new(V3, "old") },
    ] {
        let mut client = app.resume(&connect, false).await;
        client.subscribe("t", 1).await;
        client.goodbye().await;
        let mut client = app.resume(&connect, true).await;
        client.quiet().await;
        client.vanish();
        app.parked(&connect.id).await;
    }
    for id in ["short", "for ever", "old"] {
        app.forgotten(id).await;
    }
    assert_eq!(app.server.broker.router.subscription_count(), 0);
    assert_eq!(app.metric("broker_session_sessions"), 0);
}

#[tokio::test]
async fn the_expiry_may_change_at_the_end() {
    let app = App::start(|_| {}).await;
    let kept = Connect::kept(V5, "client");
    let mut client = app.resume(&kept, false).await;
    client.send(&disconnect(0, &[0x11, 0, 0, 0, 0])).await;
    client.rest().await;
    let mut client = app.resume(&Connect::kept(V5, "client"), false).await;
    client.send(&disconnect(0, &[0x11, 0, 0, 0, 1])).await;
    client.rest().await;
    let status = app.server.broker.registry.status("client").expect("a parked session");
    let left = status.expires_at.expect("an end") - std::time::Instant::now();
    assert!(left.as_millis() <= 1000, "{left:?}");
    app.forgotten("client").await;
    // From 0 it may not.
    let mut client = app.client(V5, "client").await;
    client.send(&disconnect(0, &[0x11, 0, 0, 0, 1])).await;
    client.ended(0x82).await;
    app.forgotten("client").await;
}

#[tokio::test]
async fn the_offline_queue_is_bounded_and_keeps_the_oldest() {
    let app = App::start(|config| config.limits.queue_messages_max = 10).await;
    for version in VERSIONS {
        let connect = Connect::kept(version, &format!("client{version}"));
        let mut client = app.resume(&connect, false).await;
        client.subscribe("t", 1).await;
        client.goodbye().await;
        let mut publisher = app.client(version, "publisher").await;
        for id in 1..=15 {
            publisher.publish(&Publish::new("t", id.to_string()).qos(1, id)).await;
        }
        publisher.goodbye().await;
        let mut client = app.resume(&connect, true).await;
        for id in 1..=10 {
            assert_eq!(client.payload().await, id.to_string());
        }
        client.quiet().await;
        client.unsubscribe("t").await;
        client.goodbye().await;
    }
    assert_eq!(app.dropped("offline_queue_full"), 10);
}

#[tokio::test]
async fn the_offline_queue_is_bounded_in_bytes() {
    let app = App::start(|config| config.limits.queue_bytes_max = 300_000).await;
    let connect = Connect::kept(V5, "client");
    let mut client = app.resume(&connect, false).await;
    client.subscribe("t", 1).await;
    client.goodbye().await;
    let mut publisher = app.client(V5, "publisher").await;
    for id in 1..=10 {
        publisher.publish(&Publish::new("t", [b'x'; 100_000]).qos(1, id)).await;
    }
    assert_eq!(app.dropped("offline_queue_full"), 7);
    let mut client = app.resume(&connect, true).await;
    for _ in 0..3 {
        assert_eq!(client.receive().await.payload.len(), 100_000);
    }
    client.quiet().await;
}

#[tokio::test]
async fn a_session_may_change_its_version() {
    let app = App::start(|_| {}).await;
    let mut publisher = app.client(V5, "publisher").await;
    let mut client = app.resume(&Connect::kept(V3, "client"), false).await;
    client.subscribe("t", 1).await;
    for (round, version) in [V5, V3, V5].into_iter().enumerate() {
        let payload = round.to_string();
        let publish = Publish::new("t", &payload).qos(1, 1).with(&[0x26, 0, 1, b'n', 0, 1, b'v']);
        publisher.publish(&publish).await;
        let unacknowledged = client.message().await;
        client.vanish();
        app.parked("client").await;
        client = app.resume(&Connect::kept(version, "client"), true).await;
        let again = client.receive().await;
        assert_eq!((again.text(), again.id, again.dup), (&*payload, unacknowledged.id, true));
        assert_eq!(again.properties.all(0x26).len(), usize::from(version == V5));
    }
    client.quiet().await;
}

#[tokio::test]
async fn coming_and_going_leaves_nothing_behind() {
    let app = App::start(|_| {}).await;
    let connect = Connect::kept(V5, "client").delayed_will("will", "gone", 100);
    for round in 0..100 {
        let client = app.resume(&connect, round > 0).await;
        client.vanish();
        app.parked("client").await;
    }
    let broker = &app.server.broker;
    assert!(broker.registry.timers.len() <= 1, "{} reminders of one session", broker.registry.timers.len());
    let mut client = app.resume(&connect, true).await;
    client.quiet().await;
    assert_eq!(broker.registry.timers.len(), 0);
    client.send(&disconnect(0, &[0x11, 0, 0, 0, 0])).await;
    assert_eq!(client.rest().await, [] as [Packet; 0]);
    assert_eq!((broker.registry.len(), broker.router.subscription_count()), (0, 0));
}

//! Wills: published when a client goes without a goodbye, after their delay, unless it is back.

use std::time::{Duration, Instant};

use crate::app::App;
use crate::raw::Raw;
use crate::raw::bytes::{Connect, GOODBYE, Publish, V3, V5, VERSIONS, Will, disconnect, packet};
use crate::raw::read::Packet;

async fn watcher(app: &App) -> Raw {
    let mut watcher = app.client(V5, "watcher").await;
    watcher.subscribe("will/#", 2).await;
    watcher
}

#[tokio::test]
async fn a_will_is_published_when_the_connection_breaks() {
    let app = App::start(|_| {}).await;
    let mut watcher = watcher(&app).await;
    for version in VERSIONS {
        for qos in 0..=2 {
            let connect = Connect::new(version, "client").will("will/t", "gone");
            let will = Will { qos, ..connect.will.clone().unwrap() };
            let (client, _) = app.connect(&Connect { will: Some(will), ..connect }).await;
            client.vanish();
            let received = watcher.receive().await;
            assert_eq!((received.text(), received.qos, received.retain), ("gone", qos, false));
        }
        // Also when the client breaks the protocol.
        let (mut client, _) = app.connect(&Connect::new(version, "client").will("will/t", "rude")).await;
        client.send(&packet(0x82, &[])).await;
        client.ended(0x81).await;
        assert_eq!(watcher.payload().await, "rude");
        // Or says nothing any more.
        let silent = Connect::new(version, "client").will("will/t", "silent").keep_alive(1);
        let (_client, _) = app.connect(&silent).await;
        assert_eq!(watcher.payload().await, "silent");
    }
    watcher.quiet().await;
}

#[tokio::test]
async fn a_goodbye_discards_the_will() {
    let app = App::start(|_| {}).await;
    let mut watcher = watcher(&app).await;
    for version in VERSIONS {
        let (client, _) = app.connect(&Connect::new(version, "client").will("will/t", "gone")).await;
        client.goodbye().await;
        watcher.quiet().await;
    }
    // 0x04 keeps it.
    let (mut client, _) = app.connect(&Connect::new(V5, "client").will("will/t", "on purpose")).await;
    client.send(&disconnect(0x04, &[])).await;
    assert_eq!(client.rest().await, []);
    assert_eq!(watcher.payload().await, "on purpose");
}

#[tokio::test]
async fn a_retained_will_stays_with_its_properties() {
    let app = App::start(|_| {}).await;
    let will = Will {
        topic: "will/t",
        payload: "gone",
        qos: 1,
        retain: true,
        properties: vec![0x26, 0, 1, b'n', 0, 1, b'v', 0x03, 0, 1, b'c', 0x02, 0, 0, 0, 100],
    };
    let mut present = watcher(&app).await;
    let (client, _) = app.connect(&Connect { will: Some(will), ..Connect::new(V5, "client") }).await;
    client.vanish();
    let at_once = present.receive().await;
    let mut late = app.client(V5, "late").await;
    late.subscribe("will/t", 1).await;
    let kept = late.receive().await;
    assert_eq!((at_once.retain, kept.retain), (false, true));
    for received in [at_once, kept] {
        assert_eq!(received.properties.get(0x26), Some(&b"n=v"[..]));
        assert_eq!(received.properties.get(0x03), Some(&b"c"[..]));
        assert!(received.properties.number(0x02).is_some_and(|expiry| (90..=100).contains(&expiry)));
    }
}

#[tokio::test]
async fn a_delayed_will_waits_and_is_taken_back_by_a_client_that_returns() {
    let app = App::start(|_| {}).await;
    let mut watcher = watcher(&app).await;
    let connect = Connect::kept(V5, "client").delayed_will("will/t", "gone", 1);
    let since = Instant::now();
    app.resume(&connect, false).await.vanish();
    let received = watcher.receive().await;
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
    assert_eq!(received.text(), "gone");
    assert!(app.server.broker.registry.status("client").is_some(), "the session outlives the will");
    // Back in time.
    app.resume(&connect, true).await.vanish();
    app.parked("client").await;
    let mut client = app.resume(&Connect::kept(V5, "client"), true).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    watcher.quiet().await;
    client.quiet().await;
}

#[tokio::test]
async fn a_delayed_will_comes_at_the_latest_with_the_end_of_the_session() {
    let app = App::start(|_| {}).await;
    let mut watcher = watcher(&app).await;
    // The session ends at once, in a second, or by a clean start.
    let (client, _) = app.connect(&Connect::new(V5, "client").delayed_will("will/t", "at once", 100)).await;
    client.vanish();
    assert_eq!(watcher.payload().await, "at once");
    let connect = Connect::new(V5, "client").with(&[0x11, 0, 0, 0, 1]).delayed_will("will/t", "soon", 100);
    app.resume(&connect, false).await.vanish();
    assert_eq!(watcher.payload().await, "soon");
    app.forgotten("client").await;
    let connect = Connect::kept(V5, "client").delayed_will("will/t", "forgotten", 100);
    app.resume(&connect, false).await.vanish();
    app.parked("client").await;
    app.client(V5, "client").await;
    assert_eq!(watcher.payload().await, "forgotten");
    watcher.quiet().await;
}

#[tokio::test]
async fn take_over_publishes_the_will_unless_the_session_goes_on_before_the_delay() {
    let app = App::start(|_| {}).await;
    let mut watcher = watcher(&app).await;
    for (version, delay_s, clean, published) in [
        (V3, 0, false, true),
        (V5, 0, false, true),
        (V5, 0, true, true),
        (V5, 100, true, true),
        (V5, 100, false, false),
    ] {
        let (mut old, _) =
            app.connect(&Connect::kept(version, "client").delayed_will("will/t", "gone", delay_s)).await;
        let (new, _) = app.connect(&Connect { clean, ..Connect::kept(version, "client") }).await;
        old.ended(0x8e).await;
        if published {
            assert_eq!(watcher.payload().await, "gone", "{version}, {delay_s} s, clean {clean}");
        }
        watcher.quiet().await;
        new.goodbye().await;
    }
}

#[tokio::test]
async fn a_will_delay_is_cut_down() {
    let app = App::start(|config| config.limits.will_delay_s_max = 1).await;
    let mut watcher = watcher(&app).await;
    app.resume(&Connect::kept(V5, "client").delayed_will("will/t", "gone", 200), false).await.vanish();
    assert_eq!(watcher.payload().await, "gone");
}

#[tokio::test]
async fn the_will_of_each_connection_is_its_own() {
    let app = App::start(|_| {}).await;
    let mut watcher = watcher(&app).await;
    let first = Connect::kept(V5, "client").will("will/t", "first");
    let mut client = app.resume(&first, false).await;
    client.send(&GOODBYE).await;
    assert_eq!(client.rest().await, [] as [Packet; 0]);
    app.resume(&Connect::kept(V5, "client"), true).await.vanish();
    app.parked("client").await;
    let mut client = app.resume(&first, true).await;
    client.publish(&Publish::new("will/x", "alive").qos(1, 1)).await;
    client.vanish();
    for expected in ["alive", "first"] {
        assert_eq!(watcher.payload().await, expected);
    }
    watcher.quiet().await;
}

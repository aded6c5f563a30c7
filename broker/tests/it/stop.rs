//! The orderly end: nobody new, what is in flight is acknowledged, then everybody is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use latchline_shared::hook::Call;
use latchline_shared::kit::testing::eventually;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::App;
use crate::hooks::Held;
use crate::raw::bytes::{Connect, Publish, V5, VERSIONS};
use crate::raw::read::Packet;
use crate::raw::{Raw, SOON};

const PUBLISH: &[Call] = &[Call::MessagePublish];

#[tokio::test]
async fn what_is_in_flight_is_acknowledged_before_the_end() {
    let held = Held::new(PUBLISH);
    let app = Arc::new(App::with_hook(&held, |_| {}).await);
    let mut clients = Vec::new();
    for version in VERSIONS {
        let mut idle = app.client(version, &format!("idle{version}")).await;
        idle.quiet().await;
        let mut busy = app.client(version, &format!("busy{version}")).await;
        for id in 1..=3 {
            busy.send_publish(&Publish::new("t", "x").qos(1 + (id % 2) as u8, id)).await;
        }
        clients.push((idle, busy));
    }
    held.waits_for(6).await;
    let address = app.tcp();
    let stopping = tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.server.stop().await }
    });
    for (idle, _) in &mut clients {
        idle.ended(0x8b).await;
    }
    eventually(SOON, "nobody listens", async || TcpStream::connect(address).await.is_err()).await;
    for (_, busy) in &mut clients {
        // What comes now is not taken any more: it was never acknowledged, so it will come again.
        busy.send_publish(&Publish::new("t", "late").qos(1, 9)).await;
    }
    assert!(!stopping.is_finished());
    assert_eq!(held.settle_all(), 6);
    for ((_, busy), version) in clients.iter_mut().zip(VERSIONS) {
        let mut expected = vec![Packet::Pubrec(1, 0), Packet::Puback(2, 0), Packet::Pubrec(3, 0)];
        expected.extend((version == V5).then_some(Packet::Disconnect(0x8b)));
        assert_eq!(busy.rest().await, expected);
    }
    timeout(SOON, stopping).await.expect("it ends").unwrap();
    assert_eq!(held.of(Call::MessagePublish).len(), 6);
}

#[tokio::test]
async fn the_deadline_ends_what_does_not_end_by_itself() {
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |config| {
        config.limits.shutdown_deadline = Duration::from_millis(500);
        config.limits.inflight_bytes_per_connection = 64 << 20;
        config.limits.queue_bytes_max = 64 << 20;
    })
    .await;
    let mut busy = app.client(V5, "busy").await;
    busy.send_publish(&Publish::new("t", "x").qos(1, 1)).await;
    // It does not read either.
    let mut deaf = app.client(V5, "deaf").await;
    deaf.subscribe("t2", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    for id in 1..=30 {
        publisher.send_publish(&Publish::new("t2", vec![b'x'; 250_000]).qos(1, id)).await;
        held.waits_for(1 + usize::from(id)).await;
    }
    let since = Instant::now();
    timeout(SOON, app.server.stop()).await.expect("it ends");
    assert!(since.elapsed() >= Duration::from_millis(450) && since.elapsed() < Duration::from_secs(5));
    busy.ended(0x8b).await;
    held.settle_all();
}

#[tokio::test]
async fn connections_that_have_not_begun_do_not_hold_back_the_end() {
    let app = App::start(|_| {}).await;
    let mut silent = Raw::open(app.tcp(), V5).await;
    let mut half = Raw::open(app.tcp(), V5).await;
    half.send(&Connect::new(V5, "half").bytes()[..9]).await;
    let accepted = "broker_accept_connections_total{listener=\"tcp\"}";
    eventually(SOON, "both are accepted", async || app.metric(accepted) == 2).await;
    let since = Instant::now();
    app.server.stop().await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!((silent.rest().await, half.rest().await), (vec![], vec![]));
}

#[tokio::test]
async fn wills_are_published_at_the_end() {
    let recorder = Held::recorder();
    let app = App::with_hook(&recorder, |_| {}).await;
    let (mut client, _) = app.connect(&Connect::new(V5, "client").will("will", "gone")).await;
    app.server.stop().await;
    client.ended(0x8b).await;
    assert_eq!(recorder.of(Call::MessagePublish), ["client will gone at 1"]);
}

//! Clients that dawdle, claim, hoard or vanish.

use std::time::{Duration, Instant};

use latchline_shared::hook::Call;
use latchline_shared::kit::testing::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::App;
use crate::hooks::Held;
use crate::raw::bytes::{Connect, PING, Publish, V3, V5, VERSIONS, subscribe};
use crate::raw::read::Packet;
use crate::raw::{Raw, SOON};

/// Sends bytes one by one, with pauses, until the broker has had enough; how long that took.
async fn drip(raw: &mut Raw, bytes: &[u8], pause: Duration) -> Duration {
    let since = Instant::now();
    for byte in bytes {
        tokio::time::sleep(pause).await;
        if !raw.try_send(&[*byte]).await {
            break;
        }
    }
    since.elapsed()
}

#[tokio::test]
async fn a_connect_byte_by_byte_is_cut_at_its_deadline() {
    let app = App::start(|config| config.limits.connect_timeout = Duration::from_millis(400)).await;
    let mut silent = Raw::open(app.tcp(), V5).await;
    let mut slow = Raw::open(app.tcp(), V5).await;
    let bytes = Connect::new(V5, &"x".repeat(500)).bytes();
    let took = drip(&mut slow, &bytes, Duration::from_millis(20)).await;
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(slow.rest().await, []);
    assert_eq!(silent.rest().await, []);
    assert_eq!(app.refused("connect_timeout"), 2);
    // Who is slow but in time is served.
    let app = App::start(|_| {}).await;
    let mut fine = Raw::open(app.tcp(), V5).await;
    drip(&mut fine, &Connect::new(V5, "fine").bytes(), Duration::from_millis(1)).await;
    assert!(matches!(fine.next().await, Packet::Connack(connack) if connack.code == 0));
}

#[tokio::test]
async fn half_a_packet_is_cut_at_its_deadline() {
    let app = App::start(|config| config.limits.packet_timeout = Duration::from_millis(400)).await;
    for version in VERSIONS {
        let mut idle = app.client(version, "idle").await;
        let mut client = app.client(version, "client").await;
        let publish = Publish::new("t", [b'x'; 1000]).qos(1, 1).bytes(version);
        // Whole packets at the same pace are fine, however long it takes.
        for _ in 0..3 {
            drip(&mut client, &PING, Duration::from_millis(150)).await;
            assert_eq!(client.next().await, Packet::Pingresp);
        }
        let took = drip(&mut client, &publish, Duration::from_millis(20)).await;
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
        client.ended(0x80).await;
        // A packet that never ends is not helped by the whole ones before it.
        let mut client = app.client(version, "client").await;
        client.send(&[&PING[..], &publish[..3]].concat()).await;
        assert_eq!(client.next().await, Packet::Pingresp);
        client.ended(0x80).await;
        idle.quiet().await;
        idle.goodbye().await;
    }
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

#[tokio::test]
async fn claims_of_long_packets_cost_nothing() {
    let app = App::start(|_| {}).await;
    let before = resident_bytes();
    let mut clients = Vec::new();
    for number in 0..1000 {
        // Just what is allowed, and only a few bytes of it.
        let mut client = app.client(V3, &format!("client{number}")).await;
        client.send(&[&[0x30, 0xf0, 0xff, 0x0f][..], &[0; 50]].concat()).await;
        clients.push(client);
        // Far more than is allowed: the header says enough.
        let mut greedy = app.client(V5, "greedy").await;
        greedy.send(&[0x30, 0xff, 0xff, 0xff, 0x7f]).await;
        greedy.ended(0x95).await;
    }
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        // The claims add up to 256 MB. Other tests run beside this one.
        assert!(after < before + 150_000_000, "{before} bytes before, {after} after");
    }
    app.client(V5, "another").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_its_session_stays() {
    let recorder = Held::recorder();
    let app = App::with_hook(&recorder, |config| {
        config.limits.write_timeout = Duration::from_millis(400);
        config.limits.queue_bytes_max = 64 << 20;
        config.limits.inflight_max = 200;
    })
    .await;
    let mut publisher = app.client(V5, "publisher").await;
    for version in VERSIONS {
        let connect = Connect::kept(version, "deaf");
        let mut deaf = app.resume(&connect, false).await;
        deaf.subscribe("t", 1).await;
        // More than all socket buffers hold.
        for id in 1..=60 {
            publisher.publish(&Publish::new("t", vec![b'x'; 250_000]).qos(1, id)).await;
        }
        app.parked("deaf").await;
        assert_eq!(recorder.of(Call::ClientDisconnected).last().unwrap(), "deaf write_timeout");
        drop(deaf);
        let mut deaf = app.resume(&connect, true).await;
        for number in 1..=60 {
            assert_eq!(deaf.receive().await.payload.len(), 250_000, "{number}");
        }
        deaf.quiet().await;
        deaf.unsubscribe("t").await;
        app.resume(&Connect { clean: true, ..Connect::new(version, "deaf") }, false).await.goodbye().await;
    }
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_is_cut() {
    let app = App::start(|config| config.limits.write_timeout = Duration::from_millis(400)).await;
    let mut publisher = app.client(V5, "publisher").await;
    publisher.publish(&Publish::new("t", [b'x'; 250_000]).qos(1, 1).retain()).await;
    let mut deaf = app.client(V5, "deaf").await;
    // Each asks for the retained message again. 100 of them are more than all socket buffers hold.
    let ask = subscribe(V5, 1, &[], &[("t", 0)]).repeat(100);
    let flood = async { while deaf.try_send(&ask).await {} };
    tokio::time::timeout(SOON, flood).await.expect("it is cut");
    assert!(app.paused("output") > 0, "what is not read stops the reading");
    app.forgotten("deaf").await;
}

#[tokio::test]
async fn a_hundred_thousand_subscriptions_are_refused_one_by_one() {
    let app = App::start(|_| {}).await;
    let mut other = app.client(V5, "other").await;
    let mut client = app.client(V5, "client").await;
    let since = Instant::now();
    let filters: Vec<String> = (0..1000).map(|number| format!("f/{number}/+")).collect();
    for round in 0..100u16 {
        let wanted: Vec<(&str, u8)> =
            filters.iter().map(|filter| (&filter[usize::from(round % 2)..], 1)).collect();
        client.send(&subscribe(V5, round + 1, &[], &wanted)).await;
        let Packet::Suback(id, codes) = client.next().await else { panic!("no SUBACK") };
        assert_eq!((id, codes.len()), (round + 1, 1000));
        let granted = codes.iter().filter(|code| **code == 1).count();
        assert!(codes.iter().all(|code| matches!(code, 1 | 0x97)));
        assert_eq!(granted, if round % 2 == 0 { 100 } else { 0 }, "round {round}");
    }
    assert_eq!(app.server.broker.router.subscription_count(), 100);
    other.quiet().await;
    client.goodbye().await;
    assert_eq!(app.server.broker.router.subscription_count(), 0);
    assert!(since.elapsed() < SOON * 2, "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_that_vanish_leave_nothing() {
    let app = App::start(|_| {}).await;
    let mut healthy = app.client(V5, "healthy").await;
    healthy.subscribe("t", 1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..4 {
        let address = app.tcp();
        tasks.spawn(async move {
            for number in 0..500 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_zero_linger().unwrap();
                let connect = Connect::new(VERSIONS[number % 2], &format!("client{part}-{number}")).bytes();
                match number % 4 {
                    0 => {}
                    1 => stream.write_all(&connect[..8]).await.unwrap(),
                    2 => stream.write_all(&connect).await.unwrap(),
                    _ => {
                        stream.write_all(&connect).await.unwrap();
                        stream.read_u8().await.unwrap();
                        let publish = Publish::new("t", "x").bytes(VERSIONS[number % 2]);
                        stream.write_all(&publish[..5]).await.unwrap();
                    }
                }
                // Dropped with a reset.
            }
        });
    }
    tasks.join_all().await;
    eventually(SOON, "only one is left", async || {
        app.metric("broker_session_connections") == 1 && app.server.broker.registry.len() == 1
    })
    .await;
    healthy.publish(&Publish::new("u", "x").qos(1, 1)).await;
    healthy.quiet().await;
}

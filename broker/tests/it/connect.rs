//! CONNECT and CONNACK: what is announced, assigned and refused; keep alive.

use std::time::{Duration, Instant};

use crate::app::App;
use crate::raw::Raw;
use crate::raw::bytes::{Connect, V3, V5, VERSIONS, packet, text};
use crate::raw::read::{Connack, Packet, Properties};

#[tokio::test]
async fn the_broker_says_what_it_allows() {
    let app = App::start(|config| {
        let limits = &mut config.limits;
        (limits.receive_max, limits.packet_bytes_max, limits.topic_alias_max) = (17, 5000, 3);
        (limits.keep_alive_s_max, limits.session_expiry_s_max) = (30, 100);
    })
    .await;
    let (_client, connack) = app.connect(&Connect::new(V5, "client").keep_alive(31)).await;
    let number = |id| connack.properties.number(id);
    assert_eq!(number(0x21), Some(17), "Receive Maximum");
    assert_eq!(number(0x27), Some(5000), "Maximum Packet Size");
    assert_eq!(number(0x22), Some(3), "Topic Alias Maximum");
    assert_eq!(number(0x13), Some(30), "Server Keep Alive");
    assert_eq!(connack.properties.0.len(), 4, "{connack:?}");

    let connect = Connect::new(V5, "kept").keep_alive(30).with(&[0x11, 0, 0, 0, 101]);
    let (_client, connack) = app.connect(&connect).await;
    assert_eq!(connack.properties.number(0x11), Some(100), "Session Expiry Interval is cut down");
    assert_eq!(connack.properties.number(0x13), None, "the keep alive is the client's");

    let connect = Connect::new(V5, "none").with(&[0x11, 0, 0, 0, 100]);
    let (_client, connack) = app.connect(&connect).await;
    assert_eq!(connack.properties.number(0x13), Some(30), "no keep alive is more than 30 s");
    assert_eq!(connack.properties.number(0x11), None, "the expiry is the client's");

    let (_client, connack) = app.connect(&Connect::new(V3, "old").keep_alive(31)).await;
    assert_eq!(connack, Connack { present: false, code: 0, properties: Properties::default() });
}

#[tokio::test]
async fn a_client_without_an_id_gets_one_of_its_own() {
    let app = App::start(|_| {}).await;
    let (_one, first) = app.connect(&Connect::new(V5, "")).await;
    let (_two, second) = app.connect(&Connect::new(V5, "")).await;
    let id = |connack: &Connack| connack.properties.get(0x12).expect("an assigned id").to_vec();
    assert_ne!(id(&first), id(&second));
    // Also for a session that is to be kept, on MQTT 5 only.
    let (client, connack) = app.connect(&Connect::kept(V5, "")).await;
    let assigned = String::from_utf8(id(&connack)).unwrap();
    client.goodbye().await;
    app.resume(&Connect::kept(V5, &assigned), true).await;
    let (_old, connack) = app.connect(&Connect::new(V3, "")).await;
    assert_eq!(connack.code, 0);
    let (mut old, connack) = app.connect(&Connect { clean: false, ..Connect::new(V3, "") }).await;
    assert_eq!((connack.code, connack.present), (2, false));
    assert_eq!(old.rest().await, []);
}

#[tokio::test]
async fn other_versions_are_refused_in_their_own_words() {
    let app = App::start(|_| {}).await;
    for (name, level, version, code) in
        [("MQIsdp", 3, V3, 1), ("MQTT", 3, V3, 1), ("MQTT", 6, V5, 0x84), ("MQIsdp", 0x83, V3, 1)]
    {
        let mut client = Raw::open(app.tcp(), version).await;
        client.send(&packet(0x10, &[&text(name), &[level, 2, 0, 60], &text("c")])).await;
        let rest = client.rest().await;
        assert!(
            matches!(&rest[..], [Packet::Connack(connack)] if connack.code == code),
            "{name} {level}: {rest:?}"
        );
    }
    let mut client = Raw::open(app.tcp(), V3).await;
    client.send(&packet(0x10, &[&text("HTTP"), &[4, 2, 0, 60], &text("c")])).await;
    assert_eq!(client.rest().await, [], "who does not speak MQTT gets no answer");
}

#[tokio::test]
async fn enhanced_authentication_is_refused() {
    let app = App::start(|_| {}).await;
    let connect = Connect::new(V5, "client").with(&[0x15, 0, 5]).with(b"SCRAM");
    let (mut client, connack) = app.connect(&connect).await;
    assert_eq!((connack.code, connack.present), (0x8c, false));
    assert_eq!(client.rest().await, []);
    let mut client = app.client(V5, "client").await;
    client.send(&[0xf0, 0]).await;
    client.ended(0x82).await;
    let mut client = app.client(V3, "client").await;
    client.send(&[0xf0, 0]).await;
    client.ended(0).await;
}

#[tokio::test]
async fn a_forbidden_will_is_refused() {
    let app = App::start(|_| {}).await;
    for (version, code) in [(V3, 5), (V5, 0x87)] {
        let (mut client, connack) =
            app.connect(&Connect::new(version, "client").will("forbidden/t", "gone")).await;
        assert_eq!(connack.code, code);
        assert_eq!(client.rest().await, []);
    }
    assert!(app.server.broker.registry.is_empty(), "a refused client has no session");
}

#[tokio::test]
async fn a_second_connect_ends_the_connection() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let connect = Connect::new(version, "client");
        let (mut client, _) = app.connect(&connect).await;
        client.send(&connect.bytes()).await;
        client.ended(0x82).await;
    }
}

#[tokio::test]
async fn silence_ends_the_connection_after_one_and_a_half_keep_alives() {
    let app = App::start(|_| {}).await;
    let mut clients = Vec::new();
    for version in VERSIONS {
        clients.push(app.connect(&Connect::new(version, &format!("mute{version}")).keep_alive(1)).await.0);
    }
    let (mut alive, _) = app.connect(&Connect::new(V5, "alive").keep_alive(1)).await;
    let mut free = app.client(V5, "free").await;
    let since = Instant::now();
    let alive = tokio::spawn(async move {
        while since.elapsed() < Duration::from_millis(2500) {
            tokio::time::sleep(Duration::from_millis(300)).await;
            alive.quiet().await;
        }
    });
    for mut client in clients {
        client.ended(0x8d).await;
        let silence = since.elapsed();
        assert!(silence >= Duration::from_millis(1400) && silence < Duration::from_secs(5), "{silence:?}");
    }
    alive.await.expect("who pings stays");
    free.quiet().await;
}

#[tokio::test]
async fn the_servers_keep_alive_holds() {
    let app = App::start(|config| config.limits.keep_alive_s_max = 1).await;
    let (mut client, connack) = app.connect(&Connect::new(V5, "client").keep_alive(600)).await;
    assert_eq!(connack.properties.number(0x13), Some(1));
    client.ended(0x8d).await;
}

#[tokio::test]
async fn sessions_are_bounded() {
    let app = App::start(|config| config.limits.sessions_max = 2).await;
    let known = Connect::kept(V5, "known");
    let (client, _) = app.connect(&known).await;
    client.goodbye().await;
    let second = app.client(V5, "second").await;
    for (version, code) in [(V3, 3), (V5, 0x97)] {
        let (mut client, connack) = app.connect(&Connect::new(version, "third")).await;
        assert_eq!(connack.code, code);
        assert_eq!(client.rest().await, []);
    }
    let _known = app.resume(&known, true).await;
    second.goodbye().await;
    let _third = app.client(V5, "third").await;
    assert_eq!(app.refused("sessions_max"), 2);
}

#[tokio::test]
async fn connections_are_bounded() {
    let app = App::start(|config| config.limits.connections_max = 2).await;
    let mut first = app.client(V5, "first").await;
    let second = app.client(V5, "second").await;
    let mut third = Raw::open(app.tcp(), V5).await;
    assert_eq!(third.rest().await, []);
    first.quiet().await;
    second.goodbye().await;
    latchline_shared::kit::testing::eventually(crate::raw::SOON, "a place is free", async || {
        let mut raw = Raw::open(app.tcp(), V5).await;
        raw.try_send(&Connect::new(V5, "third").bytes()).await && raw.next_or_end().await.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_cannot_take_the_answer_is_not_connected() {
    let app = App::start(|_| {}).await;
    for bytes_max in [1, 5, 10] {
        let connect = Connect::new(V5, "client").with(&[0x27, 0, 0, 0, bytes_max]);
        let mut client = Raw::open(app.tcp(), V5).await;
        client.send(&connect.bytes()).await;
        assert!(!client.rest().await.iter().any(|packet| matches!(packet, Packet::Connack(_))));
    }
    app.forgotten("client").await;
    assert_eq!(app.dropped("answer_too_large"), 3);
}

//! Messages from one client to another: QoS both ways, topics, properties.

use crate::app::App;
use crate::raw::bytes::{Publish, V3, V5, VERSIONS, pubrec, pubrel};
use crate::raw::read::Packet;

#[tokio::test]
async fn every_qos_goes_to_every_qos_and_version() {
    let app = App::start(|_| {}).await;
    for from in VERSIONS {
        for to in VERSIONS {
            let mut publisher = app.client(from, "publisher").await;
            for granted in 0..=2 {
                let mut subscriber = app.client(to, "subscriber").await;
                subscriber.subscribe("t/+", granted).await;
                for sent in 0..=2 {
                    let payload = format!("{from} at {sent} to {to} at {granted}");
                    publisher.publish(&Publish::new("t/a", &payload).qos(sent, 7)).await;
                    let received = subscriber.receive().await;
                    let expected = ("t/a", &*payload, sent.min(granted), false, false);
                    let got =
                        (&*received.topic, received.text(), received.qos, received.dup, received.retain);
                    assert_eq!(got, expected);
                }
                subscriber.quiet().await;
                subscriber.goodbye().await;
            }
            publisher.goodbye().await;
        }
    }
}

#[tokio::test]
async fn a_client_hears_itself_and_order_is_kept_within_a_qos() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        for qos in 0..=2 {
            let mut client = app.client(version, "client").await;
            let mut listener = app.client(version, "listener").await;
            listener.subscribe("order", 2).await;
            for id in 1..=20 {
                client.publish(&Publish::new("order", id.to_string()).qos(qos, id)).await;
            }
            for id in 1..=20 {
                assert_eq!(listener.payload().await, id.to_string());
            }
            client.goodbye().await;
            listener.goodbye().await;
        }
    }
}

#[tokio::test]
async fn a_repeated_qos_2_publish_is_published_once() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let mut publisher = app.client(version, "publisher").await;
        let mut subscriber = app.client(version, "subscriber").await;
        subscriber.subscribe("t", 2).await;
        let publish = Publish::new("t", "once").qos(2, 5);
        publisher.send_publish(&publish).await;
        assert_eq!(publisher.next().await, Packet::Pubrec(5, 0));
        publisher.send_publish(&publish.clone().dup()).await;
        assert_eq!(publisher.next().await, Packet::Pubrec(5, 0));
        for _ in 0..2 {
            publisher.send(&pubrel(5)).await;
            let unknown = if version == V5 { 0x92 } else { 0 };
            let Packet::Pubcomp(5, code) = publisher.next().await else { panic!("no PUBCOMP") };
            assert!(code == 0 || code == unknown, "{code:#x}");
        }
        assert_eq!(subscriber.payload().await, "once");
        subscriber.quiet().await;
        // The id is free again.
        publisher.publish(&Publish::new("t", "twice").qos(2, 5)).await;
        assert_eq!(subscriber.payload().await, "twice");
    }
}

#[tokio::test]
async fn acknowledgements_of_nothing_are_answered_and_harm_nobody() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let mut client = app.client(version, "client").await;
        let unknown = if version == V5 { 0x92 } else { 0 };
        client.send(&[0x40, 2, 0, 9]).await;
        client.send(&[0x70, 2, 0, 9]).await;
        client.send(&pubrec(9)).await;
        assert_eq!(client.next().await, Packet::Pubrel(9, unknown));
        client.send(&pubrel(9)).await;
        assert_eq!(client.next().await, Packet::Pubcomp(9, unknown));
        client.quiet().await;
        client.goodbye().await;
    }
}

#[tokio::test]
async fn a_receiver_may_refuse_a_qos_2_message() {
    let app = App::start(|_| {}).await;
    let mut client = app.client(V5, "client").await;
    client.subscribe("t", 2).await;
    let mut publisher = app.client(V5, "publisher").await;
    publisher.publish(&Publish::new("t", "unwanted").qos(2, 1)).await;
    let received = client.message().await;
    client.send(&[0x50, 3, (received.id >> 8) as u8, received.id as u8, 0x83]).await;
    // No PUBREL comes: the broker has forgotten the message.
    client.quiet().await;
    assert_eq!(app.dropped("refused_by_receiver"), 1);
    publisher.publish(&Publish::new("t", "wanted").qos(2, 1)).await;
    assert_eq!(client.payload().await, "wanted");
}

#[tokio::test]
async fn properties_are_carried_through() {
    let app = App::start(|_| {}).await;
    let mut publisher = app.client(V5, "publisher").await;
    let mut subscriber = app.client(V5, "subscriber").await;
    let mut old = app.client(V3, "old").await;
    subscriber.subscribe("t", 1).await;
    old.subscribe("t", 1).await;
    let properties: &[&[u8]] = &[
        &[0x26, 0, 1, b'b', 0, 1, b'1'],
        &[0x01, 1],
        &[0x03, 0, 4, b't', b'e', b'x', b't'],
        &[0x08, 0, 3, b'r', b'/', b't'],
        &[0x26, 0, 1, b'a', 0, 1, b'2'],
        &[0x09, 0, 2, 0, 0xff],
        &[0x26, 0, 1, b'b', 0, 0],
    ];
    publisher.publish(&Publish::new("t", "été").qos(1, 1).with(&properties.concat())).await;
    let received = subscriber.receive().await.properties;
    assert_eq!(received.number(0x01), Some(1));
    assert_eq!(received.get(0x03), Some(&b"text"[..]));
    assert_eq!(received.get(0x08), Some(&b"r/t"[..]));
    assert_eq!(received.get(0x09), Some(&[0, 0xff][..]));
    assert_eq!(received.all(0x26), [&b"b=1"[..], b"a=2", b"b="], "user properties keep their order");
    assert_eq!(received.0.len(), 7, "{received:?}");
    assert_eq!(old.payload().await, "été");
}

#[tokio::test]
async fn payloads_of_all_sizes_arrive_whole() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let mut publisher = app.client(version, "publisher").await;
        let mut subscriber = app.client(version, "subscriber").await;
        subscriber.subscribe("#", 1).await;
        for (id, size) in (1..).zip([0, 1, 122, 123, 124, 16_370, 16_384, 32_768, 65_536, 262_100]) {
            let payload: Vec<u8> = (0..size).map(|byte| (byte % 251) as u8).collect();
            publisher.publish(&Publish::new("t", &payload).qos(1, id)).await;
            assert!(subscriber.receive().await.payload == payload, "{size} bytes differ");
        }
        let topic = "é/".repeat(100);
        publisher.publish(&Publish::new(&topic, "")).await;
        assert_eq!(subscriber.receive().await.topic, topic);
        publisher.goodbye().await;
        subscriber.goodbye().await;
    }
}

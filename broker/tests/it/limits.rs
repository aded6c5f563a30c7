//! What each side told the other that it can take: Receive Maximum, Maximum Packet Size, Topic Alias.

use latchline_shared::hook::Call;

use crate::app::App;
use crate::hooks::Held;
use crate::raw::bytes::{Connect, Publish, V3, V5, VERSIONS, puback, pubcomp, pubrec, pubrel};
use crate::raw::read::Packet;

const fn alias(number: u8) -> [u8; 3] {
    [0x23, 0, number]
}

#[tokio::test]
async fn no_more_is_in_the_air_than_the_client_takes() {
    let app = App::start(|config| config.limits.inflight_max = 5).await;
    let mut publisher = app.client(V5, "publisher").await;
    for (version, own, window) in [(V5, 3, 3), (V5, 100, 5), (V3, 0, 5)] {
        for qos in [1, 2] {
            let connect = Connect::new(version, "client");
            let connect = if own > 0 { connect.with(&[0x21, 0, own]) } else { connect };
            let (mut client, _) = app.connect(&connect).await;
            client.subscribe("t", qos).await;
            for id in 1..=12 {
                publisher.publish(&Publish::new("t", id.to_string()).qos(qos, id)).await;
            }
            let mut open = Vec::new();
            for _ in 0..window {
                open.push(client.message().await);
            }
            for number in 1..=12 {
                client.quiet().await;
                let oldest = open.remove(0);
                assert_eq!(oldest.text(), number.to_string());
                if qos == 1 {
                    client.send(&puback(oldest.id)).await;
                } else {
                    client.send(&pubrec(oldest.id)).await;
                    assert_eq!(client.next().await, Packet::Pubrel(oldest.id, 0));
                    // PUBREC gives nothing back, PUBCOMP does.
                    client.quiet().await;
                    client.send(&pubcomp(oldest.id)).await;
                }
                if number + window <= 12 {
                    open.push(client.message().await);
                }
            }
            client.quiet().await;
            client.goodbye().await;
        }
    }
}

#[tokio::test]
async fn a_client_that_exceeds_our_receive_maximum_is_told() {
    let held = Held::new(&[Call::MessagePublish]);
    let app = App::with_hook(&held, |config| config.limits.receive_max = 3).await;
    for qos in [1, 2] {
        let mut client = app.client(V5, "client").await;
        for id in 1..=3 {
            client.send_publish(&Publish::new("t", "x").qos(qos, id)).await;
        }
        held.waits_for(3).await;
        client.send_publish(&Publish::new("t", "QoS 0 does not count")).await;
        held.waits_for(4).await;
        client.send_publish(&Publish::new("t", "x").qos(qos, 4)).await;
        client.ended(0x93).await;
        assert_eq!(held.settle_all(), 4, "the fourth was not published");
        // A client that waits may go on for ever.
        let mut client = app.client(V5, "client").await;
        for round in 0..10u16 {
            let ids = round * 3 + 1..=round * 3 + 3;
            for id in ids.clone() {
                client.send_publish(&Publish::new("t", "x").qos(qos, id)).await;
            }
            held.waits_for(3).await;
            held.settle_all();
            for id in ids.clone() {
                let expected = if qos == 1 { Packet::Puback(id, 0) } else { Packet::Pubrec(id, 0) };
                assert_eq!(client.next().await, expected);
            }
            for id in ids.filter(|_| qos == 2) {
                client.send(&pubrel(id)).await;
                assert_eq!(client.next().await, Packet::Pubcomp(id, 0));
            }
        }
        client.goodbye().await;
        // Who speaks 3.1.1 was never told.
        let mut old = app.client(V3, "old").await;
        for id in 1..=10 {
            old.send_publish(&Publish::new("t", "x").qos(qos, id)).await;
        }
        held.waits_for(10).await;
        held.settle_all();
        for id in 1..=10 {
            let expected = if qos == 1 { Packet::Puback(id, 0) } else { Packet::Pubrec(id, 0) };
            assert_eq!(old.next().await, expected);
        }
        old.goodbye().await;
    }
}

#[tokio::test]
async fn a_packet_above_our_maximum_ends_the_connection() {
    let app = App::start(|config| config.limits.packet_bytes_max = 2000).await;
    for version in VERSIONS {
        let mut client = app.client(version, "client").await;
        let room = 2000 - Publish::new("t", "").qos(1, 1).bytes(version).len() - 1;
        client.publish(&Publish::new("t", vec![0; room]).qos(1, 1)).await;
        client.send_publish(&Publish::new("t", vec![0; room + 1]).qos(1, 1)).await;
        client.ended(0x95).await;
    }
}

#[tokio::test]
async fn no_packet_is_larger_than_the_client_takes() {
    let app = App::start(|_| {}).await;
    let connect = Connect::kept(V5, "client").with(&[0x27, 0, 0, 0, 100]).with(&[0x22, 0, 5]);
    let mut client = app.resume(&connect, false).await;
    client.subscribe("t/+", 2).await;
    let mut publisher = app.client(V5, "publisher").await;
    for (id, (topic, size)) in (1..).zip([("t/a", 200), ("t/a", 20), ("t/a", 200), ("t/a", 20), ("t/b", 20)])
    {
        let qos = (id % 3) as u8;
        publisher.publish(&Publish::new(topic, vec![b'x'; size]).qos(qos, id)).await;
    }
    // What was left out gave no alias to its topic.
    for (topic, alias) in [("t/a", 1), ("", 1), ("t/b", 2)] {
        let received = client.receive().await;
        assert_eq!((&*received.topic, received.properties.number(0x23)), (topic, Some(alias)));
        assert_eq!(received.payload.len(), 20);
    }
    client.quiet().await;
    assert_eq!(app.dropped("packet_too_large"), 2);
    // A packet just as large as the maximum arrives.
    let overhead = 2 + 5 + 2 + 1 + 3;
    publisher.publish(&Publish::new("t/c", vec![b'x'; 100 - overhead]).qos(1, 9)).await;
    assert_eq!(client.receive().await.payload.len(), 100 - overhead);
    // One that is as large without an alias arrives without.
    publisher.publish(&Publish::new("t/d", vec![b'x'; 103 - overhead]).qos(1, 9)).await;
    let received = client.receive().await;
    assert_eq!((received.payload.len(), received.properties.number(0x23)), (103 - overhead, None));
    publisher.publish(&Publish::new("t/d", vec![b'x'; 104 - overhead]).qos(1, 9)).await;
    client.quiet().await;
    // A message in the air that no longer fits the new connection is given up.
    publisher.publish(&Publish::new("t/e", vec![b'x'; 60]).qos(1, 9)).await;
    client.message().await;
    client.vanish();
    app.parked("client").await;
    let mut client = app.resume(&Connect::kept(V5, "client").with(&[0x27, 0, 0, 0, 50]), true).await;
    client.quiet().await;
    assert_eq!(app.dropped("packet_too_large"), 4);
}

#[tokio::test]
async fn topic_aliases_of_the_client_stand_for_its_topics() {
    let app = App::start(|config| config.limits.topic_alias_max = 2).await;
    let mut listener = app.client(V5, "listener").await;
    listener.subscribe("#", 1).await;
    let mut client = app.client(V5, "client").await;
    for (topic, number) in [("a", 1), ("b", 2), ("", 1), ("", 2), ("c", 1), ("", 1)] {
        client.publish(&Publish::new(topic, "x").qos(1, 1).with(&alias(number))).await;
    }
    for topic in ["a", "b", "a", "b", "c", "c"] {
        assert_eq!(listener.receive().await.topic, topic);
    }
    client.send_publish(&Publish::new("d", "x").qos(1, 1).with(&alias(3))).await;
    client.ended(0x94).await;
    // Aliases belong to the connection.
    let mut client = app.client(V5, "client").await;
    client.send_publish(&Publish::new("", "x").qos(1, 1).with(&alias(1))).await;
    client.ended(0x82).await;
    let mut client = app.client(V5, "client").await;
    client.send_publish(&Publish::new("a", "x").qos(1, 1).with(&alias(0))).await;
    client.ended(0x94).await;
    listener.quiet().await;
}

#[tokio::test]
async fn topic_aliases_to_the_client_stay_within_its_maximum() {
    let app = App::start(|_| {}).await;
    let mut publisher = app.client(V5, "publisher").await;
    let connect = Connect::kept(V5, "client").with(&[0x22, 0, 2]);
    for round in 0..2 {
        // The second connection begins with no aliases.
        let mut client = app.resume(&connect, round > 0).await;
        client.subscribe("#", 1).await;
        for (topic, sent, number) in [
            ("a", "a", Some(1)),
            ("a", "", Some(1)),
            ("b", "b", Some(2)),
            ("c", "c", None),
            ("b", "", Some(2)),
            ("c", "c", None),
        ] {
            publisher.publish(&Publish::new(topic, "x").qos(1, 1)).await;
            let received = client.receive().await;
            assert_eq!((&*received.topic, received.properties.number(0x23)), (sent, number));
        }
        client.vanish();
        app.parked("client").await;
    }
    let mut plain = app.client(V5, "plain").await;
    plain.subscribe("a", 1).await;
    for _ in 0..2 {
        publisher.publish(&Publish::new("a", "x").qos(1, 1)).await;
        let received = plain.receive().await;
        assert_eq!((&*received.topic, received.properties.number(0x23)), ("a", None));
    }
}

#[tokio::test]
async fn an_alias_may_be_above_the_maximum_of_neither_side() {
    let app = App::start(|config| config.limits.topic_alias_max = 0).await;
    let (mut client, connack) = app.connect(&Connect::new(V5, "client").with(&[0x22, 0, 9])).await;
    assert_eq!(connack.properties.number(0x22), None);
    client.subscribe("t", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    publisher.publish(&Publish::new("t", "x").qos(1, 1)).await;
    assert_eq!(client.receive().await.properties.number(0x23), None, "the cap holds in both directions");
    publisher.send_publish(&Publish::new("t", "x").qos(1, 1).with(&alias(1))).await;
    publisher.ended(0x94).await;
}

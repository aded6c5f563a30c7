//! Who receives what: filters, overlapping and shared subscriptions, options, unsubscribing.

use std::collections::BTreeMap;

use crate::app::App;
use crate::raw::bytes::{Publish, V3, V5, VERSIONS, subscribe, unsubscribe};
use crate::raw::read::Packet;

const NO_LOCAL: u8 = 0b100;

#[tokio::test]
async fn wildcards_match_what_they_should() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let mut publisher = app.client(version, "publisher").await;
        for (filter, hits, misses) in [
            (
                "devices/+/state",
                &["devices/1/state", "devices//state"][..],
                &["devices/state", "devices/1/state/x"][..],
            ),
            ("devices/#", &["devices", "devices/", "devices/1/2/3"], &["device", "xdevices"]),
            ("+", &["a", "été"], &["a/b", "/a", "$SYS"]),
            ("+/+", &["a/b", "/", "/a"], &["a", "a/b/c", "$SYS/a"]),
            ("#", &["a", "a/b/c", "/"], &["$SYS/a", "$x"]),
            ("$SYS/#", &["$SYS/a", "$SYS"], &["SYS/a"]),
            ("/", &["/"], &["a", "//"]),
            ("a/b", &["a/b"], &["a/B", "a/b/", "a"]),
            // A byte order mark is part of the name [MQTT-1.5.4-3].
            ("\u{feff}a", &["\u{feff}a"], &["a", "\u{feff}"]),
        ] {
            let mut subscriber = app.client(version, "subscriber").await;
            subscriber.subscribe(filter, 1).await;
            for topic in misses.iter().chain(hits) {
                publisher.publish(&Publish::new(topic, "").qos(1, 1)).await;
            }
            for topic in hits {
                assert_eq!(subscriber.receive().await.topic, *topic, "{filter}");
            }
            subscriber.quiet().await;
            subscriber.goodbye().await;
        }
        publisher.goodbye().await;
    }
}

#[tokio::test]
async fn overlapping_subscriptions_give_one_message_with_all_identifiers() {
    let app = App::start(|_| {}).await;
    let mut subscriber = app.client(V5, "subscriber").await;
    subscriber.subscribe_with("a/+", 0, &[0x0b, 3]).await;
    subscriber.subscribe_with("a/#", 2, &[0x0b, 0xff, 0x7f]).await;
    subscriber.subscribe_with("a/b", 1, &[]).await;
    let mut old = app.client(V3, "old").await;
    old.subscribe("a/+", 0).await;
    old.subscribe("#", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    publisher.publish(&Publish::new("a/b", "x").qos(2, 1)).await;
    let received = subscriber.receive().await;
    assert_eq!(received.qos, 2, "the highest QoS granted");
    let mut ids = received.properties.all(0x0b);
    ids.sort_unstable();
    assert_eq!(ids, [&[0, 0, 0, 3][..], &[0, 0, 0x3f, 0xff]]);
    assert_eq!(old.receive().await.qos, 1);
    subscriber.quiet().await;
    old.quiet().await;
    // A new subscription to the same filter replaces the old one with its identifier.
    subscriber.subscribe_with("a/+", 1, &[0x0b, 9]).await;
    publisher.publish(&Publish::new("a/c", "x").qos(1, 1)).await;
    let received = subscriber.receive().await;
    let mut ids = received.properties.all(0x0b);
    ids.sort_unstable();
    assert_eq!(ids, [&[0, 0, 0, 9][..], &[0, 0, 0x3f, 0xff]]);
    subscriber.quiet().await;
}

#[tokio::test]
async fn a_no_local_subscription_does_not_hear_its_own_client() {
    let app = App::start(|_| {}).await;
    let mut client = app.client(V5, "client").await;
    client.subscribe("t", 1 | NO_LOCAL).await;
    client.publish(&Publish::new("t", "own").qos(1, 1)).await;
    client.quiet().await;
    let mut other = app.client(V5, "other").await;
    other.publish(&Publish::new("t", "foreign").qos(1, 1)).await;
    assert_eq!(client.payload().await, "foreign");
    // One ordinary subscription beside it is enough to hear it, once.
    client.subscribe("+", 1).await;
    client.send_publish(&Publish::new("t", "own").qos(1, 2)).await;
    let mut got = vec![client.next().await, client.next().await];
    got.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
    assert_eq!(got[0], Packet::Puback(2, 0));
    let Packet::Publish(own) = &got[1] else { panic!("{got:?}") };
    client.acknowledge(own).await;
    client.quiet().await;
}

#[tokio::test]
async fn shared_subscriptions_take_turns() {
    let app = App::start(|_| {}).await;
    let mut publisher = app.client(V3, "publisher").await;
    let mut members = Vec::new();
    for (number, version) in [V3, V5, V5].into_iter().enumerate() {
        let mut member = app.client(version, &format!("member{number}")).await;
        member.subscribe("$share/group/a/+", 1).await;
        members.push(member);
    }
    let mut all = app.client(V5, "all").await;
    all.subscribe("a/#", 1).await;
    let mut alone = app.client(V5, "alone").await;
    alone.subscribe("$share/other/a/+", 1).await;
    for id in 1..=30u16 {
        publisher.publish(&Publish::new("a/b", id.to_string()).qos(1, id)).await;
    }
    let mut receivers = BTreeMap::new();
    for (number, member) in members.iter_mut().enumerate() {
        for _ in 0..10 {
            receivers.insert(member.payload().await.parse::<usize>().unwrap(), number);
        }
        member.quiet().await;
    }
    assert_eq!(receivers.len(), 30, "every message went to one member");
    for turn in receivers.values().collect::<Vec<_>>().windows(3) {
        assert!(turn[0] != turn[1] && turn[1] != turn[2] && turn[0] != turn[2], "{receivers:?}");
    }
    for id in 1..=30 {
        assert_eq!(all.payload().await, id.to_string());
        assert_eq!(alone.payload().await, id.to_string());
    }
    // Who leaves is left out; the group lives on.
    members.pop().unwrap().unsubscribe("$share/group/a/+").await;
    members.pop().unwrap().goodbye().await;
    for id in 1..=4u16 {
        publisher.publish(&Publish::new("a/b", id.to_string()).qos(1, id)).await;
        assert_eq!(members[0].payload().await, id.to_string());
    }
}

#[tokio::test]
async fn a_message_for_a_shared_group_goes_to_a_member_that_is_there() {
    let app = App::start(|_| {}).await;
    let away = crate::raw::bytes::Connect::kept(V5, "away");
    let (mut member, _) = app.connect(&away).await;
    member.subscribe("$share/group/t", 1).await;
    member.vanish();
    app.parked("away").await;
    let mut present = app.client(V5, "present").await;
    present.subscribe("$share/group/t", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    for id in 1..=4u16 {
        publisher.publish(&Publish::new("t", id.to_string()).qos(1, id)).await;
        assert_eq!(present.payload().await, id.to_string());
    }
    present.goodbye().await;
    app.forgotten("present").await;
    publisher.publish(&Publish::new("t", "kept").qos(1, 1)).await;
    let mut member = app.resume(&away, true).await;
    assert_eq!(member.payload().await, "kept");
}

#[tokio::test]
async fn unsubscribing_ends_the_messages() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let mut client = app.client(version, "client").await;
        let mut publisher = app.client(version, "publisher").await;
        client.subscribe("a/+", 1).await;
        client.subscribe("a/b", 1).await;
        client.unsubscribe("a/+").await;
        publisher.publish(&Publish::new("a/c", "lost").qos(1, 1)).await;
        publisher.publish(&Publish::new("a/b", "found").qos(1, 1)).await;
        assert_eq!(client.payload().await, "found");
        client.send(&unsubscribe(version, 5, &["nothing", "a/b"])).await;
        let codes = if version == V5 { vec![0x11, 0] } else { vec![] };
        assert_eq!(client.next().await, Packet::Unsuback(5, codes));
        publisher.publish(&Publish::new("a/b", "lost").qos(1, 1)).await;
        client.quiet().await;
        assert_eq!(app.server.broker.router.subscription_count(), 0);
        client.goodbye().await;
        publisher.goodbye().await;
    }
}

#[tokio::test]
async fn each_filter_has_an_answer_of_its_own() {
    let app = App::start(|config| config.limits.subscriptions_max = 3).await;
    for version in VERSIONS {
        let mut client = app.client(version, "client").await;
        let deep = format!("{}x", "a/".repeat(128));
        let filters = [("a", 1), ("forbidden/a", 1), (&*deep, 0), ("b", 2), ("c", 0), ("d", 1), ("a", 0)];
        client.send(&subscribe(version, 3, &[], &filters)).await;
        let code = |code: u8| if version == V5 { code } else { 0x80 };
        let expected = vec![1, code(0x87), code(0x8f), 2, 0, code(0x97), 0];
        assert_eq!(client.next().await, Packet::Suback(3, expected));
        // One goes, another may come.
        client.unsubscribe("b").await;
        client.subscribe("d", 1).await;
        client.goodbye().await;
    }
    assert_eq!(app.refused("subscriptions_max"), 2);
    assert_eq!(app.refused("forbidden"), 2);
}

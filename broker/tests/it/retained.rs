//! Retained messages: set, replaced, cleared, and when a subscriber gets them.

use crate::app::App;
use crate::raw::bytes::{Connect, Publish, V3, V5, VERSIONS};

const RETAIN_AS_PUBLISHED: u8 = 0b1000;
const IF_NEW: u8 = 0x10;
const NEVER: u8 = 0x20;

#[tokio::test]
async fn the_last_message_is_kept_until_an_empty_one_clears_it() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let mut publisher = app.client(version, "publisher").await;
        let mut present = app.client(version, "present").await;
        present.subscribe("t/#", 2).await;
        publisher.publish(&Publish::new("t/a", "first").qos(1, 1).retain()).await;
        publisher.publish(&Publish::new("t/a", "second").qos(2, 1).retain()).await;
        publisher.publish(&Publish::new("t/b", "other").retain()).await;
        publisher.publish(&Publish::new("t/a", "passing").qos(1, 1)).await;
        for expected in ["first", "second", "other", "passing"] {
            let received = present.receive().await;
            assert_eq!((received.text(), received.retain), (expected, false), "it comes as it is published");
        }
        for (filter, expected) in [
            ("t/a", &[("second", 1)][..]),
            ("t/+", &[("second", 1), ("other", 0)]),
            ("#", &[("second", 1), ("other", 0)]),
            ("t", &[]),
        ] {
            let mut late = app.client(version, "late").await;
            late.subscribe(filter, 1).await;
            for (payload, qos) in expected {
                let received = late.receive().await;
                assert_eq!(
                    (received.text(), received.qos, received.retain),
                    (*payload, *qos, true),
                    "{filter}"
                );
            }
            late.quiet().await;
            late.goodbye().await;
        }
        publisher.publish(&Publish::new("t/a", "").qos(1, 1).retain()).await;
        publisher.publish(&Publish::new("t/b", "").qos(1, 1).retain()).await;
        assert_eq!(present.payload().await, "", "the clearing message is delivered");
        assert_eq!(present.payload().await, "");
        let mut late = app.client(version, "late").await;
        late.subscribe("#", 1).await;
        late.quiet().await;
        assert_eq!(app.server.broker.router.retained.len(), 0);
        late.goodbye().await;
        publisher.goodbye().await;
        present.goodbye().await;
    }
}

#[tokio::test]
async fn they_come_again_with_each_subscribe_unless_the_client_says_otherwise() {
    let app = App::start(|_| {}).await;
    let mut publisher = app.client(V5, "publisher").await;
    publisher.publish(&Publish::new("t", "kept").qos(1, 1).retain()).await;
    for (version, options, first, again) in [
        (V3, 1, true, true),
        (V5, 1, true, true),
        (V5, 1 | IF_NEW, true, false),
        (V5, 1 | NEVER, false, false),
    ] {
        let connect = Connect::kept(version, &format!("client{options}"));
        let (mut client, _) = app.connect(&connect).await;
        for (comes, round) in [(first, "first"), (again, "second")] {
            client.subscribe("t", options).await;
            if comes {
                assert_eq!(client.payload().await, "kept", "{options:#x}, {round} subscribe");
            }
            client.quiet().await;
        }
        client.unsubscribe("t").await;
        client.subscribe("t", options).await;
        if first {
            assert_eq!(client.payload().await, "kept", "{options:#x}, after unsubscribe");
        }
        client.goodbye().await;
        app.parked(&connect.id).await;
        let mut client = app.resume(&connect, true).await;
        client.quiet().await;
        client.subscribe("t", options).await;
        if again {
            assert_eq!(client.payload().await, "kept", "{options:#x}, after coming back");
        }
        client.quiet().await;
        client.goodbye().await;
    }
}

#[tokio::test]
async fn the_flag_is_as_published_if_the_client_wants_it() {
    let app = App::start(|_| {}).await;
    let mut publisher = app.client(V3, "publisher").await;
    let mut client = app.client(V5, "client").await;
    client.subscribe("t", 1 | RETAIN_AS_PUBLISHED).await;
    publisher.publish(&Publish::new("t", "kept").qos(1, 1).retain()).await;
    publisher.publish(&Publish::new("t", "passing").qos(1, 1)).await;
    for (payload, retain) in [("kept", true), ("passing", false)] {
        let received = client.receive().await;
        assert_eq!((received.text(), received.retain), (payload, retain));
    }
    client.subscribe("t", 1).await;
    assert!(client.receive().await.retain, "a retained message says so");
}

#[tokio::test]
async fn shared_subscriptions_get_none() {
    let app = App::start(|_| {}).await;
    let mut client = app.client(V5, "client").await;
    client.publish(&Publish::new("t", "kept").qos(1, 1).retain()).await;
    client.subscribe("$share/group/t", 1).await;
    client.quiet().await;
}

#[tokio::test]
async fn a_no_local_subscription_gets_none_of_its_own() {
    let app = App::start(|_| {}).await;
    let mut client = app.client(V5, "client").await;
    client.publish(&Publish::new("t/own", "own").qos(1, 1).retain()).await;
    let mut other = app.client(V5, "other").await;
    other.publish(&Publish::new("t/foreign", "foreign").qos(1, 1).retain()).await;
    client.subscribe("t/+", 0b101).await;
    assert_eq!(client.payload().await, "foreign");
    client.quiet().await;
}

#[tokio::test]
async fn they_keep_their_properties_and_get_the_identifier() {
    let app = App::start(|_| {}).await;
    let mut client = app.client(V5, "client").await;
    let user = [0x26, 0, 1, b'n', 0, 1, b'v'];
    client.publish(&Publish::new("t", "kept").qos(1, 1).retain().with(&user)).await;
    client.subscribe_with("t", 1, &[0x0b, 5]).await;
    let received = client.receive().await.properties;
    assert_eq!(received.get(0x26), Some(&b"n=v"[..]));
    assert_eq!(received.number(0x0b), Some(5));
}

#[tokio::test]
async fn the_bound_refuses_another_topic_and_counts_it() {
    let app = App::start(|config| config.limits.retained_messages_max = 2).await;
    let mut client = app.client(V5, "client").await;
    for topic in ["t/a", "t/b", "t/c", "t/a"] {
        client.publish(&Publish::new(topic, topic).qos(1, 1).retain()).await;
    }
    assert_eq!(app.dropped("retained_full"), 1);
    client.subscribe("t/+", 0).await;
    assert_eq!(client.payload().await, "t/a");
    assert_eq!(client.payload().await, "t/b");
    client.quiet().await;
}

#[tokio::test]
async fn more_of_them_than_the_window_arrive_also_over_a_reconnect() {
    let app = App::start(|config| config.limits.inflight_max = 4).await;
    let mut publisher = app.client(V5, "publisher").await;
    for number in 0..20 {
        publisher.publish(&Publish::new(&format!("t/{number:02}"), "x").qos(1, 1).retain()).await;
    }
    for version in VERSIONS {
        let connect = Connect::kept(version, "client");
        let (client, _) = app.connect(&Connect { clean: true, ..connect.clone() }).await;
        client.goodbye().await;
        let (mut client, _) = app.connect(&connect).await;
        client.subscribe("t/+", 1).await;
        for number in 0..6 {
            assert_eq!(client.receive().await.topic, format!("t/{number:02}"));
        }
        let _unacknowledged = client.message().await;
        client.vanish();
        app.parked("client").await;
        let mut client = app.resume(&connect, true).await;
        let mut topics = Vec::new();
        while topics.last().is_none_or(|last| last != "t/19") {
            topics.push(client.receive().await.topic);
        }
        topics.dedup();
        let expected: Vec<_> = (6..20).map(|number| format!("t/{number:02}")).collect();
        assert!(topics.ends_with(&expected), "{topics:?}");
        client.goodbye().await;
    }
}

//! Message expiry: what is over is not delivered; what is not carries what is left.

use std::time::Duration;

use latchline_shared::kit::testing::eventually;

use crate::app::App;
use crate::raw::SOON;
use crate::raw::bytes::{Connect, Publish, V3, V5};

const fn expiry(seconds: u8) -> [u8; 5] {
    [0x02, 0, 0, 0, seconds]
}

async fn wait(seconds: f32) {
    tokio::time::sleep(Duration::from_secs_f32(seconds)).await;
}

#[tokio::test]
async fn a_message_at_once_carries_the_whole_interval() {
    let app = App::start(|_| {}).await;
    let mut client = app.client(V5, "client").await;
    client.subscribe("t", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    for seconds in [1, 2, 200] {
        publisher.publish(&Publish::new("t", "x").qos(1, 1).with(&expiry(seconds))).await;
        let received = client.receive().await;
        assert_eq!(received.properties.number(0x02), Some(seconds.into()));
    }
    publisher.publish(&Publish::new("t", "x").qos(1, 1).with(&[0x02, 0xff, 0xff, 0xff, 0xff])).await;
    assert_eq!(client.receive().await.properties.number(0x02), Some(u32::MAX));
    publisher.publish(&Publish::new("t", "x").qos(1, 1).with(&expiry(0))).await;
    publisher.publish(&Publish::new("t", "y").qos(1, 1)).await;
    let received = client.receive().await;
    assert_eq!((received.text(), received.properties.number(0x02)), ("y", None));
    assert_eq!(app.dropped("expired"), 1);
}

#[tokio::test]
async fn what_waited_too_long_is_dropped_and_the_rest_says_what_is_left() {
    let app = App::start(|_| {}).await;
    let connect = Connect::kept(V5, "client");
    let mut old = app.resume(&Connect::kept(V3, "old"), false).await;
    let mut client = app.resume(&connect, false).await;
    for client in [&mut client, &mut old] {
        client.subscribe("t", 2).await;
    }
    client.goodbye().await;
    old.goodbye().await;
    let mut publisher = app.client(V5, "publisher").await;
    for (id, (payload, seconds)) in (1..).zip([("over", 1), ("left", 10), ("over too", 1), ("left too", 100)])
    {
        let qos = 1 + (id % 2) as u8;
        publisher.publish(&Publish::new("t", payload).qos(qos, id).with(&expiry(seconds))).await;
    }
    wait(1.6).await;
    let mut client = app.resume(&connect, true).await;
    for (payload, most) in [("left", 9), ("left too", 99)] {
        let received = client.receive().await;
        let left = received.properties.number(0x02).expect("an expiry");
        assert_eq!(received.text(), payload);
        assert!((most - 5..=most).contains(&left), "{payload}: {left}");
    }
    client.quiet().await;
    let mut old = app.resume(&Connect::kept(V3, "old"), true).await;
    assert_eq!((old.payload().await, old.payload().await), ("left".into(), "left too".into()));
    old.quiet().await;
    assert_eq!(app.dropped("expired"), 4);
}

#[tokio::test]
async fn an_expired_retained_message_is_not_sent() {
    let app = App::start(|_| {}).await;
    let mut publisher = app.client(V5, "publisher").await;
    publisher.publish(&Publish::new("t/a", "over").qos(1, 1).retain().with(&expiry(1))).await;
    publisher.publish(&Publish::new("t/b", "left").qos(1, 1).retain().with(&expiry(50))).await;
    wait(1.1).await;
    let mut client = app.client(V5, "client").await;
    client.subscribe("t/+", 1).await;
    let received = client.receive().await;
    assert_eq!(received.text(), "left");
    assert!(received.properties.number(0x02).is_some_and(|left| (40..=49).contains(&left)));
    client.quiet().await;
    let retained = &app.server.broker.router.retained;
    eventually(SOON, "it is forgotten", async || retained.len() == 1).await;
}

#[tokio::test]
async fn an_expired_command_is_not_sent_again_after_a_reconnect() {
    let app = App::start(|_| {}).await;
    let connect = Connect::kept(V5, "lock");
    let mut lock = app.resume(&connect, false).await;
    lock.subscribe("t", 2).await;
    let mut operator = app.client(V5, "operator").await;
    operator.publish(&Publish::new("t", "unlock").qos(1, 1).with(&expiry(1))).await;
    operator.publish(&Publish::new("t", "begun").qos(2, 2).with(&expiry(1))).await;
    operator.publish(&Publish::new("t", "lock").qos(1, 3).with(&expiry(100))).await;
    for expected in ["unlock", "begun", "lock"] {
        assert_eq!(lock.message().await.text(), expected);
    }
    lock.vanish();
    app.parked("lock").await;
    wait(1.1).await;
    let mut lock = app.resume(&connect, true).await;
    // At QoS 2 the receiver may have it already and know its packet id, so it must be completed; it
    // says that it is over.
    let begun = lock.receive().await;
    assert_eq!((begun.text(), begun.dup, begun.properties.number(0x02)), ("begun", true, Some(0)));
    let left = lock.receive().await;
    assert_eq!((left.text(), left.dup), ("lock", true));
    lock.quiet().await;
    assert_eq!(app.dropped("expired"), 1);
}

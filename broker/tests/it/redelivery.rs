//! What was not acknowledged is sent again on the next connection, with the same ids, in order.

use crate::app::App;
use crate::hooks::Held;
use crate::raw::bytes::{Connect, Publish, V5, VERSIONS, puback, pubcomp, pubrec, pubrel};
use crate::raw::read::Packet;
use latchline_shared::hook::Call;

#[tokio::test]
async fn unacknowledged_deliveries_come_again_in_order() {
    let app = App::start(|config| config.limits.inflight_max = 8).await;
    for version in VERSIONS {
        let connect = Connect::kept(version, &format!("client{version}"));
        let mut client = app.resume(&connect, false).await;
        client.subscribe("t", 2).await;
        let mut publisher = app.client(version, "publisher").await;
        for id in 1..=12 {
            publisher.publish(&Publish::new("t", id.to_string()).qos(1 + (id % 2) as u8, id)).await;
        }
        publisher.goodbye().await;
        let mut first = Vec::new();
        for _ in 0..8 {
            first.push(client.message().await);
        }
        client.quiet().await;
        // Out of order: the third is acknowledged, the fourth (QoS 1) and the second stay.
        client.acknowledge(&first.remove(2)).await;
        first.push(client.message().await);
        client.vanish();
        app.parked(&connect.id).await;
        let mut client = app.resume(&connect, true).await;
        for sent in &first {
            let again = client.message().await;
            assert!(again.dup, "{again:?}");
            assert_eq!((again.id, &again.payload, again.qos), (sent.id, &sent.payload, sent.qos));
        }
        client.quiet().await;
        // What is new comes behind it, as the window has room.
        for number in 10..=12 {
            client.acknowledge(&first.remove(0)).await;
            let next = client.message().await;
            assert_eq!((next.text(), next.dup), (&*number.to_string(), false));
            first.push(next);
        }
        for received in &first {
            client.acknowledge(received).await;
        }
        client.quiet().await;
        client.goodbye().await;
    }
}

#[tokio::test]
async fn a_released_qos_2_delivery_goes_on_with_pubrel() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let connect = Connect::kept(version, &format!("client{version}"));
        let mut client = app.resume(&connect, false).await;
        client.subscribe("t", 2).await;
        let mut publisher = app.client(version, "publisher").await;
        for id in 1..=3 {
            publisher.publish(&Publish::new("t", id.to_string()).qos(2, id)).await;
        }
        publisher.goodbye().await;
        let (one, two, three) = (client.message().await, client.message().await, client.message().await);
        client.send(&pubrec(two.id)).await;
        assert_eq!(client.next().await, Packet::Pubrel(two.id, 0));
        client.vanish();
        app.parked(&connect.id).await;
        for _ in 0..2 {
            let mut client = app.resume(&connect, true).await;
            let again = client.message().await;
            assert_eq!((again.id, again.dup), (one.id, true));
            assert_eq!(client.next().await, Packet::Pubrel(two.id, 0), "in the order of the first sending");
            let again = client.message().await;
            assert_eq!((again.id, again.dup), (three.id, true));
            client.vanish();
            app.parked(&connect.id).await;
        }
        let mut client = app.resume(&connect, true).await;
        for _ in 0..3 {
            client.next().await;
        }
        // A client that lost its PUBREC says it again.
        client.send(&pubrec(two.id)).await;
        assert_eq!(client.next().await, Packet::Pubrel(two.id, 0));
        client.send(&pubcomp(two.id)).await;
        client.acknowledge(&one).await;
        client.acknowledge(&three).await;
        client.quiet().await;
        client.goodbye().await;
        let mut client = app.resume(&connect, true).await;
        client.quiet().await;
        client.unsubscribe("t").await;
    }
}

#[tokio::test]
async fn a_smaller_window_holds_for_what_comes_again() {
    let app = App::start(|_| {}).await;
    let mut client = app.resume(&Connect::kept(V5, "client"), false).await;
    client.subscribe("t", 1).await;
    let mut publisher = app.client(V5, "publisher").await;
    for id in 1..=6 {
        publisher.publish(&Publish::new("t", id.to_string()).qos(1, id)).await;
    }
    for _ in 1..=6 {
        client.message().await;
    }
    client.vanish();
    app.parked("client").await;
    let narrow = Connect::kept(V5, "client").with(&[0x21, 0, 2]);
    let mut client = app.resume(&narrow, true).await;
    let mut waiting = vec![client.message().await, client.message().await];
    publisher.publish(&Publish::new("t", "7").qos(1, 7)).await;
    for number in 3..=9 {
        client.quiet().await;
        let oldest = waiting.remove(0);
        assert_eq!(oldest.text(), (number - 2).to_string());
        client.send(&puback(oldest.id)).await;
        if number <= 7 {
            waiting.push(client.message().await);
        }
    }
    client.quiet().await;
}

#[tokio::test]
async fn a_qos_2_publish_that_is_released_is_not_published_again() {
    let app = App::start(|config| config.limits.receive_max = 4).await;
    for version in VERSIONS {
        let connect = Connect::kept(version, &format!("client{version}"));
        let mut client = app.resume(&connect, false).await;
        let mut subscriber = app.client(version, "subscriber").await;
        subscriber.subscribe("t", 2).await;
        for id in 1..=4 {
            client.send_publish(&Publish::new("t", id.to_string()).qos(2, id)).await;
            assert_eq!(client.next().await, Packet::Pubrec(id, 0));
            assert_eq!(subscriber.payload().await, id.to_string());
        }
        client.vanish();
        app.parked(&connect.id).await;
        // The new connection has a Receive Maximum of its own: the four may come again.
        let mut client = app.resume(&connect, true).await;
        for id in 1..=4 {
            client.send_publish(&Publish::new("t", id.to_string()).qos(2, id).dup()).await;
            assert_eq!(client.next().await, Packet::Pubrec(id, 0));
        }
        client.vanish();
        app.parked(&connect.id).await;
        // Or be released, while four others are under way.
        let mut client = app.resume(&connect, true).await;
        for id in 5..=8 {
            client.send_publish(&Publish::new("t", id.to_string()).qos(2, id)).await;
            assert_eq!(client.next().await, Packet::Pubrec(id, 0));
            assert_eq!(subscriber.payload().await, id.to_string());
        }
        for id in 1..=8 {
            client.send(&pubrel(id)).await;
            assert_eq!(client.next().await, Packet::Pubcomp(id, 0));
        }
        subscriber.quiet().await;
        client.goodbye().await;
        subscriber.goodbye().await;
    }
}

#[tokio::test]
async fn a_qos_2_publish_that_was_not_stored_is_published_again() {
    let held = Held::new(&[Call::MessagePublish]);
    let app = App::with_hook(&held, |_| {}).await;
    for version in VERSIONS {
        let connect = Connect::kept(version, &format!("client{version}"));
        let mut client = app.resume(&connect, false).await;
        client.send_publish(&Publish::new("t", "x").qos(2, 7)).await;
        held.waits_for(1).await;
        client.vanish();
        app.parked(&connect.id).await;
        let mut client = app.resume(&connect, true).await;
        client.send_publish(&Publish::new("t", "x").qos(2, 7).dup()).await;
        held.waits_for(2).await;
        // The first is stored now; the PUBREC still waits for the second.
        held.settle(0);
        client.quiet().await;
        held.settle(0);
        assert_eq!(client.next().await, Packet::Pubrec(7, 0));
        client.send(&pubrel(7)).await;
        assert_eq!(client.next().await, Packet::Pubcomp(7, 0));
        client.goodbye().await;
    }
    let expected: Vec<String> = VERSIONS
        .iter()
        .flat_map(|version| ["", " dup"].map(|dup| format!("client{version} t x at 2{dup}")))
        .collect();
    assert_eq!(held.of(Call::MessagePublish), expected);
    app.settled().await;
}

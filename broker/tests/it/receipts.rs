//! Acknowledgements wait for the receipts of the hooks: in order, all of them, and nothing else
//! waits with them.

use std::sync::Arc;

use latchline_shared::fault::Fault;
use latchline_shared::hook::Call;
use latchline_shared::kit::testing::{Seed, eventually};

use crate::app::{App, closed};
use crate::hooks::{Held, Panics, Rejects};
use crate::raw::SOON;
use crate::raw::bytes::{PING, Publish, V3, V5, VERSIONS, pubrel};
use crate::raw::read::Packet;

const PUBLISH: &[Call] = &[Call::MessagePublish];

#[tokio::test]
async fn acknowledgements_leave_in_order_of_arrival_in_whatever_order_receipts_settle() {
    const MESSAGES: u16 = 200;
    let mut random = Seed::of_this_run()
        .random("acknowledgements_leave_in_order_of_arrival_in_whatever_order_receipts_settle");
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |config| config.limits.receive_max = MESSAGES).await;
    for version in VERSIONS {
        let mut client = app.client(version, "client").await;
        let mut expected = Vec::new();
        for id in 1..=MESSAGES {
            let qos = random.below(3) as u8;
            client.send_publish(&Publish::new("t", id.to_string()).qos(qos, id)).await;
            match qos {
                0 => {}
                1 => expected.push(Packet::Puback(id, 0)),
                _ => expected.push(Packet::Pubrec(id, 0)),
            }
        }
        held.waits_for(MESSAGES.into()).await;
        // The first settles last: until then there is nothing but answers to PINGREQ.
        let first = held.take(0);
        while held.open() > 0 {
            held.settle(random.index(held.open()));
            if random.chance(10) {
                client.quiet().await;
            }
        }
        client.quiet().await;
        first.settle(Ok(()));
        for packet in expected {
            assert_eq!(client.next().await, packet);
        }
        client.quiet().await;
        client.goodbye().await;
    }
    app.settled().await;
}

#[tokio::test]
async fn nothing_but_the_acknowledgement_waits() {
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |_| {}).await;
    for version in VERSIONS {
        let mut subscriber = app.client(version, "subscriber").await;
        subscriber.subscribe("t", 2).await;
        let mut client = app.client(version, "client").await;
        client.send_publish(&Publish::new("t", "1").qos(1, 1)).await;
        client.send_publish(&Publish::new("t", "2").qos(2, 2)).await;
        held.waits_for(2).await;
        // Deliveries, subscriptions and pings go on.
        assert_eq!((subscriber.payload().await, subscriber.payload().await), ("1".into(), "2".into()));
        client.subscribe("own", 1).await;
        client.quiet().await;
        // PUBREL for what has no PUBREC yet is answered too, and does not free the way for it.
        held.settle(1);
        client.quiet().await;
        held.settle(0);
        assert_eq!(client.next().await, Packet::Puback(1, 0));
        assert_eq!(client.next().await, Packet::Pubrec(2, 0));
        client.send(&pubrel(2)).await;
        assert_eq!(client.next().await, Packet::Pubcomp(2, 0));
        client.goodbye().await;
        subscriber.goodbye().await;
    }
}

#[tokio::test]
async fn two_hooks_must_both_have_stored() {
    let (one, two) = (Held::new(PUBLISH), Held::new(PUBLISH));
    let app = App::with_links(vec![closed(&one), closed(&two)], |_| {}).await;
    let mut client = app.client(V5, "client").await;
    for round in 0..2 {
        client.send_publish(&Publish::new("t", "x").qos(1, 1)).await;
        two.waits_for(1).await;
        let (first, second) = if round == 0 { (&one, &two) } else { (&two, &one) };
        first.settle(0);
        client.quiet().await;
        second.settle(0);
        assert_eq!(client.next().await, Packet::Puback(1, 0));
    }
    app.settled().await;
}

#[tokio::test]
async fn what_can_never_be_stored_is_refused() {
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |_| {}).await;
    let permanent = || Fault::Permanent("too large".into());
    let mut client = app.client(V5, "client").await;
    for id in 1..=4 {
        client.send_publish(&Publish::new("t", "x").qos(1 + (id % 2) as u8, id)).await;
    }
    held.waits_for(4).await;
    held.fail(1, permanent());
    held.fail(1, permanent());
    held.settle_all();
    for expected in
        [Packet::Pubrec(1, 0), Packet::Puback(2, 0x83), Packet::Pubrec(3, 0x83), Packet::Puback(4, 0)]
    {
        assert_eq!(client.next().await, expected);
    }
    // The id of the refused QoS 2 message is free.
    client.send_publish(&Publish::new("t", "again").qos(2, 3)).await;
    held.waits_for(1).await;
    held.settle(0);
    assert_eq!(client.next().await, Packet::Pubrec(3, 0));
    // 3.1.1 has no word for it.
    let mut old = app.client(V3, "old").await;
    for id in 1..=3 {
        old.send_publish(&Publish::new("t", "x").qos(1, id)).await;
    }
    held.waits_for(3).await;
    held.fail(1, permanent());
    held.settle_all();
    assert_eq!(old.rest().await, [Packet::Puback(1, 0)], "acknowledged up to the one that failed");
    client.quiet().await;
}

#[tokio::test]
async fn what_was_not_stored_is_not_acknowledged() {
    let held = Held::new(PUBLISH);
    let app = App::with_hook(&held, |_| {}).await;
    for fault in [Fault::transient("away"), Fault::Bug("oops".into())] {
        for version in VERSIONS {
            for qos in [1, 2] {
                let mut client = app.client(version, "client").await;
                for id in 1..=3 {
                    client.send_publish(&Publish::new("t", "x").qos(qos, id)).await;
                }
                held.waits_for(3).await;
                held.fail(1, fault.clone());
                held.settle_all();
                let first = if qos == 1 { Packet::Puback(1, 0) } else { Packet::Pubrec(1, 0) };
                let mut expected = vec![first];
                expected.extend((version == V5).then_some(Packet::Disconnect(0x83)));
                assert_eq!(client.rest().await, expected);
            }
        }
    }
    // QoS 0 has no acknowledgement to withhold; it is counted.
    let mut client = app.client(V5, "client").await;
    client.send_publish(&Publish::new("t", "x")).await;
    held.waits_for(1).await;
    held.fail(0, Fault::transient("away"));
    eventually(SOON, "the loss is counted", async || app.dropped("record_not_stored") == 1).await;
    client.quiet().await;
    app.settled().await;
}

#[tokio::test]
async fn a_rejected_message_is_answered_in_its_turn_and_goes_nowhere() {
    let held = Held::new(PUBLISH);
    let app = App::with_links(vec![closed(&Arc::new(Rejects)), closed(&held)], |_| {}).await;
    let mut listener = app.client(V5, "listener").await;
    listener.subscribe("#", 2).await;
    for (topic, code) in [("rejected/t", 0x97), ("forbidden/t", 0x87)] {
        let mut client = app.client(V5, "client").await;
        client.send_publish(&Publish::new("t", "x").qos(1, 1)).await;
        client.send_publish(&Publish::new(topic, "x").qos(1, 2)).await;
        client.send_publish(&Publish::new(topic, "x").qos(2, 3).retain()).await;
        held.waits_for(1).await;
        client.quiet().await;
        held.settle(0);
        for expected in [Packet::Puback(1, 0), Packet::Puback(2, code), Packet::Pubrec(3, code)] {
            assert_eq!(client.next().await, expected);
        }
        // Its id is free, and without an acknowledgement to say it the connection ends.
        client.send_publish(&Publish::new("t", "x").qos(2, 3)).await;
        held.waits_for(1).await;
        held.settle(0);
        assert_eq!(client.next().await, Packet::Pubrec(3, 0));
        client.send_publish(&Publish::new(topic, "x")).await;
        client.ended(code).await;
        for qos in 0..=2 {
            let mut old = app.client(V3, "old").await;
            old.send_publish(&Publish::new(topic, "x").qos(qos, 1)).await;
            old.ended(code).await;
        }
        for _ in 0..2 {
            assert_eq!(listener.receive().await.topic, "t");
        }
        listener.quiet().await;
    }
    assert!(app.server.broker.router.retained.is_empty());
    assert_eq!(held.of(Call::MessagePublish).len(), 4, "a rejected message goes to no later hook");
}

#[tokio::test]
async fn a_panicking_hook_harms_only_its_own_message() {
    let app = App::with_hook(&Arc::new(Panics), |_| {}).await;
    let mut healthy = app.client(V5, "healthy").await;
    healthy.subscribe("t", 2).await;
    for version in VERSIONS {
        for qos in 0..=2 {
            let mut client = app.client(version, "client").await;
            client.publish(&Publish::new("t", "x").qos(qos, 1)).await;
            assert_eq!(healthy.payload().await, "x");
            // Neither delivered nor acknowledged: the hook may be the one that guards, or stores.
            client.send_publish(&Publish::new("panic/t", "x").qos(qos, 2)).await;
            client.ended(0x83).await;
        }
    }
    healthy.unsubscribe("t").await;
    healthy.quiet().await;
    healthy.goodbye().await;
    assert_eq!(app.metric("broker_session_connections"), 0);
}

#[tokio::test]
async fn a_client_may_vanish_while_everything_waits() {
    let held = Held::new(crate::hooks::EVENTS);
    let app = App::with_hook(&held, |_| {}).await;
    for version in VERSIONS {
        let mut client = app.client(version, "client").await;
        client.subscribe("t", 1).await;
        client.send_publish(&Publish::new("t", "x").qos(1, 1)).await;
        let own = client.message().await;
        client.acknowledge(&own).await;
        client.send(&PING).await;
        assert_eq!(client.next().await, Packet::Pingresp);
        client.vanish();
        // Connected, subscribed, publish, deliver, acked, disconnected.
        held.waits_for(6).await;
        assert!(app.server.broker.budget.used() > 0);
        assert_eq!(held.settle_all(), 6);
        app.settled().await;
    }
}

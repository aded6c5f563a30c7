//! Refused messages: whoever keeps record of them is told, and the publisher hears of it afterwards.

use std::sync::Arc;

use latchline_broker::config::Unanswerable;
use latchline_shared::fault::Fault;
use latchline_shared::hook::Call;
use latchline_shared::kit::testing::eventually;

use crate::app::{App, closed};
use crate::hooks::{Held, Rejects};
use crate::raw::SOON;
use crate::raw::bytes::{PING, Publish, V3, V5};
use crate::raw::read::Packet;

/// One that the access rules refuse, and one that a hook refuses.
const REFUSED: [(&str, u8, &str); 2] = [("forbidden/t", 0x87, "forbidden"), ("rejected/t", 0x97, "rejected")];

async fn app(held: &Arc<Held>, unanswerable: Unanswerable) -> App {
    App::with_links(vec![closed(&Arc::new(Rejects)), closed(held)], |config| {
        config.access.unanswerable_refusal = unanswerable;
    })
    .await
}

#[tokio::test]
async fn the_answer_waits_for_the_record() {
    let held = Held::new(&[Call::MessageRejected]);
    let app = app(&held, Unanswerable::Disconnect).await;
    let mut listener = app.client(V5, "listener").await;
    listener.subscribe("#", 2).await;
    for (topic, code, cause) in REFUSED {
        let mut client = app.client(V5, "client").await;
        client.send_publish(&Publish::new(topic, "x").qos(1, 1)).await;
        client.send_publish(&Publish::new(topic, "y").qos(2, 2)).await;
        held.waits_for(2).await;
        assert!(app.server.broker.budget.used() > 2000, "what waits is counted");
        client.quiet().await;
        held.settle(0);
        assert_eq!(client.next().await, Packet::Puback(1, code));
        held.settle(0);
        assert_eq!(client.next().await, Packet::Pubrec(2, code));
        client.send_publish(&Publish::new(topic, "z")).await;
        held.waits_for(1).await;
        held.settle(0);
        client.ended(code).await;

        let mut old = app.client(V3, "old").await;
        old.send_publish(&Publish::new(topic, "o").qos(1, 1)).await;
        held.waits_for(1).await;
        // Nothing that comes behind it is taken.
        old.send_publish(&Publish::new("t", "x").qos(1, 2)).await;
        old.send(&PING).await;
        held.settle(0);
        old.ended(code).await;
        let expected = ["x", "y", "z", "o"].map(|payload| {
            let client = if payload == "o" { "old" } else { "client" };
            format!("{client} {topic} {payload} {cause}")
        });
        let rejected = held.of(Call::MessageRejected);
        assert_eq!(rejected[rejected.len() - 4..], expected);
    }
    listener.quiet().await;
    app.settled().await;
}

#[tokio::test]
async fn a_client_that_cannot_be_told_may_be_acknowledged() {
    let held = Held::new(&[Call::MessageRejected]);
    let app = app(&held, Unanswerable::Drop).await;
    let mut listener = app.client(V5, "listener").await;
    listener.subscribe("#", 2).await;
    for (topic, code, _) in REFUSED {
        let mut old = app.client(V3, "old").await;
        for qos in 0..=2 {
            old.send_publish(&Publish::new(topic, "x").qos(qos, 1)).await;
            held.waits_for(1).await;
            old.quiet().await;
            held.settle(0);
            match qos {
                0 => old.quiet().await,
                1 => assert_eq!(old.next().await, Packet::Puback(1, 0)),
                _ => assert_eq!(old.next().await, Packet::Pubrec(1, 0)),
            }
        }
        // Who can be told is.
        let mut new = app.client(V5, "new").await;
        new.send_publish(&Publish::new(topic, "x")).await;
        new.send_publish(&Publish::new(topic, "x").qos(1, 1)).await;
        held.waits_for(2).await;
        held.settle(0);
        held.settle(0);
        assert_eq!(new.next().await, Packet::Puback(1, code));
    }
    listener.quiet().await;
    app.settled().await;
}

#[tokio::test]
async fn a_refusal_that_cannot_be_recorded_is_still_one() {
    let held = Held::new(&[Call::MessageRejected]);
    let app = app(&held, Unanswerable::Disconnect).await;
    let mut listener = app.client(V5, "listener").await;
    listener.subscribe("#", 2).await;
    let mut old = app.client(V3, "old").await;
    old.send_publish(&Publish::new("rejected/t", "x").qos(1, 1)).await;
    held.waits_for(1).await;
    held.fail(0, Fault::transient("away"));
    old.ended(0x97).await;
    eventually(SOON, "the loss is counted", async || app.dropped("rejection_not_stored") == 1).await;
    let mut new = app.client(V5, "new").await;
    new.send_publish(&Publish::new("rejected/t", "x").qos(1, 1)).await;
    held.waits_for(1).await;
    held.fail(0, Fault::transient("away"));
    new.ended(0x83).await;
    listener.quiet().await;
}

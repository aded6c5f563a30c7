//! The seven events, exactly as section 2 of the contract has them.

use std::time::Duration;

use latchline_broker::session::mailbox::Signal;
use latchline_shared::hook::Call;
use latchline_shared::kit::testing::eventually;

use crate::app::App;
use crate::hooks::Held;
use crate::raw::SOON;
use crate::raw::bytes::{
    Connect, Publish, V5, VERSIONS, disconnect, packet, puback, pubrec, subscribe, unsubscribe,
};
use crate::raw::read::Packet;

/// Waits for these events, in this order, and nothing else.
async fn expect(recorder: &Held, expected: &[&str]) {
    eventually(SOON, "as many events", async || recorder.lines().len() >= expected.len()).await;
    assert_eq!(recorder.lines(), expected);
}

#[tokio::test]
async fn a_message_fires_publish_once_and_deliver_and_acked_per_receiver() {
    for version in VERSIONS {
        let recorder = Held::recorder();
        let app = App::with_hook(&recorder, |_| {}).await;
        let mut publisher = app.client(version, "lock").await;
        let mut one = app.client(version, "one").await;
        one.subscribe("devices/+/state", 2).await;
        publisher.publish(&Publish::new("devices/lock/state", "zero")).await;
        one.receive().await;
        publisher.publish(&Publish::new("devices/lock/state", "first").qos(1, 1)).await;
        one.receive().await;
        one.quiet().await;
        publisher.publish(&Publish::new("nobody", "listens").qos(2, 2)).await;
        publisher.publish(&Publish::new("devices/lock/state", "second").qos(2, 3).retain()).await;
        let second = one.message().await;
        one.send(&pubrec(second.id)).await;
        assert_eq!(one.next().await, Packet::Pubrel(second.id, 0));
        one.send(&pubrec(second.id)).await;
        assert_eq!(one.next().await, Packet::Pubrel(second.id, 0));
        one.send(&[0x70, 2, 0, second.id as u8]).await;
        let mut two = app.client(version, "two").await;
        two.subscribe("devices/#", 1).await;
        two.receive().await;
        two.quiet().await;
        one.unsubscribe("devices/+/state").await;
        one.goodbye().await;
        expect(
            &recorder,
            &[
                "client.connected lock",
                "client.connected one",
                "session.subscribed one devices/+/state at 2",
                "message.publish lock devices/lock/state zero at 0",
                "message.deliver one devices/lock/state zero from lock at 0",
                "message.publish lock devices/lock/state first at 1",
                "message.deliver one devices/lock/state first from lock at 1",
                "message.acked one devices/lock/state first from lock at 1",
                "message.publish lock nobody listens at 2",
                "message.publish lock devices/lock/state second at 2",
                "message.deliver one devices/lock/state second from lock at 2",
                "message.acked one devices/lock/state second from lock at 2",
                "client.connected two",
                "session.subscribed two devices/# at 1",
                "message.deliver two devices/lock/state second from lock at 1 retain",
                "message.acked two devices/lock/state second from lock at 1 retain",
                "session.unsubscribed one devices/+/state at 2",
                "client.disconnected one normal",
            ],
        )
        .await;
        let events = recorder.events();
        for (payload, count) in [("zero", 2), ("first", 3), ("listens", 1), ("second", 5)] {
            let word = format!(" {payload} ");
            let mut mids: Vec<_> = events
                .iter()
                .filter(|event| event.line.contains(&word))
                .map(|event| event.mid.unwrap())
                .collect();
            assert_eq!(mids.len(), count);
            mids.dedup();
            assert_eq!(mids.len(), 1, "a message has one id, from publish to acked");
        }
        let mut mids: Vec<_> = events.iter().filter_map(|event| event.mid).collect();
        mids.sort_unstable();
        mids.dedup();
        assert_eq!(mids.len(), 4, "each message has its own id");
    }
}

#[tokio::test]
async fn deliver_and_acked_fire_once_per_message_over_reconnects() {
    for version in VERSIONS {
        let recorder = Held::recorder();
        let app = App::with_hook(&recorder, |_| {}).await;
        let connect = Connect::kept(version, "client");
        let mut client = app.resume(&connect, false).await;
        client.subscribe("t", 2).await;
        let mut publisher = app.client(version, "publisher").await;
        publisher.publish(&Publish::new("t", "1").qos(1, 1)).await;
        publisher.publish(&Publish::new("t", "2").qos(2, 2)).await;
        let (one, two) = (client.message().await, client.message().await);
        client.send(&pubrec(two.id)).await;
        client.next().await;
        client.vanish();
        app.parked("client").await;
        let mut client = app.resume(&connect, true).await;
        assert_eq!(client.message().await.id, one.id);
        assert_eq!(client.next().await, Packet::Pubrel(two.id, 0));
        client.send(&puback(one.id)).await;
        client.send(&puback(one.id)).await;
        client.send(&[0x70, 2, 0, two.id as u8]).await;
        client.quiet().await;
        let deliver = ["client t 1 from publisher at 1", "client t 2 from publisher at 2"];
        assert_eq!(recorder.of(Call::MessageDeliver), deliver);
        let acked = ["client t 2 from publisher at 2", "client t 1 from publisher at 1 dup"];
        assert_eq!(recorder.of(Call::MessageAcked), acked);
    }
}

#[tokio::test]
async fn subscribed_and_unsubscribed_fire_for_what_was_granted_and_known() {
    let recorder = Held::recorder();
    let app = App::with_hook(&recorder, |_| {}).await;
    for version in VERSIONS {
        let mut client = app.client(version, "client").await;
        let filters = [("a/+", 0), ("forbidden/a", 1), ("$share/g/a/#", 1), ("a/+", 2)];
        client.send(&subscribe(version, 1, &[], &filters)).await;
        client.next().await;
        client.send(&unsubscribe(version, 2, &["a/+", "unknown", "$share/g/a/#", "a/+"])).await;
        client.next().await;
        client.quiet().await;
    }
    let subscribed = ["client a/+ at 0", "client $share/g/a/# at 1", "client a/+ at 2"];
    assert_eq!(recorder.of(Call::SessionSubscribed), [subscribed, subscribed].concat());
    let unsubscribed = ["client a/+ at 2", "client $share/g/a/# at 1"];
    assert_eq!(recorder.of(Call::SessionUnsubscribed), [unsubscribed, unsubscribed].concat());
}

#[tokio::test]
async fn who_is_refused_fires_nothing() {
    let recorder = Held::recorder();
    let app = App::with_hook(&recorder, |config| config.limits.sessions_max = 0).await;
    for version in VERSIONS {
        let (mut client, connack) = app.connect(&Connect::new(version, "client").will("will", "gone")).await;
        assert_ne!(connack.code, 0);
        client.rest().await;
    }
    assert_eq!(recorder.lines(), [] as [&str; 0]);
}

#[tokio::test]
async fn disconnected_says_why() {
    let recorder = Held::recorder();
    let app = App::with_hook(&recorder, |config| {
        config.limits.packet_timeout = Duration::from_millis(200);
        config.limits.packet_bytes_max = 1000;
        config.limits.shutdown_deadline = Duration::from_secs(1);
    })
    .await;
    for (version, bytes, reason) in [
        (4, vec![0xe0, 0], "normal"),
        (5, vec![0xe0, 0], "normal"),
        (5, disconnect(0x04, &[]), "normal"),
        (5, packet(0x82, &[]), "malformed_packet"),
        (4, vec![0x30, 0xff, 0xff, 0x7f], "packet_too_large"),
        (5, vec![0xf0, 0], "protocol_error"),
        (5, vec![0x30, 5], "packet_timeout"),
        (4, Publish::new("forbidden/t", "x").qos(1, 1).bytes(4), "refused"),
    ] {
        let mut client = app.client(version, "client").await;
        client.send(&bytes).await;
        client.rest().await;
        let last = recorder.of(Call::ClientDisconnected).pop().unwrap();
        assert_eq!(last, format!("client {reason}"), "{bytes:02x?}");
    }
    let last = async |reason: &str| {
        let expected = format!("client {reason}");
        eventually(SOON, reason, async || recorder.of(Call::ClientDisconnected).last() == Some(&expected))
            .await;
    };
    app.client(V5, "client").await.vanish();
    last("tcp_closed").await;
    let (mut silent, _) = app.connect(&Connect::new(V5, "client").keep_alive(1)).await;
    silent.ended(0x8d).await;
    last("keepalive_timeout").await;
    let mut kicked = app.client(V5, "client").await;
    assert!(app.server.broker.registry.signal("client", Signal::Kick));
    kicked.ended(0x98).await;
    last("kicked").await;
    let mut old = app.client(V5, "client").await;
    let mut new = app.client(V5, "client").await;
    old.ended(0x8e).await;
    last("takenover").await;
    app.server.stop().await;
    new.ended(0x8b).await;
    last("server_shutdown").await;
    let connected = recorder.of(Call::ClientConnected).len();
    assert_eq!(recorder.of(Call::ClientDisconnected).len(), connected);
}

#[tokio::test]
async fn a_will_fires_publish_for_the_client_that_is_gone() {
    let recorder = Held::recorder();
    let app = App::with_hook(&recorder, |_| {}).await;
    let (client, _) = app.connect(&Connect::new(V5, "client").will("will", "gone")).await;
    client.vanish();
    let expected = [
        "client.connected client",
        "client.disconnected client tcp_closed",
        "message.publish client will gone at 1",
    ];
    expect(&recorder, &expected).await;
}

//! An independent client, in both versions, does the ordinary things.

use std::time::Duration;

use bytes::Bytes;
use latchline_shared::kit::testing::eventually;
use rumqttc::v5::mqttbytes::QoS as Qos5;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use rumqttc::v5::{self, MqttOptions as Options5};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::time::timeout;

use crate::app::App;
use crate::raw::SOON;
use crate::raw::bytes::{Publish, V5};

fn client(app: &App, id: &str, clean: bool) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, app.tcp().ip().to_string(), app.tcp().port());
    options.set_keep_alive(Duration::from_secs(5)).set_clean_session(clean);
    AsyncClient::new(options, 10)
}

fn client5(app: &App, id: &str, clean: bool) -> (v5::AsyncClient, v5::EventLoop) {
    let mut options = Options5::new(id, app.tcp().ip().to_string(), app.tcp().port());
    options.set_keep_alive(Duration::from_secs(5)).set_clean_start(clean);
    options.set_session_expiry_interval(Some(300));
    v5::AsyncClient::new(options, 10)
}

async fn next(events: &mut EventLoop) -> Packet {
    loop {
        match timeout(SOON, events.poll()).await.expect("an event in time").unwrap() {
            Event::Incoming(packet) => return packet,
            Event::Outgoing(_) => {}
        }
    }
}

async fn next5(events: &mut v5::EventLoop) -> v5::Incoming {
    loop {
        match timeout(SOON, events.poll()).await.expect("an event in time").unwrap() {
            v5::Event::Incoming(packet) => return packet,
            v5::Event::Outgoing(_) => {}
        }
    }
}

/// The next message that is no repetition: a client that is dropped may have acknowledgements left.
async fn message(events: &mut EventLoop) -> Bytes {
    loop {
        match next(events).await {
            Packet::Publish(publish) if !publish.dup => return publish.payload,
            Packet::Publish(_) => {}
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }
}

/// As [`message`].
async fn message5(events: &mut v5::EventLoop) -> Bytes {
    loop {
        match next5(events).await {
            v5::Incoming::Publish(publish) if !publish.dup => return publish.payload,
            v5::Incoming::Publish(_) => {}
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }
}

#[tokio::test]
async fn rumqttc_publishes_and_subscribes_at_every_qos() {
    let app = App::start(|_| {}).await;
    let (client, mut events) = client(&app, "client", true);
    client.subscribe("a/+", QoS::ExactlyOnce).await.unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.publish("a/b", qos, false, format!("{qos:?}")).await.unwrap();
    }
    let mut received = Vec::new();
    while received.len() < 3 {
        if let Packet::Publish(publish) = next(&mut events).await {
            received.push((publish.qos, publish.payload));
        }
    }
    let expected =
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| (qos, format!("{qos:?}").into()));
    assert_eq!(received, expected);
}

#[tokio::test]
async fn rumqttc_of_mqtt_5_publishes_with_properties_at_every_qos() {
    let app = App::start(|_| {}).await;
    let (client, mut events) = client5(&app, "client", true);
    client.subscribe("a/+", Qos5::ExactlyOnce).await.unwrap();
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(100),
        response_topic: Some("back".to_owned()),
        correlation_data: Some("7".into()),
        user_properties: vec![("name".to_owned(), "value".to_owned())],
        content_type: Some("text".to_owned()),
        ..PublishProperties::default()
    };
    for qos in [Qos5::AtMostOnce, Qos5::AtLeastOnce, Qos5::ExactlyOnce] {
        let payload = format!("{qos:?}");
        client.publish_with_properties("a/b", qos, false, payload, properties.clone()).await.unwrap();
    }
    let mut received = Vec::new();
    while received.len() < 3 {
        if let v5::Incoming::Publish(publish) = next5(&mut events).await {
            assert_eq!(publish.properties.as_ref(), Some(&properties));
            received.push((publish.qos, publish.payload));
        }
    }
    let expected =
        [Qos5::AtMostOnce, Qos5::AtLeastOnce, Qos5::ExactlyOnce].map(|qos| (qos, format!("{qos:?}").into()));
    assert_eq!(received, expected);
}

#[tokio::test]
async fn rumqttc_finds_its_session_again() {
    let app = App::start(|_| {}).await;
    let mut publisher = app.client(V5, "publisher").await;
    let registry = &app.server.broker.registry;
    for round in 0..3 {
        let (client, mut events) = client(&app, "old", false);
        let (client5, mut events5) = client5(&app, "new", false);
        let Packet::ConnAck(connack) = next(&mut events).await else { panic!("no CONNACK") };
        let v5::Incoming::ConnAck(connack5) = next5(&mut events5).await else { panic!("no CONNACK") };
        assert_eq!((connack.session_present, connack5.session_present), (round > 0, round > 0));
        if round == 0 {
            client.subscribe("t", QoS::AtLeastOnce).await.unwrap();
            client5.subscribe("t", Qos5::ExactlyOnce).await.unwrap();
            assert!(matches!(next(&mut events).await, Packet::SubAck(_)));
            assert!(matches!(next5(&mut events5).await, v5::Incoming::SubAck(_)));
        } else {
            for number in 1..=30 {
                assert_eq!(message(&mut events).await, number.to_string());
                assert_eq!(message5(&mut events5).await, number.to_string());
            }
        }
        drop((events, events5));
        eventually(SOON, "both are parked", async || {
            ["old", "new"].iter().all(|id| registry.status(id).is_some_and(|status| !status.online))
        })
        .await;
        for id in 1..=30 {
            publisher.publish(&Publish::new("t", id.to_string()).qos(1, id)).await;
        }
    }
}

//! An independent client publishes and subscribes.

use std::time::Duration;

use latchline_broker::listen::Kind;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::time::timeout;

use crate::app::App;

#[tokio::test]
async fn rumqttc_publishes_and_subscribes_at_every_qos() {
    let app = App::start(|_| {}).await;
    let address = app.address(Kind::Tcp);
    let mut options = MqttOptions::new("client", address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe("a/+", QoS::ExactlyOnce).await.unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.publish("a/b", qos, false, format!("{qos:?}")).await.unwrap();
    }
    let mut received = Vec::new();
    while received.len() < 3 {
        let event = timeout(Duration::from_secs(5), events.poll()).await.expect("an event in time").unwrap();
        if let Event::Incoming(Packet::Publish(publish)) = event {
            received.push((publish.qos, publish.payload));
        }
    }
    let expected =
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| (qos, format!("{qos:?}").into()));
    assert_eq!(received, expected);
}

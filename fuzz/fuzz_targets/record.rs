//! Records: whatever is in a stream, reading it ends without a panic; and what can be read is written
//! and read again as the same.

#![no_main]

use latchline_shared::message::Qos;
use latchline_shared::record::{
    DeliveredRecord, Delivery, Publish, PublishRecord, RejectedRecord, write_delivery, write_publish,
    write_rejected,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    if let Ok(read) = serde_json::from_slice::<PublishRecord>(value)
        && let Some(publish) = publish(&read)
    {
        let mut out = Vec::new();
        write_publish(&mut out, &publish);
        assert_eq!(serde_json::from_slice::<PublishRecord>(&out).expect("it was written"), read);
    }
    if let Ok(read) = serde_json::from_slice::<RejectedRecord>(value) {
        let RejectedRecord { publisher, username, topic, payload, qos, reason, node, ts } = read.clone();
        let plain = PublishRecord { publisher, username, topic, payload, qos, node, ts };
        if let Some(publish) = publish(&plain) {
            let mut out = Vec::new();
            write_rejected(&mut out, &publish, &reason);
            assert_eq!(serde_json::from_slice::<RejectedRecord>(&out).expect("it was written"), read);
        }
    }
    if let Ok(read) = serde_json::from_slice::<DeliveredRecord>(value)
        && let Some(qos) = Qos::from_level(read.qos)
    {
        let mut out = Vec::new();
        let delivery = Delivery {
            receiver: &read.receiver,
            username: &read.username,
            publisher: &read.publisher,
            topic: &read.topic,
            payload: &read.payload,
            qos,
            node: &read.node,
            ts: read.ts,
        };
        write_delivery(&mut out, &delivery);
        assert_eq!(serde_json::from_slice::<DeliveredRecord>(&out).expect("it was written"), read);
    }
});

/// What would be written, unless the QoS is none.
fn publish(read: &PublishRecord) -> Option<Publish<'_>> {
    Some(Publish {
        publisher: &read.publisher,
        username: &read.username,
        topic: &read.topic,
        payload: &read.payload,
        qos: Qos::from_level(read.qos)?,
        node: &read.node,
        ts: read.ts,
    })
}

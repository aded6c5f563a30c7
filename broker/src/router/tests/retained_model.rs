//! Random operations on retained messages and on a map that is searched from end to end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use latchline_shared::message::{Message, MessageId, Properties};
use latchline_shared::topic;
use proptest::prelude::*;

use super::super::retained::{OVERHEAD_BYTES, Retained};
use super::filter_model::{topic_filter, topic_name};
use super::*;

/// Small messages meet this bound, those with a payload of `OVERHEAD_BYTES` the other.
const MESSAGES_MAX: usize = 5;
const BYTES_MAX: usize = 7 * OVERHEAD_BYTES;

#[derive(Debug, Clone)]
enum Operation {
    Set { topic: String, payload_bytes: usize, expiry_s: Option<u64> },
    Match(String),
    Wait(u64),
}

fn message(mid: u128, topic: &str, payload_bytes: usize, received_at: Instant) -> Message {
    Message {
        mid: MessageId(mid),
        from: "p".into(),
        topic: topic.into(),
        payload: vec![b'x'; payload_bytes].into(),
        qos: Qos::AtLeastOnce,
        retain: true,
        dup: false,
        packet_id: Some(1),
        properties: None,
        received_at,
        expiry: None,
    }
}

fn counted_bytes(message: &Message) -> usize {
    message.topic.len() + message.payload.len() + message.from.len() + OVERHEAD_BYTES
}

/// What is kept of a message.
type Kept = BTreeMap<String, Message>;

fn set(model: &mut Kept, message: Message) -> Result<(), &'static str> {
    let now = message.received_at;
    model.retain(|_, kept| kept.remaining(now) != Some(None));
    let topic = message.topic.to_string();
    if message.payload.is_empty() {
        model.remove(&topic);
        return Ok(());
    }
    let mut next = model.clone();
    next.insert(topic, message);
    if next.len() > MESSAGES_MAX || next.values().map(counted_bytes).sum::<usize>() > BYTES_MAX {
        return Err("retained_full");
    }
    *model = next;
    Ok(())
}

fn operation() -> impl Strategy<Value = Operation> {
    let payload = prop_oneof![1 => Just(0_usize), 3 => 1..3_usize, 1 => Just(OVERHEAD_BYTES)];
    let expiry = prop::option::of(0..4_u64);
    prop_oneof![
        3 => (topic_name(), payload, expiry).prop_map(|(topic, payload_bytes, expiry_s)| {
            Operation::Set { topic, payload_bytes, expiry_s }
        }),
        3 => topic_filter().prop_map(Operation::Match),
        1 => (0..3_u64).prop_map(Operation::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn retained_messages_are_those_of_the_model(operations in prop::collection::vec(operation(), 1..80)) {
        let mut now = Instant::now();
        let (retained, mut model) = (Retained::new(MESSAGES_MAX, BYTES_MAX), Kept::new());
        for (n, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Wait(seconds) => now += Duration::from_secs(seconds),
                Operation::Set { topic, payload_bytes, expiry_s } => {
                    let message = Message {
                        expiry: expiry_s.map(Duration::from_secs),
                        ..message(n as u128, &topic, payload_bytes, now)
                    };
                    prop_assert_eq!(retained.set(Arc::new(message.clone())), set(&mut model, message));
                    prop_assert_eq!(retained.len(), model.len());
                    prop_assert_eq!(retained.bytes(), model.values().map(counted_bytes).sum::<usize>());
                }
                Operation::Match(filter) => {
                    let mut expected: Vec<&Message> = model
                        .values()
                        .filter(|message| message.remaining(now) != Some(None))
                        .filter(|message| topic::matches(&filter, &message.topic))
                        .collect();
                    expected.sort_by_key(|message| message.topic.split('/').collect::<Vec<_>>());
                    let expected: Vec<_> = expected.iter().map(|message| message.mid).collect();
                    let found: Vec<_> =
                        retained.matching(&filter, now).iter().map(|message| message.mid).collect();
                    prop_assert_eq!(found, expected, "{}", filter);
                }
            }
        }
        for topic in std::mem::take(&mut model).into_keys() {
            retained.set(Arc::new(message(0, &topic, 0, now))).unwrap();
        }
        prop_assert_eq!((retained.len(), retained.bytes(), retained.nodes()), (0, 0, 0));
    }
}

#[test]
fn matching_removes_what_has_expired() {
    let now = Instant::now();
    let retained = Retained::new(10, usize::MAX);
    for (topic, expiry_s) in [("a/1", Some(1)), ("a/2", Some(2)), ("b/1", Some(1)), ("b/2", None)] {
        let expiry = expiry_s.map(Duration::from_secs);
        retained.set(Arc::new(Message { expiry, ..message(0, topic, 1, now) })).unwrap();
    }
    let later = now + Duration::from_secs(1);
    let topics: Vec<String> =
        retained.matching("a/+", later).iter().map(|message| message.topic.to_string()).collect();
    assert_eq!(topics, ["a/2"]);
    assert_eq!(retained.len(), 2, "b/1 has gone with a/1");
}

#[test]
fn matching_is_ordered_by_topic() {
    let retained = Retained::default();
    for topic in ["b", "a/b", "a", "$s", "a/a/c", "/a"] {
        retained.set(Arc::new(message(0, topic, 1, Instant::now()))).unwrap();
    }
    for (filter, expected) in [
        ("#", "/a a a/a/c a/b b"),
        ("a/#", "a a/a/c a/b"),
        ("+", "a b"),
        ("+/+", "/a a/b"),
        ("a/a/+", "a/a/c"),
        ("$s/#", "$s"),
        ("b", "b"),
        ("c", ""),
        ("$share/g/#", ""),
    ] {
        let found = retained.matching(filter, Instant::now());
        let topics: Vec<&str> = found.iter().map(|message| &*message.topic).collect();
        assert_eq!(topics.join(" "), expected, "{filter}");
    }
}

#[test]
fn no_network_buffer_is_kept() {
    let buffer = BytesMut::zeroed(64 * 1024).freeze();
    let topic = || bytestring::ByteString::try_from(buffer.slice(..3)).unwrap();
    let message = Message {
        topic: topic(),
        from: topic(),
        payload: buffer.slice(3..9),
        properties: Some(Box::new(Properties {
            utf8_payload: Some(true),
            content_type: Some(topic()),
            response_topic: Some(topic()),
            correlation_data: Some(buffer.slice(9..12)),
            user: vec![(topic(), topic())],
        })),
        ..message(1, "", 0, Instant::now())
    };
    let retained = Retained::default();
    let expected = (message.topic.clone(), message.payload.clone(), message.properties.clone());
    let expected_bytes = |bytes: &Bytes| bytes.as_ptr_range();
    retained.set(Arc::new(message)).unwrap();
    let kept = retained.matching("\0\0\0", Instant::now()).remove(0);
    assert_eq!((kept.topic.clone(), kept.payload.clone(), kept.properties.clone()), expected);
    let network = expected_bytes(&buffer);
    let properties = kept.properties.as_deref().unwrap();
    let texts = [&kept.topic, &kept.from, &properties.user[0].0, &properties.user[0].1];
    let texts = texts.into_iter().chain(&properties.content_type).chain(&properties.response_topic);
    let parts = texts.map(|text| text.as_bytes()).chain([&kept.payload]).chain(&properties.correlation_data);
    for part in parts {
        assert!(!network.contains(&part.as_ptr()), "{part:?} is in the network's buffer");
    }
    let least = kept.topic.len() * 6 + kept.payload.len() + OVERHEAD_BYTES;
    assert!(retained.bytes() > least, "properties count");
}

#[test]
fn payloads_that_are_replaced_are_counted_once() {
    let now = Instant::now();
    let retained = Retained::new(1, 100 + OVERHEAD_BYTES);
    retained.set(Arc::new(message(1, "a", 90, now))).unwrap();
    retained.set(Arc::new(message(2, "a", 98, now))).unwrap();
    for (topic, payload_bytes) in [("a", 99), ("b", 1)] {
        let refused = retained.set(Arc::new(message(3, topic, payload_bytes, now)));
        assert_eq!(refused, Err("retained_full"), "{topic}");
        let kept = retained.matching("+", now);
        assert_eq!((kept.len(), kept[0].mid), (1, MessageId(2)), "the one before is kept");
    }
}

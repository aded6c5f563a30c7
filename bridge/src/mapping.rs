//! From an event to a record: key, headers and value as contract, section 2, says.
//!
//! Pure, and without allocation once the [`Record`] has its size: a record is filled anew for each
//! event and copied by the client library.
//!
//! Invariant: the key under `devices/{id}/…` is that id for every message hook, whoever the client
//! is, so that one lock's records stay in order on one partition.

use std::fmt::Display;
use std::io::Write;

use latchline_shared::hook::{Call, Delivered};
use latchline_shared::message::{Client, Message, Qos};
use latchline_shared::record::{self, header};
use latchline_shared::topic;

/// A record that is being made; a buffer to be used again.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Time of the hook in Unix milliseconds.
    pub(crate) ts: u64,
    headers: Vec<Header>,
    /// The values of all headers, one after the other.
    text: Vec<u8>,
}

#[derive(Debug)]
struct Header {
    name: &'static str,
    /// Where its value ends in the text.
    end: usize,
}

/// What all records have from their surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// Name of the broker's node.
    pub(crate) node: &'a str,
    /// Time of the hook in Unix milliseconds.
    pub(crate) ts: u64,
}

impl Record {
    /// Names and values of the headers, in order.
    pub(crate) fn headers(&self) -> impl ExactSizeIterator<Item = (&'static str, &[u8])> {
        let mut start = 0;
        self.headers.iter().map(move |header| {
            let value = &self.text[start..header.end];
            start = header.end;
            (header.name, value)
        })
    }

    /// Bytes that the record takes.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + self.text.len()
    }

    /// `message.publish`, the `n`th of its connection.
    pub(crate) fn publish(&mut self, around: Surroundings<'_>, client: &Client, message: &Message, n: u64) {
        self.start(around.ts, topic::lock_id(&message.topic).unwrap_or(&client.id));
        record::write_publish(&mut self.value, &published(around, client, message));
        self.publish_headers(Call::MessagePublish, client, message, n);
    }

    /// `message.rejected`, the `n`th of its connection.
    pub(crate) fn rejected(
        &mut self,
        around: Surroundings<'_>,
        client: &Client,
        message: &Message,
        reason: &str,
        n: u64,
    ) {
        self.start(around.ts, topic::lock_id(&message.topic).unwrap_or(&client.id));
        record::write_rejected(&mut self.value, &published(around, client, message), reason);
        self.publish_headers(Call::MessageRejected, client, message, n);
    }

    /// `message.deliver` or `message.acked`, the `n`th of its connection.
    pub(crate) fn delivery(
        &mut self,
        hook: Call,
        around: Surroundings<'_>,
        receiver: &Client,
        delivery: &Delivered<'_>,
        n: u64,
    ) {
        let Delivered { message, qos, dup, retain, packet_id } = *delivery;
        self.start(around.ts, topic::lock_id(&message.topic).unwrap_or(&receiver.id));
        let value = record::Delivery {
            receiver: &receiver.id,
            username: &receiver.username,
            publisher: &message.from,
            topic: &message.topic,
            payload: &message.payload,
            qos,
            node: around.node,
            ts: around.ts,
        };
        record::write_delivery(&mut self.value, &value);
        self.message_headers(hook, receiver, message, n, (dup, retain, packet_id));
        self.header(header::PUBLISHER_DUP, message.dup);
    }

    /// `client.connected`
    pub(crate) fn connected(&mut self, around: Surroundings<'_>, client: &Client) {
        self.start(around.ts, &client.id);
        record::write_connected(&mut self.value, &client.id, &client.username, around.node, around.ts);
        self.client_headers(Call::ClientConnected, client);
        self.header(header::SESSION, client.session);
    }

    /// `client.disconnected`
    pub(crate) fn disconnected(&mut self, around: Surroundings<'_>, client: &Client, reason: &str) {
        self.start(around.ts, &client.id);
        let Client { id, username, .. } = client;
        record::write_disconnected(&mut self.value, id, username, reason, around.node, around.ts);
        self.client_headers(Call::ClientDisconnected, client);
        self.header(header::SESSION, client.session);
    }

    /// `session.subscribed` or `session.unsubscribed`
    pub(crate) fn subscription(
        &mut self,
        hook: Call,
        around: Surroundings<'_>,
        client: &Client,
        filter: &str,
        qos: Qos,
    ) {
        self.start(around.ts, &client.id);
        record::write_subscription(&mut self.value, &client.id, filter, qos, around.node, around.ts);
        self.client_headers(hook, client);
    }

    fn start(&mut self, ts: u64, key: &str) {
        self.key.clear();
        self.value.clear();
        self.headers.clear();
        self.text.clear();
        self.ts = ts;
        self.key.extend_from_slice(key.as_bytes());
    }

    fn publish_headers(&mut self, hook: Call, client: &Client, message: &Message, n: u64) {
        self.message_headers(hook, client, message, n, (message.dup, message.retain, message.packet_id));
    }

    fn message_headers(
        &mut self,
        hook: Call,
        client: &Client,
        message: &Message,
        n: u64,
        (dup, retain, packet_id): (bool, bool, Option<u16>),
    ) {
        self.header(header::HOOK, hook.name());
        self.header(header::MID, message.mid);
        self.header(header::SEQ, format_args!("{}-{n}", client.session));
        self.header(header::DUP, dup);
        self.header(header::RETAIN, retain);
        if let Some(packet_id) = packet_id {
            self.header(header::PACKET_ID, packet_id);
        }
        self.header(header::PROTOCOL, client.protocol as u8);
        self.header(header::PEER, client.peer);
    }

    fn client_headers(&mut self, hook: Call, client: &Client) {
        self.header(header::HOOK, hook.name());
        self.header(header::PROTOCOL, client.protocol as u8);
        self.header(header::PEER, client.peer);
    }

    fn header(&mut self, name: &'static str, value: impl Display) {
        write!(self.text, "{value}").expect("a vector takes what is written");
        self.headers.push(Header { name, end: self.text.len() });
    }
}

/// A message as its publisher sent it.
fn published<'a>(around: Surroundings<'a>, client: &'a Client, message: &'a Message) -> record::Publish<'a> {
    record::Publish {
        publisher: &client.id,
        username: &client.username,
        topic: &message.topic,
        payload: &message.payload,
        qos: message.qos,
        node: around.node,
        ts: around.ts,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use latchline_shared::message::{MessageId, Protocol};
    use latchline_shared::record::{DeliveredRecord, PublishRecord, RejectedRecord};

    use super::*;

    const AROUND: Surroundings<'static> = Surroundings { node: "latchline@lock-1", ts: 1574751635845 };
    const LOCK: &str = "10083618796833171";
    const STATE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
    const COMMAND: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;

    fn client(id: &'static str, username: &'static str) -> Client {
        Client {
            id: id.into(),
            username: username.into(),
            role: "lock".into(),
            protocol: Protocol::V3,
            peer: "192.0.2.7:54321".parse().unwrap(),
            session: 42,
            sequence: Default::default(),
        }
    }

    fn message(from: &'static str, topic: &'static str, payload: &'static str) -> Message {
        Message {
            mid: MessageId(0xabc),
            from: from.into(),
            topic: topic.into(),
            payload: Bytes::from_static(payload.as_bytes()),
            qos: Qos::AtLeastOnce,
            retain: false,
            dup: true,
            packet_id: Some(7),
            properties: None,
            received_at: Instant::now(),
            expiry: None,
        }
    }

    fn key(record: &Record) -> &str {
        std::str::from_utf8(&record.key).unwrap()
    }

    fn value(record: &Record) -> &str {
        std::str::from_utf8(&record.value).unwrap()
    }

    fn headers(record: &Record) -> Vec<(&str, &str)> {
        record.headers().map(|(name, value)| (name, std::str::from_utf8(value).unwrap())).collect()
    }

    #[test]
    fn a_state_is_the_publishers() {
        let mut record = Record::default();
        let message = message(LOCK, "devices/10083618796833171/state", STATE);
        record.publish(AROUND, &client(LOCK, ""), &message, 3);
        assert_eq!(key(&record), LOCK);
        assert!(
            value(&record).starts_with(
                r#"{"client_id":"10083618796833171","username":"","topic":"devices/10083618796833171/state","payload":"eyAgICJwcm9jZXNz"#
            ),
            "{}",
            value(&record)
        );
        assert!(value(&record).ends_with(r#"","qos":1,"node":"latchline@lock-1","ts":1574751635845}"#));
        let read: PublishRecord = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(read.payload, STATE.as_bytes());
        assert_eq!(
            headers(&record),
            [
                ("hook", "message.publish"),
                ("mid", "00000000000000000000000000000abc"),
                ("seq", "42-3"),
                ("dup", "true"),
                ("retain", "false"),
                ("packet_id", "7"),
                ("protocol", "4"),
                ("peer", "192.0.2.7:54321"),
            ]
        );
    }

    #[test]
    fn a_rejected_command_is_the_publishers_under_the_locks_key() {
        let mut record = Record::default();
        let message = message("eve", "devices/10083618796833171/command", COMMAND);
        record.rejected(AROUND, &client("eve", "e"), &message, "bad_signature", 2);
        assert_eq!(key(&record), LOCK);
        let read: RejectedRecord = serde_json::from_slice(&record.value).unwrap();
        assert_eq!((read.publisher.as_str(), read.username.as_str()), ("eve", "e"));
        assert_eq!((read.reason.as_str(), read.payload.as_slice()), ("bad_signature", COMMAND.as_bytes()));
        assert_eq!(
            headers(&record)[..3],
            [("hook", "message.rejected"), ("mid", "00000000000000000000000000000abc"), ("seq", "42-2"),]
        );
    }

    #[test]
    fn a_command_is_the_receivers() {
        let message = message("backend", "devices/10083618796833171/command", COMMAND);
        let delivery =
            Delivered { message: &message, qos: Qos::AtMostOnce, dup: false, retain: true, packet_id: None };
        let mut record = Record::default();
        for hook in [Call::MessageAcked, Call::MessageDeliver] {
            // Someone else listens in: the key is still the lock's.
            record.delivery(hook, AROUND, &client("eve", "e"), &delivery, 1);
            assert_eq!(key(&record), LOCK);
            let read: DeliveredRecord = serde_json::from_slice(&record.value).unwrap();
            assert_eq!((read.receiver.as_str(), read.username.as_str()), ("eve", "e"));
            assert_eq!((read.publisher.as_str(), read.qos), ("backend", 0));
            assert_eq!(read.payload, COMMAND.as_bytes());
            assert_eq!(
                headers(&record),
                [
                    ("hook", hook.name()),
                    ("mid", "00000000000000000000000000000abc"),
                    ("seq", "42-1"),
                    ("dup", "false"),
                    ("retain", "true"),
                    ("protocol", "4"),
                    ("peer", "192.0.2.7:54321"),
                    ("publisher_dup", "true"),
                ]
            );
        }
    }

    #[test]
    fn keys_are_locks_else_clients() {
        for (topic, expected) in [
            ("devices/1/state", "1"),
            ("devices/1/command/x", "1"),
            ("devices/1", "me"),
            ("devices//state", "me"),
            ("other/1/state", "me"),
        ] {
            let mut record = Record::default();
            record.publish(AROUND, &client("me", ""), &message("me", topic, ""), 1);
            assert_eq!(key(&record), expected, "{topic}");
        }
    }

    #[test]
    fn clients_and_sessions_have_their_own() {
        let mut record = Record::default();
        let mut client = client("me", "my name");
        client.protocol = Protocol::V5;
        record.connected(AROUND, &client);
        assert_eq!(
            value(&record),
            r#"{"client_id":"me","username":"my name","node":"latchline@lock-1","ts":1574751635845}"#
        );
        let expected =
            [("hook", "client.connected"), ("protocol", "5"), ("peer", "192.0.2.7:54321"), ("session", "42")];
        assert_eq!(headers(&record), expected);

        record.disconnected(AROUND, &client, "keep_alive");
        assert_eq!(
            value(&record),
            r#"{"client_id":"me","username":"my name","reason":"keep_alive","node":"latchline@lock-1","ts":1574751635845}"#
        );
        assert_eq!(headers(&record)[3], ("session", "42"));

        record.subscription(Call::SessionUnsubscribed, AROUND, &client, "a/+", Qos::ExactlyOnce);
        assert_eq!(
            value(&record),
            r#"{"client_id":"me","topic":"a/+","qos":2,"node":"latchline@lock-1","ts":1574751635845}"#
        );
        let expected = [("hook", "session.unsubscribed"), ("protocol", "5"), ("peer", "192.0.2.7:54321")];
        assert_eq!((key(&record), headers(&record)), ("me", expected.to_vec()));
    }
}

//! Records: what the bridge stores in Kafka and the services read (contract, section 2).
//!
//! A record's value is a JSON object with exactly the keys of the reference system, in its order,
//! so that its consumers work unchanged; what it lacks goes into [`header`]s. Values are written
//! straight into a buffer, without a tree in between: this runs once per message.
//!
//! Types that are read back are never mixed up, because `client_id` means the publisher in some
//! ([`PublishRecord`], [`RejectedRecord`]) and the receiver in another ([`DeliveredRecord`]).
//!
//! Invariant: a value is valid JSON whatever is in the strings and the payload.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use crate::message::Qos;

/// Names of Kafka headers. Their values are text.
pub mod header {
    /// The hook, by its name in the contract.
    pub const HOOK: &str = "hook";
    /// The broker's id of the message, 32 hexadecimal digits; message hooks only, like all up to
    /// [`PACKET_ID`].
    pub const MID: &str = "mid";
    /// `{session}-{n}`: n counts what this connection put into the bridge through this hook.
    pub const SEQ: &str = "seq";
    /// `true` if the record may be one that is stored already.
    pub const DUP: &str = "dup";
    /// `true` if the publisher marked the PUBLISH as sent again; `message.deliver` and
    /// `message.acked` only, where [`DUP`] is the receiver's.
    pub const PUBLISHER_DUP: &str = "publisher_dup";
    /// `true` or `false`.
    pub const RETAIN: &str = "retain";
    /// The MQTT packet id; absent at QoS 0.
    pub const PACKET_ID: &str = "packet_id";
    /// `4` (MQTT 3.1.1) or `5`.
    pub const PROTOCOL: &str = "protocol";
    /// The client's address and port.
    pub const PEER: &str = "peer";
    /// Number of the connection, growing for each client id; client hooks only.
    pub const SESSION: &str = "session";
}

/// The value of a `message.publish` record.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The publisher's client id (`client_id`).
    pub publisher: &'a str,
    /// The publisher's user name, empty if it has none.
    pub username: &'a str,
    /// MQTT topic.
    pub topic: &'a str,
    /// Payload bytes as received.
    pub payload: &'a [u8],
    /// QoS of the PUBLISH.
    pub qos: Qos,
    /// Name of the broker's node.
    pub node: &'a str,
    /// Time of the hook in Unix milliseconds.
    pub ts: u64,
}

/// The value of a `message.deliver` or `message.acked` record.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The receiver's client id (`client_id`).
    pub receiver: &'a str,
    /// The receiver's user name, empty if it has none.
    pub username: &'a str,
    /// The publisher's client id (`from`).
    pub publisher: &'a str,
    /// MQTT topic.
    pub topic: &'a str,
    /// Payload bytes as received.
    pub payload: &'a [u8],
    /// QoS that the message was sent with.
    pub qos: Qos,
    /// Name of the broker's node.
    pub node: &'a str,
    /// Time of the hook in Unix milliseconds.
    pub ts: u64,
}

/// Appends the value of a `message.publish` record.
pub fn write_publish(out: &mut Vec<u8>, publish: &Publish<'_>) {
    publish_beginning(out, publish);
    end(out, publish.node, publish.ts);
}

/// Appends the value of a `message.rejected` record: that of a `message.publish` record, and why.
pub fn write_rejected(out: &mut Vec<u8>, publish: &Publish<'_>, reason: &str) {
    publish_beginning(out, publish);
    string(out, ",\"reason\":", reason);
    end(out, publish.node, publish.ts);
}

/// Appends the value of a `message.deliver` or `message.acked` record.
pub fn write_delivery(out: &mut Vec<u8>, delivery: &Delivery<'_>) {
    out.reserve(delivery.payload.len() / 3 * 4 + delivery.topic.len() + 256);
    string(out, "{\"client_id\":", delivery.receiver);
    string(out, ",\"username\":", delivery.username);
    string(out, ",\"from\":", delivery.publisher);
    string(out, ",\"topic\":", delivery.topic);
    payload(out, delivery.payload);
    qos(out, delivery.qos);
    end(out, delivery.node, delivery.ts);
}

/// Appends the value of a `client.connected` record.
pub fn write_connected(out: &mut Vec<u8>, client_id: &str, username: &str, node: &str, ts: u64) {
    string(out, "{\"client_id\":", client_id);
    string(out, ",\"username\":", username);
    end(out, node, ts);
}

/// Appends the value of a `client.disconnected` record.
pub fn write_disconnected(
    out: &mut Vec<u8>,
    client_id: &str,
    username: &str,
    reason: &str,
    node: &str,
    ts: u64,
) {
    string(out, "{\"client_id\":", client_id);
    string(out, ",\"username\":", username);
    string(out, ",\"reason\":", reason);
    end(out, node, ts);
}

/// Appends the value of a `session.subscribed` or `session.unsubscribed` record.
pub fn write_subscription(out: &mut Vec<u8>, client_id: &str, filter: &str, level: Qos, node: &str, ts: u64) {
    string(out, "{\"client_id\":", client_id);
    string(out, ",\"topic\":", filter);
    qos(out, level);
    end(out, node, ts);
}

fn publish_beginning(out: &mut Vec<u8>, publish: &Publish<'_>) {
    out.reserve(publish.payload.len() / 3 * 4 + publish.topic.len() + 192);
    string(out, "{\"client_id\":", publish.publisher);
    string(out, ",\"username\":", publish.username);
    string(out, ",\"topic\":", publish.topic);
    payload(out, publish.payload);
    qos(out, publish.qos);
}

fn payload(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b",\"payload\":\"");
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("there are four characters for each three bytes");
    out.push(b'"');
}

fn qos(out: &mut Vec<u8>, qos: Qos) {
    out.extend_from_slice(b",\"qos\":");
    out.push(b'0' + qos.level());
}

fn end(out: &mut Vec<u8>, node: &str, ts: u64) {
    string(out, ",\"node\":", node);
    write!(out, ",\"ts\":{ts}}}").expect("a vector takes what is written");
}

/// Appends `before` as it is, then `text` as a JSON string.
fn string(out: &mut Vec<u8>, before: &str, text: &str) {
    out.extend_from_slice(before.as_bytes());
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(byte, b'"' | b'\\' | 0..0x20) {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            control => write!(out, "\\u{control:04x}").expect("a vector takes what is written"),
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// A `message.publish` record as read from Kafka. Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PublishRecord {
    /// The publisher's client id.
    #[serde(rename = "client_id")]
    pub publisher: String,
    /// The publisher's user name, empty if it has none.
    #[serde(default)]
    pub username: String,
    /// MQTT topic.
    pub topic: String,
    /// Payload bytes as the client sent them.
    #[serde(deserialize_with = "from_base64")]
    pub payload: Vec<u8>,
    /// QoS of the PUBLISH.
    pub qos: u8,
    /// Name of the broker's node.
    pub node: String,
    /// Time of the hook in Unix milliseconds.
    pub ts: u64,
}

/// A `message.rejected` record as read from Kafka: a message that was not delivered, and why.
/// Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RejectedRecord {
    /// The publisher's client id.
    #[serde(rename = "client_id")]
    pub publisher: String,
    /// The publisher's user name, empty if it has none.
    #[serde(default)]
    pub username: String,
    /// MQTT topic.
    pub topic: String,
    /// Payload bytes as the client sent them.
    #[serde(deserialize_with = "from_base64")]
    pub payload: Vec<u8>,
    /// QoS of the PUBLISH.
    pub qos: u8,
    /// One word: the guard's verdict, or the cause of the access rules.
    pub reason: String,
    /// Name of the broker's node.
    pub node: String,
    /// Time of the hook in Unix milliseconds.
    pub ts: u64,
}

/// A `message.deliver` or `message.acked` record as read from Kafka. Unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DeliveredRecord {
    /// The receiver's client id.
    #[serde(rename = "client_id")]
    pub receiver: String,
    /// The receiver's user name, empty if it has none.
    #[serde(default)]
    pub username: String,
    /// The publisher's client id.
    #[serde(rename = "from")]
    pub publisher: String,
    /// MQTT topic.
    pub topic: String,
    /// Payload bytes as the publisher sent them.
    #[serde(deserialize_with = "from_base64")]
    pub payload: Vec<u8>,
    /// QoS that the message was sent with.
    pub qos: u8,
    /// Name of the broker's node.
    pub node: String,
    /// Time of the hook in Unix milliseconds.
    pub ts: u64,
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    STANDARD.decode(text.as_bytes()).map_err(|error| serde::de::Error::custom(format!("payload: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use sha2::{Digest, Sha256};

    use super::*;

    const STATE: &[u8] = br#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
    const COMMAND: &[u8] = br#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;
    const LOCK: &str = "10083618796833171";
    const NODE: &str = "emqx@127.0.0.1";
    const STATE_BASE64: &str = "eyAgICJwcm9jZXNzX2lkIjogIjc4MDI0NDE1MjU1Mjg5NTgiLCAgICJhY3Rpb24iOiAidW5sb2NrIiwgICAiYmF0dGVyeSI6IDgzLjQsICAgImxvY2tfc3RhdGUiOiAxLCAgICJ2ZXJzaW9uIjogMS4xLCAgICJjbGllbnRfaWQiOiAiMTAwODM2MTg3OTY4MzMxNzEiIH0=";
    const COMMAND_BASE64: &str = "eyAgICJwcm9jZXNzX2lkIjogIjc4MDI0NDE1MjU1Mjg5NTgiLCAgICJhY3Rpb24iOiAidW5sb2NrIiwgICAibm9uY2Vfc3RyIjogInU3dTRwMG44IiwgICAidHMiOiAxNTc0NzQ0NDM0LCAgICJzaWduIjogImU5ZjVhZjdkZWFhMjg1NjMiIH0=";

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn state() -> Publish<'static> {
        let (topic, qos) = ("devices/10083618796833171/state", Qos::AtLeastOnce);
        Publish { publisher: LOCK, username: "", topic, payload: STATE, qos, node: NODE, ts: 1574751635845 }
    }

    fn command() -> Delivery<'static> {
        Delivery {
            receiver: LOCK,
            username: "",
            publisher: "backend",
            topic: "devices/10083618796833171/command",
            payload: COMMAND,
            qos: Qos::AtLeastOnce,
            node: NODE,
            ts: 1574751635845,
        }
    }

    #[test]
    fn the_samples_are_the_references() {
        for (sample, digest) in [
            (COMMAND, "310caefb6c98dd96b64a1682ff5ed7875813e74e73ba64f17307b58fb204f1e7"),
            (STATE, "8dd1c4e9db918685bfe7d89c0a31fd5f9c286f4b3edde90b8630e05f0d2a2355"),
        ] {
            let hex: String = Sha256::digest(sample).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, digest);
        }
    }

    #[test]
    fn reference_state_is_written_byte_for_byte() {
        let expected = format!(
            r#"{{"client_id":"10083618796833171","username":"","topic":"devices/10083618796833171/state","payload":"{STATE_BASE64}","qos":1,"node":"emqx@127.0.0.1","ts":1574751635845}}"#
        );
        assert_eq!(written(|out| write_publish(out, &state())), expected);
        let read: PublishRecord = serde_json::from_str(&expected).unwrap();
        assert_eq!((read.publisher.as_str(), read.payload.as_slice()), (LOCK, STATE));
    }

    #[test]
    fn reference_command_is_written_byte_for_byte() {
        let expected = format!(
            r#"{{"client_id":"10083618796833171","username":"","from":"backend","topic":"devices/10083618796833171/command","payload":"{COMMAND_BASE64}","qos":1,"node":"emqx@127.0.0.1","ts":1574751635845}}"#
        );
        assert_eq!(written(|out| write_delivery(out, &command())), expected);
        let read: DeliveredRecord = serde_json::from_str(&expected).unwrap();
        assert_eq!((read.receiver.as_str(), read.publisher.as_str()), (LOCK, "backend"));
        assert_eq!(read.payload, COMMAND);
    }

    #[test]
    fn a_rejected_command_says_why() {
        let publish = Publish { publisher: "eve", topic: "devices/1/command", payload: b"{}", ..state() };
        let expected = r#"{"client_id":"eve","username":"","topic":"devices/1/command","payload":"e30=","qos":1,"reason":"replay","node":"emqx@127.0.0.1","ts":1574751635845}"#;
        assert_eq!(written(|out| write_rejected(out, &publish, "replay")), expected);
        let read: RejectedRecord = serde_json::from_str(expected).unwrap();
        assert_eq!((read.publisher.as_str(), read.reason.as_str()), ("eve", "replay"));
        assert_eq!((read.payload.as_slice(), read.qos, read.ts), (&b"{}"[..], 1, publish.ts));
        assert!(
            serde_json::from_str::<RejectedRecord>(&written(|out| write_publish(out, &publish))).is_err()
        );
    }

    #[test]
    fn client_and_session_values_have_their_own_keys() {
        for (value, expected) in [
            (
                written(|out| write_connected(out, "a", "u", NODE, 1)),
                r#"{"client_id":"a","username":"u","node":"emqx@127.0.0.1","ts":1}"#,
            ),
            (
                written(|out| write_disconnected(out, "a", "", "keep_alive", NODE, 2)),
                r#"{"client_id":"a","username":"","reason":"keep_alive","node":"emqx@127.0.0.1","ts":2}"#,
            ),
            (
                written(|out| write_subscription(out, "a", "x/#", Qos::ExactlyOnce, NODE, 3)),
                r#"{"client_id":"a","topic":"x/#","qos":2,"node":"emqx@127.0.0.1","ts":3}"#,
            ),
        ] {
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn broken_payloads_are_refused() {
        let value = written(|out| write_publish(out, &state())).replace("eyAg", "ey*g");
        let error = serde_json::from_str::<PublishRecord>(&value).unwrap_err().to_string();
        assert!(error.starts_with("payload: "), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            publisher in any::<String>(), username in any::<String>(), topic in any::<String>(),
            receiver in any::<String>(), payload in any::<Vec<u8>>(), node in any::<String>(), ts in any::<u64>(),
        ) {
            let (publisher, username, topic, node) = (&*publisher, &*username, &*topic, &*node);
            let qos = Qos::ExactlyOnce;
            let publish = Publish { publisher, username, topic, payload: &payload, qos, node, ts };
            let read: PublishRecord =
                serde_json::from_str(&written(|out| write_publish(out, &publish))).unwrap();
            assert_eq!(
                (read.publisher.as_str(), read.username.as_str(), read.topic.as_str(), read.payload.as_slice()),
                (publisher, username, topic, payload.as_slice())
            );
            assert_eq!((read.qos, read.node.as_str(), read.ts), (2, node, ts));

            let delivery =
                Delivery { receiver: &receiver, username, publisher, topic, payload: &payload, qos, node, ts };
            let read: DeliveredRecord =
                serde_json::from_str(&written(|out| write_delivery(out, &delivery))).unwrap();
            assert_eq!((read.receiver, read.publisher.as_str()), (receiver, publisher));
            assert_eq!((read.payload, read.ts), (payload, ts));
        }
    }
}

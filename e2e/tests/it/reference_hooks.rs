//! The seven hooks of the reference (contract, section 2), by a configuration file of the reference as
//! it stands: real clients connect, subscribe, publish, acknowledge, unsubscribe and leave, in both
//! versions of MQTT and with every QoS; the records are compared as text.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use latchline_e2e::client::packet::{self, Ack, Connect, Packet, Publish};
use latchline_e2e::client::{ANSWER_DEADLINE, Client};
use latchline_e2e::kafka::Kafka;
use latchline_e2e::kafka::reader::Record;
use latchline_e2e::stack::secrets::ADMINISTRATOR;
use latchline_e2e::stack::{PARTITIONS, Stack, command_topic, state_topic};
use latchline_shared::message::{Protocol, Qos};
use tokio::time::timeout;

use crate::support::{self, DEADLINE};

const FILE: &str = include_str!("emqx_bridge_kafka.conf");
const LOCK: &str = "10083618796833171";
const STATE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
const COMMAND: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;
/// Each is the stream of one rule.
const STREAMS: [&str; 8] = [
    "client_connected",
    "client_disconnected",
    "session_subscribed",
    "session_unsubscribed",
    "message_state",
    "message_publish",
    "message_deliver",
    "message_command",
];
const ALL_QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
const CLIENT_HEADERS: &str = "hook peer protocol session";
const SESSION_HEADERS: &str = "hook peer protocol";

#[tokio::test]
async fn on_the_development_kafka() {
    check(support::development().await).await;
}

#[tokio::test]
async fn on_the_chosen_kafka() {
    let Some(kafka) = support::chosen().await else { return };
    check(kafka).await;
}

async fn check(kafka: Kafka) {
    for stream in STREAMS {
        kafka.create_stream(stream, PARTITIONS).await.unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), FILE.replace("127.0.0.1:9092", &kafka.bootstrap())).unwrap();
    let path = file.path().display().to_string();
    let settings = [("bridge.reference_file", path.as_str()), ("guard.mode", "off")];
    let mut stack = Stack::start_with(kafka, &settings).await.unwrap();
    // What has no meaning here is named, and nothing else.
    stack.broker.expect("bridge.kafka.connection_strategy");
    let mut reader = stack.reader(&STREAMS).await.unwrap();
    for protocol in [Protocol::V3, Protocol::V5] {
        everything_once(&stack, protocol).await;
        let expected = expected();
        let records = reader.read(expected.len(), DEADLINE).await.unwrap();
        check_records(&records, &expected, protocol);
    }
    stack.finish().await.unwrap();
}

async fn connect(stack: &Stack, id: &str, (user, password): (&str, &str), protocol: Protocol) -> Client {
    let connect = Connect {
        protocol,
        client_id: id,
        login: Some((user, password)),
        clean: true,
        session_expiry_s: 0,
        keep_alive_s: 60,
    };
    Client::connect(stack.mqtt(), &connect).await.unwrap().0
}

async fn next(client: &mut Client) -> Packet {
    timeout(ANSWER_DEADLINE, client.receive()).await.unwrap().unwrap()
}

async fn everything_once(stack: &Stack, protocol: Protocol) {
    let (user, password) = stack.secrets.lock_login(LOCK);
    let mut lock = connect(stack, LOCK, (&user, &password), protocol).await;
    lock.subscribe(&command_topic(LOCK), Qos::ExactlyOnce).await.unwrap();
    for qos in ALL_QOS {
        publish(&mut lock, &state_topic(LOCK), STATE, qos).await;
    }
    let id = format!("{ADMINISTRATOR}-1");
    let login = (ADMINISTRATOR, stack.secrets.administrator.as_str());
    let mut administrator = connect(stack, &id, login, protocol).await;
    for qos in ALL_QOS {
        publish(&mut administrator, &command_topic(LOCK), COMMAND, qos).await;
        receive(&mut lock, qos).await;
    }
    lock.send(&packet::unsubscribe(protocol, 77, &command_topic(LOCK))).await.unwrap();
    assert!(matches!(next(&mut lock).await, Packet::Granted { id: 77, .. }));
    lock.disconnect().await.unwrap();
    administrator.disconnect().await.unwrap();
}

/// Publishes, and completes the flow.
async fn publish(client: &mut Client, topic: &str, payload: &str, qos: Qos) {
    let id = if qos == Qos::AtMostOnce { 0 } else { 10 + u16::from(qos.level()) };
    let (topic, payload) = (topic.to_owned(), payload.to_owned().into());
    client.send_publish(&Publish { topic, payload, qos, dup: false, retain: false, id }).await.unwrap();
    match qos {
        // What comes behind it was done after it.
        Qos::AtMostOnce => assert_eq!(client.ping().await.unwrap(), []),
        Qos::AtLeastOnce => expect_ack(client, Ack::PubAck, id).await,
        Qos::ExactlyOnce => {
            expect_ack(client, Ack::PubRec, id).await;
            client.ack(Ack::PubRel, id).await.unwrap();
            expect_ack(client, Ack::PubComp, id).await;
        }
    }
}

/// Receives, and completes the flow.
async fn receive(client: &mut Client, qos: Qos) {
    let Packet::Publish(message) = next(client).await else { panic!("no message") };
    assert_eq!((message.qos, &message.payload[..]), (qos, COMMAND.as_bytes()));
    match qos {
        Qos::AtMostOnce => {}
        Qos::AtLeastOnce => client.ack(Ack::PubAck, message.id).await.unwrap(),
        Qos::ExactlyOnce => {
            client.ack(Ack::PubRec, message.id).await.unwrap();
            expect_ack(client, Ack::PubRel, message.id).await;
            client.ack(Ack::PubComp, message.id).await.unwrap();
        }
    }
}

async fn expect_ack(client: &mut Client, expected: Ack, of: u16) {
    match next(client).await {
        Packet::Ack { kind, id, code: 0 | 0x10 } if (kind, id) == (expected, of) => {}
        other => panic!("{expected:?} {of} expected, not {other:?}"),
    }
}

/// A record as it must be: stream, key, value but for its `ts`, hook, and names of the headers.
type Expected = (&'static str, String, String, &'static str, String);

fn expected() -> Vec<Expected> {
    const NODE: &str = r#""node":"latchline@127.0.0.1""#;
    let administrator = format!("{ADMINISTRATOR}-1");
    let clients = [(LOCK, LOCK), (administrator.as_str(), ADMINISTRATOR)];
    let mut all = Vec::new();
    let mut add = |stream, key: &str, value: String, hook, headers: &str| {
        all.push((stream, key.to_owned(), value, hook, headers.to_owned()));
    };
    for (id, user) in clients {
        let client = format!(r#"{{"client_id":"{id}","username":"{user}""#);
        add("client_connected", id, format!("{client},{NODE}"), "client.connected", CLIENT_HEADERS);
        let value = format!(r#"{client},"reason":"normal",{NODE}"#);
        add("client_disconnected", id, value, "client.disconnected", CLIENT_HEADERS);
    }
    let (command, state) = (command_topic(LOCK), state_topic(LOCK));
    let session = format!(r#"{{"client_id":"{LOCK}","topic":"{command}","qos":2,{NODE}"#);
    add("session_subscribed", LOCK, session.clone(), "session.subscribed", SESSION_HEADERS);
    add("session_unsubscribed", LOCK, session, "session.unsubscribed", SESSION_HEADERS);
    for qos in ALL_QOS.map(Qos::level) {
        // A message of QoS 0 has no packet id.
        let packet_id = if qos == 0 { "" } else { "packet_id " };
        let rest = |topic: &str, payload: &str| {
            let payload = STANDARD.encode(payload);
            format!(r#""topic":"{topic}","payload":"{payload}","qos":{qos},{NODE}"#)
        };
        let headers = format!("dup hook mid {packet_id}peer protocol retain seq");
        let value = format!(r#"{{"client_id":"{LOCK}","username":"{LOCK}",{}"#, rest(&state, STATE));
        add("message_state", LOCK, value, "message.publish", &headers);
        let publisher = format!(r#"{{"client_id":"{administrator}","username":"{ADMINISTRATOR}","#);
        let value = format!("{publisher}{}", rest(&command, COMMAND));
        add("message_publish", LOCK, value, "message.publish", &headers);
        let headers = format!("dup hook mid {packet_id}peer protocol publisher_dup retain seq");
        let from = format!(r#"{{"client_id":"{LOCK}","username":"{LOCK}","from":"{administrator}","#);
        let value = format!("{from}{}", rest(&command, COMMAND));
        add("message_deliver", LOCK, value.clone(), "message.deliver", &headers);
        if qos > 0 {
            add("message_command", LOCK, value, "message.acked", &headers);
        }
    }
    all.sort();
    all
}

fn check_records(records: &[Record], expected: &[Expected], protocol: Protocol) {
    let mut found: Vec<Expected> = records.iter().map(described).collect();
    found.sort();
    assert_eq!(found, expected);
    let mut mids: BTreeMap<(&str, u64), BTreeSet<&str>> = BTreeMap::new();
    let mut sequences: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
    for record in records {
        assert_eq!(record.header("protocol"), (protocol as u8).to_string());
        assert!(record.header("peer").starts_with("127.0.0.1:"), "{record:?}");
        if !record.headers.contains_key("mid") {
            continue;
        }
        assert_eq!((record.header("dup"), record.header("retain")), ("false", "false"));
        let value = record.json().unwrap();
        let message = (value["topic"].as_str().unwrap(), value["qos"].as_u64().unwrap());
        // The text of a record lives longer than its JSON.
        let topic = if message.0 == command_topic(LOCK) { "command" } else { "state" };
        mids.entry((topic, message.1)).or_default().insert(record.header("mid"));
        let (session, n) = record.header("seq").rsplit_once('-').unwrap();
        let of_hook = sequences.entry((session, record.header("hook"))).or_default();
        assert!(of_hook.insert(n.parse().unwrap()), "{n} of {session} twice: {record:?}");
    }
    assert_eq!(mids.len(), 6);
    assert!(mids.values().all(|mids| mids.len() == 1), "one id from publish to acked: {mids:?}");
    let all: BTreeSet<&str> = mids.values().flatten().copied().collect();
    assert_eq!(all.len(), 6, "each message has an id of its own");

    // The records of each hook from each connection are numbered without gaps, under its session.
    let session = |stream: &str, id: &str| {
        let of = |record: &&Record| record.stream == stream && record.key.as_deref() == Some(id);
        records.iter().find(of).unwrap().header("session")
    };
    let administrator = format!("{ADMINISTRATOR}-1");
    for (id, hook, count) in [
        (LOCK, "message.publish", 3),
        (LOCK, "message.deliver", 3),
        (LOCK, "message.acked", 2),
        (&administrator, "message.publish", 3),
    ] {
        let connected = session("client_connected", id);
        assert_eq!(connected, session("client_disconnected", id));
        assert_eq!(sequences[&(connected, hook)], (1..=count).collect(), "{hook} of {id}");
    }
}

fn described(record: &Record) -> Expected {
    let stream = STREAMS.into_iter().find(|stream| *stream == record.stream).unwrap();
    let hooks = [
        "client.connected",
        "client.disconnected",
        "session.subscribed",
        "session.unsubscribed",
        "message.publish",
        "message.deliver",
        "message.acked",
    ];
    let hook = hooks.into_iter().find(|hook| *hook == record.header("hook")).unwrap();
    let value = String::from_utf8(record.value.clone()).unwrap();
    let (value, ts) = value.rsplit_once(r#","ts":"#).unwrap();
    assert!(ts.strip_suffix('}').is_some_and(|ts| ts.parse::<u64>().is_ok()), "{ts}");
    let names: Vec<&str> = record.headers.keys().map(String::as_str).collect();
    (stream, record.key.clone().unwrap(), value.to_owned(), hook, names.join(" "))
}

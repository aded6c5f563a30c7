//! The two payloads of the reference travel through the broker into Kafka byte for byte, and the
//! records have the reference's keys in the reference's order: sent by two independent MQTT clients
//! (`rumqttc`, mosquitto's tools), in both versions of MQTT, and read by two independent Kafka
//! clients (librdkafka here, `kcat` as a process).

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use latchline_e2e::kafka::Kafka;
use latchline_e2e::kafka::reader::Record;
use latchline_e2e::mqtt::{self, Client, Event};
use latchline_e2e::process::Process;
use latchline_e2e::stack::secrets::OPERATOR;
use latchline_e2e::stack::{COMMANDS, STATES, Stack, command_topic, state_topic};
use latchline_shared::kit::clock;
use latchline_shared::kit::testing::eventually;
use latchline_shared::message::{Protocol, Qos};
use tokio::sync::mpsc::Receiver;

use crate::support::{self, DEADLINE};

const LOCK: &str = "10083618796833171";
const STATE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
const COMMAND: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;

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
    // The reference's own sample is not signed in a way that anybody could verify.
    let stack = Stack::start_with(kafka, &[("guard.mode", "off")]).await.unwrap();
    let started_at = clock::unix_ms();
    for protocol in [Protocol::V3, Protocol::V5] {
        with_rumqttc(&stack, protocol).await;
        with_mosquitto(&stack, protocol).await;
    }
    let mut reader = stack.reader(&[STATES, COMMANDS]).await.unwrap();
    let records = reader.read(8, DEADLINE).await.unwrap();
    assert_eq!(records.len(), 8, "one record a message");
    for stream in [STATES, COMMANDS] {
        let records: Vec<&Record> = records.iter().filter(|record| record.stream == stream).collect();
        assert_eq!(records.len(), 4, "{stream}");
        for record in &records {
            check_record(record, started_at);
        }
        let protocols: Vec<&str> = records.iter().map(|record| record.header("protocol")).collect();
        assert_eq!(protocols, ["4", "4", "5", "5"], "one lock's records keep their order");
        let values: Vec<String> = records.iter().map(|record| text(&record.value)).collect();
        assert_eq!(with_kcat(&stack, stream).await, values, "{stream} by kcat");
    }
    assert!(records.iter().all(|record| record.partition == records[0].partition), "one lock, one partition");
    stack.finish().await.unwrap();
}

/// The value is compared as text: keys, their order, and nothing more.
fn check_record(record: &Record, started_at: u64) {
    let ts = record.json().unwrap()["ts"].as_u64().unwrap();
    assert!((started_at..=clock::unix_ms()).contains(&ts), "ts is the hook's time in milliseconds: {ts}");
    let (topic, from, payload, hook) = match record.stream.as_str() {
        STATES => (state_topic(LOCK), String::new(), STATE, "message.publish"),
        _ => (command_topic(LOCK), format!(r#""from":"{OPERATOR}-1","#), COMMAND, "message.acked"),
    };
    let expected = format!(
        r#"{{"client_id":"{LOCK}","username":"{LOCK}",{from}"topic":"{topic}","payload":"{}","qos":1,"node":"latchline@127.0.0.1","ts":{ts}}}"#,
        STANDARD.encode(payload)
    );
    assert_eq!(text(&record.value), expected);
    assert_eq!(record.key.as_deref(), Some(LOCK));
    assert_eq!(
        (record.header("hook"), record.header("dup"), record.header("retain")),
        (hook, "false", "false")
    );
    assert_eq!(record.header("mid").len(), 32);
    assert!(record.header("packet_id").parse::<u16>().is_ok_and(|id| id > 0));
    assert!(record.header("peer").starts_with("127.0.0.1:"));
    assert!(record.header("seq").ends_with("-1"), "each connection sent one: {}", record.header("seq"));
}

async fn with_rumqttc(stack: &Stack, protocol: Protocol) {
    let (lock, mut lock_events) = connect(stack, LOCK, stack.secrets.lock_login(LOCK), protocol).await;
    lock.publish(&state_topic(LOCK), Qos::AtLeastOnce, false, STATE.as_bytes()).unwrap();
    wait_for(&mut lock_events, |event| *event == Event::Acked(Ok(()))).await;
    lock.subscribe(&command_topic(LOCK), Qos::AtLeastOnce).unwrap();
    wait_for(&mut lock_events, |event| *event == Event::Subscribed(Ok(()))).await;

    let login = (OPERATOR.to_owned(), stack.secrets.operator.clone());
    let (operator, mut operator_events) = connect(stack, &format!("{OPERATOR}-1"), login, protocol).await;
    operator.publish(&command_topic(LOCK), Qos::AtLeastOnce, false, COMMAND.as_bytes()).unwrap();
    wait_for(&mut operator_events, |event| *event == Event::Acked(Ok(()))).await;
    let arrived = |event: &Event| matches!(event, Event::Received(received) if received.payload == COMMAND);
    wait_for(&mut lock_events, arrived).await;
    // Its PUBACK is on the way; the record proves that it arrived.
    let mut reader = stack.reader(&[COMMANDS]).await.unwrap();
    let acked =
        |records: &[Record]| records.iter().any(|record| record.header("protocol") == digit(protocol));
    reader.read_until(DEADLINE, acked).await.unwrap();
}

async fn connect(
    stack: &Stack,
    client_id: &str,
    login: (String, String),
    protocol: Protocol,
) -> (Client, Receiver<Event>) {
    let (client, mut events) = Client::start(mqtt::Options {
        host: "127.0.0.1".to_owned(),
        port: stack.mqtt().port(),
        client_id: client_id.to_owned(),
        login: Some(login),
        protocol,
        session: mqtt::Session::Clean,
    });
    wait_for(&mut events, |event| *event == Event::Connected).await;
    (client, events)
}

async fn wait_for(events: &mut Receiver<Event>, wanted: impl Fn(&Event) -> bool) {
    let wait = async {
        loop {
            let event = events.recv().await.unwrap();
            assert!(!matches!(event, Event::Down(_)), "{event:?}");
            if wanted(&event) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the event comes in time");
}

async fn with_mosquitto(stack: &Stack, protocol: Protocol) {
    if !support::installed("mosquitto_pub") {
        panic!("mosquitto_pub is missing: scripts/setup.sh test installs it");
    }
    let lock = stack.secrets.lock_login(LOCK);
    let operator = (OPERATOR.to_owned(), stack.secrets.operator.clone());
    publish(stack, protocol, LOCK, &lock, &state_topic(LOCK), STATE).await;

    let mut command = mosquitto("mosquitto_sub", stack, protocol, LOCK, &lock);
    let subscriber =
        Process::start("mosquitto_sub", command.args(["-d", "-C", "1", "-t", &command_topic(LOCK)])).unwrap();
    eventually(DEADLINE, "mosquitto_sub has subscribed", async || {
        subscriber.output().lines().iter().any(|line| line.starts_with("Subscribed"))
    })
    .await;
    publish(stack, protocol, &format!("{OPERATOR}-1"), &operator, &command_topic(LOCK), COMMAND).await;
    eventually(DEADLINE, "mosquitto_sub has the command", async || {
        subscriber.output().lines().iter().any(|line| line == COMMAND)
    })
    .await;
}

async fn publish(
    stack: &Stack,
    protocol: Protocol,
    client_id: &str,
    login: &(String, String),
    topic: &str,
    payload: &str,
) {
    let mut command = mosquitto("mosquitto_pub", stack, protocol, client_id, login);
    let mut publisher = Process::start("mosquitto_pub", command.args(["-t", topic, "-m", payload])).unwrap();
    // It ends after the PUBACK.
    let status = publisher.wait(DEADLINE).await.unwrap();
    assert!(status.success(), "mosquitto_pub: {status}: {:?}", publisher.output().lines());
}

fn mosquitto(
    program: &str,
    stack: &Stack,
    protocol: Protocol,
    client_id: &str,
    (username, password): &(String, String),
) -> Command {
    // Line by line, although its output is a pipe.
    let mut command = Command::new("stdbuf");
    command
        .args(["-oL", program])
        .args(["-h", "127.0.0.1", "-p", &stack.mqtt().port().to_string(), "-q", "1"])
        .args(["-V", if protocol == Protocol::V5 { "mqttv5" } else { "mqttv311" }])
        .args(["-i", client_id, "-u", username, "-P", password]);
    command
}

/// The values of a stream as `kcat` prints them.
async fn with_kcat(stack: &Stack, stream: &str) -> Vec<String> {
    if !support::installed("kcat") {
        panic!("kcat is missing: scripts/setup.sh test installs it");
    }
    let mut command = Command::new("kcat");
    command.args(["-b", &stack.kafka.bootstrap(), "-C", "-t", stream, "-e", "-q", "-f", "%s\\n"]);
    command.args(["-X", "fetch.wait.max.ms=10"]);
    let mut kcat = Process::start("kcat", &mut command).unwrap();
    let status = kcat.wait(Duration::from_secs(60)).await.unwrap();
    assert!(status.success(), "kcat: {status}: {:?}", kcat.output().lines());
    let mut lines = Vec::new();
    eventually(DEADLINE, "kcat's output is read to its end", async || {
        lines = kcat.output().lines();
        lines.len() == 4
    })
    .await;
    lines
}

fn digit(protocol: Protocol) -> &'static str {
    if protocol == Protocol::V5 { "5" } else { "4" }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

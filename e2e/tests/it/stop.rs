//! The broker is asked to end while receipts wait in its producer: it stores them first. Nobody would
//! give them again, since the locks have acknowledged and hear no more of it.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use latchline_e2e::client::Client;
use latchline_e2e::client::packet::{Ack, Connect, Packet};
use latchline_e2e::kafka::Kafka;
use latchline_e2e::kafka::reader::Record;
use latchline_e2e::operator::Command;
use latchline_e2e::stack::secrets::OPERATOR;
use latchline_e2e::stack::{COMMANDS, Stack, command_topic};
use latchline_shared::command::Action;
use latchline_shared::kit::testing::eventually;
use latchline_shared::message::{Protocol, Qos};

use crate::support::{self, DEADLINE};

const LOCK: &str = "10083618796833171";
/// Fewer than what the broker delivers before the first is acknowledged.
const RECEIPTS: usize = 20;
/// Long enough to end the broker before the client library sends anything by itself.
const LINGER: (&str, &str) = ("bridge.linger_ms", "3000");
const PENDING: &str = "broker_bridge_pending_records ";

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
    let mut stack = Stack::start_with(kafka, &[LINGER]).await.unwrap();
    let (mut lock, _) = stack.connect_lock(LOCK, Protocol::V5).await.unwrap();
    lock.subscribe(&command_topic(LOCK), Qos::AtLeastOnce).await.unwrap();
    let sent = command(&stack).await;
    acknowledge(&mut lock).await;
    let all = async || pending(&stack).await == RECEIPTS.to_string();
    eventually(DEADLINE, "all receipts are read, and none is stored", all).await;

    stack.broker.stop().await.unwrap();
    stack.broker.check_log().unwrap();
    let stored = stack.reader(&[COMMANDS]).await.unwrap().read(RECEIPTS, DEADLINE).await.unwrap();
    assert_eq!(stored.iter().map(process_id).collect::<BTreeSet<_>>(), sent);
}

/// Sends the commands; the answer is their processes.
async fn command(stack: &Stack) -> BTreeSet<String> {
    let connect = Connect {
        protocol: Protocol::V5,
        client_id: &format!("{OPERATOR}-1"),
        login: Some((OPERATOR, &stack.secrets.operator)),
        clean: true,
        session_expiry_s: 0,
        keep_alive_s: 60,
    };
    let (mut operator, _) = Client::connect(stack.mqtt(), &connect).await.unwrap();
    let mut sent = BTreeSet::new();
    for _ in 0..RECEIPTS {
        let command = Command::sign(&stack.secrets.master, LOCK, Action::Unlock).unwrap();
        let id = operator.publish(&command_topic(LOCK), command.payload).await.unwrap();
        operator.acked(id, DEADLINE).await.unwrap();
        sent.insert(command.process_id);
    }
    sent
}

/// Takes all commands, and then acknowledges them at once, so that nothing is sent to Kafka meanwhile.
async fn acknowledge(lock: &mut Client) {
    let mut ids = Vec::new();
    while ids.len() < RECEIPTS {
        match lock.receive_within(DEADLINE).await.unwrap() {
            Some(Packet::Publish(command)) => ids.push(command.id),
            other => panic!("a command expected, not {other:?}"),
        }
    }
    for id in ids {
        lock.ack(Ack::PubAck, id).await.unwrap();
    }
}

/// How many records the bridge has not stored, as its metric says.
async fn pending(stack: &Stack) -> String {
    let url = format!("http://{}/metrics", stack.broker.address("http"));
    let page = reqwest::get(url).await.unwrap().error_for_status().unwrap().text().await.unwrap();
    page.lines().find_map(|line| line.strip_prefix(PENDING)).unwrap().to_owned()
}

fn process_id(record: &Record) -> String {
    let payload = STANDARD.decode(record.json().unwrap()["payload"].as_str().unwrap()).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    payload["process_id"].as_str().unwrap().to_owned()
}

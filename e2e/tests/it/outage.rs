//! Kafka is away. Nothing is acknowledged that is not stored; connections live on; memory is
//! bounded; and when Kafka is back, everything that was sent is stored once and acknowledged in
//! order.

use std::time::Duration;

use latchline_e2e::bench::meter::memory_bytes;
use latchline_e2e::client::Client;
use latchline_e2e::client::packet::{Ack, Packet};
use latchline_e2e::kafka::reader::Record;
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::stack::{STATES, Stack, state_topic};
use latchline_shared::message::Protocol;
use tokio::task::JoinSet;

use crate::support::{self, DEADLINE};

const CLIENTS: usize = 1_000;
/// Messages of each client before it pings.
const FEW: u16 = 3;
/// Messages of each client that more than fill the bound together.
const MANY: u16 = 40;
const PAYLOAD_BYTES: usize = 2_000;
const INFLIGHT_BYTES_TOTAL: u64 = 16 << 20;
/// What 1,000 connections, their buffers, the allocator and the Kafka client may add to the bound.
const OVERHEAD_BYTES: u64 = 32 << 20;
/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq)]
enum Outage {
    Refused,
    BlackHole,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_by_the_development_kafka() {
    check(support::development().await, Outage::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swallowed_by_the_development_kafka() {
    check(support::development().await, Outage::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_by_the_chosen_kafka() {
    let Some(kafka) = support::chosen().await else { return };
    check(kafka, Outage::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swallowed_by_the_chosen_kafka() {
    let Some(kafka) = support::chosen().await else { return };
    check(kafka, Outage::BlackHole).await;
}

async fn check(kafka: Kafka, outage: Outage) {
    if matches!(kafka, Kafka::External(_)) {
        return;
    }
    let bound = INFLIGHT_BYTES_TOTAL.to_string();
    let mut stack = Stack::start_with(kafka, &[("limits.inflight_bytes_total", &bound)]).await.unwrap();
    stack.broker.expect("kafka cannot be reached");
    let mut clients = connect(&stack).await;
    let memory_before = memory_bytes(stack.broker.process().unwrap()).unwrap();

    begin(&mut stack.kafka, outage).await;
    nothing_is_acknowledged_and_pings_are_answered(&mut clients).await;
    let writers = flood(clients);
    let memory = memory_at_rest(&stack).await;
    assert!(
        memory < memory_before + INFLIGHT_BYTES_TOTAL + OVERHEAD_BYTES,
        "memory grew from {memory_before} to {memory} bytes"
    );

    end(&mut stack.kafka, outage).await;
    let all = CLIENTS * usize::from(FEW + MANY);
    let ((), records) = tokio::join!(everything_is_acknowledged_in_order(writers), stored(&stack, all));
    check_stored(&records, all, stack.kafka.choice());
    stack.finish().await.unwrap();
}

async fn begin(kafka: &mut Kafka, outage: Outage) {
    match outage {
        Outage::Refused => kafka.go_down().await.unwrap(),
        Outage::BlackHole => kafka.go_silent().await.unwrap(),
    }
}

async fn end(kafka: &mut Kafka, outage: Outage) {
    match outage {
        Outage::Refused => kafka.come_up().await.unwrap(),
        Outage::BlackHole => kafka.answer_again().unwrap(),
    }
}

async fn connect(stack: &Stack) -> Vec<(String, Client)> {
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let id = (10_083_618_796_833_171 + n).to_string();
        let protocol = if n % 2 == 0 { Protocol::V3 } else { Protocol::V5 };
        let (client, _) = stack.connect_lock(&id, protocol).await.unwrap();
        clients.push((id, client));
    }
    clients
}

async fn nothing_is_acknowledged_and_pings_are_answered(clients: &mut [(String, Client)]) {
    for (id, client) in clients.iter_mut() {
        for n in 1..=FEW {
            client.publish(&state_topic(id), payload(id, n)).await.unwrap();
        }
    }
    tokio::time::sleep(SILENCE).await;
    for (id, client) in clients {
        let before = client.ping().await.unwrap();
        assert!(before.is_empty(), "{id} was told {before:?} while Kafka was away");
    }
}

/// Every client sends all it has, as fast as the broker reads, and then waits for all PUBACKs.
fn flood(clients: Vec<(String, Client)>) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for (id, mut client) in clients {
        writers.spawn(async move {
            for n in FEW + 1..=FEW + MANY {
                client.publish(&state_topic(&id), payload(&id, n)).await.unwrap();
            }
            for n in 1..=FEW + MANY {
                let expected = Packet::Ack { kind: Ack::PubAck, id: n, code: 0 };
                let packet = client.receive_within(2 * DEADLINE).await.unwrap();
                // MQTT 5 may say that nobody has subscribed (0x10).
                let packet = packet.map(|packet| match packet {
                    Packet::Ack { kind, id, code: 0x10 } => Packet::Ack { kind, id, code: 0 },
                    other => other,
                });
                assert_eq!(packet, Some(expected), "{id}");
            }
        });
    }
    writers
}

/// The broker's memory once it has stood still for a while. (What the clients can still write goes
/// into the kernel's buffers.)
async fn memory_at_rest(stack: &Stack) -> u64 {
    const SMALL_CHANGE_BYTES: u64 = 1 << 20;
    let process = stack.broker.process().unwrap();
    let mut last = memory_bytes(process).unwrap();
    loop {
        tokio::time::sleep(SILENCE).await;
        let now = memory_bytes(process).unwrap();
        if now.abs_diff(last) < SMALL_CHANGE_BYTES {
            return now;
        }
        last = now;
    }
}

async fn everything_is_acknowledged_in_order(mut writers: JoinSet<()>) {
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
}

async fn stored(stack: &Stack, count: usize) -> Vec<Record> {
    let mut reader = stack.reader(&[STATES]).await.unwrap();
    let mut distinct = std::collections::HashSet::new();
    let mut seen = 0;
    let enough = |records: &[Record]| {
        distinct.extend(records[seen..].iter().map(identity));
        seen = records.len();
        distinct.len() >= count
    };
    reader.read_until(3 * DEADLINE, enough).await.unwrap()
}

fn check_stored(records: &[Record], sent: usize, kafka: Choice) {
    let mut identities: Vec<_> = records.iter().map(identity).collect();
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), sent, "every PUBLISH is stored");
    // The development Kafka stores a batch twice that was sent again after a timeout.
    if kafka != Choice::Development {
        assert_eq!(records.len(), sent, "and once");
    }
}

/// Which PUBLISH of which connection.
fn identity(record: &Record) -> (String, String) {
    (record.key.clone().unwrap(), record.header("seq").to_owned())
}

fn payload(id: &str, n: u16) -> Vec<u8> {
    let mut payload = format!("{id} {n} ").into_bytes();
    payload.resize(PAYLOAD_BYTES, b'.');
    payload
}

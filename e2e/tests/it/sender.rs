//! A lock that numbers its messages, sends again what was not acknowledged when its connection
//! breaks (in order and with DUP, as MQTT asks), and the proof that Kafka has all of them in order.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use latchline_e2e::client::Client;
use latchline_e2e::client::packet::{Ack, Packet, Publish};
use latchline_e2e::kafka::reader::{Reader, Record};
use latchline_e2e::stack::secrets::Secrets;
use latchline_e2e::stack::{Stack, state_topic};
use latchline_shared::kit::testing::{Random, Seed};
use latchline_shared::message::{Protocol, Qos};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::DEADLINE;

/// Unacknowledged messages of one lock.
const WINDOW: usize = 20;

/// What a fleet of senders does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Number of locks.
    pub locks: u64,
    /// Messages of each.
    pub messages: u16,
    /// Of 1,000 steps of a lock, how many break its connection.
    pub breaks_per_mille: u64,
    /// Whether anybody else may break connections and end sessions.
    pub outages: Outages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outages {
    /// A connection that ends by itself, or a session that is gone, is a failure.
    Unexpected,
    /// The broker is killed; the lock comes back until it is there again.
    Expected,
}

impl Plan {
    /// Messages of all locks together.
    pub(crate) fn total(&self) -> usize {
        usize::try_from(self.locks).unwrap() * usize::from(self.messages)
    }
}

/// Starts the fleet; each task returns how often its connection broke.
pub(crate) fn start(stack: &Stack, plan: Plan, test: &str) -> JoinSet<u64> {
    let mut random = Seed::of_this_run().random(test);
    let mut fleet = JoinSet::new();
    for n in 0..plan.locks {
        let sender = Sender {
            id: (10_083_618_796_833_171 + n).to_string(),
            protocol: if n % 2 == 0 { Protocol::V3 } else { Protocol::V5 },
            address: stack.mqtt(),
            secrets: stack.secrets.clone(),
            plan,
            random: Random::new(Seed(random.number())),
            unacked: VecDeque::new(),
            next: 1,
            breaks: 0,
        };
        fleet.spawn(sender.run());
    }
    fleet
}

struct Sender {
    id: String,
    protocol: Protocol,
    address: SocketAddr,
    secrets: Secrets,
    plan: Plan,
    random: Random,
    /// Sent, and not yet acknowledged.
    unacked: VecDeque<u16>,
    next: u16,
    breaks: u64,
}

impl Sender {
    /// Sends every message until it is acknowledged.
    async fn run(mut self) -> u64 {
        let mut client = self.connect().await;
        while self.next <= self.plan.messages || !self.unacked.is_empty() {
            let broken = match self.random.below(1_000) < self.plan.breaks_per_mille {
                true => true,
                false => match self.step(&mut client).await {
                    Ok(()) => false,
                    Err(error) if self.plan.outages == Outages::Unexpected => {
                        panic!("{}: {error:#}", self.id)
                    }
                    Err(_) => true,
                },
            };
            if broken {
                // No DISCONNECT: what is on the way may or may not arrive.
                drop(client);
                self.breaks += 1;
                client = self.connect().await;
            }
        }
        self.breaks
    }

    /// Sends a message or takes an acknowledgement. An error is a connection that has ended.
    async fn step(&mut self, client: &mut Client) -> anyhow::Result<()> {
        if self.next <= self.plan.messages && self.unacked.len() < WINDOW && self.random.chance(70) {
            // Counted first: it may arrive even if sending fails.
            self.unacked.push_back(self.next);
            self.next += 1;
            return client.send_publish(&self.message(self.next - 1, false)).await;
        }
        let Some(expected) = self.unacked.front().copied() else { return Ok(()) };
        match client.receive_within(DEADLINE).await? {
            Some(Packet::Ack { kind: Ack::PubAck, id, code: 0 | 0x10 }) => {
                assert_eq!(id, expected, "{} is acknowledged out of order", self.id);
                self.unacked.pop_front();
                Ok(())
            }
            Some(Packet::Disconnect { code }) => anyhow::bail!("DISCONNECT with {code:#04x}"),
            other => panic!("PUBACK {expected} expected by {}, not {other:?}", self.id),
        }
    }

    /// Connects and sends again what was not acknowledged; with outages, until that succeeds.
    async fn connect(&self) -> Client {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.try_connect().await {
                Ok(client) => return client,
                Err(error) if self.plan.outages == Outages::Unexpected || Instant::now() >= until => {
                    panic!("{}: {error:#}", self.id)
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn try_connect(&self) -> anyhow::Result<Client> {
        let (mut client, present) = self.secrets.connect_lock(self.address, &self.id, self.protocol).await?;
        if self.plan.outages == Outages::Unexpected {
            assert_eq!(present, self.breaks > 0, "the session of {} is kept", self.id);
        }
        for n in &self.unacked {
            client.send_publish(&self.message(*n, true)).await?;
        }
        Ok(client)
    }

    fn message(&self, n: u16, dup: bool) -> Publish {
        let payload = Bytes::from(n.to_string());
        Publish { topic: state_topic(&self.id), payload, qos: Qos::AtLeastOnce, dup, retain: false, id: n }
    }
}

/// Reads until the last message of every lock has been seen, and what follows at once; counts on the
/// way in `progress`.
pub(crate) async fn read_all(mut reader: Reader, plan: Plan, progress: Arc<AtomicUsize>) -> Vec<Record> {
    let last = plan.messages.to_string();
    let (mut done, mut seen) = (HashSet::new(), 0);
    let enough = |records: &[Record]| {
        let ends = records[seen..].iter().filter(|record| record.header("packet_id") == last);
        done.extend(ends.map(|record| record.key.clone()));
        seen = records.len();
        progress.store(seen, Ordering::Relaxed);
        done.len() as u64 == plan.locks
    };
    let mut records = reader.read_until(5 * DEADLINE, enough).await.unwrap();
    while let Some(record) = reader.next(Duration::from_millis(500)).await.unwrap() {
        records.push(record);
    }
    records
}

/// Fails unless every lock's messages are all there, in order, on one partition, and every
/// repetition says that it is one.
pub(crate) fn check_order(records: &[Record], plan: Plan) {
    let mut locks: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        locks.entry(record.key.as_deref().unwrap()).or_default().push(record);
    }
    assert_eq!(locks.len() as u64, plan.locks);
    for (id, records) in locks {
        assert!(records.iter().all(|record| record.partition == records[0].partition), "{id}: one partition");
        let mut next = 1;
        for record in records {
            let n: u16 = record.header("packet_id").parse().unwrap();
            assert!(n <= next, "{id}: {n} is stored before {next}");
            assert!(
                n == next || record.header("dup") == "true",
                "{id}: {n} is stored twice and does not say so"
            );
            next = next.max(n + 1);
        }
        assert_eq!(next, plan.messages + 1, "{id}: messages are missing");
    }
}

/// The proof itself is put to the test: each of these must not pass.
#[test]
fn disorder_is_seen() {
    let record = |partition, n: u16, dup: &str| Record {
        stream: String::new(),
        partition,
        offset: 0,
        key: Some("1".to_owned()),
        headers: [("packet_id", n.to_string()), ("dup", dup.to_owned())]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        value: Vec::new(),
    };
    let plan = Plan { locks: 1, messages: 3, breaks_per_mille: 0, outages: Outages::Unexpected };
    let (no, yes) = ("false", "true");
    check_order(
        &[record(0, 1, no), record(0, 2, no), record(0, 1, yes), record(0, 2, yes), record(0, 3, no)],
        plan,
    );
    for wrong in [
        vec![record(0, 1, no), record(0, 3, no), record(0, 2, no)],
        vec![record(0, 1, no), record(0, 2, no)],
        vec![record(0, 1, no), record(0, 1, no), record(0, 2, no), record(0, 3, no)],
        vec![record(0, 1, no), record(1, 2, no), record(0, 3, no)],
        vec![],
    ] {
        assert!(std::panic::catch_unwind(|| check_order(&wrong, plan)).is_err(), "{wrong:?}");
    }
}

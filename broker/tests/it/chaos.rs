//! Connections break at any moment, receipts settle in any order, some fail: nothing that was
//! acknowledged is lost, the order of each publisher is kept, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::hook::Call;
use latchline_shared::kit::testing::{Random, Seed, eventually};
use tokio::task::JoinSet;

use crate::app::App;
use crate::hooks::{EVENTS, Held};
use crate::raw::bytes::{
    Connect, Publish, V5, VERSIONS, puback, pubcomp, pubrec, pubrel, subscribe, unsubscribe,
};
use crate::raw::read::Packet;
use crate::raw::{Raw, SOON};

const MESSAGES: u32 = 250;

/// What the hook has stored, by payload.
type Stored = Arc<Mutex<BTreeSet<String>>>;

/// A message of a publisher that is not complete.
struct Pending {
    packet_id: u16,
    qos: u8,
    payload: String,
    released: bool,
}

struct Publisher {
    connect: Connect,
    pending: VecDeque<Pending>,
    sent: u32,
    stored: Stored,
    random: Random,
}

impl Publisher {
    /// Publishes everything, over as many connections as it takes.
    async fn run(mut self, app: Arc<App>) {
        while self.sent < MESSAGES || !self.pending.is_empty() {
            let (mut raw, connack) = app.connect(&self.connect).await;
            assert_eq!(connack.code, 0);
            if self.again(&mut raw).await {
                self.talk(&mut raw).await;
            }
            // Dropped without a word.
        }
    }

    /// Sends again what an earlier connection did not complete.
    async fn again(&mut self, raw: &mut Raw) -> bool {
        for pending in &self.pending {
            let bytes = if pending.released {
                pubrel(pending.packet_id)
            } else {
                let publish = Publish::new(&format!("t/{}", self.connect.id), &pending.payload);
                publish.qos(pending.qos, pending.packet_id).dup().bytes(self.connect.version)
            };
            if !raw.try_send(&bytes).await {
                return false;
            }
        }
        true
    }

    /// Talks until the connection breaks or everything is complete.
    async fn talk(&mut self, raw: &mut Raw) {
        loop {
            while self.pending.len() < 8 && self.sent < MESSAGES {
                self.sent += 1;
                let (packet_id, qos) = (self.sent as u16, 1 + self.random.below(2) as u8);
                let payload = format!("{}-{}", self.connect.id, self.sent);
                let publish = Publish::new(&format!("t/{}", self.connect.id), &payload).qos(qos, packet_id);
                self.pending.push_back(Pending { packet_id, qos, payload, released: false });
                if !raw.try_send(&publish.bytes(self.connect.version)).await {
                    return;
                }
            }
            if self.pending.is_empty() || self.random.chance(3) {
                return;
            }
            let answered = match raw.next_or_end().await {
                Some(Packet::Puback(packet_id, 0)) => self.complete(packet_id, 1),
                Some(Packet::Pubrec(packet_id, 0)) => {
                    let pending = self.pending.iter_mut().find(|pending| pending.packet_id == packet_id);
                    let pending = pending.expect("PUBREC of what was sent");
                    assert!(self.stored.lock().unwrap().contains(&pending.payload), "{}", pending.payload);
                    pending.released = true;
                    raw.try_send(&pubrel(packet_id)).await
                }
                Some(Packet::Pubcomp(packet_id, _)) => self.complete(packet_id, 2),
                // A record was not stored: the connection ends without acknowledging it.
                Some(Packet::Disconnect(0x83)) | None => false,
                other => panic!("{other:?}"),
            };
            if !answered {
                return;
            }
        }
    }

    fn complete(&mut self, packet_id: u16, qos: u8) -> bool {
        let position = self.pending.iter().position(|pending| pending.packet_id == packet_id);
        let pending = self.pending.remove(position.expect("an acknowledgement of what was sent"));
        let pending = pending.expect("it was just found");
        assert!(pending.qos == qos && (qos == 1 || pending.released));
        assert!(self.stored.lock().unwrap().contains(&pending.payload), "{} was not stored", pending.payload);
        true
    }
}

/// Receives until everything has come, over as many connections as it takes; the payloads in the
/// order in which they came first.
async fn subscriber(
    app: Arc<App>,
    connect: Connect,
    mut raw: Raw,
    mut random: Random,
    total: usize,
) -> Vec<String> {
    let (mut seen, mut order, mut open) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    while order.len() < total {
        if random.chance(2) {
            raw = app.resume(&connect, true).await;
        }
        let Some(packet) = raw.next_or_end().await else {
            raw = app.resume(&connect, true).await;
            continue;
        };
        let answer = match packet {
            Packet::Publish(message) => {
                let is_new = message.qos == 1 || open.insert(message.id);
                if is_new && seen.insert(message.text().to_owned()) {
                    order.push(message.text().to_owned());
                }
                if message.qos == 1 { puback(message.id) } else { pubrec(message.id) }
            }
            Packet::Pubrel(packet_id, _) => {
                open.remove(&packet_id);
                pubcomp(packet_id)
            }
            other => panic!("{other:?}"),
        };
        if !random.chance(1) {
            raw.try_send(&answer).await;
        } else {
            raw = app.resume(&connect, true).await;
        }
    }
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_stored_and_delivered_in_order() {
    let mut random = Seed::of_this_run().random("what_is_acknowledged_is_stored_and_delivered_in_order");
    let held = Held::new(&[Call::MessagePublish]);
    let app = Arc::new(App::with_hook(&held, |config| config.limits.inflight_max = 10).await);
    let stored = Stored::default();
    let mut subscribers = JoinSet::new();
    for version in VERSIONS {
        let connect = Connect::kept(version, &format!("subscriber{version}"));
        let random = Random::new(Seed(random.number()));
        let mut raw = app.resume(&connect, false).await;
        raw.subscribe("t/+", 2).await;
        subscribers.spawn(subscriber(Arc::clone(&app), connect, raw, random, 4 * MESSAGES as usize));
    }
    let mut publishers = JoinSet::new();
    for number in 0..4 {
        let connect = Connect::kept(VERSIONS[number % 2], &format!("publisher{number}"));
        let (pending, stored) = (VecDeque::new(), Arc::clone(&stored));
        let random = Random::new(Seed(random.number()));
        let publisher = Publisher { connect, pending, sent: 0, stored, random };
        publishers.spawn(publisher.run(Arc::clone(&app)));
    }
    let settler = async {
        loop {
            if held.open() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            let (event, slot) = held.take_with_event(random.index(held.open()));
            if random.chance(2) {
                slot.settle(Err(Fault::transient("away")));
                continue;
            }
            // Ordering: stored before it is said.
            stored.lock().unwrap().insert(event.split(' ').nth(3).expect("a payload").to_owned());
            slot.settle(Ok(()));
        }
    };
    let orders = async {
        while publishers.join_next().await.transpose().expect("no publisher fails").is_some() {}
        subscribers.join_all().await
    };
    let orders = tokio::select! {
        () = settler => Vec::new(),
        orders = tokio::time::timeout(SOON * 4, orders) => orders.expect("everything arrives"),
    };
    assert_eq!(orders.len(), 2);
    for order in orders {
        let mut last = BTreeMap::new();
        for payload in order {
            let (publisher, number) = payload.split_once('-').expect("a payload of ours");
            let number: u32 = number.parse().unwrap();
            let before = last.insert(publisher.to_owned(), number);
            assert_eq!(number, before.unwrap_or(0) + 1, "{publisher}");
        }
    }
    assert_eq!(app.dropped("connection_panic"), 0);
}

/// Something that a client may do; whether its connection lives on.
async fn act(raw: &mut Raw, version: u8, random: &mut Random) -> bool {
    let topic = *random.choose(&["a", "b/c", "b/d", "$x", "will"]);
    let filter = *random.choose(&["a", "b/+", "#", "$share/g/#", "$share/g/a", "forbidden/x"]);
    let id = 1 + random.below(5) as u16;
    let bytes = match random.below(12) {
        0..=4 => {
            let publish = Publish::new(topic, random.bytes(100)).qos(random.below(3) as u8, id);
            if random.chance(20) { publish.retain().bytes(version) } else { publish.bytes(version) }
        }
        5 => subscribe(version, id, &[], &[(filter, random.below(3) as u8)]),
        6 => unsubscribe(version, id, &[filter]),
        7 => [pubrel, pubrec, pubcomp][random.index(3)](id),
        8 => vec![0xe0, 0],
        _ => vec![0xc0, 0],
    };
    if !raw.try_send(&bytes).await {
        return false;
    }
    // Answers some of what has come, and leaves the rest.
    while let Ok(packet) = tokio::time::timeout(Duration::from_millis(1), raw.next_or_end()).await {
        let answer = match packet {
            None => return false,
            Some(Packet::Publish(message)) if message.qos == 1 => puback(message.id),
            Some(Packet::Publish(message)) if message.qos == 2 => pubrec(message.id),
            Some(Packet::Pubrel(id, _)) => pubcomp(id),
            Some(_) => continue,
        };
        if random.chance(80) && !raw.try_send(&answer).await {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happened_nothing_is_left_behind() {
    const CLIENTS: u64 = 8;
    let mut random = Seed::of_this_run().random("whatever_happened_nothing_is_left_behind");
    let held = Held::new(EVENTS);
    let app = App::with_hook(&held, |config| {
        let limits = &mut config.limits;
        (limits.queue_messages_max, limits.inflight_max) = (20, 4);
        limits.inflight_bytes_per_connection = 20_000;
        limits.slow_receiver_wait = Duration::from_millis(20);
        limits.packet_timeout = Duration::from_millis(500);
    })
    .await;
    let app = Arc::new(app);
    let mut tasks = JoinSet::new();
    for _ in 0..2 * CLIENTS {
        let (app, mut random) = (Arc::clone(&app), Random::new(Seed(random.number())));
        tasks.spawn(async move {
            for _ in 0..20 {
                let version = *random.choose(&VERSIONS);
                let id = format!("client{}", random.below(CLIENTS));
                let delay_s = random.below(2) as u8;
                let connect = Connect { clean: random.chance(30), ..Connect::kept(version, &id) };
                let (mut raw, connack) = app.connect(&connect.delayed_will("will", "gone", delay_s)).await;
                assert_eq!(connack.code, 0);
                for _ in 0..random.below(30) {
                    if !act(&mut raw, version, &mut random).await {
                        break;
                    }
                }
            }
        });
    }
    let settler = async {
        loop {
            while held.open() > 0 {
                held.settle(random.index(held.open()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = settler => {}
        () = async { while tasks.join_next().await.transpose().expect("no client fails").is_some() {} } => {}
    }
    for client in 0..CLIENTS {
        let (raw, _) = app.connect(&Connect::new(V5, &format!("client{client}"))).await;
        raw.goodbye().await;
    }
    let broker = &app.server.broker;
    eventually(SOON, "everything is over", async || {
        held.settle_all();
        app.metric("broker_session_connections") == 0 && broker.budget.used() == 0
    })
    .await;
    assert_eq!((broker.registry.len(), broker.router.subscription_count()), (0, 0));
    assert_eq!(broker.registry.timers.len(), 0);
    let (connected, disconnected) = (held.of(Call::ClientConnected), held.of(Call::ClientDisconnected));
    assert_eq!(connected.len(), disconnected.len());
    assert_eq!(app.dropped("connection_panic"), 0);
}

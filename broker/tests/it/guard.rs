//! The guard between a publisher and a lock, over real sockets: what it lets through arrives once,
//! what it refuses never, and the publisher hears why.

use std::sync::Arc;

use latchline_broker::config::GuardMode;
use latchline_broker::hooks::guard::Guard;
use latchline_broker::hooks::guard::verdict::Verdict;
use latchline_shared::command::Action;
use latchline_shared::command::draft::{Draft, SignLength, sign_command};
use latchline_shared::hook::Call;
use latchline_shared::keys::MasterKey;
use latchline_shared::kit::clock;
use latchline_shared::kit::testing::eventually;

use crate::app::{App, closed};
use crate::hooks::Held;
use crate::raw::bytes::{Connect, Publish, V3, V5};
use crate::raw::read::Packet;
use crate::raw::{Raw, SOON};

const LOCK: &str = "10083618796833171";
const TOPIC: &str = "devices/10083618796833171/command";
const MASTER: &str = "7bdd93dfe9837876200e90cd788594f65752d5c10c51462789fc0ebd220c0e39";

struct Guarded {
    app: App,
    guard: Arc<Guard>,
    recorder: Arc<Held>,
}

async fn start(mode: GuardMode) -> Guarded {
    let mut config = App::config(|_| {});
    config.guard.mode = mode;
    config.guard.nonces_per_lock_max = 3;
    config.access.fleet_master_key = Some(MASTER.into());
    let guard = Arc::new(Guard::open(&config).unwrap().expect("it is not off"));
    let recorder = Held::recorder();
    let app = App::with_links(vec![closed(&guard), closed(&recorder)], |_| {}).await;
    Guarded { app, guard, recorder }
}

/// A command signed now, or so many seconds ago.
fn signed(nonce: &str, age_s: i64) -> String {
    let ts = i64::try_from(clock::unix_ms() / 1000).unwrap() - age_s;
    let draft =
        Draft { process_id: "p1", action: Action::Unlock, nonce, ts, ttl: None, kid: None, extra: &[] };
    let key = MasterKey::from_hex(MASTER).unwrap().command_key(LOCK);
    sign_command(&draft, LOCK, &key, SignLength::Full).unwrap()
}

/// Within the second after the start, commands may have been signed before it.
async fn past_the_first_second(guarded: &Guarded) {
    let mut n = 0;
    let mut probe = guarded.app.client(V5, "probe").await;
    eventually(SOON, "a command passes", async || {
        n += 1;
        let topic = "devices/10083618796833172/command";
        let key = MasterKey::from_hex(MASTER).unwrap().command_key("10083618796833172");
        let ts = i64::try_from(clock::unix_ms() / 1000).unwrap();
        let nonce = format!("probe{n:05}");
        let action = Action::Unlock;
        let draft = Draft { process_id: "p", action, nonce: &nonce, ts, ttl: None, kid: None, extra: &[] };
        let payload = sign_command(&draft, "10083618796833172", &key, SignLength::Full).unwrap();
        probe.send_publish(&Publish::new(topic, payload).qos(1, 1)).await;
        probe.next().await == Packet::Puback(1, 0)
    })
    .await;
}

async fn lock(app: &App) -> Raw {
    let mut lock = app.client(V5, LOCK).await;
    lock.subscribe(TOPIC, 1).await;
    lock
}

#[tokio::test]
async fn enforcing_lets_each_signed_command_through_once() {
    let guarded = start(GuardMode::Enforce).await;
    past_the_first_second(&guarded).await;
    let mut lock = lock(&guarded.app).await;
    let mut operator = guarded.app.client(V5, "operator").await;
    let first = signed("firstnonce", 0);
    let stale = signed("stalenonce", 120);
    let forged = signed("forgednonce", 0).replace("unlock", "lock");
    let mut id = 0;
    for (what, publish, expected) in [
        ("signed", Publish::new(TOPIC, &first), Verdict::Ok),
        (
            "repeated by who missed the acknowledgement",
            Publish::new(TOPIC, &first).dup(),
            Verdict::Retransmit,
        ),
        ("replayed", Publish::new(TOPIC, &first), Verdict::Replay),
        ("stale", Publish::new(TOPIC, &stale), Verdict::Stale),
        ("forged", Publish::new(TOPIC, &forged), Verdict::BadSignature),
        ("retained", Publish::new(TOPIC, signed("retained1", 0)).retain(), Verdict::UnsafeDelivery),
        ("second", Publish::new(TOPIC, signed("secondnonce", 0)), Verdict::Ok),
        ("third", Publish::new(TOPIC, signed("thirdnonce", 0)), Verdict::Ok),
        ("one too many", Publish::new(TOPIC, signed("fourthnonce", 0)), Verdict::Busy),
    ] {
        id += 1;
        let code = match expected {
            Verdict::Ok | Verdict::Retransmit => 0,
            Verdict::Busy => 0x97,
            _ => 0x87,
        };
        operator.send_publish(&publish.qos(1, id)).await;
        assert_eq!(operator.next().await, Packet::Puback(id, code), "{what}");
        if expected == Verdict::Ok {
            let received = lock.receive().await;
            assert_eq!(received.topic, TOPIC, "{what}");
        } else {
            lock.quiet().await;
            assert!(guarded.guard.metrics().commands(expected) > 0, "{what}");
        }
    }
    let rejected = guarded.recorder.of(Call::MessageRejected);
    let reasons: Vec<_> = rejected.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    let expected = ["replay", "stale", "bad_signature", "qos0_or_retained", "busy"];
    assert_eq!(reasons[reasons.len() - 5..], expected);
    let published = guarded.recorder.of(Call::MessagePublish);
    let firsts = published.iter().filter(|line| line.contains(&first)).count();
    assert_eq!(firsts, 2, "a repetition is stored like what it repeats");
    assert!(guarded.app.server.broker.router.retained.is_empty());
    // Other topics are nobody's business.
    operator.publish(&Publish::new("devices/10083618796833171/state", "x").qos(1, 100)).await;
}

#[tokio::test]
async fn no_other_way_leads_around_it() {
    let guarded = start(GuardMode::Enforce).await;
    past_the_first_second(&guarded).await;
    let mut lock = lock(&guarded.app).await;
    // QoS 0, and MQTT 3.1.1, have no answer.
    let mut new = guarded.app.client(V5, "new").await;
    new.send_publish(&Publish::new(TOPIC, signed("qos0nonce", 0))).await;
    new.ended(0x87).await;
    let mut old = guarded.app.client(V3, "old").await;
    old.send_publish(&Publish::new(TOPIC, "forged").qos(1, 1)).await;
    old.ended(0x87).await;
    // A will.
    let connect = Connect::new(V5, "gone").will(TOPIC, "forged");
    let (client, _) = guarded.app.connect(&connect).await;
    client.vanish();
    eventually(SOON, "the will is refused", async || {
        guarded.recorder.of(Call::MessageRejected).iter().any(|line| line.starts_with("gone "))
    })
    .await;
    // QoS 2.
    let mut exact = guarded.app.client(V5, "exact").await;
    let twice = signed("exactnonce", 0);
    exact.send_publish(&Publish::new(TOPIC, &twice).qos(2, 1)).await;
    assert_eq!(exact.next().await, Packet::Pubrec(1, 0));
    assert_eq!(lock.receive().await.text(), twice);
    exact.send_publish(&Publish::new(TOPIC, &twice).qos(2, 2)).await;
    assert_eq!(exact.next().await, Packet::Pubrec(2, 0x87));
    lock.quiet().await;
}

#[tokio::test]
async fn a_restart_forgets_and_so_refuses_what_was_signed_before() {
    let before = signed("beforenonce", 1);
    let guarded = start(GuardMode::Enforce).await;
    let mut operator = guarded.app.client(V5, "operator").await;
    operator.send_publish(&Publish::new(TOPIC, before).qos(1, 1)).await;
    assert_eq!(operator.next().await, Packet::Puback(1, 0x87));
    assert_eq!(guarded.guard.metrics().commands(Verdict::Stale), 1);
}

#[tokio::test]
async fn reporting_counts_and_lets_through() {
    let guarded = start(GuardMode::Report).await;
    let mut lock = lock(&guarded.app).await;
    let mut operator = guarded.app.client(V5, "operator").await;
    for (id, payload) in [(1, "forged".to_owned()), (2, signed("stalenonce", 120))] {
        operator.send_publish(&Publish::new(TOPIC, &payload).qos(1, id)).await;
        assert_eq!(operator.next().await, Packet::Puback(id, 0));
        assert_eq!(lock.receive().await.text(), payload);
    }
    let metrics = guarded.guard.metrics();
    assert_eq!((metrics.commands(Verdict::Malformed), metrics.commands(Verdict::Stale)), (1, 1));
    assert!(guarded.recorder.of(Call::MessageRejected).is_empty());
}

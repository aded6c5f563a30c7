//! What a match costs, and what a subscription takes. Small in every test run; at full size in a
//! build worth measuring, one test per run, since memory that an earlier one freed is not seen to be
//! taken again:
//!
//! `RUN_SLOW=1 cargo test --release -p latchline-broker --lib a_lock_takes_one -- --nocapture`

#![expect(clippy::disallowed_macros, reason = "figures are for a person to read")]

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use latchline_shared::message::{Message, MessageId};

use super::super::Router;
use super::super::retained::Retained;
use super::*;

fn size(full: usize) -> usize {
    if std::env::var_os("RUN_SLOW").is_some() { full } else { full.min(1_000) }
}

/// Resident bytes of this process; 0 where the system does not say.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn lock_id(n: usize) -> u64 {
    10_083_618_796_000_000 + n as u64
}

/// Calls with numbers that jump about, as locks do. Prints the fastest and the median of ten
/// batches' means, since other work on the machine only ever adds.
fn measure(what: &str, calls: usize, numbers: usize, mut call: impl FnMut(usize)) {
    let batch = calls.div_ceil(10);
    let mut means: Vec<Duration> = (0..calls)
        .step_by(batch)
        .map(|first| {
            let started_at = Instant::now();
            for n in first..first + batch {
                call(n.wrapping_mul(7_919_777) % numbers);
            }
            started_at.elapsed() / batch as u32
        })
        .collect();
    means.sort_unstable();
    println!("{what}: {:?}, median {:?}", means[0], means[means.len() / 2]);
}

#[test]
fn a_match_costs_the_same_among_100_and_among_a_million_filters() {
    for locks in [100, 10_000, 1_000_000].map(size) {
        let router = Router::new();
        let consumers = [mailbox(1), mailbox(2)];
        for (filter, consumer) in
            [("devices/+/state", 0), ("devices/+/alarm", 0), ("$SYS/#", 1), ("fleet/#", 1)]
        {
            router.subscribe(filter, plain(&consumers[consumer]));
        }
        let sessions: Vec<_> = (0..locks).map(|n| mailbox(10 + n as u64)).collect();
        for (n, session) in sessions.iter().enumerate() {
            router.subscribe(&format!("devices/{}/command", lock_id(n)), plain(session));
        }
        let mut out = Vec::new();
        let mut topic = String::new();
        // What comes from the network is in the cache: topics are written anew for each call.
        let write = |topic: &mut String, n: usize, kind: &str| {
            topic.clear();
            write!(topic, "devices/{}/{kind}", lock_id(n)).unwrap();
        };
        measure("writing a topic alone", size(2_000_000), locks, |n| {
            write(black_box(&mut topic), n, "state")
        });
        for (kind, expected) in [("command", 1), ("state", 1), ("other", 0)] {
            measure(&format!("{locks} locks, {kind}"), size(2_000_000), locks, |n| {
                write(&mut topic, n, kind);
                router.matches(black_box(&topic), None, &mut out);
                assert_eq!(out.len(), expected);
            });
        }
    }
}

#[test]
fn a_lock_takes_one_small_entry() {
    subscribe_locks("command");
}

#[test]
fn a_lock_with_a_wildcard_takes_one_node() {
    subscribe_locks("#");
}

/// Subscribes each lock to one filter, and ends it again.
fn subscribe_locks(kind: &str) {
    let locks = size(1_000_000);
    let router = Router::new();
    let sessions: Vec<_> = (0..locks).map(|n| mailbox(n as u64)).collect();
    let before = resident_bytes();
    let started_at = Instant::now();
    let mut longest = Duration::ZERO;
    for (n, session) in sessions.iter().enumerate() {
        let filter = format!("devices/{}/{kind}", lock_id(n));
        let call_at = Instant::now();
        router.subscribe(&filter, plain(session));
        longest = longest.max(call_at.elapsed());
    }
    let each = started_at.elapsed() / locks as u32;
    let bytes = resident_bytes().saturating_sub(before) / locks;
    println!("{locks} × devices/…/{kind}: {bytes} bytes each, {each:?} each, the longest {longest:?}");
    let mut out = Vec::new();
    measure(&format!("{locks} × devices/…/{kind}, match"), size(1_000_000), locks, |n| {
        router.matches(&format!("devices/{}/command", lock_id(n)), None, &mut out);
        assert_eq!(out.len(), 1);
    });
    let started_at = Instant::now();
    for (n, session) in sessions.iter().enumerate() {
        assert!(router.unsubscribe(&format!("devices/{}/{kind}", lock_id(n)), session.key()));
    }
    println!("unsubscribe: {:?} each", started_at.elapsed() / locks as u32);
    assert_eq!((router.wildcard.nodes(), router.exact.size()), (0, (0, 0)));
}

#[test]
fn filters_of_a_hostile_client_cost_what_they_are() {
    let router = Router::new();
    let (lock, hostile) = (mailbox(1), mailbox(2));
    router.subscribe("devices/+/state", plain(&lock));
    let bits = if std::env::var_os("RUN_SLOW").is_some() { 17 } else { 9 };
    let before = resident_bytes();
    // All ways to write `a` or `+` in each level: a topic of only `a` meets every one of them.
    for filter in 0..1_u32 << bits {
        let levels: Vec<&str> = (0..bits).map(|bit| if filter >> bit & 1 == 1 { "+" } else { "a" }).collect();
        router.subscribe(&levels.join("/"), plain(&hostile));
    }
    let filters = router.subscription_count();
    println!("{filters} filters, {} bytes each", resident_bytes().saturating_sub(before) / filters);
    let mut out = Vec::new();
    let deep = vec!["a"; bits as usize].join("/");
    for (topic, found) in [("devices/1/state", 1), ("a/a/a", 0), (&*deep, 1), (&*format!("{deep}/a"), 0)] {
        measure(&format!("match {topic}"), 5, 5, |_| {
            router.matches(topic, None, &mut out);
            assert_eq!(out.len(), found);
        });
    }
}

#[test]
fn a_topic_of_all_locks_is_merged_in_one_pass() {
    let router = Router::new();
    let sessions: Vec<_> = (0..size(100_000)).map(|n| mailbox(n as u64)).collect();
    for session in &sessions {
        router.subscribe("fleet/news", plain(session));
        router.subscribe("fleet/+", plain(session));
    }
    let mut out = Vec::new();
    measure(&format!("match {} sessions twice", sessions.len()), 5, 5, |_| {
        router.matches("fleet/news", None, &mut out);
        assert_eq!(out.len(), sessions.len());
    });
}

#[test]
fn retained_messages_are_found_by_level() {
    let locks = size(1_000_000);
    let retained = Retained::new(locks, usize::MAX);
    let now = Instant::now();
    let before = resident_bytes();
    for n in 0..locks {
        let message = Message {
            mid: MessageId(n as u128),
            from: lock_id(n).to_string().into(),
            topic: format!("devices/{}/state", lock_id(n)).into(),
            payload: vec![b'x'; 200].into(),
            qos: Qos::AtLeastOnce,
            retain: true,
            dup: false,
            packet_id: Some(1),
            properties: None,
            received_at: now,
            expiry: None,
        };
        retained.set(Arc::new(message)).unwrap();
    }
    let counted = retained.bytes() / locks;
    println!("{} bytes each, counted as {counted}", resident_bytes().saturating_sub(before) / locks);
    measure("matching one lock", size(100_000), locks, |n| {
        assert_eq!(retained.matching(&format!("devices/{}/+", lock_id(n)), now).len(), 1);
    });
    for (filter, found) in [("devices/+/state", locks), ("#", locks), ("+/+/+/+", 0)] {
        measure(&format!("matching {filter}"), 1, 1, |_| {
            assert_eq!(retained.matching(filter, now).len(), found)
        });
    }
}

#[test]
fn publishers_do_not_exclude_each_other() {
    let router = Router::new();
    let consumer = mailbox(1);
    router.subscribe("devices/+/state", plain(&consumer));
    let publish = |what: &str, thread: usize| {
        let topic = format!("devices/{}/state", lock_id(thread));
        let mut out = Vec::new();
        measure(what, size(10_000_000), 1, |_| {
            router.matches(black_box(&topic), None, &mut out);
            assert_eq!(out.len(), 1);
        });
    };
    publish("one publisher, one receiver", 0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || publish("two publishers, one receiver", thread));
        }
    });
}

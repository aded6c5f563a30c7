//! The comparisons, small: that each side is measured, that nothing is lost, that what is not there is
//! said not to be measured, and that one that fails is a row. Nothing here depends on how fast the
//! machine is.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use latchline_e2e::bench::cost::Loop;
use latchline_e2e::bench::peers::{self, Plan};
use latchline_e2e::bench::progress::Progress;
use latchline_e2e::bench::store::{self, side::Side};
use latchline_e2e::bench::target::{Kind, Surroundings};
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::process::Process;
use latchline_e2e::stack::program::Name;

/// For a run of everything, small, on a busy machine.
const RUN_DEADLINE: Duration = Duration::from_secs(300);
const ALL: [Kind; 5] = [Kind::Bridge, Kind::Alone, Kind::Mosquitto, Kind::Rumqttd, Kind::Echo];

#[tokio::test]
async fn peers_are_measured_or_said_not_to_be() {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let surroundings = Surroundings::new(&kafka).await.unwrap();
    let plan = Plan::small();
    let (mut begun, mut ended) = (0, Vec::new());
    let tell = |progress: Progress<'_, peers::Peers>| match progress {
        Progress::Begins(_) => begun += 1,
        Progress::Ended(_, table) => ended.push(table.to_owned()),
    };
    let peers = peers::measure(kafka.choice().name(), &surroundings, plan.clone(), tell).await.unwrap();
    assert!(peers.failed.is_empty(), "{:?}", peers.failed);
    peers.check().unwrap();
    assert!(begun > 4 && ended.len() == 5, "{begun} parts, {ended:?}");
    let table = peers.to_string();

    let absent: Vec<Kind> = peers.absent.iter().map(|absent| absent.kind).collect();
    for kind in ALL {
        let is_here = !absent.contains(&kind);
        let said = table.contains(&format!("NOT MEASURED: {}, not ", kind.name()));
        assert_eq!(said, !is_here, "{kind:?}\n{table}");
        let count = if is_here { plan.idle_connections.len() } else { 0 };
        assert_eq!(peers.idle.iter().filter(|idle| idle.kind == kind).count(), count, "{kind:?}\n{table}");
        for (costs, rounds) in [(&peers.cost, plan.turns.rounds), (&peers.many, plan.turns_many.rounds)] {
            let closed = costs.iter().filter(|cost| (cost.kind, cost.load) == (kind, Loop::Closed(1)));
            let closed: Vec<_> = closed.collect();
            assert_eq!(closed.len(), usize::from(is_here), "{kind:?}\n{table}");
            for cost in closed {
                assert_eq!(cost.samples.len(), rounds as usize, "{cost:?}");
                assert!(cost.per_second.low > 0.0, "{cost:?}");
                assert!(cost.shares.machine > 0.0 && cost.shares.load_thread > 0.0, "{cost:?}");
            }
        }
        let heard = peers.many.iter().filter(|cost| (cost.kind, cost.load) == (kind, Loop::Heard));
        assert_eq!(heard.count(), usize::from(is_here && kind != Kind::Echo), "{kind:?}\n{table}");
        let is_received = peers.received.iter().any(|received| received.kind == kind);
        assert_eq!(is_received, is_here && kind != Kind::Echo, "{kind:?}\n{table}");
        let slow = peers.slow.iter().filter(|slow| slow.kind == kind).count();
        let turns = if kind.is_ours() { 2 } else { usize::from(kind != Kind::Echo) };
        assert_eq!(slow, if is_here { turns } else { 0 }, "{kind:?}\n{table}");
    }
    assert!(!absent.contains(&Kind::Bridge) && !absent.contains(&Kind::Alone), "{table}");
    let open = peers.cost.iter().filter(|cost| matches!(cost.load, Loop::Open(_)) && cost.kind.is_ours());
    assert_eq!(open.count(), 4, "ours takes both fixed rates\n{table}");
    assert!(peers.many.iter().all(|cost| !matches!(cost.load, Loop::Open(_))), "{table}");
    // With few locks and with many, and what was acknowledged is more than nothing.
    assert_eq!(peers.stored.len(), 2, "{table}");
    assert!(peers.stored.iter().all(|stored| stored.acknowledged > 100), "{table}");
}

#[tokio::test]
async fn a_peer_that_fails_is_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("rumqttd");
    std::fs::write(&fake, "#!/bin/sh\necho there is no room >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&fake, PermissionsExt::from_mode(0o755)).unwrap();
    let json = folder.path().join("not/there/yet.json");
    let bench = Name::Broker.binary().unwrap().with_file_name("bench");
    let mut command = Command::new(bench);
    command.args(["peers", "--small", "--json"]).arg(&json).env("LATCHLINE_PEERS", folder.path());
    let mut process = Process::start("bench peers", &mut command).unwrap();
    let status = process.wait(RUN_DEADLINE).await.unwrap();
    let said = process.output().lines().join("\n");
    assert!(status.success(), "ours has not failed\n{said}");
    for part in [
        "memory",
        "20 locks, connecting",
        "40 locks, connecting",
        "one subscriber, turn 0",
        "one slow subscriber",
    ] {
        let row = format!("FAILED: rumqttd, {part}: ");
        let failed =
            said.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("{row}\n{said}"));
        assert!(failed.contains("exit status: 3"), "{failed}");
    }
    assert!(said.contains("NOT MEASURED: bare echo"), "{said}");
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(figures["failed"].as_array().unwrap().len(), 5, "{figures}");
    assert!(figures["received"].as_array().unwrap().len() >= 2, "{figures}");
}

#[tokio::test]
async fn a_subscriber_gets_all_that_was_acknowledged() {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let surroundings = Surroundings::new(&kafka).await.unwrap();
    let plan = peers::subscriber::Plan { rounds: 1, locks: 20, each: 300 };
    let kinds = [Kind::Bridge, Kind::Alone];
    let (received, failed) = peers::subscriber::measure(&kinds, &surroundings, &plan, &mut |_| {}).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(received.iter().map(|received| received.kind).collect::<Vec<_>>(), kinds);
    for received in received {
        assert_eq!((received.acknowledged, received.lost_max), (6_000, 0), "{received:?}");
        assert_eq!((received.duplicates, received.disordered), (0, 0), "{received:?}");
        assert_eq!(received.received.low, 6_000.0, "{received:?}");
        let stored = received.stored.map(|stored| (stored.acknowledged, stored.stored));
        let expected = (received.kind == Kind::Bridge).then_some((6_000, 6_000));
        assert_eq!(stored, expected, "{:?}", received.kind);
    }
}

#[tokio::test]
async fn publishers_are_slowed_for_a_slow_subscriber_and_what_is_dropped_is_counted() {
    const READS_PER_SECOND: u32 = 400;
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let surroundings = Surroundings::new(&kafka).await.unwrap();
    let plan = peers::slow::Plan {
        locks: 20,
        reads_per_second: READS_PER_SECOND,
        warm_up: Duration::from_secs(3),
        window: Duration::from_secs(4),
        wait: Duration::from_millis(100),
    };
    let kinds = [Kind::Bridge, Kind::Alone];
    let (slow, failed) = peers::slow::measure(&kinds, &surroundings, &plan, &mut |_| {}).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(slow.iter().map(|slow| slow.kind).collect::<Vec<_>>(), [kinds, kinds].concat());
    for slow in slow {
        slow.check().unwrap();
        let counted = slow.counted.unwrap();
        assert!(counted.held_back > 0, "{slow:?}");
        assert_eq!(slow.lost(), counted.dropped, "{slow:?}");
        assert_eq!(slow.stored.is_some(), slow.kind == Kind::Bridge, "{slow:?}");
        if slow.reads_per_second == 0 {
            // Nobody waits for it any more.
            assert!(counted.dropped > 0 && slow.acknowledged_per_second > 0.0, "{slow:?}");
            assert_eq!(slow.received_per_second, 0.0, "{slow:?}");
        } else {
            // Its queue takes a thousand beside what it reads, however fast the machine is.
            let at_most = f64::from(READS_PER_SECOND) + 1_000.0 / plan.window.as_secs_f64();
            assert!(slow.acknowledged_per_second <= at_most, "{slow:?}");
            assert_eq!(slow.lost(), 0, "{slow:?}");
        }
    }
}

#[tokio::test]
async fn bridge_and_bare_producer_store_the_same() {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let plan = store::Plan::small();
    let store = store::measure(&kafka, plan.clone(), |_| {}).await.unwrap();
    assert_eq!(store.compared, plan.templates as usize);
    let turns = |records: u32| u64::from(2 * plan.rounds * (plan.warm_up + records));
    assert_eq!(store.stored, turns(plan.records) + turns(plan.records_paced));
    let rows: Vec<_> = store.costs.iter().map(|cost| (cost.side, cost.load)).collect();
    let expected = ["closed loop", "fixed rate"].map(|load| [(Side::Bridge, load), (Side::Bare, load)]);
    assert_eq!(rows, expected.concat());
    for cost in &store.costs {
        assert_eq!(cost.samples_cpu_us.len(), plan.rounds as usize, "{cost:?}");
        assert!(cost.per_second.low > 0.0, "{cost:?}");
        let is_closed = cost.load == "closed loop";
        assert!(is_closed || cost.per_second.high <= f64::from(plan.rate_per_second) * 1.1, "{cost:?}");
    }
    assert_eq!(store.ratios.len(), 2, "{store}");
}

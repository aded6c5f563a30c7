//! The benchmarks, small: that they measure something sensible, and that a broker that stalls
//! cannot hide it. Nothing here depends on how fast the machine is.

use std::time::Duration;

use latchline_e2e::bench::cost::Cost;
use latchline_e2e::bench::lock::{self, Session};
use latchline_e2e::bench::plan::Plan;
use latchline_e2e::bench::probe::Probe;
use latchline_e2e::bench::publishers::{Publishers, WINDOW};
use latchline_e2e::bench::report::{Part, Report, measure};
use latchline_e2e::bench::storm::Event;
use latchline_e2e::bench::target::{Kind, Surroundings, Target, mosquitto};
use latchline_e2e::bench::{notify, watch};
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::random;
use latchline_shared::keys::MasterKey;
use tokio::time::sleep;

async fn surroundings() -> (Kafka, Surroundings) {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let surroundings = Surroundings::new(&kafka).await.unwrap();
    (kafka, surroundings)
}

async fn report(part: Part) -> Report {
    let (kafka, surroundings) = surroundings().await;
    let report = measure(&[part], kafka.choice().name(), &surroundings, Plan::small()).await.unwrap();
    let table = report.to_string();
    assert_eq!(table.contains("mosquitto"), mosquitto().is_some(), "{table}");
    report
}

#[tokio::test]
async fn idle_connections_take_memory() {
    let report = report(Part::Idle).await;
    let ours: Vec<_> = report.idle.iter().filter(|idle| idle.kind == Kind::Bridge).collect();
    assert_eq!(ours.iter().map(|idle| idle.connections).collect::<Vec<_>>(), Plan::small().idle_connections);
    for idle in ours {
        assert!((100.0..1e6).contains(&idle.bytes_per_connection), "{idle:?}");
        assert!(idle.empty_bytes > 1 << 20, "{idle:?}");
    }
}

#[tokio::test]
async fn messages_take_cpu_time() {
    let report = report(Part::Cost).await;
    let plan = Plan::small();
    for kind in [Kind::Bridge, Kind::Alone] {
        for load in plan.turns().loads {
            let same = |cost: &&Cost| (cost.kind, cost.load) == (kind, load);
            let costs: Vec<_> = report.cost.iter().filter(same).collect();
            assert_eq!(costs.iter().map(|cost| cost.locks).collect::<Vec<_>>(), plan.cost_locks);
            for cost in costs {
                assert_eq!(cost.samples.len(), plan.cost_rounds as usize);
                assert!(cost.per_second.low > 0.0 && cost.cpu_us.low > 0.0, "{cost:?}");
            }
        }
    }
    let compared = if mosquitto().is_some() { 6 } else { 4 };
    assert_eq!(report.ratios.len(), compared, "{:?}", report.ratios);
}

#[tokio::test]
async fn bystanders_are_asked_in_every_storm() {
    let report = report(Part::Storm).await;
    let ours = report.storms.iter().filter(|storm| storm.kind == Kind::Bridge);
    let events: Vec<_> = ours.clone().map(|storm| (storm.event, storm.kept_sessions)).collect();
    let connect = |kept| (Event::Connect, kept);
    assert_eq!(
        events,
        [
            connect(false),
            (Event::Rst, false),
            connect(false),
            (Event::Fin, false),
            connect(true),
            (Event::Rst, true)
        ]
    );
    for storm in ours {
        assert!(storm.bystander.count > 0 && storm.elsewhere.count > 0, "{storm:?}");
        assert!(storm.seconds > 0.0 && storm.bystander.max_ms > 0.0, "{storm:?}");
    }
}

#[tokio::test]
async fn acknowledgements_take_time() {
    let report = report(Part::Latency).await;
    assert!(report.latency.len() >= 2, "{:?}", report.latency);
    for latency in report.latency {
        let delays = latency.paced.delays;
        assert!(delays.count > 0 && delays.p50_ms > 0.0, "{delays:?}");
        assert!(delays.p50_ms <= delays.p99_ms && delays.p999_ms <= delays.max_ms * 1.01, "{delays:?}");
    }
}

#[tokio::test]
async fn a_stall_delays_all_that_was_due() {
    const STALL: Duration = Duration::from_millis(300);
    const PER_SECOND: f64 = 200.0;
    let (_kafka, surroundings) = surroundings().await;
    let master = MasterKey::from_hex(&surroundings.master_hex).unwrap();
    let target = Target::start(Kind::Alone, &surroundings).await.unwrap();
    let publishers = Publishers::connect(target.address(), &master, 0, 4).await.unwrap();
    let probe = Probe::start(target.address(), &master, 9, Duration::from_millis(5)).await.unwrap();
    // For longer than the stall, since a process takes a while until it stands still.
    let window = STALL * 5;
    let load = publishers.open_loop(PER_SECOND, Duration::ZERO, window).unwrap();
    target.process().unwrap().pause().await.unwrap();
    sleep(STALL).await;
    target.process().unwrap().resume().unwrap();
    let sent = load.finish().await.unwrap();
    publishers.drain().await.unwrap();
    let due = (PER_SECOND * window.as_secs_f64()) as u64;
    assert_eq!((sent.measured, publishers.delays().len()), (due, due), "nothing that was due is left out");

    let half_us = STALL.as_micros() as u64 / 2;
    let sixth = PER_SECOND * STALL.as_secs_f64() / 6.0;
    for delays_us in [publishers.delays(), probe.finish().await.unwrap()] {
        let long = delays_us.count_between(half_us, delays_us.max());
        assert!(long as f64 >= sixth, "{long} delays of more than {half_us} µs of {}", delays_us.len());
    }
    target.finish().unwrap();
}

#[tokio::test]
async fn publishers_whose_broker_is_gone_are_an_error() {
    let (_kafka, surroundings) = surroundings().await;
    let master = MasterKey::from_hex(&surroundings.master_hex).unwrap();
    let target = Target::start(Kind::Alone, &surroundings).await.unwrap();
    let publishers = Publishers::connect(target.address(), &master, 0, 4).await.unwrap();
    publishers.closed_loop(WINDOW).await;
    drop(target);
    let error = publishers.drain().await.unwrap_err().to_string();
    assert!(error.contains("disconnected: "), "{error}");
    publishers.check().unwrap_err();
}

#[tokio::test]
async fn a_lock_that_is_refused_is_an_error() {
    let (_kafka, surroundings) = surroundings().await;
    let target = Target::start(Kind::Alone, &surroundings).await.unwrap();
    let stranger = MasterKey::from_hex(&random::secret().unwrap()).unwrap();
    let error = lock::open(target.address(), &stranger, 0, Session::Clean).await.unwrap_err();
    assert!(format!("{error:#}").contains("connect"), "{error:#}");
    target.finish().unwrap();
}

#[tokio::test]
async fn a_fleet_is_watched() {
    let watch = watch::measure(watch::Plan::small()).await.unwrap();
    assert!(watch.per_second > 100.0 && watch.memory_bytes > 1_000_000, "{watch:?}");
    assert!(watch.alarms.count > 0 && watch.alarms.p50_ms > 0.0, "{watch:?}");
    assert!(watch.monitor_cpu_us > 0.0 && watch.postgres_cpu_us > 0.0, "{watch:?}");
}

#[tokio::test]
async fn users_are_told() {
    let notify = notify::measure(notify::Plan::small()).await.unwrap();
    for delays in [notify.mails, notify.sms, notify.taken_in, notify.critical, notify.others] {
        assert!(delays.count > 0 && delays.p50_ms <= delays.p95_ms && delays.p95_ms > 0.0, "{notify:?}");
    }
    assert!(notify.sent_per_second > 1.0 && notify.memory_bytes > 1_000_000, "{notify:?}");
    assert!(notify.notifier_cpu_us > 0.0 && notify.postgres_cpu_us > 0.0, "{notify:?}");
}

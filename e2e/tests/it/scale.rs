//! `bench scale`, small: that it measures something sensible at every number of locks, on sockets and
//! in process. Nothing here depends on how fast the machine is.

use latchline_e2e::bench::progress::Progress;
use latchline_e2e::bench::scale::crowd::{Deed, ORDERS, Orders};
use latchline_e2e::bench::scale::{self, PINGS_MIN, Plan, Scale, Way};
use latchline_e2e::bench::target::Surroundings;
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::stack::program::{Name, Program};

#[tokio::test]
async fn every_number_of_locks_is_measured() {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let surroundings = Surroundings::new(&kafka).await.unwrap();
    let mut rows = Vec::new();
    let tell = |progress: Progress<'_, Scale>| match progress {
        Progress::Begins(_) => {}
        Progress::Ended(scale, _) => rows.push(scale.rows.len()),
    };
    let scale = scale::measure(kafka.choice().name(), &surroundings, Plan::small(), tell).await.unwrap();
    scale.check().unwrap();
    let plan = Plan::small();
    let measured: Vec<_> = scale.rows.iter().map(|row| (row.way, row.locks)).collect();
    let sockets = plan.sockets.iter().map(|&locks| (Way::Sockets, locks));
    let in_process = plan.sessions.iter().map(|&locks| (Way::InProcess, locks));
    assert_eq!(measured, sockets.chain(in_process).collect::<Vec<_>>());
    // Told of once before anybody leaves, and then each time that all of one broker have.
    assert_eq!(rows, vec![measured.len(); 1 + measured.len()]);
    for row in &scale.rows {
        assert!(row.connects_per_second > 0.0 && row.bytes_each > 0.0, "{row:?}");
        assert!(row.closed_cpu_us.low > 0.0 && row.closed_per_second.low > 0.0, "{row:?}");
        assert_eq!(row.turns.len(), plan.rounds as usize, "{row:?}");
        for turn in &row.turns {
            assert_eq!(turn.half.rate_per_second, turn.closed.per_second / 2.0, "{turn:?}");
            let due = plan.rate_per_second * plan.cost_window.as_secs_f64();
            assert_eq!(turn.open.delays.count, due as u64, "{turn:?}");
        }
        for delays in [&row.delays, &row.half_delays] {
            assert!(delays.p50_ms.low > 0.0 && delays.p50_ms.median <= delays.p99_ms.median, "{row:?}");
        }
        let departure = row.departure.unwrap();
        assert!(departure.seconds > 0.0 && departure.ping.count >= PINGS_MIN, "{row:?}");
        for delays in [departure.ping, departure.calm_ping] {
            assert!(delays.count > 0 && delays.p50_ms > 0.0 && delays.p50_ms <= delays.p99_ms, "{row:?}");
        }
        assert_eq!(row.everybody.is_some(), row.way == Way::InProcess, "{row:?}");
        assert_eq!(row.stream_bytes_each.is_some(), row.way == Way::InProcess, "{row:?}");
        if let Some(everybody) = &row.everybody {
            let due = plan.rate_per_second * plan.report_window.as_secs_f64();
            assert_eq!(everybody.delays.count, due as u64, "{row:?}");
        }
    }
    let stored = scale.stored.as_ref().unwrap();
    assert!(stored.acknowledged > 1_000 && stored.stored >= stored.acknowledged, "{stored:?}");
    let table = scale.to_string();
    for words in ["connects/s", "CPU µs", "PUBACK in ms", "PING in ms", "in process"] {
        assert!(table.contains(words), "{words} in {table}");
    }
    let svg = scale.svg();
    // Two lines in the panels of memory and connections, four in the others; a mark for each row.
    assert_eq!(svg.matches("<circle").count(), scale.rows.len() * (2 + 4 * 2), "{svg}");
}

#[tokio::test]
async fn more_locks_than_open_files_are_refused_at_once() {
    let kafka = Kafka::start(Choice::Development).await.unwrap();
    let surroundings = Surroundings::new(&kafka).await.unwrap();
    let plan = Plan { sockets: vec![20, u32::MAX], ..Plan::small() };
    let measured = scale::measure(kafka.choice().name(), &surroundings, plan.clone(), |_| {}).await;
    let error = measured.unwrap_err().to_string();
    assert!(error.contains("4294967295 locks") && error.contains("ulimit -Hn"), "{error}");
    let fitted = plan.fit().unwrap();
    assert_eq!((fitted.sockets, fitted.sockets_left_out), (vec![20], vec![u32::MAX]));
}

#[tokio::test]
async fn a_crowd_that_is_refused_says_so() {
    let own = |key: &str| key.repeat(32);
    let mut program = Program::new(
        Name::Crowd,
        [
            ("listen.tcp", "127.0.0.1:0".to_owned()),
            ("listen.ws", String::new()),
            ("http.address", String::new()),
            ("limits.connections_max", "3".to_owned()),
            ("limits.sessions_max", "3".to_owned()),
            ("access.fleet_master_key", own("5a")),
            ("bridge.enabled", "false".to_owned()),
        ],
    );
    program.start(&["tcp", ORDERS]).await.unwrap();
    let mut orders = Orders::connect(program.address(ORDERS)).await.unwrap();
    let nobody = orders.carry_out(Deed::Connect).await.unwrap_err();
    assert!(format!("{nobody:#}").contains("no crowd"), "{nobody:#}");
    orders.carry_out(Deed::Gather { first: 0, count: 4 }).await.unwrap();
    let error = orders.carry_out(Deed::Connect).await.unwrap_err();
    assert!(format!("{error:#}").contains("the broker says"), "{error:#}");
    drop(orders);
    program.stop().await.unwrap();
}

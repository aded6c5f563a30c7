//! Many signals, and many at once.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[tokio::test]
async fn two_who_raise_the_same_alarm_raise_one() {
    let lab = Lab::start().await;
    let begin =
        |lock: &str, at_ms| signal(lock, AlarmType::SecurityReplay, What::Occur(Severity::Critical), at_ms);
    let (mut first, mut second) = (lab.client().await, lab.client().await);
    let one = first.transaction().await.unwrap();
    apply(&one, &lab.context, vec![begin("lock-1", START_MS)]).await.unwrap();
    let context = lab.context.clone();
    let waiting = tokio::spawn(async move {
        let other = second.transaction().await.unwrap();
        // The second lock is its own, the first is not.
        let signals = vec![begin("lock-1", START_MS + 1), begin("lock-2", START_MS + 2)];
        let applied = apply(&other, &context, signals).await.unwrap();
        other.commit().await.unwrap();
        applied
    });
    eventually_waits(&lab).await;
    one.commit().await.unwrap();
    let applied = waiting.await.unwrap();
    assert_eq!(applied.changes, [(Change::Raised, 1), (Change::Repeated, 1)].into());
    let alarms = lab.alarms().await;
    let counts: Vec<_> =
        alarms.iter().map(|alarm| (alarm.client_id.as_str(), alarm.count, alarm.no)).collect();
    assert_eq!(counts, [("lock-1", 2, 2), ("lock-2", 1, 1)]);
    assert_eq!((lab.events().await.len(), lab.records().await.len()), (3, 3));
}

/// Until somebody waits for a lock.
async fn eventually_waits(lab: &Lab) {
    let waiting = "select exists (select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock')";
    let owner = lab.owner.get().await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !owner.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn somebody_acknowledges_what_is_just_over() {
    for people_first in [true, false] {
        let lab = Lab::start().await;
        let signal = |what, at_ms| signal("lock-1", AlarmType::LockFault, what, at_ms);
        lab.apply(vec![signal(What::Begin(Severity::Critical), START_MS)]).await;
        let id = lab.alarms().await[0].id;
        let (mut first, mut second) = (lab.client().await, lab.client().await);
        let one = first.transaction().await.unwrap();
        let (context, end) = (lab.context.clone(), vec![signal(What::End, START_MS + 5)]);
        // The clocks of both differ: what comes second is said to be later.
        let ack_ms = START_MS + if people_first { 9 } else { 1 };
        let acknowledge = Act::Acknowledge;
        let waiting = if people_first {
            act(&one, &lab.context, id, acknowledge, "duty", None, ack_ms).await.unwrap();
            tokio::spawn(async move {
                let other = second.transaction().await.unwrap();
                apply(&other, &context, end).await.unwrap();
                other.commit().await.unwrap();
            })
        } else {
            apply(&one, &lab.context, end).await.unwrap();
            tokio::spawn(async move {
                let other = second.transaction().await.unwrap();
                act(&other, &context, id, acknowledge, "duty", None, ack_ms).await.unwrap();
                other.commit().await.unwrap();
            })
        };
        eventually_waits(&lab).await;
        one.commit().await.unwrap();
        waiting.await.unwrap();
        let alarm = lab.alarms().await.remove(0);
        assert_eq!((alarm.state, alarm.no), (State::Closed, 3), "{people_first}");
        let events = lab.events().await;
        let changes: Vec<Change> = events.iter().map(|event| event.change).collect();
        let mut expected = vec![Change::Raised, Change::Acknowledged, Change::ReturnedToNormal];
        if !people_first {
            expected.swap(1, 2);
        }
        assert_eq!(changes, expected);
        assert!(events.is_sorted_by_key(|event| event.at_ms));
    }
}

/// Statements of one transaction, as the server counts them by what they did to the tables.
#[tokio::test]
async fn five_thousand_signals_are_as_many_statements_as_one() {
    let lab = Lab::start().await;
    lab.execute(
        "create table monitor.statement (n bigint); grant all on monitor.statement to latchline_monitor;
        create function monitor.count() returns trigger language plpgsql as
            'begin insert into statement values (1); return null; end';",
    )
    .await;
    for table in ["alarm", "alarm_event", "outbox", "webhook"] {
        lab.execute(&format!(
            "create trigger count after insert or update or delete on monitor.{table}
                for each statement execute function monitor.count()"
        ))
        .await;
    }
    let mut sent = Vec::new();
    for (count, from) in [(1_usize, 0_usize), (5_000, 1_000)] {
        lab.execute("truncate monitor.statement").await;
        let signals = |what| {
            (from..from + count)
                .map(|n| signal(&format!("lock-{n:05}"), AlarmType::LockFault, what, START_MS))
                .collect::<Vec<_>>()
        };
        let applied = lab.apply(signals(What::Begin(Severity::Critical))).await;
        assert_eq!(applied.notifications, count as u64);
        lab.apply(signals(What::End)).await;
        assert_eq!(lab.apply(signals(What::End)).await.idle, count as u64);
        assert_eq!(lab.apply(Vec::new()).await, Applied::default());
        let row =
            lab.owner.get().await.unwrap().query_one("select count(*) from statement", &[]).await.unwrap();
        sent.push(row.get::<_, i64>(0));
    }
    assert_eq!(sent[0], sent[1]);
    assert!((1..20).contains(&sent[0]), "{sent:?}");
}

fn signals() -> impl Strategy<Value = Vec<Located>> {
    let types = vec![
        AlarmType::BatteryLow,
        AlarmType::BatteryCritical,
        AlarmType::Tamper,
        AlarmType::SecurityReplay,
        AlarmType::LeftUnlocked,
    ];
    let severity = || prop::sample::select(Severity::ALL);
    let what = prop_oneof![
        severity().prop_map(What::Begin),
        severity().prop_map(What::Occur),
        severity().prop_map(What::Worsen),
        Just(What::Hold),
        Just(What::End),
        Just(What::End),
    ];
    let one = (0..3, prop::sample::select(types), what);
    prop::collection::vec(one, 1..80).prop_map(|all| {
        let located = |(n, (lock, alarm, what)): (usize, (i32, AlarmType, What))| {
            signal(&format!("lock-{lock}"), alarm, what, START_MS + n as i64 * 1_000)
        };
        all.into_iter().enumerate().map(located).collect()
    })
}

#[test]
fn it_makes_no_difference_where_batches_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lab = runtime.block_on(Lab::start());
    let run = async |signals: &[Located], borders: &BTreeSet<usize>| {
        lab.execute("truncate monitor.alarm, monitor.alarm_event, monitor.outbox").await;
        let mut from = 0;
        for border in borders.iter().copied().filter(|at| *at < signals.len()).chain([signals.len()]) {
            lab.apply(signals[from..border].to_vec()).await;
            from = border;
        }
        (lab.alarms().await, lab.events().await, lab.records().await)
    };
    let borders = || prop::collection::btree_set(0_usize..80, 0..10);
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(signals(), borders(), borders()), |(signals, one, other)| {
            let (one, other) =
                runtime.block_on(async { (run(&signals, &one).await, run(&signals, &other).await) });
            prop_assert!(one == other, "{one:#?}\n{other:#?}");
            let mut last = std::collections::HashMap::new();
            for event in one.1 {
                let before = last.insert(event.alarm_id, (event.no, event.at_ms)).unwrap_or((0, 0));
                prop_assert!(event.no == before.0 + 1 && event.at_ms >= before.1);
            }
            Ok(())
        })
        .unwrap();
}

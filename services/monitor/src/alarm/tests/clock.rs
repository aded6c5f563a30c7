//! The clock: shelves, escalation, telling again, expiry, what was kept quiet, the fleet.

use latchline_shared::kit::http::readiness::Readiness;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::super::silence::{self, Matcher, Name, Silence};
use super::super::sweep::fleet::{FleetState, fleet_state};
use super::super::sweep::metrics::Metrics;
use super::super::sweep::task::Sweeper;
use super::*;

const LOCK: &str = "lock-1";

fn begin(alarm: AlarmType, severity: Severity, at_ms: i64) -> Located {
    signal(LOCK, alarm, What::Begin(severity), at_ms)
}

fn end(alarm: AlarmType, at_ms: i64) -> Located {
    signal(LOCK, alarm, What::End, at_ms)
}

/// What the sweeps at these times (after the start) change.
async fn swept(lab: &Lab, after_ms: &[i64]) -> Vec<(i64, Change, bool)> {
    let mut changes = Vec::new();
    for after_ms in after_ms {
        let before = lab.events().await.len();
        assert!(lab.sweep(START_MS + after_ms).await.is_ours);
        let events = lab.events().await;
        changes.extend(events[before..].iter().map(|event| {
            assert_eq!((event.origin, event.actor.as_str()), (Origin::Clock, "monitor"));
            (*after_ms, event.change, event.notify)
        }));
    }
    changes
}

async fn add(lab: &Lab, name: Name, value: &str, from_ms: i64, to_ms: i64) -> Uuid {
    let matchers = vec![Matcher { name, value: value.to_owned() }];
    let silence =
        Silence::new(matchers, START_MS + from_ms, START_MS + to_ms, "duty", "works", START_MS).unwrap();
    let mut client = lab.client().await;
    let transaction = client.transaction().await.unwrap();
    silence::create(&transaction, &silence, START_MS).await.unwrap();
    silence::create(&transaction, &silence, START_MS).await.unwrap();
    assert_eq!(silence::list(&transaction, START_MS).await.unwrap(), std::slice::from_ref(&silence));
    transaction.commit().await.unwrap();
    silence.id
}

#[tokio::test]
async fn a_bad_alarm_that_nobody_takes_on_is_escalated_once_and_told_each_day() {
    let lab = Lab::start().await;
    lab.live_since(START_MS).await;
    lab.apply(vec![begin(AlarmType::LockFault, Severity::Critical, START_MS)]).await;
    let looks = [1_000, 15 * MINUTE_MS - 1, 15 * MINUTE_MS, 16 * MINUTE_MS, DAY_MS, DAY_MS + 15 * MINUTE_MS];
    let expected =
        [(15 * MINUTE_MS, Change::Escalated, true), (DAY_MS + 15 * MINUTE_MS, Change::Announced, true)];
    assert_eq!(swept(&lab, &looks).await, expected);
    assert_eq!(lab.alarms().await[0].level, 1);
    // Somebody takes it on: quiet.
    lab.act(lab.alarms().await[0].id, Act::Acknowledge, START_MS + 2 * DAY_MS).await.unwrap();
    assert_eq!(swept(&lab, &[9 * DAY_MS]).await, []);
}

#[tokio::test]
async fn what_a_backlog_raises_is_escalated_only_after_people_had_time_for_it() {
    let lab = Lab::start().await;
    lab.apply(vec![begin(AlarmType::LockFault, Severity::Major, START_MS)]).await;
    let look_at = async || lab.alarms().await[0].look_at_ms.unwrap() - START_MS;
    // No lane writes, or it has not caught up.
    assert_eq!(swept(&lab, &[30 * MINUTE_MS]).await, []);
    assert_eq!(look_at().await, 45 * MINUTE_MS);
    lab.live_since(START_MS).await;
    lab.execute("update lane set live_since = null").await;
    assert_eq!(swept(&lab, &[45 * MINUTE_MS]).await, []);
    assert_eq!(look_at().await, HOUR_MS);
    lab.live_since(START_MS + 50 * MINUTE_MS).await;
    assert_eq!(swept(&lab, &[HOUR_MS]).await, []);
    assert_eq!(look_at().await, 65 * MINUTE_MS);
    let looks = [65 * MINUTE_MS - 1, 65 * MINUTE_MS];
    assert_eq!(swept(&lab, &looks).await, [(65 * MINUTE_MS, Change::Escalated, true)]);
}

#[tokio::test]
async fn a_little_alarm_is_not_escalated_and_expires_a_day_after_it_is_over() {
    let lab = Lab::start().await;
    let left = AlarmType::LeftUnlocked;
    lab.apply(vec![begin(left, Severity::Warning, START_MS)]).await;
    assert_eq!(swept(&lab, &[15 * MINUTE_MS, 2 * DAY_MS]).await, []);
    lab.apply(vec![end(left, START_MS + 3 * DAY_MS)]).await;
    let looks = [3 * DAY_MS + 1, 4 * DAY_MS - 1, 4 * DAY_MS, 5 * DAY_MS];
    assert_eq!(swept(&lab, &looks).await, [(4 * DAY_MS, Change::Expired, false)]);
    let alarm = lab.alarms().await.remove(0);
    assert_eq!((alarm.state, alarm.closed_at_ms), (State::Closed, Some(START_MS + 4 * DAY_MS)));
}

#[tokio::test]
async fn what_comes_while_the_alarm_is_shelved_is_told_when_the_shelf_ends() {
    let lab = Lab::start().await;
    lab.live_since(START_MS).await;
    let moving = AlarmType::StuckMoving;
    lab.apply(vec![begin(moving, Severity::Major, START_MS)]).await;
    let id = lab.alarms().await[0].id;
    let until_ms = START_MS + HOUR_MS;
    lab.act(id, Act::Shelve { until_ms }, START_MS + 1).await.unwrap();
    assert_eq!(swept(&lab, &[30 * MINUTE_MS]).await, [], "not escalated");
    lab.apply(vec![end(moving, START_MS + 31 * MINUTE_MS)]).await;
    lab.apply(vec![begin(moving, Severity::Major, START_MS + 32 * MINUTE_MS)]).await;
    let events = lab.events().await;
    for event in &events[2..] {
        assert_eq!((event.notify, event.suppressed_by.as_deref()), (false, Some("shelved")));
    }
    let expected = [
        (HOUR_MS, Change::Unshelved, false),
        (HOUR_MS, Change::Announced, true),
        (HOUR_MS + 15 * MINUTE_MS, Change::Escalated, true),
    ];
    assert_eq!(swept(&lab, &[HOUR_MS - 1, HOUR_MS, HOUR_MS + 15 * MINUTE_MS]).await, expected);
    // Of its own will: the same at once.
    lab.act(id, Act::Shelve { until_ms: START_MS + 5 * HOUR_MS }, START_MS + 2 * HOUR_MS).await.unwrap();
    lab.act(id, Act::Unshelve, START_MS + 3 * HOUR_MS).await.unwrap();
    assert_eq!(swept(&lab, &[3 * HOUR_MS]).await, [], "somebody was told");
    let too_long = Act::Shelve { until_ms: START_MS + 11 * DAY_MS };
    assert!(matches!(lab.act(id, too_long, START_MS + 4 * HOUR_MS - 1).await, Err(ActError::Invalid(_))));
}

#[tokio::test]
async fn a_silence_keeps_quiet_until_it_ends() {
    let lab = Lab::start().await;
    let id = add(&lab, Name::Type, "battery_*", 0, HOUR_MS).await;
    let low = begin(AlarmType::BatteryLow, Severity::Warning, START_MS + 1);
    let fault = begin(AlarmType::LockFault, Severity::Critical, START_MS + 2);
    assert_eq!(lab.apply(vec![low, fault]).await.notifications, 1);
    let events = lab.events().await;
    assert_eq!(events[0].suppressed_by, Some(format!("silence:{id}")));
    assert_eq!(swept(&lab, &[1_000, 40_000]).await, []);
    let alarm = &lab.alarms().await[0];
    assert_eq!((alarm.alarm_type, alarm.announced_at_ms), (AlarmType::BatteryLow, None));
    assert_eq!(swept(&lab, &[HOUR_MS - 1, HOUR_MS]).await.last(), Some(&(HOUR_MS, Change::Announced, true)));
}

#[tokio::test]
async fn a_silence_that_is_ended_early_ends_within_five_minutes() {
    let lab = Lab::start().await;
    let id = add(&lab, Name::ClientId, "lock-*", 0, DAY_MS).await;
    lab.apply(vec![begin(AlarmType::Tamper, Severity::Critical, START_MS + 1)]).await;
    assert_eq!(swept(&lab, &[60_000]).await, []);
    let mut client = lab.client().await;
    let transaction = client.transaction().await.unwrap();
    let ended = silence::expire(&transaction, id, START_MS + 61_000).await.unwrap().unwrap();
    assert_eq!(ended.ends_at_ms, START_MS + 61_000);
    assert_eq!(silence::expire(&transaction, Uuid::nil(), START_MS).await.unwrap(), None);
    transaction.commit().await.unwrap();
    let looks = [62_000, 4 * MINUTE_MS, 5 * MINUTE_MS + 1];
    assert_eq!(swept(&lab, &looks).await, [(5 * MINUTE_MS + 1, Change::Announced, true)]);
}

#[tokio::test]
async fn an_alarm_that_says_less_is_told_when_that_which_says_more_is_over() {
    let lab = Lab::start().await;
    let (low, critical) = (AlarmType::BatteryLow, AlarmType::BatteryCritical);
    lab.apply(vec![
        begin(critical, Severity::Critical, START_MS),
        begin(low, Severity::Warning, START_MS + 1),
    ])
    .await;
    assert_eq!(lab.events().await[1].suppressed_by.as_deref(), Some("inhibited:battery_critical"));
    assert_eq!(swept(&lab, &[1_000]).await, []);
    lab.apply(vec![end(critical, START_MS + 2_000)]).await;
    assert_eq!(swept(&lab, &[3_000]).await, [(3_000, Change::Announced, true)]);
    // What was told ends, whatever says more by then; of the second nobody heard, nor of its end.
    lab.apply(vec![
        begin(critical, Severity::Critical, START_MS + 4_000),
        end(low, START_MS + 5_000),
        begin(low, Severity::Warning, START_MS + 6_000),
        end(low, START_MS + 7_000),
    ])
    .await;
    let events = lab.events().await;
    let last: Vec<_> =
        events[events.len() - 3..].iter().map(|e| (e.notify, e.suppressed_by.is_some())).collect();
    assert_eq!(last, [(true, false), (false, true), (false, false)]);
}

#[tokio::test]
async fn an_alarm_that_says_less_is_told_at_once_when_somebody_ends_that_which_says_more() {
    let lab = Lab::start().await;
    lab.apply(vec![
        begin(AlarmType::BatteryCritical, Severity::Critical, START_MS),
        begin(AlarmType::BatteryLow, Severity::Warning, START_MS + 1),
    ])
    .await;
    let critical = lab.alarms().await.remove(0);
    assert_eq!(critical.alarm_type, AlarmType::BatteryCritical);
    lab.act(critical.id, Act::Acknowledge, START_MS + 2).await.unwrap();
    assert_eq!(swept(&lab, &[1_000]).await, []);
    lab.act(critical.id, Act::Clear, START_MS + 2_000).await.unwrap();
    assert_eq!(swept(&lab, &[3_000]).await, [(3_000, Change::Announced, true)]);
}

#[tokio::test]
async fn the_fleet_falls_and_recovers_once_whoever_looks() {
    let lab = Lab::start().await;
    let lanes = async |offline: i64, lost: i64, after_ms: i64| {
        lab.execute(&format!(
            "insert into lane (partition, version, evaluated_at, live_since, last_report_at, locks, offline, lost, updated_at)
             select n, 1, now(), to_timestamp({START_MS} / 1000.0), to_timestamp({at}::numeric / 1000), 1000,
                 {offline}, {lost}, to_timestamp({at}::numeric / 1000) from generate_series(0, 3) n
             on conflict (partition) do update set offline = excluded.offline, lost = excluded.lost,
                 last_report_at = excluded.last_report_at, updated_at = excluded.updated_at",
            at = START_MS + after_ms
        ))
        .await;
    };
    let state = async || {
        let mut client = lab.client().await;
        fleet_state(&client.transaction().await.unwrap()).await.unwrap()
    };
    assert_eq!(swept(&lab, &[0]).await, [], "no lanes");
    assert_eq!(state().await, FleetState::default());
    lanes(10, 10, 1_000).await;
    assert_eq!(swept(&lab, &[2_000]).await, []);
    lanes(900, 300, 3_000).await;
    assert_eq!(swept(&lab, &[4_000, 5_000]).await, [(4_000, Change::Raised, true)]);
    assert!(state().await.is_down);
    // A lock's own silence is not told meanwhile.
    lab.apply(vec![begin(AlarmType::DeviceOffline, Severity::Warning, START_MS + 6_000)]).await;
    assert_eq!(lab.events().await[1].suppressed_by.as_deref(), Some("inhibited:fleet_connectivity"));
    // Nobody keeps up: nothing is known.
    assert_eq!(swept(&lab, &[10 * MINUTE_MS]).await, []);
    let fleet = lab.alarms().await.remove(0);
    assert_eq!((fleet.client_id.as_str(), fleet.alarm_type), ("", AlarmType::FleetConnectivity));
    lab.act(fleet.id, Act::Acknowledge, START_MS + 11 * MINUTE_MS).await.unwrap();
    lanes(10, 0, 20 * MINUTE_MS).await;
    assert_eq!(swept(&lab, &[20 * MINUTE_MS]).await, []);
    lanes(10, 0, 25 * MINUTE_MS).await;
    let changes = swept(&lab, &[25 * MINUTE_MS]).await;
    assert_eq!(changes[0], (25 * MINUTE_MS, Change::ReturnedToNormal, true));
    assert_eq!(
        state().await,
        FleetState { is_down: false, recovered_at_ms: Some(START_MS + 25 * MINUTE_MS) }
    );
    // Somebody ends the alarm: the fleet is down all the same.
    lanes(900, 300, 30 * MINUTE_MS).await;
    assert_eq!(swept(&lab, &[30 * MINUTE_MS]).await[0].1, Change::Raised);
    lab.act(lab.alarms().await[1].id, Act::Clear, START_MS + 31 * MINUTE_MS).await.unwrap();
    assert!(state().await.is_down);
    let keys = lab.client().await.query("select key from outbox order by seq limit 2", &[]).await.unwrap();
    let keys: Vec<&str> = keys.iter().map(|row| row.get(0)).collect();
    assert_eq!(keys, ["fleet", LOCK]);
}

#[tokio::test]
async fn what_is_old_is_removed_and_only_one_sweeps() {
    let lab = Lab::start().await;
    lab.apply(vec![begin(AlarmType::StuckMoving, Severity::Major, START_MS)]).await;
    lab.act(lab.alarms().await[0].id, Act::Clear, START_MS + 1).await.unwrap();
    add(&lab, Name::Severity, "minor", 0, 1).await;
    lab.execute(
        "insert into battery_day (client_id, day, hours) values
             ('lock-1', '2026-03-01', '{}'), ('lock-1', '2026-05-30', '{}')",
    )
    .await;
    let pruned = lab.prune(START_MS + 90 * DAY_MS).await;
    assert_eq!((pruned.alarms, pruned.silences, pruned.battery_days), (0, 0, 0));
    let pruned = lab.prune(START_MS + 91 * DAY_MS).await;
    assert_eq!((pruned.alarms, pruned.silences, pruned.battery_days), (0, 1, 1));
    let pruned = lab.prune(START_MS + 366 * DAY_MS).await;
    assert_eq!((pruned.alarms, lab.alarms().await.len(), lab.events().await.len()), (1, 0, 0));
    let mut other = lab.client().await;
    let transaction = other.transaction().await.unwrap();
    let settings =
        SweepSettings { context: lab.context.clone(), fleet: Rules::load(None).unwrap().fleet().clone() };
    assert!(sweep(&transaction, &settings, START_MS).await.unwrap().is_ours);
    assert!(!lab.sweep(START_MS).await.is_ours);
}

#[tokio::test]
async fn the_sweeper_sweeps_and_counts_and_ends_when_it_should() {
    let lab = Lab::start().await;
    lab.live_since(START_MS).await;
    lab.apply(vec![begin(AlarmType::LockFault, Severity::Critical, START_MS)]).await;
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::new(registry.sub_registry_with_prefix("monitor")));
    let fleet = Rules::load(None).unwrap().fleet().clone();
    let sweeper = || {
        Sweeper::new(
            lab.pool.clone(),
            lab.context.clone(),
            {
                let fleet = fleet.clone();
                move || fleet.clone()
            },
            metrics.clone(),
        )
    };
    sweeper().step(START_MS + HOUR_MS).await.unwrap();
    let text = |registry: &Registry| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    };
    for line in [
        "monitor_alarm_open{type=\"lock_fault\",severity=\"critical\"} 1\n",
        "monitor_alarm_events_total{change=\"escalated\"} 1\n",
        "monitor_alarm_notifications_total 1\n",
    ] {
        assert!(text(&registry).contains(line), "{line}{}", text(&registry));
    }
    lab.act(lab.alarms().await[0].id, Act::Clear, START_MS + 2 * HOUR_MS).await.unwrap();
    sweeper().step(START_MS + 2 * HOUR_MS).await.unwrap();
    assert!(text(&registry).contains("severity=\"critical\"} 0\n"), "{}", text(&registry));
    // By the clock on the wall, until it is told to end.
    let token = CancellationToken::new();
    let running = tokio::spawn(sweeper().run(token.clone(), Readiness::new().condition("sweep", "")));
    token.cancel();
    running.await.unwrap().unwrap();
}

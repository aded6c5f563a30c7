//! Signals and people.

use super::*;

const MAJOR: Severity = Severity::Major;

#[tokio::test]
async fn a_fault_is_raised_acknowledged_and_over() {
    let lab = Lab::start().await;
    let signal = |what, at_ms| signal("lock-1", AlarmType::LockFault, what, at_ms);
    let applied = lab.apply(vec![signal(What::Begin(Severity::Critical), START_MS)]).await;
    assert_eq!((applied.changes[&Change::Raised], applied.notifications, applied.idle), (1, 1, 0));
    let id = lab.alarms().await[0].id;
    let (alarm, event) = lab.act(id, Act::Acknowledge, START_MS + 5_000).await.unwrap();
    assert_eq!((alarm.state, alarm.acked_by.as_deref()), (State::Acknowledged, Some("duty")));
    assert_eq!((event.no, event.from, event.notify), (2, Some(State::Active), false));
    assert_eq!(event.cause, json!({ "comment": "seen" }));
    lab.apply(vec![signal(What::Hold, START_MS + 6_000), signal(What::End, START_MS + 9_000)]).await;
    let [alarm] = &lab.alarms().await[..] else { panic!() };
    assert_eq!(
        (alarm.state, alarm.condition, alarm.closed_at_ms),
        (State::Closed, false, Some(START_MS + 9_000))
    );
    assert_eq!((alarm.count, alarm.no, alarm.look_at_ms), (1, 3, None));
    // The next time is another alarm.
    lab.apply(vec![signal(What::Begin(Severity::Critical), START_MS + 10_000)]).await;
    assert_eq!(lab.alarms().await.len(), 2);
    let records = lab.records().await;
    let events = lab.events().await;
    assert_eq!(records.len(), 4);
    for (record, event) in records.iter().zip(&events) {
        assert_eq!((&record.alarm_id, record.no), (&event.alarm_id.to_string(), event.no));
        assert_eq!(record.event_id, super::super::id::event(event.alarm_id, event.no).to_string());
        assert_eq!((record.change, record.notify), (event.change, event.notify));
    }
    let refused = lab.act(id, Act::Acknowledge, START_MS).await.unwrap_err();
    assert_eq!(refused.to_string(), "acknowledge is not possible while the alarm is closed");
    assert!(matches!(lab.act(Uuid::nil(), Act::Clear, START_MS).await, Err(ActError::NotFound)));
}

#[tokio::test]
async fn one_comes_again_after_it_was_closed_in_the_same_batch() {
    let lab = Lab::start().await;
    let signal = |what, at_ms| signal("lock-1", AlarmType::StuckMoving, what, at_ms);
    lab.apply(vec![signal(What::Begin(MAJOR), START_MS)]).await;
    let id = lab.alarms().await[0].id;
    lab.act(id, Act::Acknowledge, START_MS + 1).await.unwrap();
    let applied =
        lab.apply(vec![signal(What::End, START_MS + 2), signal(What::Begin(MAJOR), START_MS + 3)]).await;
    assert_eq!(applied.notifications, 2);
    let states: Vec<State> = lab.alarms().await.iter().map(|alarm| alarm.state).collect();
    assert_eq!(states, [State::Closed, State::Active]);
}

#[tokio::test]
async fn what_is_refused_leaves_all_as_it_was() {
    let lab = Lab::start().await;
    lab.apply(vec![signal("lock-1", AlarmType::Tamper, What::Begin(MAJOR), START_MS)]).await;
    let id = lab.alarms().await[0].id;
    let before = (lab.alarms().await, lab.events().await, lab.records().await);
    let until_ms = START_MS - 1;
    for act in
        [Act::Unacknowledge, Act::Unshelve, Act::Shelve { until_ms }, Act::Expire, Act::End, Act::Escalate]
    {
        assert!(lab.act(id, act, START_MS + 1).await.is_err(), "{act:?}");
    }
    assert!(before == (lab.alarms().await, lab.events().await, lab.records().await));
    // Latched: over, and there until somebody has seen it; a clock that is behind makes no disorder.
    lab.apply(vec![signal("lock-1", AlarmType::Tamper, What::End, START_MS + MINUTE_MS)]).await;
    let (alarm, event) = lab.act(id, Act::Acknowledge, START_MS).await.unwrap();
    assert_eq!((alarm.state, event.at_ms), (State::Closed, START_MS + MINUTE_MS));
    let (alarm, event) = lab.act(id, Act::Comment, START_MS + HOUR_MS).await.unwrap();
    assert_eq!((alarm.state, event.change, event.no), (State::Closed, Change::Commented, 4));
}

#[tokio::test]
async fn what_nobody_publishes_makes_rows_and_nothing_else() {
    let mut lab = Lab::start().await;
    lab.context = Context::default();
    lab.apply(vec![signal("lock-1", AlarmType::Tamper, What::Begin(MAJOR), START_MS)]).await;
    assert_eq!((lab.events().await.len(), lab.records().await.len()), (1, 0));
    let alerts = "select count(*) from webhook";
    assert_eq!(lab.client().await.query_one(alerts, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn the_webhook_gets_what_somebody_should_be_told() {
    let lab = Lab::start().await;
    let signal = |what, at_ms| signal("lock-1", AlarmType::LockFault, what, at_ms);
    lab.apply(vec![signal(What::Begin(MAJOR), START_MS), signal(What::Hold, START_MS + 1)]).await;
    lab.apply(vec![signal(What::End, START_MS + 2), signal(What::End, START_MS + 3)]).await;
    let rows = lab.client().await.query("select body from webhook order by seq", &[]).await.unwrap();
    let statuses: Vec<serde_json::Value> =
        rows.iter().map(|row| row.get::<_, serde_json::Value>(0)["status"].clone()).collect();
    assert_eq!(statuses, ["firing", "resolved"]);
}

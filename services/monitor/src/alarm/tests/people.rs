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

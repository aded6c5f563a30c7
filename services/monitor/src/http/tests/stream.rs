//! Live streams.

use latchline_shared::alarm::Severity;
use latchline_shared::kit::api::testing::events::{Event, Events};

use super::*;
use crate::query::changes;

/// Lock and change.
fn change(event: &Event) -> String {
    assert_eq!(event.name, "change");
    let text = |name: &str| event.data[name].as_str().unwrap();
    format!("{} {}", text("client_id"), text("change"))
}

/// The next changes.
async fn changes_of(stream: &mut Events, count: usize) -> Vec<String> {
    let mut changes = Vec::new();
    while changes.len() < count {
        changes.push(change(&stream.next().await.unwrap()));
    }
    changes
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was() {
    let app = App::start().await;
    let path = "/v1/alarms/stream";
    let mut all = app.events(path).await;
    let mut one = app.events("/v1/alarms/stream?client_id=b&type=lock_fault&severity=major").await;
    let begin = What::Begin(Severity::Major);
    app.signal("a", AlarmType::LockFault, START_MS, begin).await;
    app.signal("b", AlarmType::LockFault, START_MS + 1, begin).await;
    let first = all.next().await.unwrap();
    assert_eq!(change(&first), "a raised");
    assert_eq!(changes_of(&mut all, 1).await, ["b raised"]);
    assert_eq!(changes_of(&mut one, 1).await, ["b raised"]);
    drop((all, one));
    let id = app.alarm_of("b").await;
    assert_eq!(app.post(&format!("/v1/alarms/{id}/ack"), json!({})).await.status, 200);

    // As often as one comes back, with more than a page behind it.
    for n in 0..120 {
        app.signal(&format!("c{n}"), AlarmType::LockFault, START_MS + 10 + n, begin).await;
    }
    let mut expected = vec!["b raised".to_owned(), "b acknowledged".to_owned()];
    expected.extend((0..120).map(|n| format!("c{n} raised")));
    let mut seen = Vec::new();
    let mut last = first.id;
    while seen.len() < expected.len() {
        let mut resumed = app.events_behind(path, &last).await;
        for _ in 0..50.min(expected.len() - seen.len()) {
            let next = resumed.next().await.unwrap();
            (seen, last) = ([seen, vec![change(&next)]].concat(), next.id);
        }
    }
    assert_eq!(seen, expected);
    let mut by_parameter = app.events(&format!("{path}?after={last}")).await;
    app.signal("d", AlarmType::LockFault, START_MS + 1000, begin).await;
    assert_eq!(changes_of(&mut by_parameter, 1).await, ["d raised"]);
}

/// Numbers are given out before the commit: what is written by a long transaction comes late, and
/// still comes.
#[tokio::test]
async fn what_is_committed_late_is_not_missed() {
    let app = App::start().await;
    let mut stream = app.events("/v1/alarms/stream").await;
    let mut client = app.pool.get().await.unwrap();
    let slow = client.transaction().await.unwrap();
    let place = Place { stream: "message_state".into(), partition: 0, offset: 1 };
    let signal = Signal {
        alarm: AlarmType::LockFault,
        at_ms: START_MS,
        what: What::Begin(Severity::Major),
        value: json!({}),
        origin: latchline_shared::alarm::Origin::Report,
    };
    apply(&slow, &app.context, vec![Located { client_id: "slow".to_owned(), place, signal }]).await.unwrap();
    app.signal("fast", AlarmType::LockFault, START_MS, What::Begin(Severity::Major)).await;
    slow.commit().await.unwrap();
    let mut seen = changes_of(&mut stream, 2).await;
    seen.sort_unstable();
    assert_eq!(seen, ["fast raised", "slow raised"]);
}

/// A page looks at so many changes and no more, and the next one goes on behind them.
#[tokio::test]
async fn a_filter_that_lets_little_through_comes_forward() {
    let app = App::start().await;
    let client = app.pool.get().await.unwrap();
    let client: &tokio_postgres::Client = &client;
    let mut after = changes::now(client).await.unwrap();
    app.fill(0, 25_000).await;
    app.execute(
        "insert into alarm_event (alarm_id, no, at, change, to_state, severity, origin, actor, cause, value, notify) \
             select id, 1, raised_at, 'raised', 'active', severity, 'report', 'monitor', '{}', '{}', true from alarm",
    )
    .await;
    app.signal("rare", AlarmType::LockFault, START_MS, What::Begin(Severity::Major)).await;
    let filter = changes::Filter { client_id: Some("rare".to_owned()), ..changes::Filter::default() };
    let (mut places, deadline) = (Vec::new(), tokio::time::Instant::now() + SOON);
    let found = loop {
        assert!(tokio::time::Instant::now() < deadline, "{places:?}");
        let (events, next) = changes::as_written(client, &filter, Some(after), 100).await.unwrap();
        let next = next.unwrap();
        assert!(next >= after, "{after:?} {next:?}");
        if next > after {
            places.push(next);
        }
        after = next;
        if !events.is_empty() {
            break events;
        }
    };
    assert_eq!(found.len(), 1);
    assert!(found[0].0 < after);
    // Within the one transaction that wrote the others.
    let within = places.iter().filter(|place| place.seq > 0).count();
    assert_eq!(within, 2, "{places:?}");
    assert!(changes::as_written(client, &filter, Some(after), 100).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn streams_are_counted_checked_and_end_with_the_server() {
    let app = App::start_within(Limits { streams_max: 1, ..limits() }).await;
    for (query, id) in [("state=active", None), ("client_id=%00", None), ("type=x", None), ("", Some("x"))] {
        let mut request = app.request(Method::GET, &format!("/v1/alarms/stream?{query}"));
        if let Some(id) = id {
            request = request.header("last-event-id", id);
        }
        assert_eq!(app.send(request).await.status, 400, "{query}");
    }
    let mut open = app.events("/v1/alarms/stream").await;
    assert_eq!(app.ask("/v1/alarms/stream").await.status, 429);
    app.stop.cancel();
    assert!(open.next().await.is_none());
}

/// One that does not read keeps nobody else from reading, and misses nothing itself.
#[tokio::test]
async fn a_slow_client_holds_nobody_up() {
    let app = App::start().await;
    let mut slow = app.events("/v1/alarms/stream").await;
    let mut fast = app.events("/v1/alarms/stream").await;
    app.signal("a", AlarmType::LockFault, START_MS, What::Begin(Severity::Major)).await;
    let path = format!("/v1/alarms/{}/comment", app.alarm_of("a").await);
    let mut expected = vec!["a raised".to_owned()];
    assert_eq!(changes_of(&mut fast, 1).await, expected);
    for _ in 0..8 {
        for _ in 0..25 {
            let answer = app.post(&path, json!({ "text": "x".repeat(4000) })).await;
            assert_eq!(answer.status, 200);
        }
        assert_eq!(changes_of(&mut fast, 25).await, vec!["a commented".to_owned(); 25]);
        expected.extend(vec!["a commented".to_owned(); 25]);
    }
    assert_eq!(changes_of(&mut slow, expected.len()).await, expected);
}

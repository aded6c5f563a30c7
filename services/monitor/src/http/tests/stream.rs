//! Live streams.

use latchline_shared::alarm::Severity;
use reqwest::Response;

use super::*;
use crate::query::changes;

/// A stream that is being read.
struct Reader {
    response: Response,
    text: String,
}

/// A change in a stream.
#[derive(Debug)]
struct Seen {
    id: String,
    change: String,
}

impl Reader {
    async fn open(app: &App, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = app.request(Method::GET, path);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next change; none at the end.
    async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let Some(data) = field("data: ") else { continue };
                assert_eq!(field("event: "), Some("change"));
                let data: Value = serde_json::from_str(data).unwrap();
                let text = |name: &str| data[name].as_str().unwrap().to_owned();
                let change = format!("{} {}", text("client_id"), text("change"));
                return Some(Seen { id: field("id: ").unwrap().to_owned(), change });
            }
            let chunk =
                tokio::time::timeout(SOON, self.response.chunk()).await.expect("a change").unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    async fn changes(&mut self, count: usize) -> Vec<String> {
        let mut changes = Vec::new();
        while changes.len() < count {
            changes.push(self.next().await.unwrap().change);
        }
        changes
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was() {
    let app = App::start().await;
    let path = "/v1/alarms/stream";
    let mut all = Reader::open(&app, path, None).await;
    let mut one =
        Reader::open(&app, "/v1/alarms/stream?client_id=b&type=lock_fault&severity=major", None).await;
    let begin = What::Begin(Severity::Major);
    app.signal("a", AlarmType::LockFault, START_MS, begin).await;
    app.signal("b", AlarmType::LockFault, START_MS + 1, begin).await;
    let first = all.next().await.unwrap();
    assert_eq!((first.change.as_str(), &*all.next().await.unwrap().change), ("a raised", "b raised"));
    assert_eq!(one.next().await.unwrap().change, "b raised");
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
        let mut resumed = Reader::open(&app, path, Some(&last)).await;
        for _ in 0..50.min(expected.len() - seen.len()) {
            let next = resumed.next().await.unwrap();
            (seen, last) = ([seen, vec![next.change]].concat(), next.id);
        }
    }
    assert_eq!(seen, expected);
    let mut by_parameter = Reader::open(&app, &format!("{path}?after={last}"), None).await;
    app.signal("d", AlarmType::LockFault, START_MS + 1000, begin).await;
    assert_eq!(by_parameter.changes(1).await, ["d raised"]);
}

/// Numbers are given out before the commit: what is written by a long transaction comes late, and
/// still comes.
#[tokio::test]
async fn what_is_committed_late_is_not_missed() {
    let app = App::start().await;
    let mut stream = Reader::open(&app, "/v1/alarms/stream", None).await;
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
    let mut seen = stream.changes(2).await;
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
    let mut open = Reader::open(&app, "/v1/alarms/stream", None).await;
    assert_eq!(app.ask("/v1/alarms/stream").await.status, 429);
    app.stop.cancel();
    assert!(open.next().await.is_none());
}

/// One that does not read keeps nobody else from reading, and misses nothing itself.
#[tokio::test]
async fn a_slow_client_holds_nobody_up() {
    let app = App::start().await;
    let mut slow = Reader::open(&app, "/v1/alarms/stream", None).await;
    let mut fast = Reader::open(&app, "/v1/alarms/stream", None).await;
    app.signal("a", AlarmType::LockFault, START_MS, What::Begin(Severity::Major)).await;
    let path = format!("/v1/alarms/{}/comment", app.alarm_of("a").await);
    let mut expected = vec!["a raised".to_owned()];
    assert_eq!(fast.changes(1).await, expected);
    for _ in 0..8 {
        for _ in 0..25 {
            let answer = app.post(&path, json!({ "text": "x".repeat(4000) })).await;
            assert_eq!(answer.status, 200);
        }
        assert_eq!(fast.changes(25).await, vec!["a commented".to_owned(); 25]);
        expected.extend(vec!["a commented".to_owned(); 25]);
    }
    assert_eq!(slow.changes(expected.len()).await, expected);
}

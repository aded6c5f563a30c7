//! Live streams.

use latchline_shared::kit::api::testing::events::Events;
use latchline_shared::kit::testing::eventually;

use super::*;

/// Chain and number of the next events.
async fn next_places(stream: &mut Events, count: usize) -> Vec<(i64, i64)> {
    let mut places = Vec::new();
    while places.len() < count {
        places.push(place(&stream.next().await.unwrap().data));
    }
    places
}

#[tokio::test]
async fn a_stream_shows_what_is_written_and_goes_on_where_it_was() {
    let app = App::start().await;
    app.append(0, vec![command("1", now_ms())]).await;
    // What is not yet settled when a stream begins is shown to it: other tests' transactions count.
    eventually(SOON, "the first row is settled", async || {
        places(&app.get("/v1/audit/events?order=ingest&kind=command").await) == [(0, 1)]
    })
    .await;
    let mut all = app.events("/v1/audit/stream?kind=command").await;
    let mut one = app.events("/v1/audit/stream?kind=command&client_id=2").await;
    let reads = app.reads().await.len();
    app.append(0, vec![command("1", now_ms()), command("2", now_ms())]).await;
    let first = all.next().await.unwrap();
    assert_eq!((place(&first.data), next_places(&mut all, 1).await), ((0, 2), vec![(0, 3)]));
    assert_eq!(next_places(&mut one, 1).await, [(0, 3)]);
    drop(all);
    app.append(1, vec![command("1", now_ms())]).await;

    let path = "/v1/audit/stream?kind=command";
    let mut resumed = app.events_behind(path, &first.id).await;
    assert_eq!(next_places(&mut resumed, 2).await, [(0, 3), (1, 1)]);
    assert_eq!(app.reads().await.len(), reads, "going on is no new read");
    drop(resumed);
    let mut by_parameter = app.events(&format!("{path}&after={}", first.id)).await;
    assert_eq!(next_places(&mut by_parameter, 2).await, [(0, 3), (1, 1)]);
    drop(by_parameter);
    let mut since = app.events(&format!("{path}&since=2020-01-01T00:00:00Z")).await;
    assert_eq!(next_places(&mut since, 4).await, [(0, 1), (0, 2), (0, 3), (1, 1)]);
}

#[tokio::test]
async fn streams_are_counted_checked_and_end_with_the_server() {
    let app = App::start_within(Limits { streams_max: 1, ..limits() }).await;
    for (query, id) in [("order=asc", None), ("x=1", None), ("client_id=%00", None), ("kind=read", Some("x"))]
    {
        let mut request = app.request(Method::GET, &format!("/v1/audit/stream?{query}"));
        if let Some(id) = id {
            request = request.header("last-event-id", id);
        }
        assert_eq!(app.send(request).await.status, 400, "{query}");
    }
    let mut open = app.events("/v1/audit/stream?kind=command").await;
    assert_eq!(app.ask("/v1/audit/stream").await.status, 429);
    app.stop.cancel();
    assert!(open.next().await.is_none());
}

/// One that does not read keeps nobody else from reading, and misses nothing itself.
#[tokio::test]
async fn a_slow_client_holds_nobody_up() {
    let app = App::start().await;
    let path = "/v1/audit/stream?kind=command&raw=true";
    let mut slow = app.events(path).await;
    let mut fast = app.events(path).await;
    let mut expected = Vec::new();
    for round in 0..10 {
        let event = |_| Event { raw: vec![b'x'; 48 * 1024], ..command("1", now_ms()) };
        app.append(0, (0..50).map(event).collect()).await;
        let places: Vec<_> = (1..=50).map(|n| (0, round * 50 + n)).collect();
        assert_eq!(next_places(&mut fast, 50).await, places);
        expected.extend(places);
    }
    assert_eq!(next_places(&mut slow, expected.len()).await, expected);
}

//! Live streams.

use latchline_shared::kit::testing::eventually;
use reqwest::Response;

use super::*;

/// A stream that is being read.
struct Reader {
    response: Response,
    text: String,
}

/// An event of a stream.
#[derive(Debug)]
struct Seen {
    id: String,
    place: (i64, i64),
}

impl Reader {
    async fn open(app: &App, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = app.request(path);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let Some(data) = field("data: ") else { continue };
                let data: Value = serde_json::from_str(data).unwrap();
                let place = (data["chain_id"].as_i64().unwrap(), data["seq"].as_i64().unwrap());
                return Some(Seen { id: field("id: ").unwrap().to_owned(), place });
            }
            let chunk =
                tokio::time::timeout(SOON, self.response.chunk()).await.expect("an event").unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    async fn places(&mut self, count: usize) -> Vec<(i64, i64)> {
        let mut places = Vec::new();
        while places.len() < count {
            places.push(self.next().await.unwrap().place);
        }
        places
    }
}

#[tokio::test]
async fn a_stream_shows_what_is_written_and_goes_on_where_it_was() {
    let app = App::start().await;
    app.append(0, vec![command("1", now_ms())]).await;
    // What is not yet settled when a stream begins is shown to it: other tests' transactions count.
    eventually(SOON, "the first row is settled", async || {
        app.get("/v1/audit/events?order=ingest&kind=command").await.places() == [(0, 1)]
    })
    .await;
    let mut all = Reader::open(&app, "/v1/audit/stream?kind=command", None).await;
    let mut one = Reader::open(&app, "/v1/audit/stream?kind=command&client_id=2", None).await;
    let reads = app.reads().await.len();
    app.append(0, vec![command("1", now_ms()), command("2", now_ms())]).await;
    let first = all.next().await.unwrap();
    assert_eq!((first.place, all.next().await.unwrap().place), ((0, 2), (0, 3)));
    assert_eq!(one.next().await.unwrap().place, (0, 3));
    drop(all);
    app.append(1, vec![command("1", now_ms())]).await;

    let path = "/v1/audit/stream?kind=command";
    let mut resumed = Reader::open(&app, path, Some(&first.id)).await;
    assert_eq!(resumed.places(2).await, [(0, 3), (1, 1)]);
    assert_eq!(app.reads().await.len(), reads, "going on is no new read");
    drop(resumed);
    let mut by_parameter = Reader::open(&app, &format!("{path}&after={}", first.id), None).await;
    assert_eq!(by_parameter.places(2).await, [(0, 3), (1, 1)]);
    drop(by_parameter);
    let mut since = Reader::open(&app, &format!("{path}&since=2020-01-01T00:00:00Z"), None).await;
    assert_eq!(since.places(4).await, [(0, 1), (0, 2), (0, 3), (1, 1)]);
}

#[tokio::test]
async fn streams_are_counted_checked_and_end_with_the_server() {
    let app = App::start_within(Limits { streams_max: 1, ..limits() }).await;
    for (query, id) in [("order=asc", None), ("x=1", None), ("client_id=%00", None), ("kind=read", Some("x"))]
    {
        let mut request = app.request(&format!("/v1/audit/stream?{query}"));
        if let Some(id) = id {
            request = request.header("last-event-id", id);
        }
        assert_eq!(app.send(request).await.status, 400, "{query}");
    }
    let mut open = Reader::open(&app, "/v1/audit/stream?kind=command", None).await;
    assert_eq!(app.ask("/v1/audit/stream").await.status, 429);
    app.stop.cancel();
    assert!(open.next().await.is_none());
}

/// One that does not read keeps nobody else from reading, and misses nothing itself.
#[tokio::test]
async fn a_slow_client_holds_nobody_up() {
    let app = App::start().await;
    let path = "/v1/audit/stream?kind=command&raw=true";
    let mut slow = Reader::open(&app, path, None).await;
    let mut fast = Reader::open(&app, path, None).await;
    let mut expected = Vec::new();
    for round in 0..10 {
        let event = |_| Event { raw: vec![b'x'; 48 * 1024], ..command("1", now_ms()) };
        app.append(0, (0..50).map(event).collect()).await;
        let places: Vec<_> = (1..=50).map(|n| (0, round * 50 + n)).collect();
        assert_eq!(fast.places(50).await, places);
        expected.extend(places);
    }
    assert_eq!(slow.places(expected.len()).await, expected);
}

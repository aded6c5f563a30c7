//! The operator's API over a real socket.

use std::net::SocketAddr;
use std::time::Duration;

use latchline_broker::admin;
use latchline_shared::fault::Fault;
use latchline_shared::hook::Call;
use latchline_shared::kit::http::Http;
use latchline_shared::kit::http::server;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::{App, closed};
use crate::hooks::{Held, Rejects};
use crate::raw::bytes::{Connect, Publish, V3, V5};

/// The API of a broker; it ends when dropped.
struct Api {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Api {
    async fn start(app: &App) -> Self {
        Self::with_timeout(app, Duration::from_secs(5)).await
    }

    async fn with_timeout(app: &App, request_timeout: Duration) -> Self {
        let listener = server::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let http = Http {
            address: Some(address),
            connections_max: 10,
            body_bytes_max: 10_000,
            head_timeout: Duration::from_secs(5),
            request_timeout,
        };
        let stop = CancellationToken::new();
        let routes = admin::routes(std::sync::Arc::clone(&app.server.broker));
        tokio::spawn(server::serve(listener, routes, http, stop.clone()));
        Self { address, _stop: stop.drop_guard() }
    }

    /// Status, content type and body.
    async fn request(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("the API listens");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("a socket");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        let content_type =
            head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        (status, content_type.to_owned(), body.to_owned())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, content_type, body) = self.request("GET", path, "").await;
        assert_eq!((status, &*content_type), (200, "application/json"), "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Checks that the request is refused as problem+json.
    async fn refused(&self, method: &str, path: &str, body: &str, expected: u16) {
        let (status, content_type, answer) = self.request(method, path, body).await;
        let place = format!("{method} {path} {body}: {answer}");
        assert_eq!((status, &*content_type), (expected, "application/problem+json"), "{place}");
        let problem: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(problem["status"], expected, "{place}");
        assert!(problem["title"].is_string(), "{place}");
    }
}

#[tokio::test]
async fn clients_are_listed_in_pages() {
    let app = App::start(|_| {}).await;
    let api = Api::start(&app).await;
    assert_eq!(api.get("/v1/clients").await, json!({ "clients": [], "next": null }));
    let mut clients = Vec::new();
    for number in 0..7 {
        clients.push(app.client(V3, &format!("client {number}")).await);
    }
    let (parked, _) = app.connect(&Connect::kept(V5, "client 35")).await;
    parked.goodbye().await;
    let (mut path, mut ids, mut pages) = ("/v1/clients?limit=3".to_owned(), Vec::new(), 0);
    loop {
        let page = api.get(&path).await;
        pages += 1;
        let of_page = page["clients"].as_array().expect("a list");
        ids.extend(of_page.iter().map(|client| client["client_id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/clients?limit=3&after={}", next.replace(' ', "%20"));
    }
    let expected =
        ["client 0", "client 1", "client 2", "client 3", "client 35", "client 4", "client 5", "client 6"];
    assert_eq!((ids, pages), (expected.map(str::to_owned).to_vec(), 3));
    for query in ["limit=0", "limit=1001", "limit=-1", "limit=x", "unknown=1"] {
        api.refused("GET", &format!("/v1/clients?{query}"), "", 400).await;
    }
}

#[tokio::test]
async fn a_client_is_shown_with_its_session() {
    let app = App::start(|_| {}).await;
    let api = Api::start(&app).await;
    let connect = Connect { login: Some(("user", "word")), ..Connect::kept(V5, "dir/é") };
    let mut client = app.resume(&connect, false).await;
    client.subscribe("a/+", 1).await;
    let shown = api.get("/v1/clients/dir%2F%C3%A9").await;
    assert!(shown["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{shown}");
    assert!(shown["session"].as_u64().is_some_and(|number| number > 0), "{shown}");
    for (key, value) in [
        ("client_id", json!("dir/é")),
        ("username", json!("user")),
        ("role", json!("any")),
        ("connected", json!(true)),
        ("protocol", json!(5)),
        ("queued_messages", json!(0)),
        ("expires_in_s", json!(null)),
        ("subscriptions", json!([{ "filter": "a/+", "qos": 1 }])),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    client.goodbye().await;
    let mut publisher = app.client(V5, "publisher").await;
    publisher.publish(&Publish::new("a/b", "x").qos(1, 1)).await;
    let shown = api.get("/v1/clients/dir%2F%C3%A9").await;
    assert_eq!((&shown["connected"], &shown["queued_messages"]), (&json!(false), &json!(1)));
    assert!(shown["expires_in_s"].as_u64().is_some_and(|left| (290..=300).contains(&left)), "{shown}");
    api.refused("GET", "/v1/clients/nobody", "", 404).await;
    api.refused("GET", "/v1/clients/%ff", "", 400).await;
    api.refused("GET", "/v1/nothing", "", 404).await;
    api.refused("PUT", "/v1/clients/publisher", "", 405).await;
}

#[tokio::test]
async fn a_client_is_disconnected_and_then_its_session_ended() {
    let app = App::start(|_| {}).await;
    let api = Api::start(&app).await;
    let connect = Connect::kept(V5, "client").will("will", "kicked");
    let mut watcher = app.client(V5, "watcher").await;
    watcher.subscribe("will", 0).await;
    let mut client = app.resume(&connect, false).await;
    client.subscribe("t", 1).await;
    assert_eq!(api.request("DELETE", "/v1/clients/client", "").await.0, 204);
    client.ended(0x98).await;
    assert_eq!(watcher.payload().await, "kicked");
    app.parked("client").await;
    assert_eq!(api.request("DELETE", "/v1/clients/client", "").await.0, 204);
    app.forgotten("client").await;
    assert_eq!(app.server.broker.router.subscription_count(), 1);
    api.refused("DELETE", "/v1/clients/client", "", 404).await;
    assert!(app.server.broker.registry.timers.is_empty());
}

#[tokio::test]
async fn a_message_is_published_when_it_is_stored() {
    let held = Held::new(&[Call::MessagePublish]);
    let app = App::with_links(vec![closed(&std::sync::Arc::new(Rejects)), closed(&held)], |config| {
        config.limits.inflight_bytes_total = 10_000;
    })
    .await;
    let api = Api::start(&app).await;
    let mut subscriber = app.client(V5, "subscriber").await;
    subscriber.subscribe("t", 2).await;
    let body = json!({ "topic": "t", "payload": "é", "qos": 2, "retain": true }).to_string();
    let publish = api.request("POST", "/v1/messages", &body);
    let store = async {
        held.waits_for(1).await;
        held.settle(0);
    };
    let ((status, _, answer), ()) = tokio::join!(publish, store);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((status, answer["mid"].as_str().map(str::len)), (200, Some(32)));
    let received = subscriber.receive().await;
    assert_eq!((received.text(), received.qos), ("é", 2));
    assert_eq!(app.server.broker.router.retained.len(), 1);
    let expected = ["latchline-admin t é at 2"];
    assert_eq!(held.of(Call::MessagePublish), expected);

    let body = json!({ "topic": "t", "payload": "x" }).to_string();
    let (publish, fail) = (api.refused("POST", "/v1/messages", &body, 502), async {
        held.waits_for(1).await;
        held.fail(0, Fault::transient("away"));
    });
    tokio::join!(publish, fail);
    api.refused("POST", "/v1/messages", r#"{"topic":"rejected/t","payload":""}"#, 403).await;
    for body in [
        "",
        "nonsense",
        "[]",
        r#"{"topic":"t"}"#,
        r#"{"payload":"x"}"#,
        r##"{"topic":"a/#","payload":"x"}"##,
        r#"{"topic":"","payload":"x"}"#,
        r#"{"topic":"a\u0000","payload":"x"}"#,
        r#"{"topic":"t","payload":"x","qos":3}"#,
        r#"{"topic":"t","payload":"x","qos":-1}"#,
        r#"{"topic":"t","payload":"x","unknown":1}"#,
        r#"{"topic":"t","payload":7}"#,
    ] {
        api.refused("POST", "/v1/messages", body, 400).await;
    }
    let large = json!({ "topic": "t", "payload": "x".repeat(10_000) }).to_string();
    api.refused("POST", "/v1/messages", &large, 413).await;
    // Past the total bound it is refused at once.
    let _permit = app.server.broker.budget.take(10_000);
    api.refused("POST", "/v1/messages", r#"{"topic":"t","payload":"x"}"#, 503).await;
    assert_eq!(held.open(), 0);
}

#[tokio::test]
async fn what_is_not_stored_in_time_is_said() {
    let held = Held::new(&[Call::MessagePublish]);
    let app = App::with_hook(&held, |_| {}).await;
    let api = Api::with_timeout(&app, Duration::from_millis(500)).await;
    api.refused("POST", "/v1/messages", r#"{"topic":"t","payload":"x"}"#, 503).await;
    held.waits_for(1).await;
    assert!(app.server.broker.budget.used() > 0, "it stays in flight");
    held.settle(0);
    app.settled().await;
}

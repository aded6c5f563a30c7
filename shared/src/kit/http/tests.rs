//! The server with real sockets, asked by hand, so that misbehaviour can be written down.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::auth::{OneToken, Token, protect};
use super::readiness::Readiness;
use super::*;
use crate::kit::testing::eventually;

const SOON: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn http() -> Http {
    Http {
        address: None,
        connections_max: 100,
        body_bytes_max: 100,
        head_timeout: SOON,
        request_timeout: SOON,
    }
}

async fn serve(router: Router, http: Http) -> Server {
    let listener = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(server::serve(listener, router, http, stop.clone()));
    Server { address, stop, task }
}

impl Server {
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}");
        answer(self.send(&format!("{head}Content-Length: {length}\r\n\r\n{body}")).await).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }
}

/// What the server sends until it closes the connection.
async fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut text)).await.expect("an end").unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect(&text);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

#[tokio::test]
async fn admin_routes_tell_life_readiness_and_metrics() {
    let mut registry = Registry::default();
    let counter = Counter::<u64>::default();
    registry.register("test_messages", "Messages", counter.clone());
    counter.inc_by(3);
    let readiness = Readiness::new();
    let kafka = readiness.condition("kafka", "not yet connected");
    let server = serve(admin::routes(Arc::new(registry), readiness), http()).await;

    assert_eq!(server.get("/livez").await.status, 200);

    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 503);
    let expected = json!({ "ready": false, "reasons": { "kafka": "not yet connected" } });
    assert_eq!(answer.json(), expected);
    kafka.ready();
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "ready": true, "reasons": {} })));

    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(answer.body.contains("test_messages_total 3\n"), "{}", answer.body);
    assert!(answer.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_api_needs_its_token_and_the_admin_routes_do_not() {
    let token = SecretString::from("0123456789abcdef");
    let api = || Router::new().route("/api", get(async || "secret"));
    let admin = || admin::routes(Arc::default(), Readiness::new());
    let guarded = serve(protect(api(), Token::new(Some(&token))).merge(admin()), http()).await;
    let disabled = serve(protect(api(), Token::new(None)).merge(admin()), http()).await;

    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    for (server, header, expected) in [
        (&guarded, right, 200),
        (&guarded, "", 401),
        (&guarded, "Authorization: Bearer 0123456789abcdeg\r\n", 401),
        (&disabled, right, 403),
        (&disabled, "", 403),
    ] {
        let answer = server.ask("GET", "/api", header, "").await;
        assert_eq!(answer.status, expected, "{header}");
        assert_eq!(answer.body == "secret", expected == 200);
        assert_eq!(answer.head.contains("www-authenticate: bearer"), expected == 401);
        assert_eq!(server.get("/livez").await.status, 200);
    }
    let why = disabled.get("/api").await.json();
    assert_eq!(why["detail"], "the api is off: neither http.token nor http.token_file is set");
}

#[tokio::test]
async fn a_route_with_a_scope_knows_its_caller() {
    const SCOPES: &[&str] = &["read", "admin"];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let alice = tokens::generate("alice", "read", SCOPES).unwrap();
    std::fs::write(&path, &alice.line).unwrap();
    let tokens = Arc::new(tokens::Tokens::open(&path, SCOPES).unwrap());
    let who = async |caller: tokens::Caller| caller.name.to_string();
    let read = tokens::protect(Router::new().route("/read", get(who)), tokens.clone(), "read");
    let admin = tokens::protect(Router::new().route("/admin", get(who)), tokens, "admin");
    let server = serve(read.merge(admin).route("/open", get(who)), http()).await;

    let right = format!("Authorization: Bearer {}\r\n", alice.secret);
    for (path, header, status, body) in [
        ("/read", right.as_str(), 200, "alice"),
        ("/read", "", 401, "no bearer token"),
        ("/read", "Authorization: Bearer x\r\n", 401, "wrong bearer token"),
        ("/admin", &right, 403, "the token alice has not the scope admin"),
        ("/admin", "", 401, "no bearer token"),
        ("/open", &right, 500, ""),
    ] {
        let answer = server.ask("GET", path, header, "").await;
        assert_eq!(answer.status, status, "{path} {header}");
        assert!(answer.body.contains(body), "{}", answer.body);
        assert_eq!(answer.head.contains("www-authenticate: bearer"), status == 401);
    }
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let router = Router::new()
        .route("/bytes", post(async |body: Bytes| body.len().to_string()))
        .route("/json", post(async |_: axum::Json<Value>| ()))
        .route("/broken", get(async || Err::<(), _>(problem::Problem::from(anyhow::anyhow!("internals")))));
    let server = serve(router, http()).await;
    assert_eq!(server.ask("POST", "/bytes", "", &"x".repeat(100)).await.body, "100");

    let json = "Content-Type: application/json\r\n";
    for (method, path, headers, body, status, title) in [
        ("GET", "/nowhere", "", "", 404, "Not Found"),
        ("GET", "/bytes", "", "", 405, "Method Not Allowed"),
        ("POST", "/bytes", "", "x".repeat(101).as_str(), 413, "Payload Too Large"),
        ("POST", "/json", json, "{", 400, "Bad Request"),
        ("POST", "/json", "", "{}", 415, "Unsupported Media Type"),
        ("GET", "/broken", "", "", 500, "Internal Server Error"),
    ] {
        let answer = server.ask(method, path, headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
        assert_eq!(answer.head.contains("allow: post"), status == 405, "{}", answer.head);
        let problem = answer.json();
        assert_eq!((&problem["status"], &problem["title"]), (&json!(status), &json!(title)));
        assert!(!answer.body.contains("internals"));
    }
}

#[tokio::test]
async fn slow_answers_and_slow_clients_are_cut_off() {
    let short = Duration::from_millis(50);
    let router = Router::new().route("/never", get(async || std::future::pending::<()>().await));
    let slow_answer = serve(router, Http { request_timeout: short, ..http() }).await;
    let answer = slow_answer.get("/never").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["detail"], "no answer within 50ms");

    let slow_client = serve(Router::new(), Http { head_timeout: short, ..http() }).await;
    for begin in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = slow_client.send(begin).await;
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let router = Router::new().route("/", get(async || "here"));
    let server = serve(router, Http { connections_max: 1, ..http() }).await;
    let idle = server.send("").await;
    let mut waiting = server.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.read(&mut byte)).await;
    assert!(early.is_err(), "answered beyond the bound");
    drop(idle);
    assert_eq!(answer(waiting).await.body, "here");
}

#[tokio::test]
async fn a_stop_lets_requests_finish() {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (arrived.clone(), release.clone());
    let handler = async move || {
        tell.notify_one();
        wait.notified().await;
        "finished"
    };
    let server = serve(Router::new().route("/", get(handler)), http()).await;
    let idle = server.send("").await;
    let running = server.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    arrived.notified().await;
    server.stop.cancel();

    let address = server.address;
    eventually(SOON, "new connections are refused", async || TcpStream::connect(address).await.is_err())
        .await;
    assert!(!server.task.is_finished());
    release.notify_one();
    assert_eq!(answer(running).await.body, "finished");
    tokio::time::timeout(SOON, server.task).await.expect("it ends").unwrap().unwrap();
    drop(idle);
}

#[test]
fn settings_are_checked() {
    fn check(settings: impl Validate, expected: &[&str]) {
        let mut problems = Vec::new();
        settings.problems(&mut problems);
        assert_eq!(problems, expected);
    }
    check(http(), &[]);
    let zero = Http { connections_max: 0, head_timeout: Duration::ZERO, ..http() };
    check(zero, &["http.connections_max: must not be 0", "http.head_timeout_ms: must not be 0"]);

    let token = |token: Option<&str>, file: Option<&str>| OneToken {
        token: token.map(SecretString::from),
        token_file: file.map(Into::into),
    };
    check(token(None, None), &[]);
    check(token(Some("0123456789abcdef"), None), &[]);
    check(token(Some("short"), None), &["http.token: must have at least 16 bytes"]);
    let both = token(Some("x"), Some("/nonexistent"));
    check(both, &["http.token: set it or http.token_file, not both"]);
}

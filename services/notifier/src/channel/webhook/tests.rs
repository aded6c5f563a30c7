//! Requests to receivers on real sockets, and to those that must not be reached.

use latchline_shared::kit::config::Validate;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::event::{EventType, Severity};
use crate::sink::http::{HttpServer, Reply as Told};

const KEY: &[u8] = b"a key of 24 bytes at least";

fn settings(allowed: &[&str]) -> Settings {
    Settings {
        enabled: true,
        allowed_networks: allowed.iter().map(|text| (*text).to_owned()).collect(),
        concurrency: 1,
        concurrency_critical: 1,
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(20),
        ca_file: None,
    }
}

fn message(address: &str) -> Message {
    Message {
        id: Uuid::from_u128(7),
        address: address.to_owned(),
        event_type: EventType::Unlocked,
        severity: Severity::Info,
        at_ms: 0,
        content: Content::Webhook {
            body: json!({"type": "unlocked", "lock": "玄関"}), secret: KEY.to_vec()
        },
    }
}

async fn server(told: Told) -> HttpServer {
    let server = HttpServer::start(([127, 0, 0, 1], 0).into(), 100).await.unwrap();
    server.answer(told);
    server
}

/// Where loopback is allowed.
fn here() -> Receiver {
    Receiver::new(&settings(&["127.0.0.0/8", "::1/128"])).unwrap()
}

#[tokio::test]
async fn a_request_is_signed() {
    let server = server(Told::status(204)).await;
    let answer = here().send(&message(&server.url("/hook?token=x"))).await;
    assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Accepted, "http 204"));
    let request = server.requests().remove(0);
    assert_eq!(
        (request.method.as_str(), request.path.as_str(), request.query.as_str()),
        ("POST", "/hook", "token=x")
    );
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.json(), json!({"type": "unlocked", "lock": "玄関"}));
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    assert_eq!(id, "00000000-0000-0000-0000-000000000007");
    let timestamp: u64 = timestamp.parse().unwrap();
    assert!(request.at_ms / 1_000 - timestamp < 60);
    let body = std::str::from_utf8(&request.body).unwrap();
    assert_eq!(request.header("webhook-signature"), sign::signature(KEY, id, timestamp, body));
}

#[tokio::test]
async fn answers_are_told_apart() {
    for (status, outcome, bounce) in [
        (200, Outcome::Accepted, None),
        (202, Outcome::Accepted, None),
        (301, Outcome::Permanent, None),
        (307, Outcome::Permanent, None),
        (400, Outcome::Permanent, None),
        (401, Outcome::Unavailable, None),
        (403, Outcome::Unavailable, None),
        (404, Outcome::Unavailable, None),
        (405, Outcome::Permanent, None),
        (407, Outcome::Unavailable, None),
        (408, Outcome::Transient, None),
        (410, Outcome::Permanent, Some(Bounce::Gone)),
        (413, Outcome::Permanent, None),
        (425, Outcome::Transient, None),
        (429, Outcome::Transient, None),
        (500, Outcome::Transient, None),
        (502, Outcome::Transient, None),
        (503, Outcome::Transient, None),
        (504, Outcome::Transient, None),
    ] {
        let told = Told::text(status, "no /hook?token=x").header("retry-after", "7");
        let server = server(told.header("location", "http://127.0.0.1:1/")).await;
        let answer = here().send(&message(&server.url("/hook?token=x"))).await;
        assert_eq!((answer.outcome, answer.bounce), (outcome, bounce), "{status}");
        assert_eq!(answer.code, format!("http {status}"));
        let is_asked_again = matches!(outcome, Outcome::Transient | Outcome::Unavailable);
        let after = is_asked_again.then_some(Duration::from_secs(7));
        assert_eq!(answer.after, after, "{status}");
        assert!(!answer.excerpt.contains("token") && !answer.excerpt.contains("hook"), "{}", answer.excerpt);
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn no_answer_may_be_an_arrival() {
    let (connect_timeout, timeout) = (Duration::from_secs(1), Duration::from_secs(2));
    let hasty = Receiver::new(&Settings { connect_timeout, timeout, ..settings(&["127.0.0.0/8"]) }).unwrap();
    for (receiver, told, code) in [(hasty, Told::hang(), "timeout"), (here(), Told::close(), "no_answer")] {
        let server = server(told).await;
        let answer = receiver.send(&message(&server.url("/"))).await;
        assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Ambiguous, code));
        assert_eq!(server.count(), 1);
        server.stop().await;
        let answer = receiver.send(&message(&server.url("/"))).await;
        assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Unavailable, "cannot_connect"));
    }
    let answer = here().send(&message("https://no-such-host.invalid/")).await;
    assert_eq!(answer.outcome, Outcome::Unavailable);
}

#[tokio::test]
async fn what_is_not_public_is_not_reached() {
    let server = server(Told::status(200)).await;
    let port = server.address().port();
    let receiver = Receiver::new(&settings(&[])).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "localhost",
        "LOCALHOST",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
    ] {
        let answer = receiver.send(&message(&format!("https://{host}:{port}/"))).await;
        assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Permanent, "address_refused"), "{host}");
        assert_eq!(answer.bounce, None);
    }
    assert_eq!(server.count(), 0);
    // The same, where it is allowed.
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]"] {
        let answer = here().send(&message(&format!("http://{host}:{port}/"))).await;
        assert_eq!(answer.outcome, Outcome::Accepted, "{host}: {answer:?}");
    }
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn nothing_goes_in_the_clear_but_to_addresses_of_ones_own() {
    let server = server(Told::status(200)).await;
    let port = server.address().port();
    // A name may lead elsewhere tomorrow.
    for host in ["localhost", "192.0.43.8", "example.com"] {
        let answer = here().send(&message(&format!("http://{host}:{port}/"))).await;
        assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Permanent, "not_encrypted"), "{host}");
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = server(Told::status(200)).await;
    let outer = server(Told::status(302).header("location", &inner.url("/"))).await;
    here().send(&message(&outer.url("/"))).await;
    assert_eq!((outer.count(), inner.count()), (1, 0));
}

#[tokio::test]
async fn what_is_no_webhook_is_not_sent() {
    let receiver = here();
    for address in ["ftp://127.0.0.1/", "http://a:b@127.0.0.1/", "nonsense", ""] {
        let answer = receiver.send(&message(address)).await;
        assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Permanent, "no_url"), "{address}");
    }
    let content = Content::Sms { text: String::new() };
    let answer = receiver.send(&Message { content, ..message("http://127.0.0.1/") }).await;
    assert_eq!(answer.code, "no_webhook");
    assert_eq!((receiver.name(), receiver.rps(), receiver.resends_ambiguous()), ("webhook", 0, true));
    assert_eq!(receiver.timeout(), Duration::from_secs(20));
    for (address, expected) in [
        ("https://Example.com/hook?token=x", "https://example.com"),
        ("http://example.com:8080/", "http://example.com:8080"),
        ("nonsense", ""),
    ] {
        assert_eq!(host(address), expected);
    }
}

#[test]
fn the_default_table_is_read() {
    let defaults: toml::Table = include_str!("../../../../../config/notifier.toml").parse().unwrap();
    let settings = Settings::deserialize(defaults["webhook"].clone()).unwrap();
    let mut problems = Vec::new();
    settings.problems(&mut problems);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((settings.enabled, settings.timeout), (true, Duration::from_secs(5)));
    assert_eq!(settings.allowed_networks, Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_named() {
    for (settings, expected) in [
        (settings(&["10.0.0.0/33"]), "webhook.allowed_networks: 10.0.0.0/33: has more than 32 bits"),
        (Settings { concurrency: 0, ..settings(&[]) }, "webhook.concurrency: "),
        (Settings { connect_timeout: Duration::ZERO, ..settings(&[]) }, "webhook.connect_timeout_ms: "),
        (Settings { timeout: Duration::from_secs(5), ..settings(&[]) }, "webhook.timeout_ms: "),
        (Settings { ca_file: Some("/nowhere".into()), ..settings(&[]) }, "webhook.ca_file: "),
    ] {
        let mut problems = Vec::new();
        settings.problems(&mut problems);
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
    }
}

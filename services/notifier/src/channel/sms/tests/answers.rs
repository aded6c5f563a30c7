//! What answers mean, each from a real socket: the table of `judge`, and those that are none.

use std::net::SocketAddr;

use serde_json::json;

use super::*;

const GONE: Option<Bounce> = Some(Bounce::Gone);

async fn check(name: &str, own: &str, reply: Reply, expected: (Outcome, &str, Option<Bounce>)) -> Answer {
    let told = format!("{name} {reply:?}");
    let server = server(reply).await;
    let answer = gateway(&format!("{}{own}", preset(name, &server.url("")))).send(&message("hush")).await;
    assert_eq!((answer.outcome, answer.code.as_str(), answer.bounce), expected, "{told}");
    assert_eq!(server.count(), 1, "{told}");
    answer
}

#[tokio::test]
async fn statuses() {
    let server = server(Reply::status(200)).await;
    let gateways = ["generic", "twilio", "kannel"].map(|name| gateway(&preset(name, &server.url(""))));
    let mut count = 0;
    for (status, outcome) in [
        (201, Outcome::Ambiguous),
        (204, Outcome::Ambiguous),
        (301, Outcome::Unavailable),
        (302, Outcome::Unavailable),
        (307, Outcome::Unavailable),
        (400, Outcome::Permanent),
        (401, Outcome::Unavailable),
        (402, Outcome::Unavailable),
        (403, Outcome::Unavailable),
        (404, Outcome::Unavailable),
        (405, Outcome::Unavailable),
        (406, Outcome::Unavailable),
        (407, Outcome::Unavailable),
        (408, Outcome::Transient),
        (409, Outcome::Permanent),
        (413, Outcome::Permanent),
        (415, Outcome::Unavailable),
        (422, Outcome::Permanent),
        (425, Outcome::Transient),
        (429, Outcome::Transient),
        (500, Outcome::Transient),
        (502, Outcome::Ambiguous),
        (503, Outcome::Unavailable),
        (504, Outcome::Ambiguous),
        (507, Outcome::Transient),
    ] {
        server.answer(Reply::text(status, "no").header("location", &server.url("/elsewhere")));
        for gateway in &gateways {
            let answer = gateway.send(&message("a")).await;
            let told = (answer.outcome, answer.code, answer.bounce);
            assert_eq!(told, (outcome, format!("http {status}"), None), "{}", gateway.name());
            count += 1;
            assert_eq!(server.count(), count);
        }
    }
    let own = "permanent_statuses = [404, '5xx']";
    check("generic", own, Reply::status(404), (Outcome::Permanent, "http 404", None)).await;
    check("generic", own, Reply::status(500), (Outcome::Permanent, "http 500", None)).await;
    check("generic", own, Reply::status(400), (Outcome::Permanent, "http 400", None)).await;
    check("generic", own, Reply::status(401), (Outcome::Unavailable, "http 401", None)).await;
    check("generic", own, Reply::status(429), (Outcome::Transient, "http 429", None)).await;
}

#[tokio::test]
async fn codes_win_over_statuses() {
    let twilio = |code: i64| json!({"code": code, "message": "no", "status": 400});
    let vonage = |code: &str| json!({"messages": [{"status": code, "error-text": "no"}]});
    let generic = |code: &str| json!({"error": {"code": code}});
    for (name, status, body, outcome, bounce) in [
        ("twilio", 400, twilio(21610), Outcome::Permanent, GONE),
        ("twilio", 400, twilio(21211), Outcome::Permanent, GONE),
        ("twilio", 403, twilio(21408), Outcome::Permanent, None),
        ("twilio", 429, twilio(20429), Outcome::Transient, None),
        ("twilio", 400, twilio(21611), Outcome::Transient, None),
        ("twilio", 400, twilio(21606), Outcome::Unavailable, None),
        ("twilio", 401, twilio(20003), Outcome::Unavailable, None),
        ("twilio", 400, twilio(99999), Outcome::Permanent, None),
        ("twilio", 503, twilio(99999), Outcome::Unavailable, None),
        ("twilio", 502, twilio(99999), Outcome::Ambiguous, None),
        ("twilio", 503, twilio(20429), Outcome::Transient, None),
        ("vonage", 502, vonage("1"), Outcome::Transient, None),
        ("vonage", 200, vonage("1"), Outcome::Transient, None),
        ("vonage", 200, vonage("3"), Outcome::Permanent, None),
        ("vonage", 200, vonage("4"), Outcome::Unavailable, None),
        ("vonage", 200, vonage("7"), Outcome::Permanent, GONE),
        ("vonage", 200, vonage("98"), Outcome::Ambiguous, None),
        ("vonage", 500, vonage("7"), Outcome::Permanent, GONE),
        ("generic", 422, generic("opted_out"), Outcome::Permanent, GONE),
        ("generic", 200, generic("refused"), Outcome::Permanent, None),
    ] {
        let code = ["code"].iter().find_map(|name| body.get(name).map(ToString::to_string));
        let other = || body["messages"][0]["status"].as_str().or(body["error"]["code"].as_str()).unwrap();
        let code = format!("http {status} {}", code.unwrap_or_else(|| other().to_owned()));
        check(name, "", Reply::json(status, &body), (outcome, &code, bounce)).await;
    }
    let (own, text) = ("error_regex = 'ERR (\\d+)'\ntransient_codes = [7]", "ERR 7: later");
    check("kannel", own, Reply::text(400, text), (Outcome::Transient, "http 400 7", None)).await;
}

#[tokio::test]
async fn success_is_all_that_is_asked_for() {
    for (name, reply) in [
        ("generic", Reply::text(200, "{\"id\": \"1\"")),
        ("generic", Reply::json(200, &json!({"id": ""}))),
        ("generic", Reply::json(200, &json!({"id": null}))),
        ("generic", Reply::json(200, &json!([]))),
        ("generic", Reply::text(200, "<html>")),
        ("generic", Reply::text(200, "x".repeat(200_000))),
        ("twilio", Reply::status(200)),
        ("vonage", Reply::json(200, &json!({"messages": []}))),
        ("kannel", Reply::text(202, "Sent.")),
    ] {
        let status = reply.status;
        check(name, "", reply, (Outcome::Ambiguous, &format!("http {status}"), None)).await;
    }
    let cut = Reply::text(200, "{\"id\":").cut();
    check("generic", "", cut, (Outcome::Ambiguous, "http 200", None)).await;
}

#[tokio::test]
async fn a_pause_can_be_asked_for() {
    for (status, value, expected) in
        [(429, "7", Some(7)), (503, "86400", Some(3_600)), (429, "soon", None), (400, "7", None)]
    {
        let server = server(Reply::status(status).header("retry-after", value)).await;
        let answer = gateway(&preset("generic", &server.url(""))).send(&message("a")).await;
        assert_eq!(answer.after, expected.map(Duration::from_secs), "{status} {value}");
    }
}

#[tokio::test]
async fn what_it_says_of_us_is_not_kept() {
    let body = json!({"error": {"code": "x"}, "echo": format!("{TO} hush tok"), "to": 819_012_341_234_i64});
    let reply = Reply::json(401, &body);
    let answer = check("generic", "", reply, (Outcome::Unavailable, "http 401 x", None)).await;
    assert!(answer.excerpt.starts_with("it refuses us: "), "{}", answer.excerpt);
    for hidden in ["9012341234", "hush", "tok"] {
        assert!(!answer.excerpt.contains(hidden), "{}", answer.excerpt);
    }
    assert!(answer.excerpt.contains("+*** *** ***"), "{}", answer.excerpt);
    let reply = Reply::text(400, "to=819012341234\nhush");
    let answer = check("kannel", "", reply, (Outcome::Permanent, "http 400", None)).await;
    assert_eq!(answer.excerpt, "to=*** ***");
}

#[tokio::test]
async fn nothing_is_an_answer_too() {
    let short = "timeout_ms = 1000\nconnect_timeout_ms = 1000";
    for (own, reply, code) in [
        ("", Reply::close(), "no_answer"),
        (short, Reply::hang(), "timeout"),
        (short, Reply::status(200).after(Duration::from_secs(30)), "timeout"),
    ] {
        let answer = check("generic", own, reply, (Outcome::Ambiguous, code, None)).await;
        assert!(!answer.excerpt.contains("127.0.0.1"), "{}", answer.excerpt);
    }
}

#[tokio::test]
async fn what_cannot_be_reached_got_nothing() {
    let server = server(Reply::status(200)).await;
    let url = server.url("");
    let encrypted = url.replace("http://", "https://");
    let stopped: SocketAddr = {
        let other = self::server(Reply::status(200)).await;
        other.stop().await;
        other.address()
    };
    // A backlog that is full does not answer: nobody accepts there.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut fill = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&full.local_addr().unwrap(), Duration::from_millis(200))
    {
        fill.push(stream);
    }
    // Without a network the resolver may take longer than it has.
    let answer = gateway(&preset("generic", "http://no-such-host.invalid")).send(&message("a")).await;
    assert_eq!(answer.outcome, Outcome::Unavailable);
    for (url, code) in [
        (format!("http://{stopped}"), "cannot_connect"),
        (encrypted, "cannot_connect"),
        (format!("http://{}", full.local_addr().unwrap()), "connect_timeout"),
    ] {
        let toml = format!("{}connect_timeout_ms = 1000", preset("generic", &url));
        let answer = gateway(&toml).send(&message("a")).await;
        assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Unavailable, code), "{url}");
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_gateway_that_knows_ids_is_asked_again() {
    for (name, expected) in [("generic", true), ("twilio", false), ("vonage", false), ("kannel", false)] {
        let gateway = gateway(&format!("{}rps = 7", preset(name, "http://127.0.0.1:1")));
        assert_eq!((gateway.name(), gateway.rps(), gateway.resends_ambiguous()), (name, 7, expected));
        assert_eq!(gateway.timeout(), Duration::from_secs(13));
    }
    let other = Content::Webhook { body: json!({}), secret: Vec::new() };
    let gateway = gateway(&preset("generic", "http://127.0.0.1:1"));
    let answer = gateway.send(&Message { content: other, ..message("") }).await;
    assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Permanent, "no_sms"));
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_not_used() {
    let mut server = server(Reply::json(200, &json!({"id": "1"}))).await;
    let gateway = gateway(&preset("generic", &server.url("")));
    for count in 1..=10 {
        assert_eq!(gateway.send(&message("a")).await.outcome, Outcome::Accepted);
        assert_eq!(server.count(), count);
        server.start_again().await.unwrap();
    }
}

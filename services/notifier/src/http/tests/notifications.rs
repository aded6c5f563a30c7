//! What was told: by filter, page by page, and never an address or a code.

use super::*;

#[tokio::test]
async fn each_filter_shows_what_it_says() {
    let app = App::start().await;
    app.fill(0, 1_000).await;
    for (query, count) in [
        ("", 1_000),
        ("user_id=user-7", 2),
        ("client_id=lock-7", 1),
        ("channel=sms", 333),
        ("status=dead", 1),
        ("status=pending", 1),
        ("status=expired", 0),
        ("event_type=tamper", 333),
        ("severity=critical", 333),
        ("severity=critical&channel=webhook", 333),
        ("severity=critical&channel=sms", 0),
        ("process_id=process-9", 1),
        ("alarm_id=00000000-0000-0000-0000-000000000002", 67),
        ("from=2026-01-01T00:10:00Z&to=2026-01-01T00:11:00Z", 60),
        ("user_id=user-7&status=dead&channel=sms", 1),
        ("event_type=test", 0),
    ] {
        let answer = app.get(&format!("/v1/notifications?limit=1000&{query}")).await;
        assert_eq!(answer.texts("notifications", "id").len(), count, "{query}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_whatever_arrives() {
    let app = App::start().await;
    app.fill(0, 25).await;
    let mut seen = Vec::new();
    let mut path = "/v1/notifications?limit=10&severity=info".to_owned();
    for first_of_new in [1_000, 2_000, 3_000] {
        let answer = app.get(&path).await;
        seen.extend(answer.texts("notifications", "id"));
        app.fill(first_of_new, 5).await;
        match answer.headers.get("link") {
            Some(link) => {
                let link = link.to_str().unwrap();
                let next = answer.json()["next"].as_str().unwrap().to_owned();
                assert!(link.ends_with(&format!("after={next}>; rel=\"next\"")), "{link}");
                path = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
            }
            None => {
                assert_eq!(answer.json()["next"], Value::Null);
                break;
            }
        }
    }
    let expected: Vec<String> = (0..25).rev().filter(|n| n % 3 == 0).map(id_of).collect();
    assert_eq!(seen, expected);
    let answer = app.get("/v1/notifications?limit=1").await;
    let next = answer.json()["next"].as_str().unwrap().to_owned();
    let other = app.ask(&format!("/v1/notifications?status=dead&after={next}")).await;
    assert_eq!(other.status, 400);
    assert!(other.detail().starts_with("after: belongs to another filter"), "{}", other.body);
}

#[tokio::test]
async fn addresses_are_masked_and_codes_are_not_there() {
    let app = App::start().await;
    app.fill(0, 3).await;
    let list = app.get("/v1/notifications").await;
    let shown = ["https://example.com/***", "+81******1234", "t***@example.com"];
    assert_eq!(list.texts("notifications", "address"), shown);
    let mut answers = vec![list.body];
    for n in 0..3 {
        let answer = app.get(&format!("/v1/notifications/{}", id_of(n))).await;
        assert_eq!(answer.json()["facts"], json!({"client_id": "x"}));
        answers.push(answer.body);
    }
    for body in answers {
        for hidden in ["123456", "taro@", "+819012341234", "hidden"] {
            assert!(!body.contains(hidden), "{hidden}: {body}");
        }
    }
}

#[tokio::test]
async fn a_notification_is_shown_with_its_attempts() {
    let app = App::start().await;
    app.fill(7, 2).await;
    app.execute(&format!(
        "insert into attempt (notification_id, n, provider, started_at, ms, outcome, code, excerpt) values \
             ('{0}', 1, 'relay', '2026-01-01T00:00:01Z', 12, 'transient', '450', 'busy'), \
             ('{0}', 2, 'relay', '2026-01-01T00:01:01Z', null, 'started', null, null)",
        id_of(7)
    ))
    .await;
    let path = format!("/v1/notifications/{}", id_of(7));
    let dead = app.get(&path).await.json();
    let first = json!({"n": 1, "provider": "relay", "started_at": "2026-01-01T00:00:01.000Z", "ms": 12,
        "outcome": "transient", "code": "450", "excerpt": "busy"});
    let second =
        json!({"n": 2, "provider": "relay", "started_at": "2026-01-01T00:01:01.000Z", "outcome": "started"});
    assert_eq!(dead["attempts"], json!([first, second]));
    for (name, value) in [
        ("status", "dead"),
        ("user_id", "user-7"),
        ("client_id", "lock-7"),
        ("alarm_id", &id_of(0)),
        ("locale", "ja"),
        ("time_zone", "Asia/Tokyo"),
        ("created_at", "2026-01-01T00:00:07.000Z"),
    ] {
        assert_eq!(dead[name], value, "{name}");
    }
    assert!(dead.get("due_at").is_none() && dead.get("process_id").is_none());
    assert_eq!(
        app.get(&format!("/v1/notifications/{}", id_of(8))).await.json()["due_at"],
        "2026-01-01T00:00:00.000Z"
    );
    let page = app.get(&format!("{path}?limit=1")).await;
    assert_eq!((&page.json()["attempts"][0]["n"], &page.json()["next"]), (&json!(1), &json!(1)));
    let page = app.get(&format!("{path}?limit=1&after=1")).await;
    assert_eq!((&page.json()["attempts"][0]["n"], &page.json()["next"]), (&json!(2), &Value::Null));
}

#[tokio::test]
async fn what_is_misspelt_is_refused() {
    let app = App::start().await;
    for (query, detail) in [
        ("chanel=sms", "chanel: is no parameter of this route"),
        ("channel=fax", "channel: must be one of email, sms, webhook"),
        ("status=", "status: is empty"),
        ("event_type=x", "event_type: must be one of unlocked, "),
        ("alarm_id=x", "alarm_id: must be a UUID"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from: must be before to"),
        ("limit=1001", "limit: must be a number from 1 to 1000"),
        ("after=x", "after: is no cursor of this server"),
        ("status=dead&status=sent", "status: is given twice"),
    ] {
        let answer = app.ask(&format!("/v1/notifications?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.detail().starts_with(detail), "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn providers_and_what_waits_for_them() {
    let app = App::start().await;
    app.fill(0, 1_000).await;
    let answer = app.get("/v1/providers").await.json();
    assert_eq!(
        answer["providers"],
        json!([{"channel": "email", "name": "relay", "breaker": "closed"},
               {"channel": "sms", "name": "gateway", "breaker": "open", "open_s": 30.0}])
    );
    let due: Vec<_> = answer["backlog"].as_array().unwrap().iter().map(|one| &one["due"]).collect();
    assert_eq!(due, [0, 0, 1]);
}

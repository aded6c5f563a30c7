//! What people do: to alarms, with silences, with the rules.

use latchline_shared::alarm::Severity;
use serde_json::Value;

use super::*;

impl App {
    /// The rows of an alarm, to see whether they change.
    async fn rows(&self, id: &str) -> String {
        let select = format!(
            "select (select row_to_json(alarm)::text from alarm where id = '{id}') \
             || (select json_agg(event order by no)::text from alarm_event event where alarm_id = '{id}') \
             || (select count(*) from outbox)"
        );
        self.owner.get().await.unwrap().query_one(&select, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn an_alarm_is_taken_through_its_life() {
    let app = App::start().await;
    app.signal("a", AlarmType::LeftUnlocked, START_MS, What::Begin(Severity::Major)).await;
    let id = app.alarm_of("a").await;
    let path = |act: &str| format!("/v1/alarms/{id}/{act}");
    for (act, body, state) in [
        ("ack", json!({ "comment": "on my way" }), "acknowledged"),
        ("unack", json!({}), "active"),
        ("shelve", json!({ "seconds": 3600 }), "active"),
        ("unshelve", json!({}), "active"),
        ("comment", json!({ "text": "broken" }), "active"),
        ("clear", json!({}), "closed"),
        ("comment", json!({ "text": "mended" }), "closed"),
    ] {
        let answer = app.post(&path(act), body).await;
        assert_eq!(answer.status, 200, "{act}: {}", answer.body);
        assert_eq!(answer.json()["state"], state, "{act}");
        assert_eq!(answer.json()["shelved_until"].is_string(), act == "shelve", "{act}");
    }
    let history = app.get(&format!("/v1/alarms/{id}")).await;
    assert_eq!(
        history.texts("changes", "change"),
        [
            "raised",
            "acknowledged",
            "unacknowledged",
            "shelved",
            "unshelved",
            "commented",
            "cleared",
            "commented"
        ]
    );
    assert_eq!(history.json()["changes"][1]["cause"]["comment"], "on my way");
    let records = "select count(*) from outbox";
    let records: i64 = app.owner.get().await.unwrap().query_one(records, &[]).await.unwrap().get(0);
    assert_eq!(records, 8);
}

#[tokio::test]
async fn what_an_alarm_does_not_take_changes_nothing() {
    let app = App::start().await;
    app.signal("a", AlarmType::LeftUnlocked, START_MS, What::Begin(Severity::Major)).await;
    let id = app.alarm_of("a").await;
    let path = |act: &str| format!("/v1/alarms/{id}/{act}");
    let long = "x".repeat(5000);
    for (act, body, status) in [
        ("unack", json!({}), 409),
        ("unshelve", json!({}), 409),
        ("shelve", json!({ "seconds": 0 }), 400),
        ("shelve", json!({ "seconds": 604_801 }), 400),
        ("shelve", json!({ "seconds": i64::MAX }), 400),
        ("shelve", json!({ "seconds": 60, "until": "2026-01-31T12:00:00Z" }), 400),
        ("shelve", json!({ "until": "2026-01-31T12:00:00Z" }), 400),
        ("shelve", json!({ "until": "tomorrow" }), 400),
        ("shelve", json!({}), 400),
        ("comment", json!({ "text": " " }), 400),
        ("comment", json!({ "text": long }), 400),
        ("comment", json!({ "text": "\u{0}" }), 400),
        ("ack", json!({ "reason": "x" }), 400),
    ] {
        let before = app.rows(&id).await;
        let answer = app.post(&path(act), body.clone()).await;
        assert_eq!(answer.status, status, "{act} {body}: {}", answer.body);
        assert!(!answer.detail().is_empty());
        assert_eq!(app.rows(&id).await, before, "{act} {body}");
    }
    let conflict = app.post(&path("unack"), json!({})).await.detail();
    assert!(conflict.contains("unack") && conflict.contains("active"), "{conflict}");
    let other = app.post("/v1/alarms/00000000-0000-0000-0000-000000000000/ack", json!({})).await;
    assert_eq!(other.status, 404);
    // The body of most acts may be left out, but not be something else.
    assert_eq!(app.post(&path("ack"), json!(null)).await.status, 400);
    let text = app.request(Method::POST, &path("ack")).body("x");
    assert_eq!(app.send(text).await.status, 415);
    assert_eq!(app.send(app.request(Method::POST, &path("ack"))).await.status, 200);
}

#[tokio::test]
async fn of_two_who_acknowledge_at_once_one_does() {
    let app = App::start().await;
    for n in 0..10 {
        let lock = format!("lock-{n}");
        app.signal(&lock, AlarmType::LockFault, START_MS, What::Begin(Severity::Critical)).await;
        let path = format!("/v1/alarms/{}/ack", app.alarm_of(&lock).await);
        let (one, two) = tokio::join!(app.post(&path, json!({})), app.post(&path, json!({})));
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
    }
}

#[tokio::test]
async fn silences_are_made_listed_and_ended() {
    let app = App::start().await;
    let new = |body: Value| app.post("/v1/silences", body);
    let matchers = json!([{ "name": "type", "value": "battery_*" }]);
    let made = new(json!({ "matchers": matchers, "seconds": 3600, "comment": "<b>works</b>" })).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let made = made.json();
    assert_eq!(
        (&made["state"], &made["created_by"], &made["matchers"]),
        (&json!("active"), &json!("tester"), &matchers)
    );
    for body in [
        json!({ "matchers": [], "seconds": 1, "comment": "x" }),
        json!({ "matchers": [{ "name": "lock", "value": "x" }], "seconds": 1, "comment": "x" }),
        json!({ "matchers": [{ "name": "type", "value": "none" }], "seconds": 1, "comment": "x" }),
        json!({ "matchers": matchers, "seconds": -1, "comment": "x" }),
        json!({ "matchers": matchers, "seconds": 1, "comment": "" }),
        json!({ "matchers": matchers, "comment": "x" }),
        json!({ "matchers": matchers, "ends_at": "2020-01-01T00:00:00Z", "comment": "x" }),
        json!({ "matchers": matchers, "seconds": 1, "comment": "x", "x": 1 }),
    ] {
        assert_eq!(new(body.clone()).await.status, 400, "{body}");
    }
    let later =
        json!({ "matchers": matchers, "starts_at": "2090-01-01T00:00:00Z", "seconds": 60, "comment": "x" });
    assert_eq!(new(later).await.json()["state"], "pending");
    let path = format!("/v1/silences/{}", made["id"].as_str().unwrap());
    for _ in 0..2 {
        let ended = app.send(app.request(Method::DELETE, &path)).await;
        assert_eq!((ended.status.as_u16(), &ended.json()["state"]), (200, &json!("expired")));
    }
    assert_eq!(app.send(app.request(Method::DELETE, "/v1/silences/x")).await.status, 404);
    for (query, expected) in [
        ("", vec!["pending", "expired"]),
        ("?expired=true", vec!["expired"]),
        ("?expired=false", vec!["pending"]),
    ] {
        assert_eq!(app.get(&format!("/v1/silences{query}")).await.texts("silences", "state"), expected);
    }
    let page = app.get("/v1/silences?limit=1").await.json();
    let rest = app.get(&format!("/v1/silences?limit=1&after={}", page["next"].as_str().unwrap())).await;
    assert_eq!(
        (rest.texts("silences", "state"), &rest.json()["next"]),
        (vec!["expired".to_owned()], &json!(null))
    );
}

#[tokio::test]
async fn rules_are_shown_and_a_wrong_file_is_refused() {
    let app = App::start().await;
    let file = app.folder.path().join("rules.toml");
    assert_eq!(app.get("/v1/rules").await.json()["lock_fault"]["severity"], "critical");
    std::fs::write(&file, "[lock_fault]\nseverity = \"minor\"").unwrap();
    assert_eq!(app.poke("/v1/rules/reload?x=1").await.status, 400);
    assert_eq!(app.get("/v1/rules").await.json()["lock_fault"]["severity"], "critical");
    let reloaded = app.post("/v1/rules/reload", json!({})).await;
    assert_eq!(
        (reloaded.status.as_u16(), &reloaded.json()["lock_fault"]["severity"]),
        (200, &json!("minor"))
    );
    std::fs::write(&file, "[lock_fault]\nseverity = \"bad\"\n[burning]\nx = 1").unwrap();
    let refused = app.post("/v1/rules/reload", json!({})).await;
    assert_eq!(refused.status, 422);
    let detail = refused.detail();
    assert!(detail.contains("lock_fault.severity") && detail.contains("burning"), "{detail}");
    assert_eq!(app.get("/v1/rules").await.json()["lock_fault"]["severity"], "minor");
}

//! The words, before anybody is told.

use super::*;

#[tokio::test]
async fn a_message_is_shown_before_anybody_gets_it() {
    let app = App::start().await;
    let body = json!({"event_type": "battery_low", "change": "raised", "severity": "warning", "locale": "ja-JP",
        "time_zone": "Asia/Tokyo", "facts": {"client_id": "1", "lock_name": "玄関", "at_ms": 1_769_860_800_000_i64}});
    let answer = app.post("/v1/templates/preview", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let preview = answer.json();
    for name in ["subject", "text", "html", "sms"] {
        let text = preview[name].as_str().unwrap();
        assert!(text.contains("21:00"), "{name}: {text}");
    }
    assert_eq!(preview["webhook"]["type"], "battery_low");
    for (body, detail) in [
        (json!({"event_type": "x", "locale": "ja"}), "body: event_type: x is no event type"),
        (json!({"event_type": "unlocked", "locale": "fr"}), "body: locale: must be one of en, ja"),
        (
            json!({"event_type": "unlocked", "locale": "en", "time_zone": "Mars"}),
            "body: time_zone: is no IANA",
        ),
        (
            json!({"event_type": "unlocked", "locale": "en", "facts": {"x": 1}}),
            "body: facts.x: unknown field",
        ),
    ] {
        let answer = app.post("/v1/templates/preview", body).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.detail().starts_with(detail), "{}", answer.body);
    }
}

#[tokio::test]
async fn every_event_can_be_shown_in_every_language() {
    let app = App::start().await;
    let words = app.get("/v1/templates").await.json();
    let texts = |name: &str| words[name].as_array().unwrap().clone();
    assert_eq!(texts("locales"), ["en", "ja"]);
    assert!(texts("event_types").contains(&json!("unlock_failed")));
    for locale in texts("locales") {
        for event_type in texts("event_types") {
            let answer =
                app.post("/v1/templates/preview", json!({"event_type": event_type, "locale": locale})).await;
            assert_eq!(answer.status, 200, "{event_type} {locale}: {}", answer.body);
        }
    }
}

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
    assert!(preview["text"].as_str().unwrap().contains("21:00"), "{preview}");
    for name in ["subject", "text", "html", "sms"] {
        let text = preview[name].as_str().unwrap();
        assert!(text.contains("玄関"), "{name}: {text}");
    }
    let units = preview["sms"].as_str().unwrap().encode_utf16().count();
    assert_eq!(
        (&preview["sms_encoding"], &preview["sms_units"], &preview["sms_segments"]),
        (&json!("ucs2"), &json!(units), &json!(1))
    );
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
            "body: facts: x: unknown field",
        ),
        (
            json!({"event_type": "unlocked", "locale": "en", "facts": {"at_ms": "x"}}),
            "body: facts: invalid type: string",
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
    assert_eq!((&words["locales"], &words["changes"][0]), (&json!(["en", "ja"]), &json!("raised")));
    let listed = words["templates"].as_array().unwrap();
    let events: std::collections::BTreeSet<_> =
        listed.iter().map(|one| one["event_type"].as_str().unwrap()).collect();
    assert_eq!(events.len(), crate::event::EventType::all().count());
    assert!(listed.iter().all(|one| one["overridden"] == false && one["file"] != ""), "{words}");
    for locale in ["en", "ja"] {
        for event_type in &events {
            let body = json!({"event_type": event_type, "locale": locale});
            let answer = app.post("/v1/templates/preview", body).await;
            assert_eq!(answer.status, 200, "{event_type} {locale}: {}", answer.body);
            assert_eq!(answer.json()["sms_segments"], 1, "{}", answer.body);
        }
    }
}

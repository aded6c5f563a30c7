//! Silences and alerts.

use latchline_shared::alarm::{AlarmType, Change, Origin, Severity, State};
use serde_json::json;

use super::super::announce::alert;
use super::super::lifecycle::{Act, By, Raise, raise, transition};
use super::super::silence::{Matcher, Name, Refused, Silence};
use super::super::{Alarm, Event};
use super::{DAY_MS, START_MS};
use crate::signal::Place;

fn by() -> By<'static> {
    By { origin: Origin::Report, actor: "monitor", cause: json!({}), value: Some(&serde_json::Value::Null) }
}

fn raised(client_id: &str) -> (Alarm, Event) {
    let place = Place::default();
    let (alarm_type, severity) = (AlarmType::BatteryLow, Severity::Warning);
    raise(Raise { client_id, alarm_type, severity, holds: true, place: &place }, START_MS, by(), |_| None)
}

fn matcher(name: Name, value: &str) -> Matcher {
    Matcher { name, value: value.to_owned() }
}

fn silence(matchers: &[Matcher]) -> Result<Silence, Refused> {
    Silence::new(matchers.to_vec(), START_MS, START_MS + DAY_MS, "duty", "works", START_MS)
}

#[test]
fn all_matchers_match_or_the_silence_does_not() {
    let check = |matchers: &[(Name, &str)], expected: bool| {
        let matchers: Vec<Matcher> = matchers.iter().map(|(name, value)| matcher(*name, value)).collect();
        assert_eq!(silence(&matchers).unwrap().matches(&raised("lock-17").0), expected, "{matchers:?}");
    };
    check(&[(Name::ClientId, "lock-17")], true);
    check(&[(Name::ClientId, "lock-1")], false);
    check(&[(Name::ClientId, "lock-1*")], true);
    check(&[(Name::ClientId, "lock-17*")], true);
    check(&[(Name::ClientId, "lock-2*")], false);
    check(&[(Name::ClientId, "*")], true);
    check(&[(Name::ClientId, "")], false);
    check(&[(Name::Type, "battery_*")], true);
    check(&[(Name::Type, "battery_critical")], false);
    check(&[(Name::Severity, "warning")], true);
    check(&[(Name::Severity, "w*")], true);
    check(&[(Name::Severity, "minor")], false);
    check(&[(Name::ClientId, "lock-*"), (Name::Type, "battery_low"), (Name::Severity, "warning")], true);
    check(&[(Name::ClientId, "lock-*"), (Name::Type, "battery_low"), (Name::Severity, "major")], false);
}

#[test]
fn a_silence_that_makes_no_sense_is_refused() {
    let refused = |result: Result<Silence, Refused>| result.unwrap_err().to_string();
    for matchers in [
        vec![],
        vec![matcher(Name::Type, "burning")],
        vec![matcher(Name::Type, "x*")],
        vec![matcher(Name::Severity, "bad")],
        vec![matcher(Name::ClientId, "a*b")],
        vec![matcher(Name::ClientId, "*a")],
        vec![matcher(Name::ClientId, "a**")],
        vec![matcher(Name::ClientId, "a\n")],
        vec![matcher(Name::ClientId, &"x".repeat(257))],
        vec![matcher(Name::ClientId, "a"), matcher(Name::ClientId, "b")],
    ] {
        assert!(matches!(silence(&matchers), Err(Refused::Invalid(_))), "{matchers:?}");
    }
    let all = || vec![matcher(Name::ClientId, "*")];
    let make = |from_ms, to_ms, comment| Silence::new(all(), from_ms, to_ms, "duty", comment, START_MS);
    assert_eq!(refused(make(START_MS, START_MS + 1, " ")), "a silence needs a comment");
    assert!(refused(make(START_MS, START_MS, "x")).contains("after its start"));
    assert!(refused(make(START_MS, START_MS + 367 * DAY_MS, "x")).contains("366 days"));
    assert!(refused(make(START_MS - DAY_MS, START_MS, "x")).contains("in the future"));
    let silence = make(START_MS, START_MS + 1, "x").unwrap();
    assert!(silence.is_on(START_MS) && !silence.is_on(START_MS + 1) && !silence.is_on(START_MS - 1));
    let text = json!([{ "name": "type", "value": "battery_*" }]);
    let read: Vec<Matcher> = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), text);
}

#[test]
fn an_alert_fires_until_it_is_resolved() {
    let (mut alarm, event) = raised("lock-1");
    let id = alarm.id.to_string();
    let fingerprint = id.replace('-', "")[..16].to_owned();
    assert_eq!(
        alert(&alarm, &event).unwrap(),
        json!({
            "status": "firing",
            "labels": { "alertname": "battery_low", "client_id": "lock-1", "severity": "warning", "alarm_id": id },
            "annotations": {
                "summary": "battery low of lock lock-1: warning",
                "description": "raised, by monitor; came 1 times",
                "value": "null",
            },
            "startsAt": "2026-03-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": fingerprint,
        })
    );
    let mut act = |act, at_ms| {
        let event = transition(&mut alarm, act, at_ms, by(), |_| None).unwrap().unwrap();
        alert(&alarm, &event)
    };
    assert_eq!(act(Act::Acknowledge, START_MS + 1), None);
    let over = act(Act::End, START_MS + 2_000).unwrap();
    assert_eq!((&over["status"], &over["endsAt"]), (&json!("resolved"), &json!("2026-03-01T00:00:02Z")));
    assert_eq!(act(Act::Comment, START_MS + 3_000), None);
    // Somebody ends it: the other side hears of it, though no person is told.
    let (mut alarm, _) = raised("");
    let event = transition(&mut alarm, Act::Clear, START_MS + 5, by(), |_| None).unwrap().unwrap();
    assert_eq!((event.change, event.to, event.notify), (Change::Cleared, State::Closed, false));
    let end = alert(&alarm, &event).unwrap();
    assert_eq!(
        (&end["status"], &end["annotations"]["summary"]),
        (&json!("resolved"), &json!("battery low: warning"))
    );
}

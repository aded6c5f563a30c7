use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use latchline_shared::alarm::AlarmType;
use uuid::Uuid;

use super::*;
use crate::directory::recipients::Quiet;

const RULES: &str = r#"
[defaults]
only_by_name = ["locked"]
email = { enabled = true, min_severity = "info" }
sms = { enabled = true, min_severity = "major" }
webhook = { enabled = false, min_severity = "info" }
[limits]
contact_per_minute = 10
contact_burst = 20
lock_per_minute = 6
lock_burst = 6
overflow_digest_s = 300
[expiry]
email = { info_s = 3_600, warning_s = 7_200, major_s = 86_400, critical_s = 86_400 }
sms = { info_s = 1_800, warning_s = 7_200, major_s = 86_400, critical_s = 86_400 }
webhook = { info_s = 3_600, warning_s = 7_200, major_s = 86_400, critical_s = 86_400 }
"#;

const NOON: &str = "2026-07-12T12:00+09:00";
const NIGHT: &str = "2026-07-12T23:00+09:00";

#[derive(serde::Deserialize)]
struct Tables {
    defaults: Defaults,
    limits: Limits,
    expiry: Expiry,
}

fn rules() -> Rules {
    let Tables { defaults, limits, expiry } = toml::from_str(RULES).unwrap();
    Rules { defaults, limits, expiry, retention: Duration::from_secs(90 * 86_400) }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A preference of the lock, or of all; `more` is "22:00-07:00", "digest 60", "off", or nothing.
fn row(event_type: Option<EventType>, channel: Channel, min_severity: Severity, more: &str) -> Preference {
    let quiet =
        more.split_once('-').map(|(from, to)| Quiet { from: from.parse().unwrap(), to: to.parse().unwrap() });
    let digest_s = more.strip_prefix("digest ").map_or(0, |seconds| seconds.parse().unwrap());
    let (enabled, digest) = (more != "off", Duration::from_secs(digest_s));
    Preference { event_type, channel, enabled, min_severity, quiet, digest }
}

fn member(preferences: &[(&str, Preference)]) -> Member {
    let mut by_lock: HashMap<String, Vec<Preference>> = HashMap::new();
    for (client_id, preference) in preferences {
        by_lock.entry((*client_id).to_owned()).or_default().push(preference.clone());
    }
    let user = User {
        id: "taro".to_owned(),
        locale: "ja".to_owned(),
        time_zone: "Asia/Tokyo".to_owned(),
        zone: TimeZone::get("Asia/Tokyo").unwrap(),
        contacts: Vec::new(),
        preferences: by_lock,
    };
    Member { user: Arc::new(user), lock_name: String::new(), tier: 0 }
}

fn contact(channel: Channel) -> ContactRef {
    ContactRef { id: Uuid::nil(), channel, address: "taro@example.com".to_owned() }
}

fn event(event_type: EventType, severity: Severity, now: &str) -> Event<'static> {
    let is_failed_result = event_type == EventType::LockFailed;
    Event { event_type, severity, client_id: "1", level: 0, is_failed_result, at: at(now) }
}

/// In one line: what becomes of an event.
fn plan(preferences: &[(&str, Preference)], channel: Channel, event: &Event<'_>, now: &str) -> String {
    match rules().plan(event, &member(preferences), &contact(channel), at(now)) {
        Err(skip) => format!("no: {skip}"),
        Ok(Plan::Expired { .. }) => "expired".to_owned(),
        Ok(Plan::Now { overflow: None, .. }) => "now, always".to_owned(),
        Ok(Plan::Now { .. }) => "now".to_owned(),
        Ok(Plan::Later(digest)) => {
            let (_, name) = digest.name.split_once('|').unwrap();
            format!("{name} in {}", digest.due_at.as_second() - at(now).as_second())
        }
    }
}

const UNLOCKED: EventType = EventType::Unlocked;
const TAMPER: EventType = EventType::Alarm(AlarmType::Tamper);
const REPLAY: EventType = EventType::Alarm(AlarmType::SecurityReplay);

#[test]
fn without_a_choice_the_defaults_hold() {
    for (channel, event_type, severity, expected) in [
        (Channel::Email, UNLOCKED, Severity::Info, "now"),
        (Channel::Email, EventType::Locked, Severity::Info, "no: not_by_name"),
        (Channel::Email, TAMPER, Severity::Critical, "now, always"),
        (Channel::Sms, UNLOCKED, Severity::Info, "no: severity"),
        (Channel::Sms, EventType::UNLOCK_FAILED, Severity::Major, "now"),
        (Channel::Webhook, TAMPER, Severity::Critical, "no: disabled"),
    ] {
        let told = plan(&[], channel, &event(event_type, severity, NOON), NOON);
        assert_eq!(told, expected, "{channel} {event_type} {severity}");
    }
}

#[test]
fn the_row_that_says_most_holds_as_a_whole() {
    let unlocked = Some(UNLOCKED);
    let sms = |event_type, more| row(event_type, Channel::Sms, Severity::Info, more);
    let email = |event_type, more| row(event_type, Channel::Email, Severity::Info, more);
    let rows = [
        ("*", sms(None, "off")),
        ("*", sms(unlocked, "")),
        ("1", sms(None, "off")),
        ("1", sms(unlocked, "")),
    ];
    for (which, expected) in [
        (&[][..], "no: severity"),
        (&[0], "no: disabled"),
        (&[0, 1], "now"),
        (&[0, 1, 2], "no: disabled"),
        (&[0, 1, 2, 3], "now"),
    ] {
        // In whatever order they come.
        for which in [which.to_vec(), which.iter().rev().copied().collect()] {
            let rows: Vec<_> = which.iter().map(|n: &usize| rows[*n].clone()).collect();
            assert_eq!(
                plan(&rows, Channel::Sms, &event(UNLOCKED, Severity::Info, NOON), NOON),
                expected,
                "{which:?}"
            );
        }
    }
    // Of another lock, another event, another channel.
    for other in [("2", sms(None, "off")), ("1", sms(Some(TAMPER), "off")), ("1", email(None, "off"))] {
        let told =
            plan(std::slice::from_ref(&other), Channel::Sms, &event(UNLOCKED, Severity::Major, NOON), NOON);
        assert_eq!(told, "now", "{other:?}");
    }
    // Nothing of a row that says less is left, not even its quiet hours.
    let rows = [("*", sms(None, "22:00-07:00")), ("1", sms(None, ""))];
    assert_eq!(plan(&rows, Channel::Sms, &event(UNLOCKED, Severity::Info, NIGHT), NIGHT), "now");
    // What is told by name only.
    let locked = event(EventType::Locked, Severity::Info, NOON);
    for (rows, expected) in [
        (vec![("1", email(None, ""))], "no: not_by_name"),
        (vec![("*", email(Some(EventType::Locked), ""))], "now"),
        (vec![("*", email(Some(EventType::Locked), "")), ("1", email(None, ""))], "no: not_by_name"),
    ] {
        assert_eq!(plan(&rows, Channel::Email, &locked, NOON), expected, "{rows:?}");
    }
    // What concerns no lock.
    let fleet = Event { client_id: "", ..event(TAMPER, Severity::Major, NOON) };
    let rows = [("*", email(None, "off"))];
    assert_eq!(plan(&rows, Channel::Email, &fleet, NOON), "no: disabled");
}

#[test]
fn nobody_hears_of_what_is_not_escalated_to_them() {
    for (tier, level, is_told) in [(0, 0, true), (1, 0, false), (1, 1, true), (2, 1, false), (1, 3, true)] {
        let member = Member { tier, ..member(&[]) };
        let event = Event { level, ..event(TAMPER, Severity::Critical, NOON) };
        let plan = rules().plan(&event, &member, &contact(Channel::Email), at(NOON));
        assert_eq!(plan.is_ok(), is_told, "tier {tier} level {level}");
        assert!(is_told || plan == Err(Skip::Tier));
    }
}

#[test]
fn quiet_hours_hold_for_what_can_wait() {
    let quiet = [("*", row(None, Channel::Sms, Severity::Info, "22:00-07:00"))];
    let end = at("2026-07-13T07:00+09:00").as_second();
    for (event_type, severity, expected) in [
        (UNLOCKED, Severity::Info, format!("quiet|{end} in 28800")),
        (TAMPER, Severity::Minor, format!("quiet|{end} in 28800")),
        (TAMPER, Severity::Major, "now".to_owned()),
        (TAMPER, Severity::Critical, "now, always".to_owned()),
        (EventType::LockFailed, Severity::Warning, "now".to_owned()),
        (REPLAY, Severity::Warning, "now".to_owned()),
    ] {
        assert_eq!(
            plan(&quiet, Channel::Sms, &event(event_type, severity, NIGHT), NIGHT),
            expected,
            "{event_type}"
        );
        let by_day = plan(&quiet, Channel::Sms, &event(event_type, severity, NOON), NOON);
        assert!(by_day.starts_with("now"), "{event_type} {by_day}");
    }
}

#[test]
fn a_digest_has_its_window_and_leaves_quiet_hours_alone() {
    let digest = row(None, Channel::Email, Severity::Info, "digest 7200");
    let of = |preference: &Preference, event_type, severity, now| {
        plan(&[("*", preference.clone())], Channel::Email, &event(event_type, severity, now), now)
    };
    assert_eq!(of(&digest, UNLOCKED, Severity::Info, NOON), "digest in 7200");
    assert_eq!(of(&digest, TAMPER, Severity::Major, NOON), "digest|urgent in 7200");
    assert_eq!(of(&digest, TAMPER, Severity::Critical, NOON), "now, always");
    let quiet = row(None, Channel::Email, Severity::Info, "22:00-07:00").quiet;
    let both = Preference { quiet, ..digest };
    let evening = "2026-07-12T21:00+09:00";
    assert_eq!(of(&both, UNLOCKED, Severity::Info, evening), "digest|22:00:00-07:00:00 in 36000");
    assert_eq!(of(&both, UNLOCKED, Severity::Info, NOON), "digest|22:00:00-07:00:00 in 7200");
    assert_eq!(of(&both, TAMPER, Severity::Major, evening), "digest|urgent in 7200");
}

#[test]
fn what_is_too_much_waits_and_lives_from_its_digest_on() {
    let unlocked = event(UNLOCKED, Severity::Info, NOON);
    let told = rules().plan(&unlocked, &member(&[]), &contact(Channel::Email), at(NOON)).unwrap();
    let Plan::Now { expires_at, overflow: Some(overflow) } = told else { panic!("{told:?}") };
    assert_eq!(expires_at, at("2026-07-12T13:00+09:00"));
    assert_eq!((overflow.kind, overflow.due_at), (Kind::Overflow, at("2026-07-12T12:05+09:00")));
    assert_eq!(
        (overflow.name.as_str(), overflow.expires_at),
        ("00000000-0000-0000-0000-000000000000|overflow", at("2026-07-12T13:05+09:00"))
    );
    // Not in quiet hours.
    let evening = "2026-07-12T21:59+09:00";
    let quiet = member(&[("1", row(None, Channel::Email, Severity::Info, "22:00-07:00"))]);
    let unlocked = event(UNLOCKED, Severity::Info, evening);
    let told = rules().plan(&unlocked, &quiet, &contact(Channel::Email), at(evening)).unwrap();
    let Plan::Now { overflow: Some(overflow), .. } = told else { panic!("{told:?}") };
    assert_eq!(overflow.due_at, at("2026-07-13T07:00+09:00"));
}

#[test]
fn nothing_is_dragged_into_quiet_hours_by_what_has_none() {
    let evening = "2026-07-12T21:58+09:00";
    let quiet = |hours| row(Some(UNLOCKED), Channel::Email, Severity::Info, hours);
    let of = |digest_s, preference: Preference, event_type| {
        let digest = Duration::from_secs(digest_s);
        let member = member(&[("*", Preference { digest, ..preference })]);
        let event = event(event_type, Severity::Minor, evening);
        match rules().plan(&event, &member, &contact(Channel::Email), at(evening)).unwrap() {
            Plan::Later(digest) | Plan::Now { overflow: Some(digest), .. } => digest,
            plan => panic!("{plan:?}"),
        }
    };
    for digest_s in [0, 600] {
        // Of one contact: events that have quiet hours, others, and none.
        let silent = of(digest_s, quiet("22:00-07:00"), UNLOCKED);
        let other = of(digest_s, quiet("23:00-06:00"), UNLOCKED);
        let loud = of(digest_s, row(None, Channel::Email, Severity::Info, ""), TAMPER);
        assert_eq!(silent.due_at, at("2026-07-13T07:00+09:00"));
        for due in [&other, &loud] {
            assert!(due.due_at < at("2026-07-12T22:09+09:00"), "{due:?}");
            assert_ne!(due.name, silent.name, "what is due first is told with all of its name");
        }
        assert_ne!(other.name, loud.name);
    }
}

#[test]
fn what_is_too_late_is_not_told() {
    let far = "2027-07-12T12:00+09:00";
    for (channel, severity, then, expected) in [
        (Channel::Email, Severity::Info, "2026-07-12T12:59:59+09:00", "now"),
        (Channel::Email, Severity::Info, "2026-07-12T13:00+09:00", "expired"),
        (Channel::Email, Severity::Minor, "2026-07-12T13:59:59+09:00", "now"),
        (Channel::Email, Severity::Warning, "2026-07-12T14:00+09:00", "expired"),
        (Channel::Sms, Severity::Major, "2026-07-13T11:59:59+09:00", "now"),
        (Channel::Sms, Severity::Critical, "2026-07-13T12:00+09:00", "expired"),
        (Channel::Email, Severity::Critical, far, "no: too_old"),
        (Channel::Email, Severity::Info, "2026-10-10T11:59:59+09:00", "expired"),
        (Channel::Email, Severity::Info, "2026-10-10T12:00+09:00", "no: too_old"),
    ] {
        let told = plan(&[], channel, &event(TAMPER, severity, NOON), then);
        let told = told.trim_end_matches(", always");
        assert_eq!(told, expected, "{channel} {severity} at {then}");
    }
    // What was told to be told in the morning still makes sense in the morning.
    let quiet = member(&[("1", row(None, Channel::Email, Severity::Info, "22:00-07:00"))]);
    let told =
        rules().plan(&event(UNLOCKED, Severity::Info, NIGHT), &quiet, &contact(Channel::Email), at(NIGHT));
    let Ok(Plan::Later(digest)) = told else { panic!("{told:?}") };
    assert_eq!(digest.expires_at, at("2026-07-13T08:00+09:00"));
}

#[test]
fn settings_that_cannot_work_are_named() {
    use latchline_shared::kit::config::Validate;
    let problems = |text: &str| {
        let Tables { limits, expiry, .. } = toml::from_str(text).unwrap();
        let mut problems = Vec::new();
        limits.problems(&mut problems);
        expiry.problems(&mut problems);
        problems
    };
    assert_eq!(problems(RULES), [""; 0]);
    for (key, expected) in [
        ("contact_burst = 20", "limits.contact_burst: must not be 0"),
        ("overflow_digest_s = 300", "limits.overflow_digest_s: must be from 1 to 2678400"),
        ("email = { enabled = true, min_severity = \"info\" }", ""),
    ] {
        let (name, _) = key.split_once(" = ").unwrap();
        let text = if expected.is_empty() {
            RULES.replace("warning_s = 7_200", "warning_s = 0")
        } else {
            RULES.replace(key, &format!("{name} = 0"))
        };
        let found = problems(&text);
        if expected.is_empty() {
            assert_eq!(found.len(), 3, "{found:?}");
        } else {
            assert_eq!(found, [expected]);
        }
    }
}

//! Made-up facts: templates are tried with them before they are needed, and previewed.

use latchline_shared::alarm::{AlarmType, Change};
use serde_json::{Value, json};

use crate::event::{DigestItem, EventType, Facts, Severity};

/// 2026-07-11T23:15:00Z.
const AT_MS: i64 = 1_783_811_700_000;
const MINUTE_MS: i64 = 60_000;

/// Changes of which users are told.
pub const CHANGES: [Change; 6] = [
    Change::Raised,
    Change::Repeated,
    Change::Worsened,
    Change::ReturnedToNormal,
    Change::Escalated,
    Change::Announced,
];

/// Facts as they are likely to be. `unlock_failed` without a change is a result.
pub(super) fn facts(event: EventType, change: Option<Change>) -> Facts {
    let lock = Facts {
        client_id: "10083618796833171".to_owned(),
        lock_name: "玄関".to_owned(),
        at_ms: AT_MS,
        ..Facts::default()
    };
    match event {
        EventType::Unlocked => result(lock, "unlock", "ok", "unlocked"),
        EventType::Locked => result(lock, "lock", "ok", "locked"),
        EventType::LockFailed => Facts { error: Some(104), ..result(lock, "lock", "denied", "unlocked") },
        EventType::UNLOCK_FAILED if change.is_none() => {
            Facts { error: Some(100), ..result(lock, "unlock", "denied", "locked") }
        }
        EventType::Alarm(alarm) => raised(lock, alarm, change.unwrap_or(Change::Raised)),
        EventType::Digest => digest(),
        EventType::Verification => {
            Facts { at_ms: AT_MS, code: Some("314159".to_owned()), ..Facts::default() }
        }
        EventType::Test => Facts { at_ms: AT_MS, ..Facts::default() },
    }
}

fn result(lock: Facts, action: &str, outcome: &str, state: &str) -> Facts {
    Facts {
        action: Some(action.to_owned()),
        outcome: Some(outcome.to_owned()),
        lock_state: Some(state.to_owned()),
        battery: Some(83.4),
        ..lock
    }
}

fn raised(lock: Facts, alarm: AlarmType, change: Change) -> Facts {
    let client_id =
        if alarm == AlarmType::FleetConnectivity { String::new() } else { lock.client_id.clone() };
    let lock_name = if client_id.is_empty() { String::new() } else { lock.lock_name.clone() };
    Facts {
        client_id,
        lock_name,
        change: Some(change),
        raised_at_ms: Some(AT_MS - 5 * MINUTE_MS),
        count: Some(if change == Change::Raised { 1 } else { 3 }),
        value: value(alarm),
        ..lock
    }
}

/// What the monitor says of it.
fn value(alarm: AlarmType) -> Value {
    match alarm {
        AlarmType::BatteryLow => json!({ "battery": 18.5 }),
        AlarmType::BatteryCritical => json!({ "battery": 7.0 }),
        AlarmType::BatteryForecast => json!({ "battery": 31.2, "days": 9.5, "percent_per_day": 2.25 }),
        AlarmType::BatteryDrop => json!({ "battery": 52.0, "fell": 21.3 }),
        AlarmType::LockFault => json!({ "lock_state": "fault", "lock_state_raw": 2 }),
        AlarmType::NotFullyLocked => json!({ "lock_state": "not_fully_locked", "lock_state_raw": 5 }),
        AlarmType::StuckMoving => json!({ "lock_state": "locking", "lock_state_raw": 7 }),
        AlarmType::LeftUnlocked => json!({ "lock_state": "unlocked", "lock_state_raw": 1 }),
        AlarmType::StateUnknown => json!({ "lock_state": "unknown", "lock_state_raw": 77 }),
        AlarmType::DoorForced | AlarmType::DoorAjar => json!({ "door_state": 3, "alarm": null }),
        AlarmType::Tamper | AlarmType::WrongCodeLimit => json!({ "door_state": 1, "alarm": 5 }),
        AlarmType::UnlockFailed => {
            json!({ "process_id": "7802441525528958", "action": "unlock", "result": "denied", "error": 101 })
        }
        AlarmType::CommandNoResult => json!({ "process_id": "7802441525528958", "action": "unlock" }),
        AlarmType::DeviceOffline => json!({ "last_report_at": AT_MS - 15 * MINUTE_MS }),
        AlarmType::DeviceFlapping => json!({ "online": true, "since": AT_MS - MINUTE_MS }),
        AlarmType::FleetConnectivity => {
            json!({ "locks": 1_000, "offline": 420, "lost": 390, "silent_lanes": 0 })
        }
        AlarmType::InvalidReport => json!({ "flaws": ["battery"] }),
        _ => json!({
            "kind": "command", "verdict": "bad_signature", "findings": ["bad_signature"],
            "process_id": "7802441525528958", "action": "unlock", "publisher": "somebody",
            "receiver": "10083618796833171", "username": "", "reason": null, "chain_id": 3, "seq": 1_234,
        }),
    }
}

fn digest() -> Facts {
    let item =
        |event_type, severity, change| DigestItem { event_type, severity, facts: facts(event_type, change) };
    let battery = EventType::Alarm(AlarmType::BatteryLow);
    let items = vec![
        item(EventType::Unlocked, Severity::Info, None),
        item(EventType::UNLOCK_FAILED, Severity::Major, None),
        item(battery, Severity::Warning, Some(Change::Raised)),
    ];
    Facts { at_ms: AT_MS, items, more: 5, ..Facts::default() }
}

/// Facts that take as much room as facts can.
pub(super) fn longest(event: EventType, change: Option<Change>) -> Vec<Facts> {
    let base = widened(facts(event, change));
    let named = Facts { lock_name: "Wide W ".repeat(40), ..base.clone() };
    let mut all = vec![base.clone(), named];
    if base.outcome.as_deref() == Some("denied") {
        for error in [0, 1, 2, 3, 4, 100, 101, 102, 103, 104, 99_999, i64::MIN] {
            all.push(Facts { error: Some(error), ..base.clone() });
        }
        all.push(Facts { error: None, ..base });
    }
    if event == EventType::Digest {
        let every = EventType::choices().flat_map(|event| {
            let is_alarm = matches!(event, EventType::Alarm(_));
            let changes = CHANGES.iter().map(|change| Some(*change)).filter(move |_| is_alarm);
            changes.chain((!is_alarm).then_some(None)).map(move |change| (event, change))
        });
        let item = |(event_type, change)| DigestItem {
            event_type,
            severity: Severity::Major,
            facts: widened(facts(event_type, change)),
        };
        all.extend(every.map(|one| Facts {
            at_ms: AT_MS,
            items: vec![item(one)],
            more: usize::MAX,
            ..Facts::default()
        }));
    }
    all
}

/// With the longest id and numbers, in the month and on the day with the longest names. No name: then the
/// id, which can only be shown in part.
fn widened(facts: Facts) -> Facts {
    Facts {
        client_id: if facts.client_id.is_empty() { String::new() } else { "9".repeat(255) },
        lock_name: String::new(),
        at_ms: AT_MS + 12 * 24 * 60 * MINUTE_MS,
        battery: facts.battery.map(|_| 100.0),
        count: facts.count.map(|_| i32::MAX),
        ..facts
    }
}

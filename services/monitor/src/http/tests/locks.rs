//! Locks, what is pending, batteries, the fleet.

use latchline_shared::alarm::Severity;

use super::*;
use crate::lock::memory::{Memory, Since};

impl App {
    async fn lock(&self, client_id: &str, state: &str, battery: f32, is_online: bool, memory: &Memory) {
        let is_pending = *memory != Memory::default();
        let insert = "insert into lock_current (client_id, partition, lock_state, lock_state_raw, since, battery, \
             battery_at, version, last_report_at, last_offset, online, online_since, pending_at, memory) \
             values ($1, 3, $2, 1, to_timestamp($3), $4, to_timestamp($3), '1.10', to_timestamp($3), 77, $5, \
             to_timestamp($3), case when $6 then to_timestamp($3) end, $7)";
        let start = START_MS as f64 / 1000.0;
        let memory = serde_json::to_value(memory).unwrap();
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [&client_id, &state, &start, &battery, &is_online, &is_pending, &memory];
        self.owner.get().await.unwrap().execute(insert, &values).await.unwrap();
    }
}

fn open() -> Memory {
    Memory { open: Since::at(START_MS), ..Memory::default() }
}

#[tokio::test]
async fn locks_are_found_by_what_they_are() {
    let app = App::start().await;
    app.lock("a", "locked", 83.4, true, &Memory::default()).await;
    app.lock("b", "unlocked", 19.9, true, &open()).await;
    app.lock("c", "fault", 33.3, false, &Memory::default()).await;
    app.lock("d", "locked", 20.0, true, &Memory::default()).await;
    for (query, expected) in [
        ("", "abcd"),
        ("state=locked", "ad"),
        ("online=false", "c"),
        ("online=true", "abd"),
        ("battery_below=20", "b"),
        ("battery_below=33.3", "bd"),
        ("battery_below=33.4&online=true", "bd"),
        ("pending=true", "b"),
        ("pending=false", "acd"),
        ("state=locked&battery_below=50", "d"),
        ("limit=2", "ab"),
    ] {
        let answer = app.get(&format!("/v1/locks?{query}")).await;
        assert_eq!(answer.texts("locks", "client_id").concat(), expected, "{query}");
    }
    let next = app.get("/v1/locks?limit=2").await.json()["next"].as_str().unwrap().to_owned();
    let rest = app.get(&format!("/v1/locks?limit=2&after={next}")).await;
    assert_eq!(
        (rest.texts("locks", "client_id").concat(), &rest.json()["next"]),
        ("cd".to_owned(), &json!(null))
    );
    for query in ["battery_below=101", "battery_below=NaN", "state=burning", "online=1", "x=1"] {
        assert_eq!(app.ask(&format!("/v1/locks?{query}")).await.status, 400, "{query}");
    }
}

/// A page ends with what it has looked at, and the next goes on.
#[tokio::test]
async fn a_rare_lock_is_found_among_many() {
    let app = App::start().await;
    app.execute(
        "insert into lock_current (client_id, partition, lock_state, since, battery, last_report_at, last_offset, \
             online, online_since, memory) \
         select lpad(n::text, 6, '0'), 0, 'locked', now(), case n when 30000 then 5 else 90 end, now(), n, true, \
             now(), '{}' from generate_series(1, 45000) n",
    )
    .await;
    let mut after = String::new();
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        let page = app.get(&format!("/v1/locks?battery_below=10{after}")).await;
        found.extend(page.texts("locks", "client_id"));
        pages += 1;
        let Some(next) = page.json()["next"].as_str().map(str::to_owned) else { break };
        after = format!("&after={next}");
    }
    assert_eq!((found, pages), (vec!["030000".to_owned()], 5));
}

#[tokio::test]
async fn a_lock_shows_what_is_wrong_and_what_will_be() {
    let app = App::start().await;
    app.lock("b", "unlocked", 19.9, true, &open()).await;
    app.signal("b", AlarmType::BatteryLow, START_MS, What::Begin(Severity::Warning)).await;
    let lock = app.get("/v1/locks/b").await;
    assert_eq!(lock.texts("alarms", "type"), ["battery_low"]);
    let pending = json!([{
        "client_id": "b", "type": "left_unlocked", "severity": "warning", "state": "pending",
        "since": "2026-01-31T12:00:00.000Z", "due_at": "2026-01-31T12:10:00.000Z",
    }]);
    assert_eq!(lock.json()["pending"], pending);
    for (name, expected) in [
        ("battery", json!(19.9)),
        ("version", json!("1.10")),
        ("lock_state_raw", json!(1)),
        ("online", json!(true)),
    ] {
        assert_eq!(lock.json()[name], expected, "{name}");
    }
    for query in ["", "&client_id=b", "&limit=1"] {
        assert_eq!(
            app.get(&format!("/v1/alarms?state=pending{query}")).await.json()["pending"],
            pending,
            "{query}"
        );
    }
    assert_eq!(app.get("/v1/alarms?state=pending&client_id=c").await.json()["pending"], json!([]));
    assert_eq!(app.ask("/v1/locks/nobody").await.status, 404);
}

#[tokio::test]
async fn a_battery_has_a_history() {
    let app = App::start().await;
    app.lock("b", "locked", 80.0, true, &Memory::default()).await;
    app.execute(
        "insert into battery_day (client_id, day, hours) values \
             ('b', '2026-01-30', array_fill(null::smallint, array[23]) || 812::smallint), \
             ('b', '2026-01-31', 811::smallint || array_fill(null::smallint, array[23]))",
    )
    .await;
    let answer =
        app.get("/v1/locks/b/battery?from=2026-01-30T00:00:00Z&to=2026-02-01T00:00:00Z").await.json();
    let hours = json!([
        { "at": "2026-01-30T23:00:00.000Z", "percent": 81.2 },
        { "at": "2026-01-31T00:00:00.000Z", "percent": 81.1 },
    ]);
    assert_eq!((&answer["hours"], &answer["battery"]), (&hours, &json!(80.0)));
    for (query, status) in [
        ("", 200),
        ("from=2026-01-01T00:00:00Z&to=2026-04-01T00:00:00Z", 200),
        ("from=2026-01-01T00:00:00Z&to=2026-04-01T00:00:01Z", 400),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 400),
        ("from=yesterday", 400),
    ] {
        assert_eq!(app.ask(&format!("/v1/locks/b/battery?{query}")).await.status, status, "{query}");
    }
    assert_eq!(app.ask("/v1/locks/nobody/battery").await.status, 404);
}

#[tokio::test]
async fn the_fleet_is_the_sum_of_its_lanes() {
    let app = App::start().await;
    app.execute(
        "insert into lane (partition, version, evaluated_at, locks, offline, lost) \
         values (0, 1, now(), 10, 2, 1), (1, 1, now(), 5, 1, 0)",
    )
    .await;
    let fleet = app.get("/v1/fleet").await.json();
    assert_eq!((&fleet["locks"], &fleet["offline"], &fleet["lost"]), (&json!(15), &json!(3), &json!(1)));
    assert_eq!((&fleet["alarm_open"], fleet["lanes"].as_array().unwrap().len()), (&json!(false), 2));
    app.signal("", AlarmType::FleetConnectivity, START_MS, What::Begin(Severity::Critical)).await;
    let fleet = app.get("/v1/fleet").await.json();
    let alarm = app.get("/v1/alarms?type=fleet_connectivity").await;
    assert_eq!(
        (&fleet["alarm_open"], fleet["alarm_id"].as_str().unwrap()),
        (&json!(true), &*alarm.texts("alarms", "id")[0])
    );
    assert!(alarm.json()["alarms"][0].get("client_id").is_none());
}

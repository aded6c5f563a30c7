//! Filters, pages and cursors.

use latchline_shared::alarm::Severity;

use super::*;

#[tokio::test]
async fn every_filter_finds_what_it_names() {
    let app = App::start().await;
    app.signal("a", AlarmType::BatteryLow, START_MS, What::Begin(Severity::Warning)).await;
    app.signal("b", AlarmType::LockFault, START_MS + 1000, What::Begin(Severity::Critical)).await;
    app.signal("c", AlarmType::LeftUnlocked, START_MS + 2000, What::Begin(Severity::Major)).await;
    app.signal("c", AlarmType::LeftUnlocked, START_MS + 3000, What::End).await;
    app.signal("d", AlarmType::NotFullyLocked, START_MS + 3000, What::Begin(Severity::Major)).await;
    let done = app.post(&format!("/v1/alarms/{}/clear", app.alarm_of("d").await), json!({})).await;
    assert_eq!(done.json()["state"], "closed");
    for (query, expected) in [
        ("", "dcba"),
        ("order=asc", "abcd"),
        ("order=desc&limit=2", "dc"),
        ("state=active", "ba"),
        ("state=cleared", "c"),
        ("state=closed", "d"),
        ("state=acknowledged", ""),
        ("open=true", "cba"),
        ("open=false", "d"),
        ("open=false&state=active", ""),
        ("severity=major", "dc"),
        ("min_severity=major", "dcb"),
        ("min_severity=warning", "dcba"),
        ("type=lock_fault", "b"),
        ("client_id=c", "c"),
        ("client_id=' or true --", ""),
        ("since=2026-01-31T12:00:01Z", "dcb"),
        ("until=2026-01-31T12:00:01Z", "a"),
        ("since=2026-01-31T12:00:01Z&until=2026-01-31T12:00:02Z", "b"),
        ("state=pending", ""),
    ] {
        let answer = app.get(&format!("/v1/alarms?{query}")).await;
        assert_eq!(answer.texts("alarms", "client_id").concat(), expected, "{query}");
    }
    for (query, problem) in [
        ("state=bad", "state: must be one of"),
        ("type=x", "type: must be one of"),
        ("x=1", "x: is no parameter"),
        ("limit=1001", "limit: must be a number"),
        ("open=yes", "open: must be one of"),
        ("client_id=%00", "client_id: holds"),
        ("state=pending&severity=major", "state: pending goes with"),
        ("since=2026-01-31T12:00:02Z&until=2026-01-31T12:00:01Z", "since: must be before"),
        ("after=x", "after: is no cursor"),
    ] {
        let answer = app.ask(&format!("/v1/alarms?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.detail().starts_with(problem), "{query}: {}", answer.detail());
    }
}

#[tokio::test]
async fn an_alarm_shows_its_history_in_pages() {
    let app = App::start().await;
    app.signal("10083618796833171", AlarmType::LockFault, START_MS, What::Begin(Severity::Critical)).await;
    let id = app.alarm_of("10083618796833171").await;
    for n in 0..4 {
        app.post(&format!("/v1/alarms/{id}/comment"), json!({ "text": format!("{n}") })).await;
    }
    let all = app.get(&format!("/v1/alarms/{id}")).await.json();
    assert_eq!(
        (&all["client_id"], &all["no"], &all["next"]),
        (&json!("10083618796833171"), &json!(5), &json!(null))
    );
    assert_eq!(all["raised_at"], "2026-01-31T12:00:00.000Z");
    let first = &all["changes"][0];
    assert_eq!(
        (&first["change"], &first["to"], &first["actor"]),
        (&json!("raised"), &json!("active"), &json!("monitor"))
    );
    assert_eq!(all["changes"][4]["actor"], "tester");
    let page = app.get(&format!("/v1/alarms/{id}?limit=2&after=2")).await;
    let numbers: Vec<_> =
        page.json()["changes"].as_array().unwrap().iter().map(|one| one["no"].clone()).collect();
    assert_eq!((numbers, &page.json()["next"]), (vec![json!(3), json!(4)], &json!(4)));
    assert_eq!(page.headers["link"], format!("</v1/alarms/{id}?limit=2&after=4>; rel=\"next\""));
    for id in ["x", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(app.ask(&format!("/v1/alarms/{id}")).await.status, 404);
    }
}

/// Many of the alarms were raised at the same time, and others are raised during the walk.
#[tokio::test]
async fn a_walk_shows_each_alarm_that_was_there_once() {
    let app = App::start().await;
    app.fill(0, 2_500).await;
    let mut next = String::new();
    let mut seen = Vec::new();
    let mut added = 2_500;
    loop {
        let page = app.get(&format!("/v1/alarms?limit=7{next}")).await;
        seen.extend(page.texts("alarms", "client_id"));
        // Newer than all, and older than all.
        app.fill(added, 3).await;
        added += 3;
        let Some(cursor) = page.json()["next"].as_str().map(str::to_owned) else { break };
        assert!(page.headers["link"].to_str().unwrap().contains(&cursor));
        next = format!("&after={cursor}");
    }
    let expected: Vec<_> = (0..2_500).map(|n| format!("lock-{n}")).collect();
    let mut sorted = seen.clone();
    sorted.sort_by_key(|id| id[5..].parse::<i64>().unwrap());
    assert_eq!(sorted, expected);
    let foreign = app.ask(&format!("/v1/alarms?limit=7&open=true{next}")).await;
    assert!(foreign.detail().contains("belongs to another filter"), "{}", foreign.body);
}

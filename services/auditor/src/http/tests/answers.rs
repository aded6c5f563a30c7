//! Processes, statistics and checkpoints.

use serde_json::json;

use super::*;
use crate::query::view::time_ms;

#[tokio::test]
async fn a_process_goes_from_its_command_to_its_result() {
    let app = App::start().await;
    let now = now_ms() - 60_000;
    let of = |client_id: &str, kind, at| Event {
        kind,
        process_id: Some("p/1 ü".to_owned()),
        ..command(client_id, at)
    };
    app.append(0, vec![of("1", Kind::Command, now), of("1", Kind::Result, now + 2000), command("1", now)])
        .await;
    app.append(1, vec![of("2", Kind::Command, now + 1000)]).await;
    let insert = "insert into auditor.process (client_id, process_id, action, nonce_str, commanded_at, \
         delivered_at, reported_at, outcome, verdict, chain_id, updated_at) values \
         ('1', 'p/1 ü', 'unlock', 'u7u4p0n8', '2019-11-26 05:00:34Z', '2019-11-26 07:00:35.845Z', \
          '2019-11-26 07:23:46.269Z', 'ok', 'stale', 0, now())";
    app.owner.get().await.unwrap().batch_execute(insert).await.unwrap();

    let path = "/v1/audit/processes/p%2F1%20%C3%BC";
    let answer = app.get(path).await.json();
    assert_eq!((&answer["process_id"], &answer["complete"]), (&json!("p/1 ü"), &json!(true)));
    let processes = answer["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 2);
    for (name, expected) in [
        ("client_id", "1"),
        ("action", "unlock"),
        ("nonce_str", "u7u4p0n8"),
        ("commanded_at", "2019-11-26T05:00:34.000Z"),
        ("delivered_at", "2019-11-26T07:00:35.845Z"),
        ("reported_at", "2019-11-26T07:23:46.269Z"),
        ("outcome", "ok"),
        ("verdict", "stale"),
    ] {
        assert_eq!(processes[0][name], expected, "{name}");
    }
    let kinds = |process: &Value| {
        let events = process["events"].as_array().unwrap();
        events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&processes[0]), ["command", "result"]);
    assert_eq!((&processes[1]["client_id"], kinds(&processes[1])), (&json!("2"), vec!["command".to_owned()]));
    let one = app.get(&format!("{path}?client_id=2")).await.json();
    assert_eq!(one["processes"].as_array().unwrap().len(), 1);

    for (path, status) in [
        ("/v1/audit/processes/unknown", 404),
        ("/v1/audit/processes/p%2F1%20%C3%BC?client_id=3", 404),
        ("/v1/audit/processes/%00", 400),
        ("/v1/audit/processes/1?limit=1", 400),
    ] {
        let answer = app.ask(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.headers["content-type"].to_str().unwrap()),
            (status, "application/problem+json"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn events_are_counted_by_what_is_asked_for() {
    let app = App::start().await;
    let hour = 3_600_000;
    let start = (now_ms() - 24 * hour).div_euclid(hour) * hour;
    let replay = Event {
        verdict: "replay".to_owned(),
        findings: vec!["unexpected_receiver".to_owned(), "process_id_reuse".to_owned()],
        severity: Severity::Critical,
        ..command("1", start + 1)
    };
    app.append(
        0,
        vec![command("1", start), command("1", start + hour - 1), replay, command("1", start + hour)],
    )
    .await;
    let span = format!("since={}&until={}", time_ms(start), time_ms(start + 2 * hour));
    let first = |counts: Value| json!({ "at": time_ms(start), "counts": counts });
    let second = |counts: Value| json!({ "at": time_ms(start + hour), "counts": counts });
    for (group_by, expected) in [
        ("verdict", json!([first(json!({ "ok": 2, "replay": 1 })), second(json!({ "ok": 1 }))])),
        ("kind", json!([first(json!({ "command": 3 })), second(json!({ "command": 1 }))])),
        ("finding", json!([first(json!({ "unexpected_receiver": 1, "process_id_reuse": 1 }))])),
        ("severity", json!([first(json!({ "info": 2, "critical": 1 })), second(json!({ "info": 1 }))])),
    ] {
        let answer = app.get(&format!("/v1/audit/stats?group_by={group_by}&{span}")).await.json();
        assert_eq!(answer["buckets"], expected, "{group_by}");
        assert_eq!(answer["since"], time_ms(start));
    }
    let by_day = app.get("/v1/audit/stats?bucket=1d").await.json();
    let days = by_day["buckets"].as_array().unwrap();
    let total: i64 = days.iter().map(|day| day["counts"]["ok"].as_i64().unwrap()).sum();
    assert!(total == 3 && days.iter().all(|day| day["at"].as_str().unwrap().ends_with("T00:00:00.000Z")));
    for (query, why) in [
        ("group_by=client_id", "group_by: must be one of verdict, kind, finding, severity"),
        ("bucket=1m", "bucket: must be one of 1h, 1d"),
        ("since=2020-01-01T00:00:00Z", "more than 1000 buckets"),
        ("since=2020-01-02T00:00:00Z&until=2020-01-01T00:00:00Z", "since: must be before until"),
        ("client_id=1", "client_id: is no parameter"),
    ] {
        let answer = app.ask(&format!("/v1/audit/stats?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.detail().contains(why)), (400, true), "{query}");
    }
    assert!(app.reads().await.is_empty(), "numbers are nobody's history");
}

#[tokio::test]
async fn checkpoints_come_newest_first() {
    let app = App::start().await;
    let insert = "insert into auditor.checkpoint (chain_id, size, chain_hash, detail_hash, note, signed_at, published_to) \
         select n % 2, n, '\\x01', '\\x02', 'note ' || n, '2026-01-01Z', '{stream}' from generate_series(1, 5) n";
    app.owner.get().await.unwrap().batch_execute(insert).await.unwrap();
    let sizes = |answer: &Answer| {
        let json = answer.json();
        let all = json["checkpoints"].as_array().unwrap();
        all.iter().map(|one| one["size"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let page = app.get("/v1/audit/checkpoints?limit=2").await;
    assert_eq!(sizes(&page), [5, 4]);
    assert_eq!(
        page.json()["checkpoints"][0],
        json!({
            "id": "5", "chain_id": 1, "size": 5, "chain_hash": "01", "detail_hash": "02", "note": "note 5",
            "signed_at": "2026-01-01T00:00:00.000Z", "published_to": ["stream"],
        })
    );
    let next = page.json()["next"].as_str().unwrap().to_owned();
    assert_eq!(sizes(&app.get(&format!("/v1/audit/checkpoints?after={next}")).await), [3, 2, 1]);
    assert_eq!(sizes(&app.get("/v1/audit/checkpoints?chain=1&limit=3").await), [5, 3, 1]);
    assert_eq!(app.ask("/v1/audit/checkpoints?chain=-1&after=x").await.status, 400);
}

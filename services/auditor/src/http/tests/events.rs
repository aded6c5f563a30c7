//! Filters, orders, pages and cursors.

use std::collections::BTreeSet;

use latchline_shared::kit::testing::{Seed, eventually};
use serde_json::json;

use super::*;

#[tokio::test]
async fn every_filter_finds_what_it_names() {
    let app = App::start().await;
    let now = now_ms() - 60_000;
    let odd = Event {
        occurred_at_ms: now + 1000,
        direction: Direction::Uplink,
        kind: Kind::Result,
        client_id: "錠 2".to_owned(),
        process_id: Some("odd&process=".to_owned()),
        action: Some("lock".to_owned()),
        publisher: Some("thief%".to_owned()),
        verdict: "failed".to_owned(),
        findings: vec!["result_mismatch".to_owned(), "identity_mismatch".to_owned()],
        severity: Severity::Critical,
        ..command("", now)
    };
    app.append(0, vec![command("1", now), odd, command("1", now + 2000)]).await;
    let (first, second, third) = ((0, 1), (0, 2), (0, 3));
    let time = |ms| crate::query::view::time_ms(ms);
    for (query, expected) in [
        ("".to_owned(), vec![third, second, first]),
        ("order=asc".to_owned(), vec![first, second, third]),
        ("order=desc&limit=2&publisher=app".to_owned(), vec![third, first]),
        ("client_id=1".to_owned(), vec![third, first]),
        ("client_id=%E9%8C%A0%202".to_owned(), vec![second]),
        ("process_id=odd%26process%3D".to_owned(), vec![second]),
        ("action=lock".to_owned(), vec![second]),
        ("kind=result".to_owned(), vec![second]),
        ("direction=uplink".to_owned(), vec![second]),
        ("verdict=failed".to_owned(), vec![second]),
        ("verdict=ok".to_owned(), vec![third, first]),
        ("finding=identity_mismatch".to_owned(), vec![second]),
        ("finding=identity".to_owned(), vec![]),
        ("publisher=thief%25".to_owned(), vec![second]),
        ("min_severity=warning".to_owned(), vec![second]),
        ("min_severity=3".to_owned(), vec![second]),
        ("min_severity=0".to_owned(), vec![third, second, first]),
        (format!("since={}", time(now + 1000)), vec![third, second]),
        (format!("until={}", time(now + 1000)), vec![first]),
        (format!("since={}&until={}", time(now + 1), time(now + 2000)), vec![second]),
        ("client_id=1&verdict=failed".to_owned(), vec![]),
        ("client_id=' or true --".to_owned(), vec![]),
    ] {
        let answer = app.get(&format!("/v1/audit/events?{query}")).await;
        assert_eq!(places(&answer), expected, "{query}");
    }
    assert_eq!(places(&app.get("/v1/audit/locks/1/timeline").await), [third, first]);
    assert_eq!(places(&app.get("/v1/audit/locks/%E9%8C%A0%202/timeline?order=asc").await), [second]);
}

#[tokio::test]
async fn an_event_shows_what_is_known() {
    let app = App::start().await;
    let at = now_ms() - 60_000;
    let event = Event {
        cmd_ts: Some(1_574_744_434),
        skew_ms: Some(-5),
        sign_bits: Some(256),
        battery: Some(83.4),
        client_id: "10083618796833171".to_owned(),
        ..command("1", at)
    };
    app.append(7, vec![event]).await;
    let answer = app.get("/v1/audit/events?raw=true&kind=command").await.json();
    let event = &answer["events"][0];
    for (name, expected) in [
        ("client_id", json!("10083618796833171")),
        ("occurred_at", json!(crate::query::view::time_ms(at))),
        ("cmd_ts", json!("2019-11-26T05:00:34.000Z")),
        ("skew_ms", json!(-5)),
        ("severity", json!("info")),
        ("kind", json!("command")),
        ("findings", json!([])),
        ("raw", json!("e30=")),
        ("place", json!({ "stream": "message_command", "partition": 0, "offset": 0 })),
    ] {
        assert_eq!(event[name], expected, "{name}");
    }
    assert!(event.get("lock_state").is_none() && event["xid"].is_string());
    assert_eq!(event["chain_hash"].as_str().unwrap().len(), 64);
    assert!(app.get("/v1/audit/events?kind=command").await.json()["events"][0].get("raw").is_none());
}

#[tokio::test]
async fn only_the_last_week_is_shown_unless_more_is_asked_for() {
    let app = App::start().await;
    let now = now_ms();
    let day = 24 * 3600 * 1000;
    app.append(0, vec![command("1", now - 8 * day), command("1", now - 6 * day)]).await;
    assert_eq!(places(&app.get("/v1/audit/events").await), [(0, 2)]);
    let until = crate::query::view::time_ms(now - 7 * day);
    assert_eq!(places(&app.get(&format!("/v1/audit/events?until={until}")).await), [(0, 1)]);
    // Other tests of this server write too, and their transactions hold ours back.
    eventually(SOON, "in the order of writing all are shown", async || {
        places(&app.get("/v1/audit/events?order=ingest").await) == [(0, 1), (0, 2)]
    })
    .await;
}

#[tokio::test]
async fn pages_of_any_size_show_every_event_once() {
    let app = App::start().await;
    let mut random = Seed::of_this_run().random("pages_of_any_size_show_every_event_once");
    // Three chains and few times, so that many events have the same time.
    let start = now_ms() - 3_600_000;
    let mut expected = Vec::new();
    for chain_id in 0..3 {
        let times: Vec<_> = (0..40).map(|_| start + 1000 * random.below(6) as i64).collect();
        app.append(chain_id, times.iter().map(|at| command("1", *at)).collect()).await;
        expected.extend((1..).zip(times).map(|(seq, at)| (at, i64::from(chain_id), seq)));
    }
    expected.sort_unstable();
    let mut expected: Vec<_> = expected.into_iter().map(|(_, chain, seq)| (chain, seq)).collect();
    for order in ["asc", "desc"] {
        for limit in [1, 2, 3, 7, 1 + random.below(130), 119, 120, 121, 1000] {
            let path = format!("/v1/audit/events?client_id=1&order={order}&limit={limit}");
            assert_eq!(app.walk(&path).await, expected, "{order} {limit}");
        }
        expected.reverse();
    }
}

#[tokio::test]
async fn a_page_links_to_the_next() {
    let app = App::start().await;
    let now = now_ms() - 60_000;
    app.append(0, vec![command("é 1", now), command("é 1", now), command("é 1", now + 1)]).await;
    let answer = app.get("/v1/audit/locks/%C3%A9%201/timeline?limit=2&verdict=ok").await;
    assert_eq!(places(&answer), [(0, 3), (0, 2)]);
    let link = answer.headers["link"].to_str().unwrap().to_owned();
    let target = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    let last = app.get(target).await;
    assert_eq!(places(&last), [(0, 1)]);
    assert!(last.headers.get("link").is_none() && last.json()["next"].is_null());
}

#[tokio::test]
async fn a_cursor_of_another_question_is_refused() {
    let app = App::start().await;
    let now = now_ms() - 60_000;
    app.append(0, vec![command("1", now), command("1", now)]).await;
    let path = "/v1/audit/events?client_id=1&kind=command&limit=1";
    let next = app.get(path).await.json()["next"].as_str().unwrap().to_owned();
    for (query, why) in [
        ("client_id=2&kind=command", "belongs to another filter"),
        ("", "belongs to another filter"),
        ("client_id=1&kind=command&verdict=ok", "belongs to another filter"),
        ("client_id=1&kind=command&order=asc", "belongs to another order"),
        ("client_id=1&kind=command&order=ingest", "belongs to another order"),
    ] {
        let answer = app.ask(&format!("/v1/audit/events?{query}&after={next}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.detail().contains(why), "{query}: {}", answer.body);
    }
    for cursor in ["x", "AAAA", &next[1..], "%FF", "'"] {
        let answer = app.ask(&format!("{path}&after={cursor}")).await;
        assert_eq!((answer.status.as_u16(), answer.detail().contains("no cursor")), (400, true), "{cursor}");
    }
    // How many rows a page has is nobody's business but the caller's.
    let answer =
        app.get(&format!("/v1/audit/events?limit=1000&raw=true&kind=command&client_id=1&after={next}")).await;
    assert_eq!(places(&answer), [(0, 1)]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_which_and_why() {
    let app = App::start().await;
    for (query, which) in [
        ("cleint_id=1", "cleint_id: is no parameter"),
        ("client_id=1&client_id=2", "client_id: is given twice"),
        ("client_id=", "client_id: is empty"),
        ("client_id=a%00b", "client_id: holds the character U+0000"),
        ("verdict=%00", "verdict: holds the character U+0000"),
        ("kind=commands", "kind: must be one of command, attempt, result"),
        ("direction=up", "direction: must be one of uplink, downlink, system"),
        ("order=newest", "order: must be one of desc, asc, ingest"),
        ("min_severity=bad", "min_severity: must be info, warning, major, critical, or 0 to 3"),
        ("since=yesterday", "since: must be a time with offset"),
        ("until=2026-01-31T12:00:00", "until: must be a time with offset"),
        ("since=2026-01-31T12:00:00+09:00", "since: must be a time with offset"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since: must be before until"),
        ("since=1969-12-31T23:59:59Z", "since: must be in the years"),
        ("limit=0", "limit: must be a number from 1 to 1000"),
        ("limit=1001", "limit: must be"),
        ("limit=ten", "limit: must be"),
        ("raw=1", "raw: must be one of true, false"),
        ("after=x", "after: is no cursor"),
        ("kind=x&limit=0", "kind: must be one of"),
        ("kind=x&limit=0", "limit: must be"),
    ] {
        let answer = app.ask(&format!("/v1/audit/events?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
        assert!(answer.detail().contains(which), "{query}: {}", answer.body);
    }
    for path in ["/v1/audit/locks/%00/timeline", "/v1/audit/locks/1/timeline?client_id=1"] {
        assert_eq!(app.ask(path).await.status, 400, "{path}");
    }
    assert_eq!(app.ask("/v1/audit/nothing").await.status, 404);
    assert!(app.reads().await.is_empty(), "what was refused is no read");
}

#[tokio::test]
async fn reads_are_history_and_pages_that_go_on_are_not_written_again() {
    let app = App::start().await;
    let now = now_ms() - 60_000;
    app.append(0, (0..5).map(|n| command("1", now + n)).collect()).await;
    let path = "/v1/audit/events?client_id=1&limit=2&verdict=ok";
    assert_eq!(app.walk(path).await.len(), 5);
    let read = |operation: &str, client_id: &str, query: &str| {
        let text = str::to_owned;
        (text("tester"), text(operation), text(client_id), text(query))
    };
    let mut expected = vec![read("events", "1", "client_id=1&verdict=ok&order=desc")];
    assert_eq!(app.reads().await, expected);

    app.get("/v1/audit/locks/1/timeline").await;
    expected.push(read("timeline", "1", "client_id=1&order=desc"));
    assert_eq!(app.reads().await, expected);

    // A cursor that somebody made up, or that continues a read of another route, hides nothing.
    let next = app.get(path).await.json()["next"].as_str().unwrap().to_owned();
    expected.push(expected[0].clone());
    app.get(&format!("/v1/audit/locks/1/timeline?verdict=ok&after={next}")).await;
    expected.push(read("timeline", "1", "client_id=1&verdict=ok&order=desc"));
    let filter = crate::query::filter::Filter { client_id: Some("1".to_owned()), ..Default::default() };
    let key = crate::query::cursor::Key { first: i64::MAX, chain_id: 0, seq: 0 };
    let forged = crate::query::cursor::Cursor { since_ms: None, read_seq: 1, key }.encode(&filter);
    let answer = app.get(&format!("/v1/audit/events?client_id=1&after={forged}")).await;
    assert!(places(&answer).is_empty());
    expected.push(read("events", "1", "client_id=1&order=desc"));
    assert_eq!(app.reads().await, expected);

    // Nor does one that goes back behind what was asked.
    let next = app.get(path).await.json()["next"].as_str().unwrap().to_owned();
    expected.push(expected[0].clone());
    let filter = crate::query::filter::Filter { verdict: Some("ok".to_owned()), ..filter };
    let cursor = crate::query::cursor::Cursor::decode(&next, &filter).unwrap();
    let forged = crate::query::cursor::Cursor { since_ms: Some(0), ..cursor }.encode(&filter);
    app.get(&format!("{path}&after={next}")).await;
    assert_eq!(app.reads().await, expected);
    app.get(&format!("{path}&after={forged}")).await;
    expected.push(expected[0].clone());
    assert_eq!(app.reads().await, expected);

    let shown = app.get("/v1/audit/events?kind=read&publisher=tester&client_id=1").await.json();
    let events = shown["events"].as_array().unwrap();
    assert_eq!(events.len(), expected.len() + 1, "a read sees itself");
    let kinds: BTreeSet<_> = events.iter().map(|event| event["direction"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["system"]));
}

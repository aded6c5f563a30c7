//! A part of a chain is verified, and what was done to it is found.

use super::*;

async fn outcome(app: &App, query: &str) -> (bool, i64, Option<(i64, String)>) {
    let json = app.get(&format!("/v1/audit/verify?{query}")).await.json();
    let problem = json
        .get("problem")
        .map(|problem| (problem["seq"].as_i64().unwrap(), problem["kind"].as_str().unwrap().to_owned()));
    (json["intact"].as_bool().unwrap(), json["rows"].as_i64().unwrap(), problem)
}

#[tokio::test]
async fn a_chain_that_nobody_touched_is_intact_in_every_part() {
    let app = App::start_within(Limits { verify_rows_max: 700, ..limits() }).await;
    for _ in 0..3 {
        app.append(0, (0..300).map(|n| command("1", now_ms() - n)).collect()).await;
    }
    for (query, rows) in [
        ("chain=0", 700),
        ("chain=0&from=1&to=1", 1),
        ("chain=0&from=201", 700),
        ("chain=0&from=500&to=600", 101),
        ("chain=0&from=900&to=900", 1),
        ("chain=0&from=901", 0),
        ("chain=5", 0),
    ] {
        assert_eq!(outcome(&app, query).await, (true, rows, None), "{query}");
    }
    for query in ["", "chain=x", "chain=0&from=0", "chain=0&from=5&to=4", "chain=0&to=701", "chain=0&x=1"] {
        assert_eq!(app.ask(&format!("/v1/audit/verify?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn what_was_changed_is_named() {
    for (damage, seq, kind) in [
        ("update auditor.event set client_id = '2' where seq = 5", 5, "leaf"),
        ("update auditor.event set reason = 'x' where seq = 5", 5, "detail"),
        ("update auditor.event set raw = 'x' where seq = 5", 5, "raw"),
        ("update auditor.event set kind = 'x' where seq = 5", 5, "unreadable"),
        ("delete from auditor.event where seq = 5", 5, "missing"),
        ("delete from auditor.event where seq > 5", 5, "head"),
        ("update auditor.event set seq = 15 - seq where seq in (5, 10)", 5, "leaf"),
    ] {
        let app = App::start().await;
        app.append(0, (0..10).map(|n| command("1", now_ms() - n)).collect()).await;
        app.owner.get().await.unwrap().batch_execute(damage).await.unwrap();
        let (intact, _, problem) = outcome(&app, "chain=0").await;
        assert_eq!((intact, problem), (false, Some((seq, kind.to_owned()))), "{damage}");
    }
}

#[tokio::test]
async fn what_was_archived_is_stepped_over() {
    let app = App::start().await;
    app.append(0, (0..10).map(|n| command("1", now_ms() - n)).collect()).await;
    let owner = app.owner.get().await.unwrap();
    let archive = "insert into auditor.archived_run \
         select '2020-01-01', 0, 1, 4, chain_hash, detail_hash, 'file', '\\x00' from auditor.event \
         where chain_id = 0 and seq = 4; delete from auditor.event where seq <= 4";
    owner.batch_execute(archive).await.unwrap();
    for (query, rows) in [("chain=0", 6), ("chain=0&from=3", 6), ("chain=0&from=5", 6), ("chain=0&from=7", 4)]
    {
        assert_eq!(outcome(&app, query).await, (true, rows, None), "{query}");
    }
    owner.batch_execute("delete from auditor.event where chain_id = 0 and seq = 5").await.unwrap();
    assert_eq!(outcome(&app, "chain=0").await, (false, 0, Some((5, "missing".to_owned()))));
}

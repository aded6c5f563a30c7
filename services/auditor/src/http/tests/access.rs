//! Who may ask what, and what an answer gives away.

use latchline_shared::kit::testing::eventually;

use super::*;

#[tokio::test]
async fn each_route_needs_its_scope() {
    let routes = [
        ("GET", "/v1/audit/events", "read"),
        ("GET", "/v1/audit/locks/1/timeline", "read"),
        ("GET", "/v1/audit/processes/1", "read"),
        ("GET", "/v1/audit/stats", "read"),
        ("GET", "/v1/audit/checkpoints", "read"),
        ("GET", "/v1/audit/stream?limit=1", "read"),
        ("GET", "/v1/audit/export", "export"),
        ("GET", "/v1/audit/verify?chain=0", "admin"),
    ];
    App::start().await.assert_scopes(&routes).await;
}

#[tokio::test]
async fn answers_are_not_kept_nor_interpreted() {
    let app = App::start().await;
    for path in ["/v1/audit/events", "/v1/audit/events?x=1", "/nowhere"] {
        app.assert_inert(path).await;
    }
}

#[tokio::test]
async fn a_query_that_takes_too_long_ends_and_says_so() {
    let app = App::start_within(Limits { query_timeout: Duration::from_millis(200), ..limits() }).await;
    // Somebody holds the table, so that no reader gets in.
    let mut client = app.owner.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("lock table auditor.checkpoint in access exclusive mode").await.unwrap();
    let answer = app.ask("/v1/audit/checkpoints").await;
    assert_eq!(answer.status, 503);
    assert!(answer.detail().starts_with("the query takes too long"));
    transaction.rollback().await.unwrap();
    app.get("/v1/audit/checkpoints").await;
}

#[tokio::test]
async fn nothing_that_postgres_says_gets_out() {
    let app = App::start().await;
    app.append(0, vec![command("1", now_ms())]).await;
    let owner = app.owner.get().await.unwrap();
    for (damage, repair, path) in [
        (
            "alter table auditor.checkpoint rename to secret",
            "alter table auditor.secret rename to checkpoint",
            "/v1/audit/checkpoints",
        ),
        (
            "revoke insert on auditor.event from latchline_auditor",
            "grant insert on auditor.event to latchline_auditor",
            "/v1/audit/events",
        ),
    ] {
        owner.batch_execute(damage).await.unwrap();
        let answer = app.ask(path).await;
        assert_eq!(answer.status, 500, "{path}");
        assert_eq!(answer.json(), serde_json::json!({ "status": 500, "title": "Internal Server Error" }));
        owner.batch_execute(repair).await.unwrap();
        eventually(SOON, "it works again", async || app.ask(path).await.status == 200).await;
    }
    owner.batch_execute("update auditor.event set kind = 'changed' where chain_id = 0").await.unwrap();
    let answer = app.ask("/v1/audit/events").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.detail(), "row 1 of chain 0 is not what was written");
}

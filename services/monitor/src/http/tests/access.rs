//! Who may ask what, and what an answer gives away.

use super::*;

#[tokio::test]
async fn each_route_needs_its_scope() {
    let routes = [
        ("GET", "/v1/alarms", "read"),
        ("GET", "/v1/alarms/x", "read"),
        ("GET", "/v1/alarms/stream?x=1", "read"),
        ("GET", "/v1/silences", "read"),
        ("GET", "/v1/rules", "read"),
        ("GET", "/v1/locks", "read"),
        ("GET", "/v1/locks/1", "read"),
        ("GET", "/v1/locks/1/battery", "read"),
        ("GET", "/v1/fleet", "read"),
        ("POST", "/v1/alarms/x/ack", "operate"),
        ("POST", "/v1/alarms/x/unack", "operate"),
        ("POST", "/v1/alarms/x/shelve", "operate"),
        ("POST", "/v1/alarms/x/unshelve", "operate"),
        ("POST", "/v1/alarms/x/clear", "operate"),
        ("POST", "/v1/alarms/x/comment", "operate"),
        ("POST", "/v1/silences", "operate"),
        ("DELETE", "/v1/silences/x", "operate"),
        ("POST", "/v1/rules/reload", "admin"),
    ];
    App::start().await.assert_scopes(&routes).await;
}

#[tokio::test]
async fn what_locks_and_people_write_is_inert() {
    let app = App::start().await;
    let script = "<script>alert(1)</script>";
    app.signal(script, AlarmType::LockFault, START_MS, What::Begin(latchline_shared::alarm::Severity::Major))
        .await;
    let id = app.get("/v1/alarms").await.texts("alarms", "id").remove(0);
    let commented = app.post(&format!("/v1/alarms/{id}/comment"), json!({ "text": script })).await;
    assert_eq!(commented.status, 200, "{}", commented.body);
    for path in ["/v1/alarms", &format!("/v1/alarms/{id}"), "/v1/alarms?x=<script>", "/nowhere"] {
        app.assert_inert(path).await;
    }
    let shown = app.get(&format!("/v1/alarms/{id}")).await.json();
    assert_eq!(
        (&shown["client_id"], &shown["changes"][1]["cause"]["comment"]),
        (&json!(script), &json!(script))
    );
}

#[tokio::test]
async fn a_query_that_takes_too_long_ends_and_says_so() {
    let app = App::start_within(Limits { query_timeout: Duration::from_millis(200), ..limits() }).await;
    let mut client = app.owner.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("lock table lane in access exclusive mode").await.unwrap();
    let answer = app.ask("/v1/fleet").await;
    assert_eq!(answer.status, 503);
    assert!(answer.detail().starts_with("the query takes too long"));
    transaction.rollback().await.unwrap();
    assert_eq!(app.get("/v1/fleet").await.json()["alarm_open"], false);
}

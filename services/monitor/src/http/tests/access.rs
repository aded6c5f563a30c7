//! Who may ask what, and what an answer gives away.

use super::*;

#[tokio::test]
async fn each_route_needs_its_scope() {
    let app = App::start().await;
    let mut lines = String::new();
    let secrets: Vec<_> = SCOPES
        .iter()
        .map(|scope| {
            let token = tokens::generate(scope, scope, SCOPES).unwrap();
            lines += &format!("{}\n", token.line);
            (*scope, token.secret)
        })
        .collect();
    std::fs::write(app.folder.path().join("tokens"), lines).unwrap();
    assert_eq!(app.tokens.reload().unwrap(), 3);

    for (method, path, needed) in [
        (Method::GET, "/v1/alarms", "read"),
        (Method::GET, "/v1/alarms/x", "read"),
        (Method::GET, "/v1/alarms/stream?x=1", "read"),
        (Method::GET, "/v1/silences", "read"),
        (Method::GET, "/v1/rules", "read"),
        (Method::GET, "/v1/locks", "read"),
        (Method::GET, "/v1/locks/1", "read"),
        (Method::GET, "/v1/locks/1/battery", "read"),
        (Method::GET, "/v1/fleet", "read"),
        (Method::POST, "/v1/alarms/x/ack", "operate"),
        (Method::POST, "/v1/alarms/x/unack", "operate"),
        (Method::POST, "/v1/alarms/x/shelve", "operate"),
        (Method::POST, "/v1/alarms/x/unshelve", "operate"),
        (Method::POST, "/v1/alarms/x/clear", "operate"),
        (Method::POST, "/v1/alarms/x/comment", "operate"),
        (Method::POST, "/v1/silences", "operate"),
        (Method::DELETE, "/v1/silences/x", "operate"),
        (Method::POST, "/v1/rules/reload", "admin"),
    ] {
        let request = || app.client.request(method.clone(), format!("{}{path}", app.base));
        for request in [request(), request().bearer_auth(&app.secret)] {
            let answer = app.send(request).await;
            assert_eq!(answer.status, 401, "{path}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            assert!(answer.detail().contains("bearer token"));
        }
        for (scope, secret) in &secrets {
            let answer = app.send(request().bearer_auth(secret)).await;
            assert_eq!(answer.status == 403, *scope != needed, "{method} {path} {scope}: {}", answer.status);
        }
    }
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
        let answer = app.ask(path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.headers[name], value, "{path}");
        }
        assert!(answer.headers["content-type"].to_str().unwrap().ends_with("json"), "{path}");
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

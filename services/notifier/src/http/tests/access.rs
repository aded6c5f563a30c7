//! Who may ask what, and what an answer gives away.

use super::*;

const ROUTES: [(&str, &str, &str); 22] = [
    ("GET", "/v1/notifications", "read"),
    ("GET", "/v1/notifications/x", "read"),
    ("GET", "/v1/providers", "read"),
    ("GET", "/v1/templates", "read"),
    ("POST", "/v1/templates/preview", "read"),
    ("POST", "/v1/notifications/x/retry", "operate"),
    ("POST", "/v1/notifications/test", "operate"),
    ("GET", "/v1/users", "admin"),
    ("GET", "/v1/users/x", "admin"),
    ("PUT", "/v1/users/x", "admin"),
    ("DELETE", "/v1/users/x", "admin"),
    ("GET", "/v1/users/x/contacts", "admin"),
    ("POST", "/v1/users/x/contacts", "admin"),
    ("DELETE", "/v1/users/x/contacts/x", "admin"),
    ("POST", "/v1/users/x/contacts/x/verify", "admin"),
    ("POST", "/v1/users/x/contacts/x/code", "admin"),
    ("GET", "/v1/users/x/preferences", "admin"),
    ("PUT", "/v1/users/x/preferences", "admin"),
    ("GET", "/v1/users/x/locks", "admin"),
    ("GET", "/v1/locks/x/members", "admin"),
    ("PUT", "/v1/locks/x/members/x", "admin"),
    ("DELETE", "/v1/locks/x/members/x", "admin"),
];

#[tokio::test]
async fn each_route_needs_its_scope() {
    App::start().await.assert_scopes(&ROUTES).await;
}

#[tokio::test]
async fn every_route_is_in_the_table_of_this_test() {
    let mut paths = crate::http::openapi::description().paths.paths;
    // No tokens there.
    paths.remove(crate::http::openapi::REPORTS);
    let operations = |item: &utoipa::openapi::PathItem| {
        [&item.get, &item.put, &item.post, &item.delete]
            .iter()
            .filter(|operation| operation.is_some())
            .count()
    };
    assert_eq!(paths.values().map(operations).sum::<usize>(), ROUTES.len());
}

#[tokio::test]
async fn what_strangers_write_is_inert() {
    let app = App::start().await;
    let script = "<script>alert(1)</script>";
    app.user("taro").await;
    app.put("/v1/locks/%3Cscript%3E/members/taro", json!({"lock_name": script})).await;
    for path in ["/v1/users/taro/locks", "/v1/notifications?x=<script>", "/v1/users/%3Cscript%3E", "/nowhere"]
    {
        app.assert_inert(path).await;
    }
    let member = &app.get("/v1/users/taro/locks").await.json()["members"][0];
    assert_eq!((&member["client_id"], &member["lock_name"]), (&json!("<script>"), &json!(script)));
}

#[tokio::test]
async fn ids_in_paths_that_are_none_are_refused() {
    let app = App::start().await;
    for (path, status) in [
        ("/v1/users/%00", 400),
        ("/v1/users/a%2Fb", 400),
        ("/v1/users/nobody", 404),
        ("/v1/users/nobody/contacts", 404),
        ("/v1/users/nobody/preferences", 404),
        ("/v1/users/nobody/locks", 404),
        ("/v1/locks/%00/members", 400),
        ("/v1/locks/nothing/members", 200),
        ("/v1/notifications/x", 404),
        ("/v1/notifications/00000000-0000-0000-0000-000000000000", 404),
    ] {
        let answer = app.ask(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(status == 200 || !answer.detail().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_query_that_takes_too_long_ends_and_says_so() {
    let app = App::start_within(Limits { query_timeout: Duration::from_millis(200) }).await;
    let mut client = app.owner.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("lock table users, notification in access exclusive mode").await.unwrap();
    let body = json!({"name": "Taro", "locale": "ja", "time_zone": "Asia/Tokyo"});
    let asked = [app.ask("/v1/users").await, app.ask("/v1/providers").await];
    for answer in asked.into_iter().chain([app.put("/v1/users/taro", body).await]) {
        assert_eq!(answer.status, 503);
        assert!(answer.detail().starts_with("the query takes too long"));
    }
    transaction.rollback().await.unwrap();
    assert_eq!(app.get("/v1/users").await.json(), json!({"users": [], "next": null}));
}

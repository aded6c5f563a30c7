//! Who is told, and of what.

use super::*;

#[tokio::test]
async fn a_user_is_put_in_changed_and_taken_out() {
    let app = App::start().await;
    let body = json!({"name": "山田 太郎", "locale": "ja-JP", "time_zone": "asia/tokyo"});
    let made = app.put("/v1/users/taro:home", body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(
        (&made.json()["name"], &made.json()["time_zone"]),
        (&json!("山田 太郎"), &json!("Asia/Tokyo"))
    );
    let changed =
        app.put("/v1/users/taro:home", json!({"name": "T", "locale": "en", "time_zone": "UTC"})).await;
    assert_eq!(changed.status, 200);
    let shown = app.get("/v1/users/taro:home").await.json();
    assert_eq!((&shown["name"], &shown["locale"]), (&json!("T"), &json!("en")));
    assert_eq!(app.delete("/v1/users/taro:home").await.status, 204);
    assert_eq!(app.delete("/v1/users/taro:home").await.status, 404);
    assert_eq!(app.ask("/v1/users/taro:home").await.status, 404);
}

#[tokio::test]
async fn all_that_is_wrong_with_a_user_is_told_at_once() {
    let app = App::start().await;
    let answer = app.put("/v1/users/a", json!({"name": "", "locale": "fr", "time_zone": "Asia/Edo"})).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.detail(),
        "body: name: is empty; body: locale: must be one of en, ja, also with a region as ja-JP; \
         body: time_zone: is no IANA time zone such as Asia/Tokyo"
    );
    for (path, body, detail) in [
        ("/v1/users/a%20b", json!({"name": "x", "locale": "en", "time_zone": "UTC"}), "id: must be 1 to 128"),
        ("/v1/users/a", json!({"name": "x", "locale": "en"}), "body: missing field `time_zone`"),
        (
            "/v1/users/a",
            json!({"name": "x", "locale": "en", "time_zone": "UTC", "id": "b"}),
            "body: id: unknown field",
        ),
    ] {
        let answer = app.put(path, body).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.detail().starts_with(detail), "{}", answer.body);
    }
}

#[tokio::test]
async fn users_and_members_come_page_by_page() {
    let app = App::start().await;
    app.execute(
        "insert into users (id, name, locale, time_zone) select 'u' || n, 'x', 'en', 'UTC' from generate_series(1, 5) n;
         insert into lock_member (client_id, user_id, lock_name) select 'door', 'u' || n, '' from generate_series(1, 5) n;
         insert into lock_member (client_id, user_id, lock_name) select 'l' || n, 'u1', '' from generate_series(1, 4) n",
    )
    .await;
    for (path, list, key, expected) in [
        ("/v1/users", "users", "id", vec!["u1", "u2", "u3", "u4", "u5"]),
        ("/v1/locks/door/members", "members", "user_id", vec!["u1", "u2", "u3", "u4", "u5"]),
        ("/v1/users/u1/locks", "members", "client_id", vec!["door", "l1", "l2", "l3", "l4"]),
    ] {
        let mut seen = Vec::new();
        let mut next = Some(format!("{path}?limit=2"));
        while let Some(path) = next {
            let answer = app.get(&path).await;
            seen.extend(answer.texts(list, key));
            let link = answer.headers.get("link").map(|link| link.to_str().unwrap());
            next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        }
        assert_eq!(seen, expected, "{path}");
    }
}

#[tokio::test]
async fn a_lock_has_users() {
    let app = App::start().await;
    app.user("taro").await;
    let path = "/v1/locks/%2A/members/taro";
    let made = app.put(path, json!({"lock_name": "all", "tier": 2})).await;
    assert_eq!((made.status.as_u16(), made.json()["client_id"].clone()), (201, json!("*")));
    let changed = app.put(path, json!({})).await;
    assert_eq!((changed.status.as_u16(), changed.json()["tier"].clone()), (200, json!(0)));
    assert_eq!(app.get("/v1/locks/%2A/members").await.texts("members", "user_id"), ["taro"]);
    assert_eq!(app.put("/v1/locks/1/members/jiro", json!({})).await.detail(), "there is no such user");
    let wrong = app.put("/v1/locks/1/members/taro", json!({"tier": 101, "lock_name": "a\n"})).await;
    assert_eq!(
        wrong.detail(),
        "body: lock_name: holds a control character; body: tier: must be a number from 0 to 100"
    );
    assert_eq!(app.delete(path).await.status, 204);
    assert_eq!(app.delete(path).await.detail(), "there is no such member");
}

#[tokio::test]
async fn preferences_are_a_list_that_is_set_as_a_whole() {
    let app = App::start().await;
    app.user("taro").await;
    let path = "/v1/users/taro/preferences";
    assert_eq!(app.get(path).await.json(), json!({"preferences": []}));
    let list = json!([
        {"client_id": "*", "event_type": "*", "channel": "sms", "enabled": false, "min_severity": "info", "digest_s": 0},
        {"client_id": "1", "event_type": "tamper", "channel": "sms", "enabled": true, "min_severity": "major",
         "quiet_from": "22:00", "quiet_to": "07:30", "digest_s": 300},
    ]);
    let set = app.put(path, json!({ "preferences": list })).await;
    assert_eq!((set.status.as_u16(), &set.json()["preferences"]), (200, &list), "{}", set.body);
    assert_eq!(app.get(path).await.json()["preferences"], list);
    let wrong = json!([{"channel": "sms"}, {"channel": "sms"}, {"channel": "email", "event_type": "x", "digest_s": 1}]);
    let refused = app.put(path, json!({ "preferences": wrong })).await;
    assert_eq!(refused.status, 400);
    for why in [
        "body: preferences[1]: is of the same choice as preferences[0]",
        "body: preferences[2].event_type: must be one of *, unlocked,",
        "body: preferences[2].digest_s: must be 0 or a number from 60 to 86400",
    ] {
        assert!(refused.detail().contains(why), "{}", refused.body);
    }
    assert_eq!(app.get(path).await.json()["preferences"], list, "what was refused changes nothing");
    let set = app.put(path, json!({"preferences": [{"channel": "email"}]})).await;
    assert_eq!(set.json()["preferences"].as_array().unwrap().len(), 1);
    let many: Vec<_> = (0..1_001).map(|n| json!({"channel": "sms", "client_id": n.to_string()})).collect();
    let set = app.put(path, json!({"preferences": many[..1_000]})).await;
    assert_eq!(set.status, 200, "{}", set.body);
    let refused = app.put(path, json!({ "preferences": many })).await;
    assert_eq!(refused.detail(), "body: preferences: has more than 1000");
    assert_eq!(app.put("/v1/users/x/preferences", json!({"preferences": []})).await.status, 404);
}

#[tokio::test]
async fn of_a_user_who_goes_nothing_is_left_but_that_something_was_told() {
    let app = App::start().await;
    app.user("user-7").await;
    app.user("user-8").await;
    app.fill(0, 4_000).await;
    app.execute(
        "update notification set status = 'sending', expires_at = now() + interval '1 day' where id = \
             (select id from notification where user_id = 'user-7' and status = 'sent' limit 1)",
    )
    .await;
    app.execute(
        "update notification set status = 'pending', digest = 'x' where id = \
             (select id from notification where user_id = 'user-7' and status = 'sent' limit 1)",
    )
    .await;
    app.execute(
        "insert into attempt (notification_id, n, provider, outcome, excerpt) \
         select id, 1, 'relay', 'accepted', 'said ' || address from notification",
    )
    .await;
    app.put("/v1/locks/1/members/user-7", json!({})).await;
    app.contact("user-7", "email", "taro@example.com").await;
    assert_eq!(app.delete("/v1/users/user-7").await.status, 204);
    let left = "select string_agg(status || ' ' || coalesce(reason, '-') || ' ' || n, ', ' order by status) from \
        (select status, reason, count(*) n from notification where user_id = 'user-7' \
         and address = '' and facts = '{}' and (status <> 'sending' or expires_at <= now()) group by 1, 2) counted";
    assert_eq!(app.value(left).await, "dead - 4, sending - 1, sent - 2, suppressed user_deleted 2");
    let others = "select count(*)::text from notification where user_id <> 'user-7' and address <> ''";
    assert_eq!(app.value(others).await, "3992");
    let said = "select string_agg(n || ' ' || excerpts, ', ' order by n) from (select count(*) n, count(excerpt) excerpts \
        from attempt join notification on id = notification_id group by user_id = 'user-7') counted";
    assert_eq!(app.value(said).await, "8 0, 3992 3992");
    let rest = "select ((select count(*) from contact) + (select count(*) from lock_member))::text";
    assert_eq!(app.value(rest).await, "0");
    let shown = app.get("/v1/notifications?user_id=user-7&status=dead").await.json();
    assert!(shown["notifications"][0].get("address").is_none(), "{shown}");
}

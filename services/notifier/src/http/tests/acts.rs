//! What people do about notifications.

use super::*;

/// A notification of an active contact, in a status; its id.
async fn given_up(app: &App, contact: &str, status: &str, number: u128) -> String {
    let id = id_of(number);
    app.execute(&format!(
        "insert into notification (id, event_type, severity, priority, client_id, user_id, contact_id, channel, \
             address, locale, time_zone, facts, status, reason, attempts, failures, due_at, digest, occurred_at, \
             expires_at, settled_at, created_at) \
         values ('{id}', 'unlocked', 'info', 0, '1', 'taro', '{contact}', 'email', 'taro@example.com', 'ja', \
             'Asia/Tokyo', '{{}}', '{status}', 'transient', 12, 12, now() - interval '3 hours', null, \
             now() - interval '4 hours', now() - interval '2 hours', now() - interval '3 hours', \
             now() - interval '4 hours')"
    ))
    .await;
    id
}

#[tokio::test]
async fn what_was_given_up_is_tried_again() {
    let app = App::start().await;
    app.user("taro").await;
    let contact = app.active_contact("taro", "email", "taro@example.com").await;
    app.put("/v1/locks/1/members/taro", json!({})).await;
    for (number, status) in (1..).zip(["undelivered", "ambiguous", "suppressed", "expired", "dead"]) {
        let id = given_up(&app, &contact, status, number).await;
        let answer = app.poke(&format!("/v1/notifications/{id}/retry")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["status"].as_str()),
            (200, Some("pending")),
            "{status}"
        );
        let row = format!(
            "select (failures = 0 and attempts = 12 and due_at <= now() and reason is null and settled_at is null \
                 and expires_at between now() + interval '59 minutes' and now() + interval '60 minutes')::text \
             from notification where id = '{id}'"
        );
        assert_eq!(app.value(&row).await, "true", "{status}");
        // Again is not longer.
        app.execute(&format!("update notification set status = 'dead' where id = '{id}'")).await;
        assert_eq!(app.poke(&format!("/v1/notifications/{id}/retry")).await.status, 200);
        assert_eq!(app.value(&row).await, "true", "{status}");
    }
    for (number, status) in (11..).zip(["pending", "sending", "sent", "delivered", "digested"]) {
        let id = given_up(&app, &contact, status, number).await;
        let answer = app.poke(&format!("/v1/notifications/{id}/retry")).await;
        assert_eq!((answer.status.as_u16(), answer.detail()), (409, format!("the notification is {status}")));
    }
    let answer = app.poke("/v1/notifications/nothing/retry").await;
    assert_eq!((answer.status.as_u16(), answer.detail().as_str()), (404, "there is no such notification"));
}

#[tokio::test]
async fn what_cannot_arrive_is_not_tried_again() {
    let app = App::start().await;
    app.user("taro").await;
    let contact = app.active_contact("taro", "email", "taro@example.com").await;
    app.put("/v1/locks/1/members/taro", json!({})).await;
    let id = given_up(&app, &contact, "dead", 1).await;
    let retry = async || {
        let answer = app.poke(&format!("/v1/notifications/{id}/retry")).await;
        (answer.status.as_u16(), answer.detail())
    };
    let refused = |why: &str| (409, why.to_owned());
    app.execute("update contact set status = 'bounced'").await;
    assert_eq!(retry().await, refused("the contact is bounced"));
    app.execute("update contact set status = 'active'; update notification set event_type = 'verification'")
        .await;
    assert_eq!(retry().await, refused("the code is not good any more: ask for another one"));
    app.execute("update notification set event_type = 'unlocked', address = ''").await;
    assert_eq!(retry().await, refused("the address was erased"));
    app.execute("delete from contact").await;
    assert_eq!(retry().await, refused("the contact was deleted"));
}

#[tokio::test]
async fn who_is_no_user_of_a_lock_any_more_is_told_nothing_of_it() {
    let app = App::start().await;
    app.user("taro").await;
    let contact = app.active_contact("taro", "email", "taro@example.com").await;
    app.put("/v1/locks/2/members/taro", json!({})).await;
    app.put("/v1/locks/%2A/members/taro", json!({})).await;
    for (number, status) in (1..).zip(["pending", "pending", "sending", "dead", "pending", "pending"]) {
        given_up(&app, &contact, status, number).await;
    }
    app.execute(&format!(
        "update notification set expires_at = now() + interval '1 day', settled_at = null where status <> 'dead';
         update notification set digest = 'x' where id = '{}';
         update notification set client_id = '2' where id = '{}';
         update notification set client_id = '', event_type = 'test' where id = '{}'",
        id_of(2),
        id_of(5),
        id_of(6)
    ))
    .await;
    let stand = "select string_agg(concat_ws(' ', status, case when status = 'suppressed' then reason end, \
         expires_at > now()), ', ' order by id) from notification";
    let before = "pending t, pending t, sending t, dead f, pending t, pending t";
    assert_eq!(app.value(stand).await, before);
    // Those of every lock are still told of this one.
    assert_eq!(app.delete("/v1/locks/1/members/taro").await.status, 404);
    assert_eq!(app.value(stand).await, before);
    assert_eq!(app.delete("/v1/locks/%2A/members/taro").await.status, 204);
    assert_eq!(
        app.value(stand).await,
        "suppressed no_member t, suppressed no_member t, sending f, dead f, pending t, pending t"
    );
    let retry = app.poke(&format!("/v1/notifications/{}/retry", id_of(4))).await;
    assert_eq!(
        (retry.status.as_u16(), retry.detail().as_str()),
        (409, "the user is no user of the lock any more")
    );
    assert_eq!(app.delete("/v1/locks/2/members/taro").await.status, 204);
    assert!(app.value(stand).await.ends_with(", suppressed no_member t, pending t"));
}

#[tokio::test]
async fn a_test_goes_to_one_contact_that_is_verified() {
    let app = App::start().await;
    app.user("taro").await;
    app.user("jiro").await;
    let contact = app.active_contact("taro", "sms", "+819012341234").await;
    let answer = app.post("/v1/notifications/test", json!({"user_id": "taro", "contact_id": contact})).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let id = answer.json()["notification_id"].as_str().unwrap().to_owned();
    let shown = app.get(&format!("/v1/notifications/{id}")).await.json();
    for (name, value) in
        [("event_type", "test"), ("status", "pending"), ("channel", "sms"), ("address", "+81******1234")]
    {
        assert_eq!(shown[name], value);
    }
    let body = json!({"user_id": "taro", "contact_id": contact});
    for status in [202, 202, 429] {
        let answer = app.post("/v1/notifications/test", body.clone()).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        if let Some(wait_s) = answer.headers.get("retry-after") {
            let wait_s: u64 = wait_s.to_str().unwrap().parse().unwrap();
            assert!((50..=61).contains(&wait_s), "{wait_s}");
        }
    }
    let unverified = app.contact("taro", "email", "taro@example.com").await["id"].clone();
    for (body, status, detail) in [
        (json!({"user_id": "taro", "contact_id": unverified}), 409, "the contact is unverified"),
        (json!({"user_id": "jiro", "contact_id": contact}), 404, "there is no such contact"),
        (json!({"user_id": "taro", "contact_id": "x"}), 404, "there is no such contact"),
        (json!({"user_id": "a b", "contact_id": contact}), 400, "body: user_id: must be 1 to 128 of"),
        (json!({"user_id": "taro"}), 400, "body: missing field `contact_id`"),
    ] {
        let answer = app.post("/v1/notifications/test", body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.detail().starts_with(detail), "{}", answer.body);
    }
}

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
                 and expires_at between now() + interval '119 minutes' and now() + interval '121 minutes')::text \
             from notification where id = '{id}'"
        );
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

//! Where users are told, and the codes.

use latchline_shared::kit::testing::eventually;

use super::*;

/// The code that is on its way to a contact.
async fn code_of(app: &App, contact: &str) -> String {
    let select = format!(
        "select facts->>'code' from notification where contact_id = '{contact}' and status = 'pending' \
             and event_type = 'verification'"
    );
    app.value(&select).await
}

/// Another code than this.
fn other(code: &str) -> String {
    if code == "000000" { "000001".to_owned() } else { "000000".to_owned() }
}

#[tokio::test]
async fn a_contact_is_verified_by_the_code_that_was_sent_there() {
    let app = App::start().await;
    app.user("taro").await;
    let made = app.contact("taro", "email", "taro@example.com").await;
    assert_eq!((&made["status"], &made["address"]), (&json!("unverified"), &json!("taro@example.com")));
    assert!(made.get("secret").is_none());
    let contact = made["id"].as_str().unwrap();
    let notification = made["notification_id"].as_str().unwrap();
    let code = code_of(&app, contact).await;
    assert!(code.len() == 6 && !made.to_string().contains(&code));
    let shown = app.get(&format!("/v1/notifications/{notification}")).await;
    assert!(!shown.body.contains(&code));
    assert_eq!(shown.json()["event_type"], "verification");
    let hash = format!("select (position('{code}' in encode(code_hash, 'escape')) = 0)::text from contact");
    assert_eq!(app.value(&hash).await, "true");

    let path = format!("/v1/users/taro/contacts/{contact}/verify");
    let wrong = app.post(&path, json!({"code": other(&code)})).await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.detail().as_str()),
        (400, "body: code: is wrong, tries left: 4")
    );
    let right = app.post(&path, json!({ "code": code })).await;
    assert_eq!((right.status.as_u16(), &right.json()["status"]), (200, &json!("active")), "{}", right.body);
    assert_eq!(app.post(&path, json!({ "code": code })).await.detail(), "the contact is verified already");
    let again = app.poke(&format!("/v1/users/taro/contacts/{contact}/code")).await;
    assert_eq!((again.status.as_u16(), again.detail().as_str()), (409, "the contact is verified already"));
}

#[tokio::test]
async fn a_code_is_good_for_five_tries_and_a_quarter_of_an_hour() {
    let app = App::start().await;
    app.user("taro").await;
    let contact = app.contact("taro", "sms", "+819012341234").await["id"].as_str().unwrap().to_owned();
    let (verify, again) = (
        format!("/v1/users/taro/contacts/{contact}/verify"),
        format!("/v1/users/taro/contacts/{contact}/code"),
    );
    let code = code_of(&app, &contact).await;
    for left in (0..5).rev() {
        let wrong = app.post(&verify, json!({"code": other(&code)})).await;
        assert_eq!(wrong.detail(), format!("body: code: is wrong, tries left: {left}"));
    }
    let too_often = app.post(&verify, json!({ "code": code })).await;
    assert_eq!(too_often.status, 409);
    assert!(too_often.detail().starts_with("no code is good now"), "{}", too_often.body);

    let soon = app.poke(&again).await;
    assert_eq!(soon.status, 429, "{}", soon.body);
    let wait_s: u64 = soon.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait_s) && soon.detail().contains("in "), "{wait_s}");
    app.execute("update code_count set sent_at = now() - interval '61 seconds'").await;
    assert_eq!(app.poke(&again).await.status, 202);
    let replaced =
        "select reason || ' ' || (facts ? 'code')::text from notification where status = 'suppressed'";
    assert_eq!(app.value(replaced).await, "replaced false");
    let fresh = code_of(&app, &contact).await;
    app.execute("update contact set code_sent_at = now() - interval '15 minutes'").await;
    assert_eq!(app.post(&verify, json!({ "code": fresh })).await.status, 409);
    app.execute("update contact set code_sent_at = now() - interval '14 minutes'").await;
    assert_eq!(app.post(&verify, json!({ "code": fresh })).await.status, 200);
}

#[tokio::test]
async fn a_contact_made_anew_is_no_new_chance() {
    let app = App::start().await;
    app.user("taro").await;
    app.user("jiro").await;
    let make = async |user: &str| {
        let made = app.contact(user, "sms", "+819012341234").await;
        let contact = made["id"].as_str().unwrap().to_owned();
        (format!("/v1/users/{user}/contacts/{contact}"), contact, made["notification_id"].is_string())
    };
    let later = async || app.execute("update code_count set sent_at = now() - interval '61 seconds'").await;
    let (path, contact, is_sent) = make("taro").await;
    assert!(is_sent);
    let same = format!(
        "select (notification.created_at = code_sent_at)::text from notification join contact on contact.id = contact_id \
         where contact_id = '{contact}'"
    );
    assert_eq!(app.value(&same).await, "true", "delivery knows by that which code is the last");
    assert_eq!(app.delete(&path).await.status, 204);
    // Neither made anew nor of somebody else.
    assert!(!make("taro").await.2 && !make("jiro").await.2);
    for _ in 0..3 {
        app.delete(&path).await;
        later().await;
        let (_, contact, is_sent) = make("taro").await;
        assert!(is_sent);
        let body = json!({"code": other(&code_of(&app, &contact).await)});
        for _ in 0..5 {
            assert_eq!(app.post(&format!("{path}/verify"), body.clone()).await.status, 400);
        }
    }
    let many = app.post(&format!("{path}/verify"), json!({"code": code_of(&app, &contact).await})).await;
    assert_eq!(many.status, 429, "{}", many.body);
    let wait_s: u32 = many.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&wait_s), "{wait_s}");
    later().await;
    assert_eq!(app.poke(&format!("{path}/code")).await.status, 429, "its code could not be given back");
    app.execute("update code_count set wrong = 14").await;
    assert_eq!(app.poke(&format!("{path}/code")).await.status, 202);
    later().await;
    let many = app.poke(&format!("{path}/code")).await;
    assert_eq!(many.status, 429, "{}", many.body);
    assert!(many.detail().starts_with("there were too many codes for this address"), "{}", many.body);
    app.execute("update code_count set since = now() - interval '1 day'").await;
    assert_eq!(app.poke(&format!("{path}/code")).await.status, 202);
    assert_eq!(app.value("select concat_ws(' ', codes, wrong) from code_count").await, "1 0");
    app.execute("insert into code_count values ('\\x00', now() - interval '2 days', 5, 15)").await;
    later().await;
    assert_eq!(app.poke(&format!("{path}/code")).await.status, 202);
    assert_eq!(app.value("select count(*)::text from code_count").await, "1");
}

#[tokio::test]
async fn tries_that_are_made_at_once_are_counted_one_by_one() {
    let app = App::start().await;
    app.user("taro").await;
    let contact = app.contact("taro", "email", "taro@example.com").await["id"].as_str().unwrap().to_owned();
    let code = code_of(&app, &contact).await;
    let path = format!("/v1/users/taro/contacts/{contact}/verify");
    let tries = (0..12).map(|_| app.post(&path, json!({"code": other(&code)})));
    let answers = futures_util::future::join_all(tries).await;
    let wrong = answers.iter().filter(|answer| answer.status == 400).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((wrong, refused), (5, 7));
}

#[tokio::test]
async fn a_contact_that_bounced_gets_another_chance() {
    let app = App::start().await;
    app.user("taro").await;
    let contact = app.active_contact("taro", "email", "taro@example.com").await;
    app.execute(
        "update contact set status = 'bounced', bounces = 2, code_hash = null; \
         update code_count set sent_at = now() - interval '61 seconds'",
    )
    .await;
    assert_eq!(app.poke(&format!("/v1/users/taro/contacts/{contact}/code")).await.status, 202);
    let code = code_of(&app, &contact).await;
    let verified =
        app.post(&format!("/v1/users/taro/contacts/{contact}/verify"), json!({ "code": code })).await;
    assert_eq!((&verified.json()["status"], &verified.json()["bounces"]), (&json!("active"), &json!(0)));
}

#[tokio::test]
async fn the_same_contact_again_is_the_same_and_a_secret_is_shown_once() {
    let app = App::start().await;
    app.user("taro").await;
    let made = app.contact("taro", "webhook", "https://example.com/hook").await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"), "{made}");
    let body = json!({"channel": "webhook", "address": "https://example.com/hook"});
    let again = app.post("/v1/users/taro/contacts", body).await;
    assert_eq!((again.status.as_u16(), &again.json()["id"]), (200, &made["id"]), "{}", again.body);
    assert!(again.json().get("secret").is_none() && again.json().get("notification_id").is_none());
    let list = app.get("/v1/users/taro/contacts").await;
    assert_eq!(list.texts("contacts", "address"), ["https://example.com/hook"]);
    assert!(!list.body.contains("whsec_"));
    let count = "select count(*)::text from notification where event_type = 'verification'";
    assert_eq!(app.value(count).await, "1");
}

#[tokio::test]
async fn what_is_no_contact_is_refused_and_not_repeated() {
    let app = App::start().await;
    app.user("taro").await;
    for (body, detail) in [
        (json!({"channel": "email", "address": "taro"}), "body: address: is not user@host"),
        (
            json!({"channel": "email", "address": "a@example.com,b@example.com"}),
            "body: address: is not user@host",
        ),
        (json!({"channel": "sms", "address": "090-1234"}), "body: address: is not +, country and number"),
        (
            json!({"channel": "webhook", "address": "https://u:p@example.com"}),
            "body: address: must not hold a user",
        ),
        (json!({"channel": "webhook", "address": "http://example.com"}), "body: address: must be https://"),
        (json!({"channel": "fax", "address": "1"}), "body: channel: unknown variant `fax`"),
    ] {
        let answer = app.post("/v1/users/taro/contacts", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.detail().starts_with(detail), "{}", answer.body);
        assert!(!answer.body.contains("1234") && !answer.body.contains("u:p"));
    }
    let unknown =
        app.post("/v1/users/jiro/contacts", json!({"channel": "email", "address": "a@example.com"})).await;
    assert_eq!((unknown.status.as_u16(), unknown.detail().as_str()), (404, "there is no such user"));
    for n in 0..20 {
        app.contact("taro", "email", &format!("{n}@example.com")).await;
    }
    let many =
        app.post("/v1/users/taro/contacts", json!({"channel": "email", "address": "x@example.com"})).await;
    assert_eq!(many.status, 409);
    assert!(many.detail().contains("20 contacts"), "{}", many.body);
}

#[tokio::test]
async fn of_a_contact_that_goes_nothing_is_told_any_more() {
    let app = App::start().await;
    app.user("taro").await;
    app.user("jiro").await;
    let keep = app.active_contact("taro", "sms", "+819012341234").await;
    let gone = app.contact("taro", "email", "taro@example.com").await["id"].as_str().unwrap().to_owned();
    app.post("/v1/notifications/test", json!({"user_id": "taro", "contact_id": keep})).await;
    let path = format!("/v1/users/taro/contacts/{gone}");
    assert_eq!(app.delete(&format!("/v1/users/jiro/contacts/{gone}")).await.status, 404);
    assert_eq!(app.delete(&path).await.status, 204);
    assert_eq!(app.delete(&path).await.detail(), "there is no such contact");
    let all = "select string_agg(event_type || ' ' || status || ' ' || coalesce(reason, '-') || ' ' || address, ', ' \
        order by event_type) from notification";
    assert_eq!(
        app.value(all).await,
        "test pending - +819012341234, verification suppressed contact_deleted "
    );
    assert_eq!(app.get("/v1/users/taro/contacts").await.texts("contacts", "id"), [keep]);
}

#[tokio::test]
async fn what_a_lane_writes_while_its_contact_goes_is_erased_as_well() {
    let app = App::start().await;
    app.user("taro").await;
    app.fill(0, 1).await;
    let contact = app.active_contact("taro", "sms", "+819012341234").await;
    let mut lane = app.pool.get().await.unwrap();
    let transaction = lane.transaction().await.unwrap();
    transaction.execute("select from contact for key share", &[]).await.unwrap();
    let path = format!("/v1/users/taro/contacts/{contact}");
    let ends = async {
        let waits = "select (count(*) > 0)::text from pg_stat_activity \
             where datname = current_database() and wait_event_type = 'Lock'";
        eventually(SOON, "somebody waits for the lane", async || app.value(waits).await == "true").await;
        let insert = format!(
            "insert into notification select * from jsonb_populate_record(null::notification, \
                 (select to_jsonb(notification) from notification) || jsonb_build_object('id', gen_random_uuid(), \
                     'user_id', 'taro', 'contact_id', '{contact}', 'status', 'pending'))"
        );
        transaction.execute(&insert, &[]).await.unwrap();
        transaction.commit().await.unwrap();
    };
    let (deleted, ()) = tokio::join!(app.delete(&path), ends);
    assert_eq!(deleted.status, 204, "{}", deleted.body);
    let left =
        "select status || ' ' || reason || ' ' || address || facts from notification where user_id = 'taro'";
    assert_eq!(app.value(left).await, "suppressed contact_deleted {}");
}

//! A real Postgres, and reports as gateways send them.

use deadpool_postgres::Pool;
use latchline_shared::kit::testing::Seed;
use reqwest::{Client, Method};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::*;
use crate::channel::sms::tests::{ID, sms_settings};
use crate::migrations::tests::database;
use crate::status::Status;

const KANNEL: &str = "name = 'kannel'\npreset = 'kannel'\nsettings = { user = 'u' }\n\
                      secrets = { password = 'p' }";
const TWILIO: &str = "name = 'twilio'\npreset = 'twilio'\nsettings = { account_sid = 'AC1' }\n\
                      secrets = { auth_token = 't' }";
const VONAGE: &str = "name = 'vonage'\npreset = 'vonage'\nsettings = { api_key_id = 'k' }\n\
                      secrets = { api_secret = 's', report_token = 'the word' }\nreport = { auth = 'token' }";
const GENERIC: &str = "name = 'generic'\npreset = 'generic'\nurl = 'http://h'\nsecrets = { api_token = 't' }";

struct Lab {
    pool: Pool,
    base: String,
    client: Client,
    metrics: Metrics,
}

impl Lab {
    async fn open() -> Self {
        let database = database().await;
        let settings = sms_settings(&[KANNEL, TWILIO, VONAGE, GENERIC]);
        let metrics = Metrics::default();
        let routes = routes(Reports::new(&settings).unwrap(), database.pool.clone(), metrics.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let owner = database.owner.get().await.unwrap();
        owner
            .batch_execute(
                "insert into users (id, name, locale, time_zone) values ('taro', 'Taro', 'ja', 'Asia/Tokyo');
                insert into contact (id, user_id, channel, address, status)
                values ('00000000-0000-0000-0000-00000000000c', 'taro', 'sms', '+819012341234', 'active')",
            )
            .await
            .unwrap();
        Self { pool: database.pool, base, client: Client::new(), metrics }
    }

    /// A notification where it stands.
    async fn row(&self, id: Uuid, status: &str, provider: Option<&str>, rest: &str) {
        let client = self.pool.get().await.unwrap();
        let insert = "insert into notification (id, event_type, severity, priority, client_id, user_id,
                contact_id, channel, address, locale, time_zone, facts, status, provider, provider_id, attempts,
                due_at, occurred_at, expires_at)
            values ($1, 'unlocked', 'info', 0, '1', 'taro', '00000000-0000-0000-0000-00000000000c', 'sms',
                '+819012341234', 'ja', 'Asia/Tokyo', '{\"code\": \"123456\"}', $2, $3, 'theirs', 1, now(), now(),
                now() + interval '1 hour')
            on conflict (id) do update set status = excluded.status, provider = excluded.provider,
                provider_id = excluded.provider_id, ambiguous = 0, attempts = 1";
        client.execute(insert, &[&id, &status, &provider]).await.unwrap();
        if !rest.is_empty() {
            client.execute(&format!("update notification set {rest} where id = $1"), &[&id]).await.unwrap();
        }
    }

    async fn text(&self, column: &str, id: Uuid) -> Option<String> {
        let client = self.pool.get().await.unwrap();
        let select = format!("select {column}::text from notification where id = $1");
        client.query_one(&select, &[&id]).await.unwrap().get(0)
    }

    async fn status(&self, id: Uuid) -> String {
        self.text("status", id).await.unwrap()
    }

    async fn contact(&self) -> String {
        let client = self.pool.get().await.unwrap();
        client.query_one("select status from contact", &[]).await.unwrap().get(0)
    }

    /// The link of a message, here.
    fn link(&self, gateway: &str, id: Uuid) -> String {
        let link = sms_settings(&[]).links().unwrap().unwrap().url(gateway, id);
        link.replace("https://locks.example/n", &self.base)
    }

    async fn send(&self, method: Method, url: &str, body: &str) -> u16 {
        let request = self.client.request(method, url).body(body.to_owned());
        request.send().await.unwrap().status().as_u16()
    }

    async fn get(&self, url: &str) -> u16 {
        self.send(Method::GET, url, "").await
    }

    async fn post(&self, url: &str, body: &str) -> u16 {
        self.send(Method::POST, url, body).await
    }
}

#[tokio::test]
async fn each_preset_is_understood() {
    let lab = Lab::open().await;
    lab.row(ID, "sent", Some("kannel"), "").await;
    assert_eq!(lab.get(&format!("{}&status=8", lab.link("kannel", ID))).await, 204);
    assert_eq!(lab.status(ID).await, "sent");
    assert_eq!(lab.get(&format!("{}&status=1", lab.link("kannel", ID))).await, 204);
    assert_eq!(lab.status(ID).await, "delivered");

    lab.row(ID, "sent", Some("twilio"), "").await;
    let link = lab.link("twilio", ID);
    assert_eq!(lab.post(&link, "MessageSid=SM1&MessageStatus=sent").await, 204);
    assert_eq!(lab.status(ID).await, "sent");
    assert_eq!(lab.post(&link, "MessageSid=SM1&MessageStatus=undelivered&ErrorCode=30003").await, 204);
    assert_eq!((lab.status(ID).await.as_str(), lab.contact().await.as_str()), ("undelivered", "active"));

    lab.row(ID, "sent", Some("generic"), "provider_id = null").await;
    let link = lab.link("generic", ID);
    assert_eq!(lab.post(&link, r#"{"id": 17, "status": "delivered"}"#).await, 204);
    assert_eq!(
        (lab.status(ID).await, lab.text("provider_id", ID).await.unwrap()),
        ("delivered".to_owned(), "17".to_owned())
    );

    lab.row(ID, "sent", Some("vonage"), "").await;
    let link = format!("{}/v1/dlr/vonage?token=the+word", lab.base);
    assert_eq!(lab.get(&format!("{link}&messageId=theirs&status=delivered&err-code=0")).await, 204);
    assert_eq!(lab.status(ID).await, "delivered");
    assert!(lab.text("settled_at", ID).await.is_some());
    for (gateway, result) in [
        ("kannel", Told::Nothing),
        ("kannel", Told::Delivered),
        ("twilio", Told::Nothing),
        ("twilio", Told::Undelivered),
        ("generic", Told::Delivered),
        ("vonage", Told::Delivered),
    ] {
        assert_eq!(lab.metrics.counted(gateway, result), 1, "{gateway} {result}");
    }
}

#[tokio::test]
async fn who_reports_must_show_the_link() {
    let lab = Lab::open().await;
    let other = Uuid::from_u128(9);
    lab.row(ID, "sent", Some("kannel"), "").await;
    let link = lab.link("kannel", ID);
    let mac = link.split_once("mac=").unwrap().1.to_owned();
    for url in [
        format!("{}/v1/dlr/kannel?", lab.base),
        format!("{}/v1/dlr/kannel?ref={ID}", lab.base),
        format!("{}/v1/dlr/kannel?ref={ID}&mac=", lab.base),
        format!("{}/v1/dlr/kannel?ref={ID}&mac={}", lab.base, &mac[..31]),
        format!("{}/v1/dlr/kannel?ref={other}&mac={mac}", lab.base),
        format!("{}/v1/dlr/kannel?ref=x&mac={mac}", lab.base),
        format!("{}/v1/dlr/twilio?ref={ID}&mac={mac}", lab.base),
        format!("{}/v1/dlr/vonage?ref={ID}&mac={mac}", lab.base),
        format!("{}/v1/dlr/vonage?token=&messageId=theirs", lab.base),
    ] {
        assert_eq!(lab.get(&format!("{url}&status=1")).await, 403, "{url}");
        assert_eq!(
            lab.post(&url, &format!("status=1&ref={ID}&mac={mac}&token=the+word")).await,
            403,
            "{url}"
        );
    }
    assert_eq!(lab.metrics.counted("kannel", Told::Refused), 12);
    // What is not there is told only to those who have shown the link.
    assert_eq!(lab.get(&format!("{}&status=1", lab.link("kannel", other))).await, 404);
    let token = format!("{}/v1/dlr/vonage?token=the+word&status=delivered", lab.base);
    assert_eq!(lab.get(&format!("{token}&messageId=another")).await, 404);
    assert_eq!(lab.get(&token).await, 400);
    for gateway in ["nobody", "Kannel", "a%2fb"] {
        assert_eq!(lab.get(&link.replace("kannel", gateway)).await, 404, "{gateway}");
    }
    assert_eq!(lab.metrics.counted("", Told::NoGateway), 3);
    assert_eq!(lab.send(Method::PUT, &link, "status=1").await, 405);
    assert_eq!(lab.status(ID).await, "sent");
}

#[tokio::test]
async fn what_cannot_be_read_changes_nothing() {
    let lab = Lab::open().await;
    lab.row(ID, "sent", Some("generic"), "").await;
    let link = lab.link("generic", ID);
    for (body, expected) in [
        ("", 204),
        ("{}", 204),
        (r#"{"status": "teleported"}"#, 204),
        (r#"{"status": ["delivered"]}"#, 204),
        (r#"{"status": "delivered""#, 400),
        (r#"{"status": "delivered", "id": "\u0000"}"#, 400),
    ] {
        assert_eq!(lab.post(&link, body).await, expected, "{body}");
    }
    assert_eq!(lab.post(&link, &format!("status={}", "x".repeat(70_000))).await, 413);
    let binary = lab.client.post(&link).body(vec![0xff, 0xfe]).send().await.unwrap();
    assert_eq!(binary.status().as_u16(), 400);
    assert_eq!(lab.status(ID).await, "sent");
    assert_eq!(lab.metrics.counted("generic", Told::UnknownStatus), 4);
    assert_eq!(lab.metrics.counted("generic", Told::Malformed), 4);
    assert_eq!(lab.post(&link, "status=delivered&id=a%00b").await, 204);
    assert_eq!(lab.status(ID).await, "delivered");
}

#[tokio::test]
async fn what_may_follow_what() {
    const TRIED: &str = "sending sent ambiguous undelivered delivered pending expired dead";
    let lab = Lab::open().await;
    let mut column = 0;
    for status in Status::ALL.iter().map(|status| status.name()) {
        for (rest, by, told, expected) in [
            // Never tried: nothing of it can have arrived.
            ("attempts = 0", "kannel", "1", "sending sent ambiguous undelivered delivered"),
            ("", "kannel", "1", TRIED),
            ("ambiguous = 1", "kannel", "1", TRIED),
            ("", "spare", "1", TRIED),
            ("", "kannel", "2", "sending sent ambiguous undelivered"),
            ("attempts = 2, ambiguous = 1", "kannel", "2", "sent ambiguous undelivered"),
            ("", "spare", "2", "undelivered"),
        ] {
            column += 1;
            let id = Uuid::from_u128(column);
            lab.row(id, status, Some(by), rest).await;
            for _ in 0..2 {
                assert_eq!(lab.get(&format!("{}&status={told}", lab.link("kannel", id))).await, 204);
            }
            let end = if told == "1" { "delivered" } else { "undelivered" };
            let expected = if expected.split(' ').any(|one| one == status) { end } else { status };
            assert_eq!(lab.status(id).await, expected, "{status} {rest} {by} {told}");
        }
    }
}

#[tokio::test]
async fn the_order_does_not_matter() {
    let lab = Lab::open().await;
    let mut random = Seed::of_this_run().random("the_order_does_not_matter");
    for number in 1..=20 {
        let id = Uuid::from_u128(number);
        lab.row(id, "sending", None, "lease_owner = 'me', event_type = 'verification'").await;
        let mut told = vec!["1", "2", "8", "16", "1", "2"];
        while !told.is_empty() {
            let status = told.remove(random.index(told.len()));
            assert_eq!(lab.get(&format!("{}&status={status}", lab.link("kannel", id))).await, 204);
        }
        assert_eq!(lab.status(id).await, "delivered");
        assert_eq!(lab.text("facts", id).await.unwrap(), "{}");
        assert_eq!(lab.text("provider", id).await.unwrap(), "kannel");
        assert_eq!(lab.text("lease_owner", id).await, None);
    }
}

#[tokio::test]
async fn a_number_that_is_gone_is_not_used_any_more() {
    let lab = Lab::open().await;
    let (waits, sent) = (Uuid::from_u128(1), Uuid::from_u128(2));
    lab.row(ID, "sent", Some("twilio"), "").await;
    lab.row(waits, "pending", None, "").await;
    lab.row(sent, "sent", Some("twilio"), "").await;
    let gone = "MessageStatus=undelivered&ErrorCode=30005";
    for _ in 0..2 {
        assert_eq!(lab.post(&lab.link("twilio", ID), gone).await, 204);
    }
    assert_eq!((lab.status(ID).await.as_str(), lab.contact().await.as_str()), ("undelivered", "bounced"));
    assert_eq!((lab.status(waits).await.as_str(), lab.status(sent).await.as_str()), ("suppressed", "sent"));
    assert_eq!(lab.text("reason", waits).await.unwrap(), "bounced");
    assert_eq!(lab.metrics.counted("twilio", Told::Gone), 1);
    assert_eq!(lab.metrics.counted("twilio", Told::Repeated), 1);
}

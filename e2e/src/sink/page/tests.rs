//! Over real sockets: what is on the page, and what a hostile mail can do there.

use latchline_shared::kit::testing::eventually;
use reqwest::Client;
use serde_json::{Value, json};

use super::*;
use crate::sink::sms::Inbox;
use crate::sink::{Page, mail};

use latchline_notifier::sink::smtp::{MailServer, Tls};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);

fn any() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A page with `count` SMS, of which the newest `keep` are kept.
async fn texts(count: u64, keep: usize) -> Page {
    let inbox = Inbox::new(keep);
    let page = Page::start_with(any(), inbox.source(), inbox.routes()).await.unwrap();
    for number in 1..=count {
        let sms = json!({ "to": "+81", "from": "Latchline", "text": format!("text {number}.") });
        let answer = Client::new().post(url(&page, "/messages")).header("idempotency-key", number);
        let answer = answer.json(&sms).send().await.unwrap().error_for_status().unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["id"], number.to_string());
    }
    page
}

fn url(page: &Page, path: &str) -> String {
    format!("http://{}{path}", page.address())
}

async fn get(page: &Page, path: &str) -> reqwest::Response {
    Client::new().get(url(page, path)).send().await.unwrap()
}

async fn text(page: &Page, path: &str) -> String {
    get(page, path).await.error_for_status().unwrap().text().await.unwrap()
}

#[tokio::test]
async fn messages_come_in_pages_newest_first() {
    let page = texts(5, 4).await;
    for (query, expected) in [
        ("", vec!["5", "4", "3", "2"]),
        ("?limit=2", vec!["5", "4"]),
        ("?limit=2&before=4", vec!["3", "2"]),
        ("?before=2", vec![]),
        ("?limit=0", vec![]),
    ] {
        let answer = text(&page, &format!("/api/messages{query}")).await;
        let answer: Messages = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer.count, 5);
        let ids: Vec<String> = answer.messages.into_iter().map(|message| message.id).collect();
        assert_eq!(ids, expected, "{query}");
    }
    for wrong in ["?limit=-1", "?limit=x", "?offset=1"] {
        assert_eq!(get(&page, &format!("/api/messages{wrong}")).await.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn people_see_bubbles_and_find_the_older_ones() {
    let page = texts(5, 10).await;
    let newest = text(&page, "/?limit=2").await;
    let older = text(&page, "/?limit=2&before=4").await;
    let last = text(&page, "/?limit=2&before=2").await;
    let shows = |html: &str| (1..=5).filter(|n| html.contains(&format!(">text {n}.<"))).collect::<Vec<_>>();
    assert_eq!([shows(&newest), shows(&older), shows(&last)], [vec![4, 5], vec![2, 3], vec![1]]);
    for (html, link, follows) in
        [(&newest, "before=4", true), (&older, "before=2", false), (&last, "", false)]
    {
        assert!(html.contains(link), "{html}");
        assert_eq!(html.contains("Older"), !link.is_empty(), "{html}");
        assert_eq!(html.contains("http-equiv=\"refresh\""), follows, "{html}");
    }
    assert!(newest.contains("id=\"m5\"") && newest.contains("<b id=\"count\">5</b>"), "{newest}");
    let empty = text(&texts(0, 1).await, "/").await;
    assert!(empty.contains("Nothing yet."), "{empty}");
}

#[tokio::test]
async fn an_sms_that_is_none_is_refused() {
    let page = texts(0, 1).await;
    let post = |kind: &'static str, body: &'static str| {
        let request = Client::new().post(url(&page, "/messages")).header("content-type", kind).body(body);
        async { request.send().await.unwrap().status() }
    };
    assert_eq!(post("application/json", r#"{"to":"+81"}"#).await, 422);
    assert_eq!(post("application/json", "nonsense").await, 400);
    // What a page of somebody else's can send without asking.
    assert_eq!(post("text/plain", r#"{"to":"+81","text":"x"}"#).await, 415);
    assert_eq!(text(&page, "/api/messages").await, r#"{"count":0,"messages":[]}"#);
}

/// Sends a mail and returns the page that shows it.
async fn mailed(server: &MailServer, mail: &str) -> Page {
    let page = Page::start(any(), mail::source(server)).await.unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let dialogue = format!(
        "EHLO a\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<o@example.com>\r\nDATA\r\n{mail}\r\n.\r\nQUIT\r\n"
    );
    stream.write_all(dialogue.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    eventually(SOON, "the mail is there", async || text(&page, "/").await.contains("id=\"m1\"")).await;
    page
}

#[tokio::test]
async fn a_hostile_mail_is_harmless() {
    const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
    let server = MailServer::start(any(), Tls::None, 10).await.unwrap();
    let mail = format!(
        "From: a@example.com\r\nSubject: {EVIL}\r\nMessage-ID: <1@example.com>\r\n\
         Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
         </pre>{EVIL}\r\n--b\r\nContent-Type: text/html\r\n\r\n<p style=\"color:red\">{EVIL}</p>\r\n--b--\r\n"
    );
    let page = mailed(&server, &mail).await;

    let answer = get(&page, "/").await;
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = answer.text().await.unwrap();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;"), "{html}");
    assert!(!html.contains("alert(1)</script>") && !html.contains("<img"), "{html}");
    assert_eq!(html.matches("<script").count(), 1, "its own: {html}");
    assert_eq!(html.matches("</pre>").count(), 1, "{html}");
    assert!(html.contains("<iframe sandbox loading"), "{html}");

    // The mail itself, also when somebody opens it by itself.
    let answer = get(&page, "/messages/1/html").await;
    let policy = answer.headers().get_all("content-security-policy").iter().collect::<Vec<_>>();
    assert_eq!(policy.len(), 1);
    let policy = policy[0].to_str().unwrap();
    assert!(policy.starts_with("sandbox; default-src 'none'") && !policy.contains("script"), "{policy}");
    assert!(answer.text().await.unwrap().contains("color:red"));
    for missing in ["/messages/2/html", "/messages/0/html", "/messages/18446744073709551615/html"] {
        assert_eq!(get(&page, missing).await.status(), 404, "{missing}");
    }
}

#[tokio::test]
async fn style_and_script_are_files_of_its_own() {
    let page = texts(0, 1).await;
    for (path, kind) in [("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let answer = get(&page, path).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &kind.parse().unwrap())
        );
    }
    let html = text(&page, "/").await;
    assert!(!html.contains("://") && !html.contains("<style") && !html.contains(" style="), "{html}");
}

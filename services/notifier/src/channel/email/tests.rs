//! Against a real mail server on a real socket, which misbehaves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use latchline_shared::kit::testing::eventually;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use uuid::Uuid;

use super::*;
use crate::channel::Bounce;
use crate::event::{EventType, Severity};
use crate::sink::smtp::{Behaviour, MailServer, Step, Tls as ServerTls};

const SOON: Duration = Duration::from_secs(10);

/// A mail server, and a relay that uses it.
struct Lab {
    server: MailServer,
    relay: Relay,
    _folder: tempfile::TempDir,
}

#[derive(Clone, Copy, PartialEq)]
enum Trust {
    /// The server's certificate, for this name.
    Its(&'static str),
    /// Another one.
    Another,
}

fn certificate(name: &str) -> (Arc<ServerConfig>, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    (Arc::new(config.with_single_cert(vec![cert.der().clone()], key).unwrap()), cert.pem())
}

fn settings(from: &str) -> Settings {
    Settings {
        relays: Vec::new(),
        from: from.to_owned(),
        concurrency: 2,
        concurrency_critical: 1,
        connect_timeout: Duration::from_millis(700),
        send_timeout: Duration::from_millis(400),
        idle: Duration::from_secs(60),
    }
}

fn relay(address: SocketAddr, tls: settings::Tls) -> RelaySettings {
    RelaySettings {
        name: "relay".to_owned(),
        host: "localhost".to_owned(),
        port: address.port(),
        tls,
        user: None,
        password: None,
        password_file: None,
        ca_file: None,
        rps: 0,
    }
}

impl Lab {
    async fn plain() -> Self {
        Self::with(settings("Locks <locks@example.com>")).await
    }

    async fn with(settings: Settings) -> Self {
        let server = MailServer::start(([127, 0, 0, 1], 0).into(), ServerTls::None, 100).await.unwrap();
        let relay = Relay::new(&relay(server.address(), settings::Tls::None), &settings).unwrap();
        Self { server, relay, _folder: tempfile::tempdir().unwrap() }
    }

    /// With a password.
    async fn encrypted(tls: settings::Tls, trust: Trust) -> Self {
        let name = if let Trust::Its(name) = trust { name } else { "localhost" };
        let (config, pem) = certificate(name);
        let pem = if trust == Trust::Another { certificate("localhost").1 } else { pem };
        let tls_of_server = match tls {
            settings::Tls::Tls => ServerTls::Immediate(config),
            _ => ServerTls::Starttls(config),
        };
        let server = MailServer::start(([127, 0, 0, 1], 0).into(), tls_of_server, 100).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, pem).unwrap();
        let relay = RelaySettings {
            user: Some("user".to_owned()),
            password: Some("secret".into()),
            ca_file: Some(ca_file),
            ..relay(server.address(), tls)
        };
        let relay = Relay::new(&relay, &settings("locks@example.com")).unwrap();
        Self { server, relay, _folder: folder }
    }

    async fn send(&self) -> Answer {
        self.relay.send(&message()).await
    }
}

fn message() -> Message {
    Message {
        id: Uuid::from_u128(7),
        address: "taro@example.com".to_owned(),
        event_type: EventType::Unlocked,
        severity: Severity::Info,
        at_ms: 1,
        content: content("Unlocked", "Your lock was unlocked.", "<p>Your lock was unlocked.</p>"),
    }
}

fn content(subject: &str, text: &str, html: &str) -> Content {
    Content::Email { subject: subject.to_owned(), text: text.to_owned(), html: html.to_owned() }
}

#[tokio::test]
async fn what_a_server_does_is_told_as_it_is_documented() {
    use Outcome::{Accepted, Ambiguous, Permanent, Transient, Unavailable};
    use Step::{Body, Data, Ehlo, Greeting, Mail, Rcpt};
    let answer = Behaviour::answer;
    for (behaviour, outcome, code, bounce) in [
        (Behaviour::Accept, Accepted, "250", None),
        (answer(Greeting, "421 4.3.2 busy"), Unavailable, "421 4.3.2", None),
        (answer(Greeting, "554 5.7.1 not you"), Unavailable, "554 5.7.1", None),
        (answer(Ehlo, "550 no"), Unavailable, "550", None),
        (Behaviour::Hang { at: Greeting }, Unavailable, "timeout", None),
        (Behaviour::Close { at: Greeting }, Unavailable, "no answer", None),
        (answer(Mail, "451 4.3.0 later"), Unavailable, "451 4.3.0", None),
        (answer(Mail, "451 4.7.1 later"), Transient, "451 4.7.1", None),
        (answer(Mail, "550 5.7.1 not from you"), Unavailable, "550 5.7.1", None),
        (answer(Mail, "421 4.3.2 closing"), Unavailable, "421 4.3.2", None),
        (answer(Mail, "nonsense"), Unavailable, "no answer", None),
        (Behaviour::Close { at: Mail }, Unavailable, "no answer", None),
        (answer(Rcpt, "450 4.2.0 greylisted"), Transient, "450 4.2.0", None),
        (answer(Rcpt, "550 5.1.1 nobody"), Permanent, "550 5.1.1", Some(Bounce::Gone)),
        (answer(Rcpt, "550 nobody"), Permanent, "550", Some(Bounce::Hard)),
        (answer(Rcpt, "552 5.2.2 full"), Permanent, "552 5.2.2", Some(Bounce::Hard)),
        (answer(Rcpt, "452 4.3.1 no room"), Unavailable, "452 4.3.1", None),
        (answer(Rcpt, "554 5.7.1 relay access denied"), Transient, "554 5.7.1", None),
        (Behaviour::Hang { at: Rcpt }, Unavailable, "timeout", None),
        (answer(Data, "451 4.3.0 later"), Unavailable, "451 4.3.0", None),
        (answer(Data, "554 5.5.1 no"), Permanent, "554 5.5.1", None),
        (answer(Data, "250 2.0.0 what"), Unavailable, "250 2.0.0", None),
        (answer(Body, "451 4.3.0 later"), Unavailable, "451 4.3.0", None),
        (answer(Body, "451 later"), Transient, "451", None),
        (answer(Body, "552 5.3.4 too big"), Permanent, "552 5.3.4", None),
        (answer(Body, "550 5.1.1 nobody"), Permanent, "550 5.1.1", None),
        (answer(Body, "nonsense"), Ambiguous, "no answer", None),
        (Behaviour::Hang { at: Body }, Ambiguous, "timeout", None),
        (Behaviour::Close { at: Body }, Ambiguous, "no answer", None),
    ] {
        let lab = Lab::plain().await;
        lab.server.behave(behaviour.clone());
        let answer = lab.send().await;
        let found = (answer.outcome, answer.code.as_str(), answer.bounce);
        assert_eq!(found, (outcome, code, bounce), "{behaviour:?}: {}", answer.excerpt);
        let counts = lab.server.counts();
        let has_it = matches!(outcome, Accepted | Ambiguous);
        assert!(has_it || counts.accepted == 0, "{behaviour:?}: {counts:?}");
    }
}

#[tokio::test]
async fn a_message_that_was_not_written_is_nobodys() {
    let lab = Lab::plain().await;
    let to = "taro@example.com".parse().unwrap();
    // More than sockets hold, and than the server takes at all.
    let bytes = b"a line\r\n".repeat(4_000_000);
    lab.server.behave(Behaviour::Close { at: Step::Data });
    let connection = lab.relay.door.connect().await.ok().unwrap();
    let (answer, is_stale) = lab.relay.transmit(connection, &to, &bytes, (SOON, SOON)).await;
    assert_eq!((answer.outcome, is_stale), (Outcome::Unavailable, false), "{answer:?}");
    assert_eq!(lab.server.counts().accepted, 0);
}

#[tokio::test]
async fn nobody_listens() {
    let lab = Lab::plain().await;
    lab.server.stop().await;
    let answer = lab.send().await;
    assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Unavailable, "connection"));
}

#[tokio::test]
async fn mail_goes_encrypted_to_who_proves_its_name_or_not_at_all() {
    use settings::Tls::{Starttls, Tls};
    for tls in [Starttls, Tls] {
        let lab = Lab::encrypted(tls, Trust::Its("localhost")).await;
        let answer = lab.send().await;
        assert_eq!(answer.outcome, Outcome::Accepted, "{tls:?} {answer:?}");
        let mail = lab.server.mails().remove(0);
        assert_eq!((mail.encrypted, mail.user.as_deref()), (true, Some("user")));
        for trust in [Trust::Its("elsewhere"), Trust::Another] {
            let lab = Lab::encrypted(tls, trust).await;
            let answer = lab.send().await;
            assert_eq!(answer.outcome, Outcome::Unavailable, "{answer:?}");
            assert!(lab.server.mails().is_empty());
        }
    }
    let lab = Lab::encrypted(Starttls, Trust::Its("localhost")).await;
    for (behaviour, code) in [
        (Behaviour::NoTls, "starttls"),
        (Behaviour::answer(Step::StartTls, "454 4.7.0 not now"), "454 4.7.0"),
        (Behaviour::answer(Step::Auth, "535 5.7.8 wrong password"), "535 5.7.8"),
        (Behaviour::Hang { at: Step::StartTls }, "timeout"),
    ] {
        lab.server.behave(behaviour);
        let answer = lab.send().await;
        assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Unavailable, code), "{answer:?}");
    }
    assert!(lab.server.mails().is_empty());
}

#[tokio::test]
async fn words_before_encryption_are_not_taken_for_the_servers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let said = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&said);
    // Somebody on the way answers for everything to come, in front of the encryption.
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 x\r\n").await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
            let answer: &[u8] = match line.trim_end() {
                "STARTTLS" => {
                    heard.fetch_add(1, Ordering::Relaxed);
                    b"220 go\r\n250 x\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"
                }
                _ => b"250-x\r\n250 STARTTLS\r\n",
            };
            stream.write_all(answer).await.unwrap();
            line.clear();
        }
    });
    let relay = Relay::new(&relay(address, settings::Tls::Starttls), &settings("locks@example.com")).unwrap();
    let answer = relay.send(&message()).await;
    assert_eq!((answer.outcome, said.load(Ordering::Relaxed)), (Outcome::Unavailable, 1), "{answer:?}");
    drop(relay);
    task.abort();
}

#[tokio::test]
async fn a_connection_is_used_again_also_after_a_refusal() {
    let lab = Lab::plain().await;
    for behaviour in [
        Behaviour::Accept,
        Behaviour::answer(Step::Rcpt, "550 5.1.1 nobody"),
        Behaviour::answer(Step::Body, "451 4.3.0 later"),
        Behaviour::Accept,
    ] {
        lab.server.behave(behaviour);
        lab.send().await;
    }
    assert_eq!((lab.server.counts().connections, lab.server.counts().accepted), (1, 2));
    assert_eq!(lab.server.times("<00000000-0000-0000-0000-000000000007@example.com>"), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let mut lab = Lab::plain().await;
    lab.send().await;
    lab.server.stop().await;
    lab.server.start_again().await.unwrap();
    assert_eq!(lab.send().await.outcome, Outcome::Accepted);
    lab.server.behave_by(|moment| match moment.connection {
        2 => Behaviour::answer(Step::Mail, "421 4.4.2 too long idle"),
        _ => Behaviour::Accept,
    });
    assert_eq!(lab.send().await.outcome, Outcome::Accepted);
    assert_eq!((lab.server.counts().connections, lab.server.counts().accepted), (3, 3));
    // But never a message that may have been taken.
    lab.server.behave(Behaviour::Close { at: Step::Body });
    assert_eq!(lab.send().await.outcome, Outcome::Ambiguous);
    assert_eq!(lab.server.counts().unanswered, 1);
}

#[tokio::test]
async fn a_connection_that_says_nothing_any_more_is_replaced() {
    for at in [Step::Mail, Step::Rcpt] {
        let lab = Lab::plain().await;
        lab.send().await;
        lab.server.behave_by(move |moment| match moment.connection {
            1 => Behaviour::Hang { at },
            _ => Behaviour::Accept,
        });
        let answer = lab.send().await;
        assert_eq!(answer.outcome, Outcome::Accepted, "{at:?} {answer:?}");
        let counts = lab.server.counts();
        assert_eq!((counts.connections, counts.accepted), (2, 2), "{at:?}");
        // Not when the message was written: it may have been taken.
        lab.server.behave(Behaviour::Hang { at: Step::Body });
        assert_eq!(lab.send().await.outcome, Outcome::Ambiguous);
        assert_eq!(lab.server.counts().connections, 2, "{at:?}");
    }
    for (whole, first) in [(60_000, 5_000), (10_000, 5_000), (400, 200)] {
        let (whole, first) = (Duration::from_millis(whole), Duration::from_millis(first));
        assert_eq!(reused_timeout(whole), first);
    }
}

#[tokio::test]
async fn no_address_is_kept_of_what_a_server_says() {
    let lab = Lab::plain().await;
    for (text, outcome) in [
        ("250 2.0.0 <taro@example.com> taken for Taro", Outcome::Accepted),
        ("nonsense of taro@example.com", Outcome::Ambiguous),
    ] {
        lab.server.behave(Behaviour::answer(Step::Body, text));
        let answer = lab.send().await;
        assert_eq!(answer.outcome, outcome, "{answer:?}");
        assert!(!answer.excerpt.to_lowercase().contains("taro"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_without_work_is_closed() {
    let lab = Lab::with(Settings { idle: Duration::from_millis(50), ..settings("locks@example.com") }).await;
    lab.send().await;
    assert_eq!(lab.relay.pool.len(), 1);
    eventually(SOON, "it is closed", async || lab.relay.pool.len() == 0).await;
    lab.send().await;
    assert_eq!(lab.server.counts().connections, 2);
}

/// The head of a message: its fields, unfolded.
fn head(raw: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(raw).unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    unfolded.split("\r\n").map(field).collect()
}

fn value<'a>(head: &'a [(String, String)], name: &str) -> &'a str {
    let all: Vec<_> = head.iter().filter(|(one, _)| one == name).collect();
    assert_eq!(all.len(), 1, "{name} in {head:?}");
    &all[0].1
}

/// Encoded words (RFC 2047) as text.
fn decoded(value: &str) -> String {
    use base64::Engine;
    let word = regex::Regex::new(r"=\?utf-8\?b\?([A-Za-z0-9+/=]*)\?=").unwrap();
    let joined = value.replace("?= =?", "?==?");
    let plain = |found: &regex::Captures<'_>| {
        String::from_utf8(base64::prelude::BASE64_STANDARD.decode(&found[1]).unwrap()).unwrap()
    };
    word.replace_all(&joined, plain).into_owned()
}

#[tokio::test]
async fn a_message_has_the_head_that_it_should_have() {
    let lab = Lab::with(settings("錠前サービス <locks@例え.jp>")).await;
    assert_eq!(lab.send().await.outcome, Outcome::Accepted);
    let mail = lab.server.mails().remove(0);
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("locks@xn--r8jz45g.jp", ["taro@example.com".to_owned()].as_slice())
    );
    assert!(mail.raw.is_ascii() && mail.raw.split(|b| *b == b'\n').all(|line| line.len() <= 998));
    let head = head(&mail.raw);
    assert_eq!(decoded(value(&head, "from")).replace('"', ""), "錠前サービス <locks@xn--r8jz45g.jp>");
    assert_eq!(value(&head, "to"), "taro@example.com");
    assert_eq!(value(&head, "subject"), "Unlocked");
    assert_eq!(value(&head, "message-id"), "<00000000-0000-0000-0000-000000000007@xn--r8jz45g.jp>");
    assert_eq!(value(&head, "auto-submitted"), "auto-generated");
    assert_eq!(value(&head, "x-auto-response-suppress"), "All");
    assert!(value(&head, "content-type").starts_with("multipart/alternative"));
    let date = jiff::fmt::rfc2822::parse(value(&head, "date")).unwrap();
    assert!(date.timestamp().as_millisecond().abs_diff(clock::unix_ms() as i64) < 60_000);
    let body = String::from_utf8(mail.raw).unwrap();
    let (text, html) = (body.find("text/plain").unwrap(), body.find("text/html").unwrap());
    assert!(text < html && body.contains("\r\nYour lock was unlocked."));
}

#[test]
fn no_value_becomes_a_line_of_the_head() {
    let sender = Sender::new(settings("Locks <locks@example.com>").sender().unwrap()).unwrap();
    let to = "taro@example.com".parse().unwrap();
    let long = "玄関".repeat(300);
    for subject in [
        "a\r\nBcc: evil@example.com",
        "a\nBcc: evil@example.com",
        "a\rBcc: evil@example.com",
        "\r\n\r\n<script>",
        "=?utf-8?q?a=0D=0ABcc:_evil@example.com?=",
        "a\0b\u{2028}c\u{85}Bcc: x",
        &long,
        &format!("{long}\r\nBcc: evil@example.com"),
        "",
        "🔓 玄関 was unlocked",
    ] {
        let text = format!("{subject}\r\n.\r\nMAIL FROM:<x@y>\r\n\rBcc: a\n.\n");
        let letter = Letter { id: Uuid::nil(), subject, text: &text, html: subject, at_ms: 0 };
        let bytes = sender.compose(&to, letter).unwrap();
        assert!(bytes.is_ascii(), "{subject:?}");
        // No line ends otherwise than it must.
        let bare = bytes.windows(2).any(|pair| (pair[1] == b'\n') != (pair[0] == b'\r'));
        assert!(!bare, "{subject:?}");
        let head = head(&bytes);
        let mut names: Vec<_> = head.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let expected = [
            "auto-submitted",
            "content-type",
            "date",
            "from",
            "message-id",
            "mime-version",
            "subject",
            "to",
            "x-auto-response-suppress",
        ];
        assert_eq!(names, expected, "{subject:?}");
        let plain: String = subject
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect::<String>()
            .trim()
            .chars()
            .take(200)
            .collect();
        if !subject.contains("=?") {
            assert_eq!(decoded(value(&head, "subject")), plain);
        }
    }
}

#[tokio::test]
async fn hosts_are_written_in_ascii_and_names_only_where_the_server_can() {
    let lab = Lab::plain().await;
    for (address, to) in [("taro@例え.jp", "taro@xn--r8jz45g.jp"), ("太郎@例え.jp", "太郎@xn--r8jz45g.jp")]
    {
        let answer = lab.relay.send(&Message { address: address.to_owned(), ..message() }).await;
        assert_eq!(answer.outcome, Outcome::Accepted, "{answer:?}");
        assert_eq!(lab.server.mails().pop().unwrap().to, [to]);
    }
    lab.server.behave(Behaviour::answer(Step::Ehlo, "250 sink"));
    let lab = Lab {
        relay: Relay::new(&relay(lab.server.address(), settings::Tls::None), &settings("a@b.jp")).unwrap(),
        ..lab
    };
    let answer = lab.relay.send(&Message { address: "太郎@例え.jp".to_owned(), ..message() }).await;
    assert_eq!((answer.outcome, answer.code.as_str()), (Outcome::Permanent, "smtputf8"));
    for address in ["", "nobody", "a@b\r\nRCPT TO:<c@d>"] {
        let answer = lab.relay.send(&Message { address: address.to_owned(), ..message() }).await;
        assert_eq!((answer.outcome, answer.bounce), (Outcome::Permanent, None), "{address:?}");
    }
}

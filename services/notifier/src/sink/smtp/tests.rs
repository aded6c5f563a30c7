//! Raw sockets against the mail server: what a client sees is what it was told to do.

use std::time::Duration;

use latchline_shared::kit::testing::eventually;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

const SOON: Duration = Duration::from_secs(10);

async fn server(tls: Tls) -> MailServer {
    MailServer::start(([127, 0, 0, 1], 0).into(), tls, 2).await.unwrap()
}

fn certificate() -> (Arc<ServerConfig>, TlsConnector) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let chain = vec![cert.der().clone()];
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(config), TlsConnector::from(Arc::new(client)))
}

trait Both: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

struct Client(BufReader<Box<dyn Both>>);

impl Client {
    async fn connect(server: &MailServer) -> Self {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    /// The whole answer; empty: closed.
    async fn read(&mut self) -> String {
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(SOON, self.0.read_line(&mut line)).await.unwrap();
            answer.push_str(&line);
            if read.unwrap_or_default() == 0 || line.get(3..4) != Some("-") {
                return answer;
            }
        }
    }

    async fn say(&mut self, text: &str) -> String {
        let _cut = self.0.write_all(format!("{text}\r\n").as_bytes()).await;
        self.read().await
    }

    async fn encrypt(self, connector: &TlsConnector) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, self.0.into_inner()).await.unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    /// A whole message; the last answer.
    async fn mail(&mut self, id: &str) -> String {
        for command in ["MAIL FROM:<lock@example.com> BODY=8BITMIME", "RCPT TO:<taro@例え.jp>", "DATA"] {
            let answer = self.say(command).await;
            if !answer.starts_with(['2', '3']) {
                return answer;
            }
        }
        let body = format!("Subject: a\r\nMessage-Id:\r\n <{id}>\r\n\r\n..dot\r\n...\r\nend\r\n.");
        self.say(&body).await
    }
}

#[tokio::test]
async fn a_message_is_kept_as_it_was_sent() {
    let server = server(Tls::None).await;
    let mut client = Client::connect(&server).await;
    assert_eq!(client.read().await, "220 sink ESMTP\r\n");
    let ehlo = client.say("EHLO me").await;
    assert!(ehlo.contains("8BITMIME") && ehlo.contains("SMTPUTF8") && !ehlo.contains("PIPELINING"));
    assert!(!ehlo.contains("STARTTLS"), "{ehlo}");
    assert!(client.say("AUTH PLAIN AHVzZXIAc2VjcmV0").await.starts_with("235 "));
    assert!(client.mail("1@x").await.starts_with("250 "));
    let mail = server.mails().remove(0);
    assert_eq!((mail.from.as_str(), mail.to[0].as_str()), ("lock@example.com", "taro@例え.jp"));
    assert_eq!(
        String::from_utf8(mail.raw).unwrap().split("\r\n\r\n").nth(1).unwrap(),
        ".dot\r\n..\r\nend\r\n"
    );
    assert_eq!((mail.message_id.as_deref(), mail.user.as_deref()), (Some("<1@x>"), Some("user")));
    assert!(mail.answered && !mail.encrypted);
    for _ in 0..3 {
        assert!(client.mail("2@x").await.starts_with("250 "));
    }
    assert_eq!((server.times("<2@x>"), server.mails().len(), server.counts().accepted), (3, 2, 4));
    assert!(client.say("QUIT").await.starts_with("221 "));
    assert_eq!(client.read().await, "");
}

#[tokio::test]
async fn commands_come_in_order() {
    let server = server(Tls::None).await;
    let mut client = Client::connect(&server).await;
    client.read().await;
    for (command, answer) in [
        ("RCPT TO:<a@b>", "503"),
        ("DATA", "503"),
        ("MAIL FROM:a@b", "501"),
        ("MAIL FROM:<a@b>", "250"),
        ("MAIL FROM:<a@b>", "503"),
        ("RSET", "250"),
        ("MAIL FROM:<a@b>", "250"),
        ("AUTH LOGIN", "504"),
        ("AUTH PLAIN bm9uZQ==", "501"),
        ("VRFY a", "502"),
        ("STARTTLS", "502"),
    ] {
        assert!(client.say(command).await.starts_with(answer), "{command}");
    }
}

#[tokio::test]
async fn it_is_encrypted_by_starttls_or_at_once() {
    let (config, connector) = certificate();
    let server = server(Tls::Starttls(Arc::clone(&config))).await;
    let mut client = Client::connect(&server).await;
    client.read().await;
    let ehlo = client.say("EHLO me").await;
    assert!(ehlo.contains("STARTTLS") && !ehlo.contains("AUTH"), "{ehlo}");
    assert!(client.say("STARTTLS").await.starts_with("220 "));
    let mut client = client.encrypt(&connector).await;
    assert!(client.say("EHLO me").await.contains("AUTH PLAIN"));
    client.mail("1@x").await;
    assert!(server.mails()[0].encrypted);

    server.behave(Behaviour::NoTls);
    let mut client = Client::connect(&server).await;
    client.read().await;
    assert!(!client.say("EHLO me").await.contains("STARTTLS"));
    assert!(client.say("STARTTLS").await.starts_with("502 "));

    let server = self::server(Tls::Immediate(config)).await;
    let mut client = Client::connect(&server).await.encrypt(&connector).await;
    assert_eq!(client.read().await, "220 sink ESMTP\r\n");
}

#[tokio::test]
async fn it_answers_what_it_is_told_where_it_is_told() {
    let (config, _) = certificate();
    let server = server(Tls::Starttls(config)).await;
    for at in [Step::Greeting, Step::Ehlo, Step::StartTls, Step::Mail, Step::Rcpt, Step::Data, Step::Body] {
        server.behave(Behaviour::answer(at, "451 4.3.0 later"));
        let mut client = Client::connect(&server).await;
        let mut answers = vec![client.read().await, client.say("EHLO me").await];
        if at == Step::StartTls {
            answers.push(client.say("STARTTLS").await);
        }
        answers.push(client.mail("1@x").await);
        let told = answers.iter().filter(|answer| *answer == "451 4.3.0 later\r\n").count();
        assert_eq!(told, 1, "{at:?}: {answers:?}");
    }
    // Those before MAIL did not keep the message from being taken.
    assert_eq!((server.counts().accepted, server.counts().misbehaved), (3, 7));
    let mut client = Client::connect(&server).await;
    client.read().await;
    server.behave(Behaviour::answer(Step::Auth, "535 5.7.8 no"));
    assert_eq!(client.say("AUTH PLAIN AHVzZXIAc2VjcmV0").await, "535 5.7.8 no\r\n");
    server.behave(Behaviour::answer(Step::Mail, "421 4.3.2 gone"));
    assert_eq!(client.mail("1@x").await, "421 4.3.2 gone\r\n");
    assert_eq!(client.read().await, "");
}

#[tokio::test]
async fn it_closes_or_hangs_where_it_is_told() {
    let mut server = server(Tls::None).await;
    for at in [Step::Greeting, Step::Ehlo, Step::Mail, Step::Rcpt, Step::Data, Step::Body] {
        server.behave(Behaviour::Close { at });
        let mut client = Client::connect(&server).await;
        client.read().await;
        client.say("EHLO me").await;
        assert_eq!(client.mail("1@x").await, "", "{at:?}");
    }
    // Only what it has in full counts.
    assert_eq!((server.counts().accepted, server.counts().unanswered), (0, 1));
    assert!(!server.mails()[0].answered);

    server.behave_by(|moment| match moment.message_id.as_deref() {
        Some("<2@x>") => Behaviour::Hang { at: Step::Body },
        _ => Behaviour::Accept,
    });
    let mut client = Client::connect(&server).await;
    client.read().await;
    client.say("EHLO me").await;
    assert!(client.mail("1@x").await.starts_with("250 "));
    let (answer, ()) = tokio::join!(client.mail("2@x"), async {
        eventually(SOON, "hangs", async || server.counts().unanswered == 2).await;
        server.stop().await;
    });
    assert_eq!(answer, "");
    assert!(TcpStream::connect(server.address()).await.is_err());
    server.start_again().await.unwrap();
    assert_eq!(Client::connect(&server).await.read().await, "220 sink ESMTP\r\n");
    assert_eq!((server.times("<1@x>"), server.times("<2@x>")), (2, 1));
}

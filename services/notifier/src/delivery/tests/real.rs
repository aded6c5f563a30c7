//! The whole of delivery with real mail servers and gateways on sockets: what they do, and what becomes
//! of the row.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use latchline_shared::kit::postgres::listen::Listener;
use latchline_shared::kit::testing::eventually;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::channel::email::{self, Relay, settings::RelaySettings, settings::Tls};
use crate::channel::sms::{Gateway, tests::preset, tests::sms_settings};
use crate::channel::webhook;
use crate::delivery::metrics::Metrics;
use crate::delivery::settings::Settings;
use crate::delivery::{Delivery, Limits, NEWS, Providers};
use crate::sink::http::{HttpServer, Reply};
use crate::sink::smtp::{Behaviour, MailServer, Step, Tls as ServerTls};
use crate::template::Templates;

const SOON: Duration = Duration::from_secs(60);
/// Scenes that are played at the same time.
const AT_ONCE: usize = 6;

/// A row in a database of its own, a mail server and a gateway, and delivery between them.
struct Scene {
    lab: Lab,
    mail: MailServer,
    gateway: HttpServer,
    templates: Arc<Templates>,
}

impl Scene {
    async fn start(templates: &Arc<Templates>) -> Self {
        let any = ([127, 0, 0, 1], 0).into();
        let mail = MailServer::start(any, ServerTls::None, 100).await.unwrap();
        let gateway = HttpServer::start(any, 100).await.unwrap();
        Self { lab: Lab::start().await, mail, gateway, templates: Arc::clone(templates) }
    }

    async fn row(&self, channel: Channel) -> Uuid {
        let address = match channel {
            Channel::Sms => "+819012341234",
            _ => "taro@example.com",
        };
        let contact = self.lab.contact(channel, "active").await;
        self.lab.insert(&Row { channel, address: address.to_owned(), ..row(contact) }).await
    }

    /// Begins to deliver.
    fn deliver(&self, tls: Tls, gateway: &str) -> Delivering {
        let relay = RelaySettings {
            name: "relay".to_owned(),
            host: "localhost".to_owned(),
            port: self.mail.address().port(),
            tls,
            user: None,
            password: None,
            password_file: None,
            ca_file: None,
            rps: 0,
        };
        let email = email::settings::Settings {
            relays: Vec::new(),
            from: "Locks <locks@example.com>".to_owned(),
            concurrency: 2,
            concurrency_critical: 1,
            connect_timeout: Duration::from_secs(2),
            send_timeout: Duration::from_secs(2),
            idle: Duration::from_secs(60),
        };
        let gateway = preset(gateway, &self.gateway.url(""));
        let sms = sms_settings(&[&format!("{gateway}connect_timeout_ms = 1000\ntimeout_ms = 2000")]);
        let webhook = webhook::settings::Settings {
            enabled: false,
            allowed_networks: Vec::new(),
            concurrency: 1,
            concurrency_critical: 1,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            ca_file: None,
        };
        let providers = Providers {
            email: vec![Relay::new(&relay, &email).unwrap()],
            sms: vec![Gateway::new(&sms.gateways[0], &sms).unwrap()],
            webhook: None,
        };
        // Whatever fails ends after three attempts: the message, or the provider's breaker opens.
        let settings = Settings {
            base: Duration::from_millis(1),
            cap: Duration::from_millis(1),
            attempts_max: 3,
            ambiguous_max: 3,
            breaker_failures: 3,
            breaker_within: SOON * 10,
            breaker_open: SOON * 10,
        };
        let listener = Listener::new(&self.lab.database.postgres, "tests", NEWS);
        let limits = Limits::new(&email, &sms, &webhook, SOON);
        let templates = Arc::clone(&self.templates);
        let metrics = Metrics::new(&mut Registry::default());
        let pool = self.lab.database.pool.clone();
        let delivery =
            Delivery::new(&settings, limits, pool, providers, templates, metrics, listener.wakes());
        let token = CancellationToken::new();
        Delivering { task: tokio::spawn(delivery.run(token.clone())), token }
    }

    /// Delivers until so many attempts have ended, and ends what is under way: where the row and its
    /// contact stand then, and all attempts.
    async fn play(&self, id: Uuid, attempts: usize, delivering: Delivering, what: &str) -> (String, String) {
        self.ended(id, attempts, what).await;
        delivering.end().await;
        let select = "select concat_ws(' ', n.status, reason, c.status)
            from notification n join contact c on c.id = contact_id where n.id = $1";
        (self.lab.text(select, &[&id]).await, self.lab.attempts(id).await)
    }

    async fn ended(&self, id: Uuid, attempts: usize, what: &str) {
        let ended = "select count(*)::text from attempt where notification_id = $1 and outcome <> 'started'";
        let attempts = attempts.to_string();
        eventually(SOON, what, async || self.lab.text(ended, &[&id]).await == attempts).await;
    }

    async fn ends(&self, id: Uuid, (standing, times, attempt): End, delivering: Delivering, what: &str) {
        let attempts: Vec<_> = (1..=times).map(|n| format!("{n} {attempt}")).collect();
        let (row, tried) = self.play(id, times, delivering, what).await;
        // Whether a connection's end is seen while reading or while writing is up to the network.
        let tried = tried.replace("ambiguous connection", "ambiguous no answer");
        assert_eq!((row.as_str(), tried), (standing, attempts.join(", ")), "{what}");
    }
}

/// At work.
struct Delivering {
    task: JoinHandle<anyhow::Result<()>>,
    token: CancellationToken,
}

impl Delivering {
    async fn end(self) {
        self.token.cancel();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_put_off_and_then_lost_sight_of_arrives() {
    let templates = templates();
    let scene = Scene::start(&templates).await;
    let letter = scene.row(Channel::Email).await;
    scene.mail.behave_by(|moment| match moment.message {
        1 => Behaviour::answer(Step::Mail, "451 4.7.1 later"),
        2 => Behaviour::Close { at: Step::Body },
        _ => Behaviour::Accept,
    });
    let sms = scene.row(Channel::Sms).await;
    scene.gateway.answer_next(Reply::status(500));
    scene.gateway.answer_next(Reply::close());
    scene.gateway.answer(Reply::json(200, &json!({"id": "theirs"})));
    let delivering = scene.deliver(Tls::None, "generic");

    scene.ended(sms, 3, "the SMS is taken").await;
    let (standing, attempts) = scene.play(letter, 3, delivering, "the letter is taken").await;
    assert_eq!(standing, "sent accepted active");
    assert_eq!(attempts, "1 transient 451 4.7.1, 2 ambiguous no answer, 3 accepted 250");
    let attempts = scene.lab.attempts(sms).await;
    assert_eq!(attempts, "1 transient http 500, 2 ambiguous no_answer, 3 accepted http 200");

    assert_eq!(scene.lab.text("select count(*)::text from notification", &[]).await, "2");
    // Whoever has both copies sees that they are one.
    let ids: HashSet<_> = scene.mail.mails().into_iter().map(|mail| mail.message_id).collect();
    assert_eq!(ids, HashSet::from([Some(format!("<{letter}@example.com>"))]));
    let counts = scene.mail.counts();
    assert_eq!((counts.unanswered, counts.accepted), (1, 1));
    let requests = scene.gateway.requests();
    let keys: Vec<_> = requests.iter().map(|request| request.header("idempotency-key")).collect();
    assert_eq!(keys, vec![sms.to_string(); 3]);
    let select = "select concat_ws(' ', status, provider, provider_id, failures, ambiguous) from notification
        where id = $1 and sent_at is not null and settled_at is not null";
    assert_eq!(scene.lab.text(select, &[&sms]).await, "sent generic theirs 2 1");
}

/// Read once: that takes a while.
fn templates() -> Arc<Templates> {
    Arc::new(Templates::load(None).unwrap())
}

/// What becomes of the row and its contact, how often it is tried, and how each attempt ends.
type End = (&'static str, usize, &'static str);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_mail_server_does_is_seen_in_the_row() {
    use Step::{Body, Data, Greeting, Mail, Rcpt};
    let answer = Behaviour::answer;
    let cases: [(Behaviour, Tls, End); 14] = [
        (Behaviour::Accept, Tls::None, ("sent accepted active", 1, "accepted 250")),
        (answer(Mail, "451 4.7.1 later"), Tls::None, ("dead transient active", 3, "transient 451 4.7.1")),
        (answer(Rcpt, "451 4.7.1 later"), Tls::None, ("dead transient active", 3, "transient 451 4.7.1")),
        (answer(Body, "451 4.7.1 later"), Tls::None, ("dead transient active", 3, "transient 451 4.7.1")),
        (answer(Rcpt, "550 5.1.1 gone"), Tls::None, ("dead permanent bounced", 1, "permanent 550 5.1.1")),
        (answer(Rcpt, "550 no"), Tls::None, ("dead permanent active", 1, "permanent 550")),
        (answer(Body, "550 5.7.1 no"), Tls::None, ("dead permanent active", 1, "permanent 550 5.7.1")),
        // What says nothing of the message does not count against it: its breaker opens, and it waits.
        (
            Behaviour::Hang { at: Greeting },
            Tls::None,
            ("pending unavailable active", 3, "unavailable timeout"),
        ),
        (
            answer(Body, "451 4.3.0 later"),
            Tls::None,
            ("pending unavailable active", 3, "unavailable 451 4.3.0"),
        ),
        (Behaviour::Hang { at: Rcpt }, Tls::None, ("pending unavailable active", 3, "unavailable timeout")),
        (Behaviour::NoTls, Tls::Starttls, ("pending unavailable active", 3, "unavailable starttls")),
        (Behaviour::Hang { at: Body }, Tls::None, ("ambiguous ambiguous active", 3, "ambiguous timeout")),
        (Behaviour::Close { at: Data }, Tls::None, ("ambiguous ambiguous active", 3, "ambiguous no answer")),
        (Behaviour::Close { at: Body }, Tls::None, ("ambiguous ambiguous active", 3, "ambiguous no answer")),
    ];
    let templates = templates();
    let scenes = stream::iter(cases).for_each_concurrent(AT_ONCE, async |(behaviour, tls, expected)| {
        let scene = Scene::start(&templates).await;
        let id = scene.row(Channel::Email).await;
        scene.mail.behave(behaviour.clone());
        let delivering = scene.deliver(tls, "generic");
        scene.ends(id, expected, delivering, &format!("{behaviour:?}")).await;
    });
    scenes.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_gateway_does_is_seen_in_the_row() {
    let refused = |code: &str| Reply::json(422, &json!({"error": {"code": code}}));
    let malformed = || Reply::text(200, "<html>");
    let cases: [(&str, Reply, End); 12] = [
        ("generic", Reply::json(200, &json!({"id": "1"})), ("sent accepted active", 1, "accepted http 200")),
        (
            "kannel",
            Reply::text(202, "0: Accepted for delivery"),
            ("sent accepted active", 1, "accepted http 202"),
        ),
        // Not before the time that it asked for, which is checked below.
        (
            "kannel",
            Reply::status(429).header("retry-after", "600"),
            ("pending transient active", 1, "transient http 429"),
        ),
        ("kannel", Reply::status(429), ("dead transient active", 3, "transient http 429")),
        ("kannel", Reply::status(500), ("dead transient active", 3, "transient http 500")),
        ("kannel", Reply::status(401), ("pending unavailable active", 3, "unavailable http 401")),
        ("generic", refused("opted_out"), ("dead permanent bounced", 1, "permanent http 422 opted_out")),
        // It may have arrived: a gateway that would send a second SMS is not asked again.
        ("kannel", malformed(), ("ambiguous ambiguous active", 1, "ambiguous http 200")),
        ("generic", malformed(), ("ambiguous ambiguous active", 3, "ambiguous http 200")),
        ("kannel", Reply::hang(), ("ambiguous ambiguous active", 1, "ambiguous timeout")),
        ("generic", Reply::hang(), ("ambiguous ambiguous active", 3, "ambiguous timeout")),
        ("kannel", Reply::close(), ("ambiguous ambiguous active", 1, "ambiguous no_answer")),
    ];
    let templates = templates();
    let scenes = stream::iter(cases).for_each_concurrent(AT_ONCE, async |(preset, reply, expected)| {
        let scene = Scene::start(&templates).await;
        let id = scene.row(Channel::Sms).await;
        scene.gateway.answer(reply.clone());
        let delivering = scene.deliver(Tls::None, preset);
        scene.ends(id, expected, delivering, &format!("{preset} {reply:?}")).await;
        assert_eq!(scene.gateway.count(), expected.1 as u64, "{preset} {reply:?}");
        let pause = "select (due_at > now() + interval '9 minutes')::text from notification";
        let is_asked_for = reply.headers.contains_key("retry-after");
        assert_eq!(scene.lab.text(pause, &[]).await, is_asked_for.to_string());
    });
    scenes.await;
}

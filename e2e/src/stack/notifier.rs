//! The notifier with a Postgres of its own, a mail server and an SMS gateway that count.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};

use anyhow::{Context, ensure};
use latchline_notifier::sink::http::HttpServer;
use latchline_notifier::sink::smtp::{MailServer, Tls};
use tokio_postgres::Client;

use crate::kafka::Kafka;
use crate::sink::{self, KEEP_MAX};
use crate::stack::postgres::Postgres;
use crate::stack::program::{Name, Program};
pub use crate::stack::service::LISTENERS;
use crate::stack::service::Service;
use crate::stack::{ALARMS, PARTITIONS, STATES};

/// Name of the file of users.
const SEED: &str = "seed.toml";

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Settings with which nothing is put together because it is much.
pub const NO_LIMITS: [(&str, &str); 4] = [
    ("limits.contact_per_minute", "100000"),
    ("limits.contact_burst", "100000"),
    ("limits.lock_per_minute", "100000"),
    ("limits.lock_burst", "100000"),
];

/// A running notifier, its Postgres and its providers. What is running ends when it is dropped.
pub struct Notifier {
    /// The notifier. Before the others, so that it ends first.
    pub notifier: Program,
    /// Where its mails arrive.
    pub mail: MailServer,
    /// Where its SMS arrive.
    pub sms: HttpServer,
    service: Service,
}

impl Notifier {
    /// Starts all of it for the streams of this Kafka, with these users. Further `settings` win over
    /// the stack's own.
    pub async fn start(kafka: &Kafka, users: &[User], settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut notifier = Self::prepare(Postgres::start().await?, kafka, users, settings).await?;
        notifier.notifier.start(&LISTENERS).await?;
        notifier.ready().await?;
        Ok(notifier)
    }

    /// As [`Notifier::start`] on a Postgres that is there, but the notifier is not started.
    pub async fn prepare(
        postgres: impl Into<Postgres>,
        kafka: &Kafka,
        users: &[User],
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        // The development Kafka lets nobody but its owner create streams.
        for stream in [STATES, ALARMS] {
            kafka.create_stream(&format!("{stream}.notifier.dlq"), 1).await?;
            kafka.create_stream(stream, PARTITIONS).await?;
        }
        let mail = MailServer::start(ANY_PORT, Tls::None, KEEP_MAX).await.context("start a mail server")?;
        let sms = HttpServer::start(ANY_PORT, KEEP_MAX).await.context("start an SMS gateway")?;
        sink::sms::accept_all(&sms);
        let mut service = Service::new(Name::Notifier, "read,operate,admin", postgres.into(), kafka)?;
        let file = service.folder().join(SEED);
        std::fs::write(&file, seed(users)).context("write users")?;
        service.set(&[
            ("seed.file", &file.display().to_string()),
            ("email.from", "Latchline <locks@example.com>"),
            (
                "email.relays",
                &format!(
                    r#"[{{ name = "relay", host = "127.0.0.1", port = {}, tls = "none" }}]"#,
                    mail.address().port()
                ),
            ),
            (
                "sms.gateways",
                &format!(
                    r#"[{{ name = "gateway", preset = "generic", url = "http://{}/messages", from = "Latchline", timeout_ms = 2000, secrets = {{ api_token = "token" }} }}]"#,
                    sms.address()
                ),
            ),
        ]);
        service.set(settings);
        Ok(Self { notifier: service.program(), mail, sms, service })
    }

    /// When each message arrived, in Unix milliseconds, by the id of its notification.
    pub fn arrivals(&self) -> anyhow::Result<HashMap<String, Vec<u64>>> {
        let mut arrivals: HashMap<String, Vec<u64>> = HashMap::new();
        for mail in self.mail.mails() {
            let id = mail.message_id.context("a mail without Message-ID")?;
            let id = id.trim_start_matches('<').split('@').next().unwrap_or_default();
            arrivals.entry(id.to_owned()).or_default().push(mail.at_ms);
        }
        for request in self.sms.requests() {
            let id = request.header("idempotency-key");
            ensure!(!id.is_empty(), "an SMS without key");
            arrivals.entry(id.to_owned()).or_default().push(request.at_ms);
        }
        Ok(arrivals)
    }

    /// As [`Service::connect`]; names without a schema are the notifier's.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let client = self.service.connect().await?;
        client.batch_execute("set search_path to notifier").await.context("set the schema")?;
        Ok(client)
    }
}

impl Deref for Notifier {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Notifier {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

/// Somebody who wants to hear of everything, by mail and by SMS.
#[derive(Debug, Clone)]
pub struct User {
    /// Also the name in the mail address.
    pub id: String,
    /// Digits behind the country's number.
    pub phone: u64,
    /// Whose locks.
    pub locks: Vec<String>,
}

/// The file of these users.
fn seed(users: &[User]) -> String {
    let mut seed = String::new();
    for User { id, phone, locks } in users {
        let locks: Vec<String> = locks
            .iter()
            .map(|lock| format!(r#"{{ client_id = "{lock}", lock_name = "Front door" }}"#))
            .collect();
        let wants = ["email", "sms"].map(|channel| {
            format!(r#"{{ event_type = "*", channel = "{channel}", enabled = true, min_severity = "info" }}"#)
        });
        let contacts = format!(
            r#"{{ channel = "email", address = "{id}@example.com", verified = true }}, {{ channel = "sms", address = "+81{phone:010}", verified = true }}"#
        );
        writeln!(
            seed,
            "[[users]]\nid = \"{id}\"\nname = \"{id}\"\nlocale = \"en\"\ntime_zone = \"Asia/Tokyo\"\ncontacts = [{contacts}]\nlocks = [{}]\npreferences = [{}]\n",
            locks.join(", "),
            wants.join(", "),
        )
        .expect("a String takes all text");
    }
    seed
}

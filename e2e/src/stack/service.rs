//! A service and its Postgres: what the auditor, the monitor and the notifier have in common.
//!
//! Each has its program beside it, declared first, so that the program ends before its Postgres.
//! The service is asked at the address of its settings, so these name a port (never 0).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::keys::SecretHash;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::kafka::Kafka;
use crate::process::free_port;
use crate::random;
use crate::stack::postgres::Postgres;
use crate::stack::program::{Name, Program};

/// What a service opens.
pub const LISTENERS: [&str; 1] = ["http"];
/// Longest wait for an assignment on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ADDRESS: &str = "http.address";
/// Name of the file of tokens.
const TOKENS: &str = "tokens";
/// New data does not wake a waiting fetch of the development Kafka. A member that was killed is missed
/// after ten seconds: with the 45 of the default a test that kills twice waits for its next assignment
/// longer than for anything else.
const PROPERTIES: &str =
    r#"{ "fetch.wait.max.ms" = "10", "session.timeout.ms" = "10000", "heartbeat.interval.ms" = "1000" }"#;

/// All of a service but its program.
pub struct Service {
    /// Its Postgres.
    pub postgres: Postgres,
    /// Bearer token that may do everything.
    pub token: String,
    name: Name,
    scopes: &'static str,
    /// The last one of a key wins.
    settings: Vec<(String, String)>,
    folder: TempDir,
}

impl Service {
    /// The settings that all services have; `scopes` are all that a token may have.
    pub(super) fn new(
        name: Name,
        scopes: &'static str,
        postgres: Postgres,
        kafka: &Kafka,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("latchline-service-").tempdir()?;
        let settings = [
            (ADDRESS, format!("127.0.0.1:{}", free_port()?)),
            ("http.tokens_file", folder.path().join(TOKENS).display().to_string()),
            ("consumer.kafka.servers", kafka.bootstrap()),
            ("consumer.kafka.properties", PROPERTIES.to_owned()),
            ("postgres.url", postgres.settings().url.expose_secret().to_owned()),
            ("postgres.password_file", postgres.password_file().display().to_string()),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value)).into();
        let mut service = Self { postgres, token: String::new(), name, scopes, settings, folder };
        service.use_token(random::secret()?)?;
        Ok(service)
    }

    /// Lets this bearer token do everything, and no other. Before the program starts.
    pub(super) fn use_token(&mut self, token: String) -> anyhow::Result<()> {
        let line = format!("token tests {} {}\n", SecretHash::of(token.as_bytes()), self.scopes);
        std::fs::write(self.folder.path().join(TOKENS), line).context("write tokens")?;
        self.token = token;
        Ok(())
    }

    /// Adds settings, which win over those before.
    pub(super) fn set(&mut self, settings: &[(&str, &str)]) {
        self.settings.extend(owned(settings));
    }

    /// The program with these settings, not started.
    pub(super) fn program(&self) -> Program {
        program(self.name, &self.settings)
    }

    /// Another instance, not started, with a port of its own, and else the same settings but for
    /// `further` ones.
    pub fn another(&self, further: &[(&str, &str)]) -> anyhow::Result<Program> {
        let mut settings = self.settings.clone();
        settings.push((ADDRESS.to_owned(), format!("127.0.0.1:{}", free_port()?)));
        settings.extend(owned(further));
        Ok(program(self.name, &settings))
    }

    /// Waits until it reads.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let until = Instant::now() + READY_DEADLINE;
        loop {
            let answer = self.get("/readyz").await?;
            if answer.status().is_success() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "not ready after {READY_DEADLINE:?}: {}", answer.text().await?);
            sleep(LOOK_EVERY).await;
        }
    }

    /// A folder that goes away with the service.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its HTTP is, `host:port`.
    pub fn address(&self) -> anyhow::Result<&str> {
        let address = self.settings.iter().rfind(|(key, _)| key == ADDRESS);
        Ok(&address.context("a service without an address")?.1)
    }

    /// As [`Postgres::connect`].
    pub async fn connect(&self) -> anyhow::Result<Client> {
        self.postgres.connect().await
    }

    /// Asks the service's API, with the token.
    pub async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let url = format!("http://{}{path}", self.address()?);
        let request = reqwest::Client::new().get(&url).bearer_auth(&self.token);
        request.send().await.with_context(|| format!("GET {path}"))
    }

    /// As [`Service::get`], for a good answer in JSON.
    pub async fn json(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let response = self.get(path).await?.error_for_status()?;
        response.json().await.with_context(|| format!("answer to {path}"))
    }
}

fn owned(settings: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
}

fn program(name: Name, settings: &[(String, String)]) -> Program {
    Program::new(name, settings.iter().map(|(key, value)| (key.as_str(), value.clone())))
}

//! The auditor with a Postgres of its own.
//!
//! A second instance beside the first ([`Audit::another`]) shares Kafka group, database and
//! settings; it has its own port.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::keys::SecretHash;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::kafka::Kafka;
use crate::process::free_port;
use crate::random;
use crate::stack::program::{Name, Program};
use crate::stack::secrets::Secrets;
use crate::stack::{CHECKPOINTS, COMMANDS, FINDINGS, PARTITIONS, REJECTED, STATES};

/// What an auditor opens.
pub const LISTENERS: [&str; 1] = ["http"];
/// Name of the file of signed checkpoints.
const NOTES: &str = "notes";
/// Longest wait for an assignment on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The database that it uses.
const DATABASE: &str = "postgres";

/// A running auditor and its Postgres. What is running ends when it is dropped.
pub struct Audit {
    /// The auditor. Before Postgres, so that it ends first.
    pub auditor: Program,
    /// Its Postgres.
    pub postgres: DevelopmentPostgres,
    /// Bearer token that may do everything.
    pub token: String,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

impl Audit {
    /// Starts both for the streams of this Kafka. Further `settings` win over the stack's own.
    pub async fn start(kafka: &Kafka, secrets: &Secrets, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        // Starting a server blocks.
        let postgres = tokio::task::spawn_blocking(DevelopmentPostgres::start).await??;
        Self::start_on(postgres, kafka, secrets, settings).await
    }

    /// As [`Audit::start`], on a Postgres that is there.
    pub async fn start_on(
        postgres: DevelopmentPostgres,
        kafka: &Kafka,
        secrets: &Secrets,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        // The development Kafka lets nobody but its owner create streams.
        for stream in [STATES, COMMANDS, REJECTED] {
            kafka.create_stream(&format!("{stream}.auditor.dlq"), 1).await?;
        }
        kafka.create_stream(CHECKPOINTS, 1).await?;
        kafka.create_stream(FINDINGS, PARTITIONS).await?;
        let folder = tempfile::Builder::new().prefix("latchline-audit-").tempdir()?;
        let token = random::secret()?;
        let tokens = folder.path().join("tokens");
        let hash = SecretHash::of(token.as_bytes());
        std::fs::write(&tokens, format!("token tests {hash} read,export,admin\n")).context("write tokens")?;
        let key = folder.path().join("checkpoint.key");
        std::fs::write(&key, random::secret()?).context("write the key of checkpoints")?;
        let own = [
            ("checkpoint.key_file", key.display().to_string()),
            ("checkpoint.file", folder.path().join(NOTES).display().to_string()),
            ("checkpoint.interval_s", "1".to_owned()),
            ("http.address", format!("127.0.0.1:{}", free_port()?)),
            ("http.tokens_file", tokens.display().to_string()),
            ("consumer.kafka.servers", kafka.bootstrap()),
            // New data does not wake a waiting fetch of the development Kafka.
            ("consumer.kafka.properties", r#"{ "fetch.wait.max.ms" = "10" }"#.to_owned()),
            ("postgres.url", postgres.settings(DATABASE).url.expose_secret().to_owned()),
            ("postgres.password_file", postgres.password_file().display().to_string()),
            ("keys.master_key", secrets.master_hex.clone()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let further = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings: Vec<(String, String)> = own.into_iter().chain(further).collect();
        let mut auditor = program(&settings);
        auditor.start(&LISTENERS).await?;
        let audit = Self { auditor, postgres, token, settings, folder };
        audit.ready().await?;
        Ok(audit)
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

    /// Another instance, not started, with a port of its own, and else the same settings but for
    /// `further` ones.
    pub fn another(&self, further: &[(&str, &str)]) -> anyhow::Result<Program> {
        let mut settings = self.settings.clone();
        settings.push(("http.address".to_owned(), format!("127.0.0.1:{}", free_port()?)));
        settings.extend(further.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Ok(program(&settings))
    }

    /// The file of signed checkpoints, one each second while there are events.
    pub fn notes(&self) -> PathBuf {
        self.folder.path().join(NOTES)
    }

    /// The key that they verify with.
    pub fn verifier(&self) -> anyhow::Result<String> {
        let mut command = self.auditor.command()?;
        command
            .args(["key", "--name", "latchline.example", "--file"])
            .arg(self.folder.path().join("checkpoint.key"));
        Ok(String::from_utf8(command.output()?.stdout)?.trim().to_owned())
    }

    /// Connects to the database as its owner, a superuser.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let config = self.postgres.settings(DATABASE).client_config("tests")?;
        let (client, connection) = config.connect(NoTls).await.context("connect to postgres")?;
        // Ends with the client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Asks the auditor's API, with the token.
    pub async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let url = format!("http://{}{path}", self.auditor.address("http"));
        let request = reqwest::Client::new().get(&url).bearer_auth(&self.token);
        request.send().await.with_context(|| format!("GET {path}"))
    }

    /// As [`Audit::get`], for a good answer in JSON.
    pub async fn json(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let response = self.get(path).await?.error_for_status()?;
        response.json().await.with_context(|| format!("answer to {path}"))
    }
}

fn program(settings: &[(String, String)]) -> Program {
    Program::new(Name::Auditor, settings.iter().map(|(key, value)| (key.as_str(), value.clone())))
}

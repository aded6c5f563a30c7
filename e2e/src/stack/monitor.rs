//! The monitor with a Postgres of its own.
//!
//! It can be started on a Postgres that is there, and stopped, killed and started again on the same
//! database with the same settings.

use std::path::{Path, PathBuf};
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
use crate::stack::{ALARMS, FINDINGS, PARTITIONS, STATES};

/// What a monitor opens.
pub const LISTENERS: [&str; 1] = ["http"];
/// Longest wait for an assignment on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The database that it uses.
const DATABASE: &str = "postgres";
/// Name of the file of thresholds.
const RULES: &str = "rules.toml";

/// A running monitor and its Postgres. What is running ends when it is dropped.
pub struct Monitor {
    /// The monitor. Before Postgres, so that it ends first.
    pub monitor: Program,
    /// Its Postgres.
    pub postgres: DevelopmentPostgres,
    /// Bearer token that may do everything.
    pub token: String,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

impl Monitor {
    /// Starts both for the streams of this Kafka, with these thresholds beside the default.
    /// Further `settings` win over the stack's own.
    pub async fn start(kafka: &Kafka, rules: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        // Starting a server blocks.
        let postgres = tokio::task::spawn_blocking(DevelopmentPostgres::start).await??;
        Self::start_on(postgres, kafka, rules, settings).await
    }

    /// As [`Monitor::start`], on a Postgres that is there.
    pub async fn start_on(
        postgres: DevelopmentPostgres,
        kafka: &Kafka,
        rules: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut monitor = Self::prepare(postgres, kafka, rules, settings).await?;
        monitor.monitor.start(&LISTENERS).await?;
        monitor.ready().await?;
        Ok(monitor)
    }

    /// As [`Monitor::start_on`], but the monitor is not started.
    pub async fn prepare(
        postgres: DevelopmentPostgres,
        kafka: &Kafka,
        rules: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        // The development Kafka lets nobody but its owner create streams.
        for stream in [STATES, FINDINGS] {
            kafka.create_stream(&format!("{stream}.monitor.dlq"), 1).await?;
        }
        for stream in [STATES, FINDINGS, ALARMS] {
            kafka.create_stream(stream, PARTITIONS).await?;
        }
        let folder = tempfile::Builder::new().prefix("latchline-monitor-").tempdir()?;
        let token = random::secret()?;
        let tokens = folder.path().join("tokens");
        let hash = SecretHash::of(token.as_bytes());
        std::fs::write(&tokens, format!("token tests {hash} read,operate,admin\n"))
            .context("write tokens")?;
        std::fs::write(folder.path().join(RULES), rules).context("write thresholds")?;
        let own = [
            ("rules.file", folder.path().join(RULES).display().to_string()),
            ("http.address", format!("127.0.0.1:{}", free_port()?)),
            ("http.tokens_file", tokens.display().to_string()),
            ("consumer.kafka.servers", kafka.bootstrap()),
            // New data does not wake a waiting fetch of the development Kafka.
            ("consumer.kafka.properties", r#"{ "fetch.wait.max.ms" = "10" }"#.to_owned()),
            ("postgres.url", postgres.settings(DATABASE).url.expose_secret().to_owned()),
            ("postgres.password_file", postgres.password_file().display().to_string()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let further = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings: Vec<(String, String)> = own.into_iter().chain(further).collect();
        let monitor = program(&settings);
        Ok(Self { monitor, postgres, token, settings, folder })
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

    /// The file of thresholds.
    pub fn rules(&self) -> PathBuf {
        self.folder.path().join(RULES)
    }

    /// A folder that goes away with the monitor.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Connects to the database as its owner, a superuser; names without a schema are the monitor's.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let mut config = self.postgres.settings(DATABASE).client_config("tests")?;
        let options = format!("{} -c search_path=monitor", config.get_options().unwrap_or_default());
        let (client, connection) =
            config.options(options).connect(NoTls).await.context("connect to postgres")?;
        // Ends with the client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Asks the monitor's API, with the token.
    pub async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let url = format!("http://{}{path}", self.monitor.address("http"));
        let request = reqwest::Client::new().get(&url).bearer_auth(&self.token);
        request.send().await.with_context(|| format!("GET {path}"))
    }

    /// As [`Monitor::get`], for a good answer in JSON.
    pub async fn json(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let response = self.get(path).await?.error_for_status()?;
        response.json().await.with_context(|| format!("answer to {path}"))
    }
}

fn program(settings: &[(String, String)]) -> Program {
    Program::new(Name::Monitor, settings.iter().map(|(key, value)| (key.as_str(), value.clone())))
}

//! The command line of `load`: what all modes share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use latchline_shared::kit::clock;
use latchline_shared::message::{Protocol, Qos};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::arguments::Key;
use crate::bench::lock::{KEEP_ALIVE_S, Session};
use crate::load::connection::ANSWERS_FROM;
use crate::load::crowd::{Due, Opening};
use crate::load::report::Setup;
use crate::load::run::{Answers, ID, Login, Settings};
use crate::load::wire::Security;

/// Whom to load, as whom, and for how long.
#[derive(Clone, Args)]
#[group(skip)]
pub struct Common {
    /// Broker, HOST:PORT
    #[arg(long, env = "LATCHLINE_SERVER", default_value = "127.0.0.1:1883")]
    pub target: String,
    /// MQTT 3.1.1 or 5
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=5))]
    protocol: u8,
    /// Speak TLS; needs --ca
    #[arg(long, requires = "ca")]
    tls: bool,
    /// PEM file of the authorities that may sign the broker's certificate
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Name in the broker's certificate [default: the host of --target]
    #[arg(long)]
    tls_name: Option<String>,
    /// Derived passwords; commands are signed with it
    #[command(flatten)]
    key: Key,
    /// One user name for all locks, instead of derived passwords
    #[arg(long)]
    username: Option<String>,
    /// Its password
    #[arg(long, env = "LATCHLINE_LOAD_PASSWORD", hide_env_values = true, default_value = "")]
    password: String,
    /// User name of operators and subscribers [default: they log in as locks do]
    #[arg(long)]
    operator: Option<String>,
    /// The operators' password
    #[arg(long, env = "LATCHLINE_PASSWORD", hide_env_values = true, default_value = "")]
    operator_password: String,
    /// Processes whose CPU time and memory are read from /proc
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Locks that connect
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Number of the first lock, where several loads run at once
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Connections that are opened at once
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
    /// Connections opened per second [default: as fast as may be]
    #[arg(long)]
    connect_rate: Option<f64>,
    /// The broker keeps the locks' sessions
    #[arg(long)]
    kept: bool,
    /// Keep alive of connections in seconds; 0 for none
    #[arg(long, default_value_t = KEEP_ALIVE_S)]
    keep_alive: u16,
    /// Where locks report to; {id} stands for the lock's id
    #[arg(long, default_value = "devices/{id}/state")]
    topic: String,
    /// Where locks are commanded; "" for locks that subscribe to nothing
    #[arg(long, default_value = "devices/{id}/command")]
    command_topic: String,
    /// How long is measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long messages come before that
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// How long to wait for what is under way in the end
    #[arg(long, default_value_t = 20.0)]
    drain: f64,
    /// Repeat a run: where its randomness begins [default: the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Write JSON to this file, beside the table
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What messages are like.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct Messages {
    /// Quality of service
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Bytes of a report, and of a command that is not signed
    #[arg(long, default_value_t = 300)]
    pub payload: usize,
}

impl Messages {
    /// Those of modes without messages.
    pub fn none() -> Self {
        Self { qos: 1, payload: 0 }
    }
}

/// What messages are like, and how fast they come.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct Flow {
    /// What they are like.
    #[command(flatten)]
    pub messages: Messages,
    /// Messages per second of all together, or max: as fast as acknowledgements come
    #[arg(long, default_value = "1000")]
    pub rate: Rate,
    /// Messages of each sender under way at --rate max
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,
}

/// How often something comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// As fast as acknowledgements come.
    Max,
    /// So many a second.
    PerSecond(f64),
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "max" => Ok(Self::Max),
            Ok(per_second) if per_second > 0.0 && f64::is_finite(per_second) => {
                Ok(Self::PerSecond(per_second))
            }
            _ => Err("a rate is a number of messages per second, or max".to_owned()),
        }
    }
}

impl Common {
    /// What a run is about.
    pub async fn settings(&self, messages: Messages, answers: Answers) -> anyhow::Result<Settings> {
        for (name, topic) in [("--topic", &self.topic), ("--command-topic", &self.command_topic)] {
            let is_plain = topic.is_empty() || topic.contains(ID);
            ensure!(
                is_plain && !topic.contains(['+', '#']),
                "{name} has {ID} and no wildcard, unlike {topic}"
            );
        }
        ensure!(!self.topic.is_empty(), "--topic is empty");
        ensure!(self.connections < ANSWERS_FROM, "more than {ANSWERS_FROM} connections");
        let master = self.key.is_given().then(|| self.key.read()).transpose()?;
        let login = match (&self.username, &master) {
            (Some(username), _) => Login::Same(username.clone(), self.password.clone()),
            (None, Some(master)) => Login::Derived(master.clone()),
            (None, None) => Login::Nobody,
        };
        let operator = self
            .operator
            .as_ref()
            .map_or(login.clone(), |name| Login::Same(name.clone(), self.operator_password.clone()));
        Ok(Settings {
            target: self.address().await?,
            protocol: match self.protocol {
                5 => Protocol::V5,
                3 | 4 => Protocol::V3,
                other => bail!("--protocol is 3 or 5, not {other}"),
            },
            security: if self.tls { Some(self.security()?) } else { None },
            login,
            operator,
            master,
            state_topic: self.topic.clone(),
            command_topic: Some(self.command_topic.clone()).filter(|topic| !topic.is_empty()),
            first: self.first,
            session: if self.kept { Session::Kept } else { Session::Clean },
            keep_alive_s: self.keep_alive,
            qos: Qos::from_level(messages.qos).context("--qos is 0, 1 or 2")?,
            payload_bytes: messages.payload,
            answers,
        })
    }

    /// Where the randomness begins.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(clock::unix_ms)
    }

    /// How long is measured.
    pub fn length(&self) -> anyhow::Result<Duration> {
        seconds("--seconds", self.seconds)
    }

    /// How long messages come before that.
    pub fn warm_up(&self) -> anyhow::Result<Duration> {
        seconds("--warm-up", self.warm_up)
    }

    /// How long to wait in the end.
    pub fn drain(&self) -> anyhow::Result<Duration> {
        seconds("--drain", self.drain)
    }

    /// How locks are opened.
    pub fn opening(&self) -> anyhow::Result<Opening> {
        let due = match self.connect_rate {
            None => Due::OnTurn,
            Some(per_second) if per_second > 0.0 && per_second.is_finite() => Due::Rate(per_second),
            Some(other) => bail!("--connect-rate {other} is no rate"),
        };
        Ok(Opening { count: self.connections, at_once: self.at_once, due })
    }

    /// What was asked for; what is sent is for the mode to say.
    pub fn setup(&self, beside: u32) -> Setup {
        Setup {
            connections: self.connections,
            beside,
            at_once: self.at_once,
            connect_rate: self.connect_rate,
            keep_alive_s: self.keep_alive,
            kept: self.kept,
            warm_up_s: self.warm_up,
            seconds: self.seconds,
            ..Setup::default()
        }
    }

    /// How some connections are opened that are not locks.
    pub fn beside(&self, count: u32) -> Opening {
        Opening { count, at_once: self.at_once, due: Due::OnTurn }
    }

    async fn address(&self) -> anyhow::Result<SocketAddr> {
        let mut found = tokio::net::lookup_host(&self.target)
            .await
            .with_context(|| format!("--target {}", self.target))?;
        found.next().with_context(|| format!("--target {} has no address", self.target))
    }

    fn security(&self) -> anyhow::Result<Security> {
        let ca = self.ca.as_deref().context("--tls needs --ca")?;
        let host = self.target.rsplit_once(':').map_or(self.target.as_str(), |(host, _)| host);
        let name = self.tls_name.as_deref().unwrap_or(host).to_owned();
        Ok(Security {
            config: Arc::new(client_config(ca)?),
            name: ServerName::try_from(name.clone()).with_context(|| format!("{name} is no name for TLS"))?,
        })
    }
}

fn client_config(ca: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).with_context(|| format!("read {}", ca.display()))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("read {}", ca.display()))?;
        roots.add(certificate).with_context(|| format!("a certificate in {}", ca.display()))?;
    }
    ensure!(!roots.is_empty(), "no certificate in {}", ca.display());
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn seconds(name: &str, value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value).with_context(|| format!("{name} {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_max() {
        for (text, expected) in [
            ("max", Some(Rate::Max)),
            ("5000", Some(Rate::PerSecond(5000.0))),
            ("0.5", Some(Rate::PerSecond(0.5))),
            ("0", None),
            ("-1", None),
            ("inf", None),
            ("NaN", None),
            ("fast", None),
        ] {
            assert_eq!(text.parse::<Rate>().ok(), expected, "{text}");
        }
    }
}

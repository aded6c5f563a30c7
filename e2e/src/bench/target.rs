//! What is measured: our broker with its bridge, our broker without it, or what it is compared with;
//! each a process of its own that is told nothing of being measured.
//!
//! rumqttd and the echo are built by `scripts/bench-peers.sh` from the package `e2e/peers`. What is not
//! there is not measured, and whoever measures says so ([`Kind::absence`]).

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use tempfile::{NamedTempFile, TempDir};
use tokio::time::{Instant, sleep};

use crate::kafka::Kafka;
use crate::process::{Process, free_port};
use crate::site::Api;
use crate::stack::program::{Name, Program};
use crate::stack::secrets::Secrets;
use crate::stack::{COMMANDS, PARTITIONS, REJECTED, STATES};

const START_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const OUTPUT_ARRIVES_IN: Duration = Duration::from_millis(50);
const TCP: &str = "tcp";
const HTTP: &str = "http";
const MOSQUITTO: &str = "mosquitto";
const RUMQTTD: &str = "rumqttd";
const ECHO: &str = "echo";
/// Folder with the binaries of `e2e/peers`, if it is not beside our own.
const PEERS_VARIABLE: &str = "LATCHLINE_PEERS";

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Our broker with the reference rules: a PUBACK waits for Kafka.
    Bridge,
    /// Our broker without a bridge: a PUBACK waits for nothing.
    Alone,
    /// mosquitto, open to everybody.
    Mosquitto,
    /// rumqttd, open to everybody, with room for as many as we connect.
    Rumqttd,
    /// Answers on the same runtime, without a broker behind them.
    Echo,
}

impl Kind {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "with bridge",
            Self::Alone => "without bridge",
            Self::Mosquitto => MOSQUITTO,
            Self::Rumqttd => RUMQTTD,
            Self::Echo => "bare echo",
        }
    }

    /// Whether it is a broker of ours.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Bridge | Self::Alone)
    }

    /// Why it cannot be measured here, if it cannot.
    pub fn absence(self) -> Option<&'static str> {
        let (is_there, why) = match self {
            Self::Bridge | Self::Alone => (true, ""),
            Self::Mosquitto => (mosquitto().is_some(), "not installed"),
            Self::Rumqttd => (peer(RUMQTTD).is_some(), "not built, scripts/bench-peers.sh does"),
            Self::Echo => (peer(ECHO).is_some(), "not built, scripts/bench-peers.sh does"),
        };
        (!is_there).then_some(why)
    }
}

/// What was to be measured, and could not be, or not to the end.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// Of what.
    pub kind: Kind,
    /// What was measured.
    pub part: String,
    /// What went wrong.
    pub why: String,
}

impl Failed {
    /// With the whole chain of causes.
    pub(super) fn new(kind: Kind, part: &str, error: &anyhow::Error) -> Self {
        // What a process has written may have many lines; a row is one.
        let why = format!("{error:#}").lines().collect::<Vec<_>>().join("; ");
        Self { kind, part: part.to_owned(), why }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, part, why } = self;
        write!(f, "FAILED: {}, {part}: {why}", kind.name())
    }
}

/// What all targets of a run share.
pub struct Surroundings {
    /// Address of Kafka.
    pub kafka: String,
    /// Master key of the fleet, in hexadecimal digits.
    pub master_hex: String,
    /// Password of the operator, who may see what all locks report.
    pub operator: String,
    /// The broker's credentials file, which knows the operator.
    credentials: NamedTempFile,
}

impl Surroundings {
    /// Streams in this Kafka, and a key of this run.
    pub async fn new(kafka: &Kafka) -> anyhow::Result<Self> {
        for stream in [STATES, COMMANDS, REJECTED] {
            kafka.create_stream(stream, PARTITIONS).await?;
        }
        let secrets = Secrets::random()?;
        let credentials = NamedTempFile::with_prefix("latchline-bench-")?;
        secrets.write_credentials(credentials.path())?;
        let Secrets { master_hex, operator, .. } = &secrets;
        let (master_hex, operator) = (master_hex.clone(), operator.clone());
        Ok(Self { kafka: kafka.bootstrap(), master_hex, operator, credentials })
    }
}

/// A broker that is measured; it ends when dropped.
pub struct Target {
    kind: Kind,
    address: SocketAddr,
    running: Running,
}

enum Running {
    Ours(Program),
    Theirs { process: Process, _folder: Option<TempDir> },
}

impl Target {
    /// Starts one.
    pub async fn start(kind: Kind, surroundings: &Surroundings) -> anyhow::Result<Self> {
        match kind {
            Kind::Bridge | Kind::Alone => {
                Self::start_ours(settings(kind, surroundings).into(), kind, &[TCP]).await
            }
            theirs => Self::start_with(theirs, surroundings, &[]).await,
        }
    }

    /// As [`Target::start`], but ours has further settings, and says what it counts ([`Target::metrics`]).
    pub async fn start_with(
        kind: Kind,
        surroundings: &Surroundings,
        further: &[(&'static str, String)],
    ) -> anyhow::Result<Self> {
        match kind {
            Kind::Bridge | Kind::Alone => {
                let own = settings(kind, surroundings).into_iter();
                let http = ("http.address", "127.0.0.1:0".to_owned());
                let settings = own.chain([http]).chain(further.iter().cloned());
                Self::start_ours(settings.collect(), kind, &[TCP, HTTP]).await
            }
            Kind::Mosquitto => Self::start_mosquitto().await,
            Kind::Rumqttd => Self::start_peer(kind, RUMQTTD).await,
            Kind::Echo => Self::start_peer(kind, ECHO).await,
        }
    }

    async fn start_ours(
        settings: Vec<(&'static str, String)>,
        kind: Kind,
        listeners: &[&str],
    ) -> anyhow::Result<Self> {
        let mut broker = Program::new(Name::Broker, settings);
        broker.start(listeners).await?;
        Ok(Self { kind, address: broker.address(TCP), running: Running::Ours(broker) })
    }

    async fn start_mosquitto() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("latchline-bench-").tempdir()?;
        let file = folder.path().join("mosquitto.conf");
        let port = free_port()?;
        // As it is installed, but open to everybody, on a port of ours, and with our bounds where it
        // has them. As root it would become another user, who may not read the folder.
        let configuration = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\n\
             set_tcp_nodelay true\nlog_dest none\n"
        );
        std::fs::write(&file, configuration)?;
        let Some(binary) = mosquitto() else { bail!("mosquitto is not installed") };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self::start_theirs(Kind::Mosquitto, Command::new(binary).arg("-c").arg(&file), address, Some(folder))
            .await
    }

    async fn start_peer(kind: Kind, name: &str) -> anyhow::Result<Self> {
        let binary = peer(name).with_context(|| format!("{name} is not built"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        Self::start_theirs(kind, Command::new(binary).arg(address.to_string()), address, None).await
    }

    /// Starts what does not say that it is up, and waits until it accepts connections.
    async fn start_theirs(
        kind: Kind,
        command: &mut Command,
        address: SocketAddr,
        folder: Option<TempDir>,
    ) -> anyhow::Result<Self> {
        let name = kind.name();
        let mut process = Process::start(name, command)?;
        let until = Instant::now() + START_DEADLINE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.ended() {
                // What it wrote last may still be on its way.
                sleep(OUTPUT_ARRIVES_IN).await;
                bail!("{name} ended ({status}): {}", process.output().lines().join("\n"));
            }
            ensure!(Instant::now() < until, "{name} is not up after {START_DEADLINE:?}");
            sleep(LOOK_EVERY).await;
        }
        Ok(Self { kind, address, running: Running::Theirs { process, _folder: folder } })
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ours has counted, if it was started to say so.
    pub async fn metrics(&self) -> anyhow::Result<Option<String>> {
        let Running::Ours(broker) = &self.running else { return Ok(None) };
        let api = Api::new(format!("http://{}", broker.address(HTTP)), None);
        Ok(Some(api.get("/metrics").await?.error_for_status()?.text().await?))
    }

    /// Its process.
    pub fn process(&self) -> anyhow::Result<&Process> {
        match &self.running {
            Running::Ours(broker) => broker.process(),
            Running::Theirs { process, .. } => Ok(process),
        }
    }

    /// Ends it. Ours must not have warned of anything.
    pub fn finish(self) -> anyhow::Result<()> {
        match self.running {
            // A bench has no sessions to take leave of.
            Running::Ours(mut broker) => {
                broker.kill()?;
                let outcome = broker.check_log();
                // It has been said, and need not be said by a panic.
                broker.expect("");
                outcome
            }
            Running::Theirs { process, .. } => {
                process.kill();
                Ok(())
            }
        }
    }
}

/// How a broker of ours is configured.
pub(super) fn settings(kind: Kind, surroundings: &Surroundings) -> [(&'static str, String); 7] {
    [
        ("listen.tcp", "127.0.0.1:0".to_owned()),
        ("listen.ws", String::new()),
        ("http.address", String::new()),
        ("access.fleet_master_key", surroundings.master_hex.clone()),
        ("access.credentials_file", surroundings.credentials.path().display().to_string()),
        ("bridge.enabled", (kind == Kind::Bridge).to_string()),
        ("bridge.kafka.servers", surroundings.kafka.clone()),
    ]
}

/// Where mosquitto is, if it is installed.
pub fn mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian puts it is not in everybody's path.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(MOSQUITTO)).find(|file| file.is_file())
}

/// Where a binary of `e2e/peers` is, if it is built.
fn peer(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os(PEERS_VARIABLE) {
        Some(folder) => vec![PathBuf::from(folder)],
        None => {
            let own = std::env::current_exe().ok()?;
            // Beside the folder of the profile; tests are in one below it.
            own.ancestors().skip(2).take(2).map(|target| target.join("peers/release")).collect()
        }
    };
    folder.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

//! What is measured: our broker with its bridge, our broker without it, or mosquitto; each a process
//! of its own that is told nothing of being measured.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::kafka::Kafka;
use crate::process::{Process, free_port};
use crate::random;
use crate::stack::program::{Name, Program};
use crate::stack::{COMMANDS, PARTITIONS, REJECTED, STATES};

const START_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const MOSQUITTO: &str = "mosquitto";

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
}

impl Kind {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "with bridge",
            Self::Alone => "without bridge",
            Self::Mosquitto => MOSQUITTO,
        }
    }
}

/// What all targets of a run share.
pub struct Surroundings {
    /// Address of Kafka.
    pub kafka: String,
    /// Master key of the fleet, in hexadecimal digits.
    pub master_hex: String,
}

impl Surroundings {
    /// Streams in this Kafka, and a key of this run.
    pub async fn new(kafka: &Kafka) -> anyhow::Result<Self> {
        for stream in [STATES, COMMANDS, REJECTED] {
            kafka.create_stream(stream, PARTITIONS).await?;
        }
        Ok(Self { kafka: kafka.bootstrap(), master_hex: random::secret()? })
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
    Theirs { process: Process, _folder: TempDir },
}

impl Target {
    /// Starts one.
    pub async fn start(kind: Kind, surroundings: &Surroundings) -> anyhow::Result<Self> {
        match kind {
            Kind::Bridge | Kind::Alone => Self::start_ours(kind, surroundings).await,
            Kind::Mosquitto => Self::start_mosquitto().await,
        }
    }

    async fn start_ours(kind: Kind, surroundings: &Surroundings) -> anyhow::Result<Self> {
        let any_port = || "127.0.0.1:0".to_owned();
        let mut broker = Program::new(
            Name::Broker,
            [
                ("listen.tcp", any_port()),
                ("listen.ws", String::new()),
                ("http.address", String::new()),
                ("access.fleet_master_key", surroundings.master_hex.clone()),
                ("bridge.enabled", (kind == Kind::Bridge).to_string()),
                ("bridge.kafka.servers", surroundings.kafka.clone()),
            ],
        );
        broker.start(&["tcp"]).await?;
        Ok(Self { kind, address: broker.address("tcp"), running: Running::Ours(broker) })
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
        let mut process = Process::start(MOSQUITTO, Command::new(binary).arg("-c").arg(&file))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let until = Instant::now() + START_DEADLINE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.ended() {
                bail!("mosquitto ended ({status}): {}", process.output().lines().join("\n"));
            }
            ensure!(Instant::now() < until, "mosquitto is not up after {START_DEADLINE:?}");
            sleep(LOOK_EVERY).await;
        }
        Ok(Self { kind: Kind::Mosquitto, address, running: Running::Theirs { process, _folder: folder } })
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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

/// Where mosquitto is, if it is installed.
pub fn mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian puts it is not in everybody's path.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(MOSQUITTO)).find(|file| file.is_file())
}

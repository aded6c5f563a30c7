//! The whole stack: a Kafka with the streams of the reference, and a broker with the bridge.
//!
//! Secrets, ports and folders are of one run; several stacks run beside each other.

pub mod audit;
pub mod clocks;
pub mod disk;
pub mod ground;
pub mod log;
pub mod monitor;
pub mod notifier;
pub mod postgres;
pub mod program;
pub mod secrets;
pub mod service;
pub mod whole;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use latchline_shared::kit::clock;
use latchline_shared::message::Protocol;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::client::Client;
use crate::kafka::Kafka;
use crate::kafka::reader::{From, Reader};
use crate::process::free_port;
use crate::stack::program::{Name, Program};
use crate::stack::secrets::Secrets;

/// The stream of states.
pub const STATES: &str = "message_state";
/// The stream of commands.
pub const COMMANDS: &str = "message_command";
/// The stream of commands that access rules or the guard refused.
pub const REJECTED: &str = "message_command_rejected";
/// The stream of signed checkpoints.
pub const CHECKPOINTS: &str = "audit_checkpoint";
/// The stream of what the auditor finds.
pub const FINDINGS: &str = "audit_finding";
/// The stream of alarms.
pub const ALARMS: &str = "lock_alarm";
/// The services, and what each of them reads.
pub const SERVICES: [(&str, &[&str]); 3] = [
    ("auditor", &[STATES, COMMANDS, REJECTED]),
    ("monitor", &[STATES, FINDINGS]),
    ("notifier", &[STATES, ALARMS]),
];
/// Partitions of each, but for that of checkpoints.
pub const PARTITIONS: i32 = 6;
/// What a stack opens: plain TCP, WebSocket, and HTTP for administration.
pub const LISTENERS: [&str; 3] = ["tcp", "ws", "http"];

/// Settings of a program, as names and values.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// A running stack. What is running ends when it is dropped.
pub struct Stack {
    /// The broker. Before Kafka, so that it ends first.
    pub broker: Program,
    /// The Kafka.
    pub kafka: Kafka,
    /// Secrets of this run.
    pub secrets: Secrets,
    folder: TempDir,
}

impl Stack {
    /// Starts a broker with this Kafka.
    pub async fn start(kafka: Kafka) -> anyhow::Result<Self> {
        Self::start_with(kafka, &[]).await
    }

    /// As [`Stack::start`], with further settings of the broker, which win over the stack's own.
    pub async fn start_with(kafka: Kafka, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_as(Name::Broker, &LISTENERS, kafka, settings).await
    }

    /// As [`Stack::start_with`], but the broker is part of another program, which opens these.
    pub async fn start_as(
        name: Name,
        listeners: &[&str],
        kafka: Kafka,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        for stream in [STATES, COMMANDS, REJECTED] {
            kafka.create_stream(stream, PARTITIONS).await?;
        }
        let folder = tempfile::Builder::new().prefix("latchline-").tempdir()?;
        let secrets = Secrets::random()?;
        let credentials = folder.path().join("credentials");
        secrets.write_credentials(&credentials)?;
        // Not port 0: a broker that is started again must have the same ports.
        let address = || free_port().map(|port| format!("127.0.0.1:{port}"));
        let own = [
            ("listen.tcp", address()?),
            ("listen.ws", address()?),
            ("http.address", address()?),
            ("http.token", secrets.token.clone()),
            ("access.credentials_file", credentials.display().to_string()),
            ("access.fleet_master_key", secrets.master_hex.clone()),
            ("guard.mode", "enforce".to_owned()),
            ("bridge.kafka.servers", kafka.bootstrap()),
        ];
        let further = settings.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let mut broker = Program::new(name, own.into_iter().chain(further));
        broker.start(listeners).await?;
        past_this_second().await;
        Ok(Self { broker, kafka, secrets, folder })
    }

    /// A folder that goes away with the stack.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where locks connect.
    pub fn mqtt(&self) -> SocketAddr {
        self.broker.address("tcp")
    }

    /// Connects a raw client as a lock; the answer is Session Present.
    pub async fn connect_lock(&self, id: &str, protocol: Protocol) -> anyhow::Result<(Client, bool)> {
        self.secrets.connect_lock(self.mqtt(), id, protocol).await
    }

    /// A reader of some streams from their beginning.
    pub async fn reader(&self, streams: &[&str]) -> anyhow::Result<Reader> {
        Reader::open(&self.kafka.bootstrap(), streams, From::Beginning).await
    }

    /// Ends the broker in order and checks its log.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.broker.stop().await?;
        self.broker.check_log()
    }
}

/// Waits for the next second. The guard refuses what was signed before the broker started, and a
/// command says only in which second it was signed.
async fn past_this_second() {
    let left_ms = 1_000 - clock::unix_ms() % 1_000;
    sleep(Duration::from_millis(left_ms)).await;
}

/// The topic on which a lock reports.
pub fn state_topic(id: &str) -> String {
    format!("devices/{id}/state")
}

/// The topic on which a lock is commanded.
pub fn command_topic(id: &str) -> String {
    format!("devices/{id}/command")
}

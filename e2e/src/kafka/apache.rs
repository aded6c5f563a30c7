//! Apache Kafka as a child process: one node in KRaft mode, data in a temporary folder.
//!
//! It can be stopped, killed and started again on the same port with the same data, and paused
//! (its port accepts connections and nobody answers: a black hole). Tests of guarantees run on it.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::kafka::jars;
use crate::process::{Output, Process, Watch, free_port};

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const LOG4J2: &str = include_str!("log4j2.xml");

/// Any 16 bytes in URL-safe base64; each node's data is its own, so it may always be the same.
const CLUSTER_ID: &str = "TGF0Y2hsaW5lLVRlc3RzIQ";

/// After a kill, a node takes itself for a second one of the same name until its old session has
/// ended; the default of 9 s would make each such test wait for nothing.
const SESSION_TIMEOUT_MS: u32 = 3_000;

/// A single Apache Kafka node.
#[derive(Debug)]
pub struct Apache {
    /// None while it is stopped. Before the folder, so that nobody writes into it when it is removed.
    process: Option<Process>,
    folder: TempDir,
    port: u16,
    output: Output,
    /// Number of the first line of the present run.
    run_begins_at: usize,
}

impl Apache {
    /// Formats a new node's storage and starts it; ready when it accepts connections.
    pub async fn start_new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("latchline-kafka-").tempdir()?;
        let data = folder.path().join("data");
        Self::start_with(folder, &data).await
    }

    /// As [`Apache::start_new`], with its data in this folder.
    pub async fn start_in(data: &Path) -> anyhow::Result<Self> {
        Self::start_with(tempfile::Builder::new().prefix("latchline-kafka-").tempdir()?, data).await
    }

    async fn start_with(folder: TempDir, data: &Path) -> anyhow::Result<Self> {
        let (port, controller_port) = (free_port()?, free_port()?);
        let properties = properties(port, controller_port, &data.display().to_string());
        std::fs::write(folder.path().join("server.properties"), properties)?;
        std::fs::write(folder.path().join("log4j2.xml"), LOG4J2)?;
        let mut kafka = Self { folder, port, output: Output::default(), run_begins_at: 0, process: None };
        kafka.format()?;
        kafka.start().await?;
        Ok(kafka)
    }

    /// `127.0.0.1:port`
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn process_id(&self) -> anyhow::Result<u32> {
        Ok(self.running()?.id())
    }

    /// Sees its end.
    pub fn watch(&self) -> anyhow::Result<Watch> {
        Ok(self.running()?.watch())
    }

    /// Starts it (again) on its port with its data.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let mut command = self.java("kafka.Kafka", &["server.properties"])?;
        self.run_begins_at = self.output.lines().len();
        let mut process = Process::start_with("Apache Kafka", &mut command, &self.output)?;
        let until = Instant::now() + START_DEADLINE;
        // The listener opens last, after the log has been recovered.
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = process.ended() {
                bail!("Apache Kafka ended at its start ({status}): {}", self.output.lines().join("\n"));
            }
            if Instant::now() >= until {
                bail!("Apache Kafka is not up after {START_DEADLINE:?}: {}", self.output.lines().join("\n"));
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Stops it in order (SIGTERM); its port refuses connections afterwards.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.take()?.stop(STOP_DEADLINE).await?;
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.take()?.kill();
        Ok(())
    }

    /// Makes it a black hole (SIGSTOP).
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.running()?.pause().await
    }

    /// Ends the pause (SIGCONT).
    pub fn resume(&self) -> anyhow::Result<()> {
        self.running()?.resume()
    }

    /// Whether it has noticed that it cannot write: it says so, or has ended by itself.
    pub fn is_without_space(&mut self) -> bool {
        let said = self.output.lines_from(self.run_begins_at);
        said.iter().any(|line| line.contains("No space left on device"))
            || self.process.as_mut().is_some_and(|process| process.ended().is_some())
    }

    fn format(&self) -> anyhow::Result<()> {
        let output = self
            .java("kafka.tools.StorageTool", &["format", "-t", CLUSTER_ID, "-c", "server.properties"])?
            .output()
            .context("start java")?;
        if !output.status.success() {
            bail!("format Kafka's storage: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn java(&self, class: &str, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(jars::java());
        command
            .current_dir(self.folder.path())
            // A short-lived node on a small machine: a small heap, and no time spent on optimising.
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dlog4j2.configurationFile=log4j2.xml")
            .arg("-cp")
            .arg(jars::folder()?.join("*"))
            .arg(class)
            .args(arguments);
        Ok(command)
    }

    fn running(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("Apache Kafka is not running")
    }

    fn take(&mut self) -> anyhow::Result<Process> {
        self.process.take().context("Apache Kafka is not running")
    }
}

fn properties(port: u16, controller_port: u16, data: &str) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n\
         broker.session.timeout.ms={SESSION_TIMEOUT_MS}\n\
         broker.heartbeat.interval.ms=500\n\
         group.initial.rebalance.delay.ms=0\n"
    )
}

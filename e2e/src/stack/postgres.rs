//! A Postgres that several services share.
//!
//! It ends with the last that holds it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use latchline_shared::kit::postgres::Postgres as Settings;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::process;

/// The database that everything uses; each service has a schema of its own in it.
pub const DATABASE: &str = "postgres";
/// Recovery reads all that was written since the last checkpoint.
const COME_BACK_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running Postgres, or one that was stopped.
#[derive(Debug, Clone)]
pub struct Postgres(Arc<Mutex<DevelopmentPostgres>>);

impl Postgres {
    /// Starts one for tests, that does not wait for the disk.
    pub async fn start() -> anyhow::Result<Self> {
        // Starting a server blocks.
        Ok(tokio::task::spawn_blocking(DevelopmentPostgres::start).await??.into())
    }

    /// Starts one that keeps its data in this folder, and waits for the disk.
    pub async fn start_in(folder: PathBuf) -> anyhow::Result<Self> {
        let port = process::free_port()?;
        Ok(tokio::task::spawn_blocking(move || DevelopmentPostgres::start_in(&folder, port)).await??.into())
    }

    /// How to reach it.
    pub fn settings(&self) -> Settings {
        self.server().settings(DATABASE)
    }

    /// As a URL with the password in it, for `psql`.
    pub fn url(&self) -> String {
        self.server().url(DATABASE)
    }

    /// The file that holds the password.
    pub fn password_file(&self) -> PathBuf {
        self.server().password_file()
    }

    /// The process of the server.
    pub fn process_id(&self) -> anyhow::Result<u32> {
        self.server().process_id().context("postgres has ended")
    }

    /// Ends the server as an operator would; the port refuses connections until [`Self::resume`].
    pub fn stop(&self) {
        self.server().stop();
    }

    /// Ends the server as a power cut would.
    pub fn crash(&self) {
        self.server().crash();
    }

    /// Starts the server again, on the same port with the same data.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.server().resume()
    }

    /// Waits until it answers after something that it may have ended of; if so, it is started again.
    pub async fn come_back(&self) -> anyhow::Result<()> {
        let until = Instant::now() + COME_BACK_DEADLINE;
        loop {
            if !self.server().is_running() {
                self.stop();
                self.resume()?;
            }
            match self.connect().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Makes all its processes stand still: connections stay open and nobody answers. To be ended by
    /// [`Self::go_on`] before the server is stopped: it would not hear of it.
    pub fn pause(&self) -> anyhow::Result<()> {
        // The first one starts the others: while it stands still, there are no new ones.
        let server = self.process_id()?;
        process::send(server, Signal::SIGSTOP)?;
        Self::to_children(server, Signal::SIGSTOP)
    }

    /// Ends [`Self::pause`].
    pub fn go_on(&self) -> anyhow::Result<()> {
        let server = self.process_id()?;
        Self::to_children(server, Signal::SIGCONT)?;
        process::send(server, Signal::SIGCONT)
    }

    fn to_children(server: u32, signal: Signal) -> anyhow::Result<()> {
        for child in process::children(server)? {
            // One that has ended meanwhile stands still.
            let _ = process::send(child, signal);
        }
        Ok(())
    }

    /// Connects to the database as its owner, a superuser.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let config = self.settings().client_config("tests")?;
        let (client, connection) = config.connect(NoTls).await.context("connect to postgres")?;
        // Ends with the client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// A server that was left half way by a panic still ends.
    fn server(&self) -> MutexGuard<'_, DevelopmentPostgres> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<DevelopmentPostgres> for Postgres {
    fn from(server: DevelopmentPostgres) -> Self {
        Self(Arc::new(Mutex::new(server)))
    }
}

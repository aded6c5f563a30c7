//! A Postgres that several services share.
//!
//! It ends with the last that holds it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use latchline_shared::kit::postgres::Postgres as Settings;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use nix::sys::signal::Signal;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::process;
use crate::stack::disk::Disk;

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
        Ok(spawn_blocking(DevelopmentPostgres::start).await??.into())
    }

    /// Starts one that keeps its data in this folder, and waits for the disk.
    pub async fn start_in(folder: PathBuf) -> anyhow::Result<Self> {
        let port = process::free_port()?;
        Ok(spawn_blocking(move || DevelopmentPostgres::start_in(&folder, port)).await??.into())
    }

    /// As [`Postgres::start_in`], on this disk, with little more than its data on it.
    pub async fn start_on(disk: Disk) -> anyhow::Result<Self> {
        let port = process::free_port()?;
        // The disk is there for as long as this takes, even if nobody waits for it any more.
        let start = move || DevelopmentPostgres::start_small(&disk.path().join("cluster"), port);
        Ok(spawn_blocking(start).await??.into())
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

    /// How the server ended, if it has and nobody has told it to.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.server().ended()
    }

    /// What the server has written since it was started last.
    pub fn lines(&self) -> Vec<String> {
        self.server().log().lines().map(str::to_owned).collect()
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

    /// Does what blocks for as long as a server takes to start or to end, where that holds up nobody.
    pub async fn blocking<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let server = self.clone();
        Ok(spawn_blocking(move || what(&server)).await?)
    }

    /// Waits until it answers after something that it may have ended of; if so, it is started again.
    pub async fn come_back(&self) -> anyhow::Result<()> {
        let until = Instant::now() + COME_BACK_DEADLINE;
        loop {
            if !self.server().is_running() {
                self.blocking(|server| {
                    server.stop();
                    server.resume()
                })
                .await??;
            }
            match self.connect().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Makes all its processes stand still: connections stay open and nobody answers.
    pub async fn pause(&self) -> anyhow::Result<()> {
        // The first one starts the others: when it stands still, there are no new ones.
        let server = self.process_id()?;
        process::pause(server).await?;
        for child in process::children(server)? {
            // One that has ended meanwhile stands still.
            if let Err(error) = process::pause(child).await
                && Path::new(&format!("/proc/{child}")).exists()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends [`Self::pause`].
    pub fn go_on(&self) -> anyhow::Result<()> {
        let server = self.process_id()?;
        for child in process::children(server)? {
            // One that has ended meanwhile needs nothing.
            let _ = process::send(child, Signal::SIGCONT);
        }
        process::send(server, Signal::SIGCONT)
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn exists(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_stands_still_answers_nobody_and_ends_when_it_shall() {
        let postgres = Postgres::start().await.unwrap();
        let client = postgres.connect().await.unwrap();
        postgres.pause().await.unwrap();
        let answer = client.execute("select 1", &[]);
        assert!(timeout(Duration::from_millis(200), answer).await.is_err(), "nobody is there to answer");
        postgres.go_on().unwrap();
        timeout(DEADLINE, client.execute("select 1", &[])).await.unwrap().unwrap();
        // In order, as by a power cut, and because nobody needs it any more.
        for end in [Postgres::stop, Postgres::crash] {
            postgres.pause().await.unwrap();
            timeout(DEADLINE, postgres.blocking(end)).await.unwrap().unwrap();
            postgres.blocking(Postgres::resume).await.unwrap().unwrap();
        }
        postgres.pause().await.unwrap();
        let id = postgres.process_id().unwrap();
        timeout(DEADLINE, spawn_blocking(|| drop(postgres))).await.unwrap().unwrap();
        assert!(!exists(id));
    }
}

//! A Postgres that several services share.
//!
//! It ends with the last that holds it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use latchline_shared::kit::postgres::Postgres as Settings;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use tokio_postgres::{Client, NoTls};

/// The database that everything uses; each service has a schema of its own in it.
pub const DATABASE: &str = "postgres";

/// A running Postgres, or one that was stopped.
#[derive(Debug, Clone)]
pub struct Postgres(Arc<Mutex<DevelopmentPostgres>>);

impl Postgres {
    /// Starts one for tests, that does not wait for the disk.
    pub async fn start() -> anyhow::Result<Self> {
        // Starting a server blocks.
        Ok(tokio::task::spawn_blocking(DevelopmentPostgres::start).await??.into())
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

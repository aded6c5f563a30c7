//! Databases for tests: each test has one of its own.

use std::sync::OnceLock;

use anyhow::Context;
use deadpool_postgres::Pool;
use tokio_postgres::{GenericClient, NoTls};

use super::development::{self, DevelopmentPostgres, URL_VARIABLE};
#[cfg(feature = "http")]
use super::prepare::Schema;
use super::statement::Statement;
use super::{Postgres, Role};
use crate::kit::clock;

/// One server for all tests of a process. It is never dropped: it ends with the process.
static SERVER: OnceLock<Option<DevelopmentPostgres>> = OnceLock::new();

/// A fresh database with the schema of a service.
#[derive(Debug)]
pub struct Database {
    /// How to connect to it.
    pub postgres: Postgres,
    /// Connections as the service has them.
    pub pool: Pool,
    /// Connections as the schema's owner has them, a superuser.
    pub owner: Pool,
}

#[cfg(feature = "http")]
impl Database {
    /// Makes one. Its connections look for names in the schema only.
    pub async fn new(schema: &Schema, role: Role) -> anyhow::Result<Self> {
        let postgres = database().await?;
        schema.migrate(&postgres).await?;
        let pool = postgres.pool_in("tests", Some(role), schema.name)?;
        let owner = postgres.pool_in("tests", None, schema.name)?;
        Ok(Self { postgres, pool, owner })
    }
}

/// How Postgres answers a statement, having done so.
pub async fn plan(client: &(impl GenericClient + Sync), statement: &Statement) -> anyhow::Result<String> {
    let explain = format!("explain (analyze, timing off, summary off) {}", statement.text);
    let rows = client.query_typed(&explain, &statement.values()).await.context("explain")?;
    let lines: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    Ok(lines.join("\n"))
}

/// A fresh, empty database. It stays until the server ends or somebody drops it.
pub async fn database() -> anyhow::Result<Postgres> {
    let existing = std::env::var(URL_VARIABLE).ok();
    let admin = match &existing {
        Some(url) => development::settings(url, None),
        None => server()?.settings("postgres"),
    };
    let name = format!("latchline_test_{}_{}_{}", std::process::id(), clock::unix_ms(), next());
    let (client, connection) =
        admin.client_config("tests")?.connect(NoTls).await.context("connect to postgres")?;
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("create database {name}")).await.context("create a database")?;
    drop(client);
    connection.await??;
    Ok(match &existing {
        Some(url) => development::settings(&with_database(url, &name), None),
        None => server()?.settings(&name),
    })
}

fn server() -> anyhow::Result<&'static DevelopmentPostgres> {
    let start = || {
        DevelopmentPostgres::start()
            .inspect_err(|error| tracing::error!(error = format!("{error:#}"), "no postgres for tests"))
            .ok()
    };
    SERVER.get_or_init(start).as_ref().context("postgres for tests did not start")
}

fn next() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// The url with another database.
fn with_database(url: &str, name: &str) -> String {
    let (server, query) = url.split_once('?').map_or((url, None), |(server, query)| (server, Some(query)));
    let (server, _) = server.rsplit_once('/').unwrap_or((server, ""));
    match query {
        Some(query) => format!("{server}/{name}?{query}"),
        None => format!("{server}/{name}"),
    }
}

//! Databases for tests: each test has one of its own.

use std::sync::OnceLock;

use anyhow::Context;
use tokio_postgres::NoTls;

use super::Postgres;
use super::development::{self, DevelopmentPostgres, URL_VARIABLE};
use crate::kit::clock;

/// One server for all tests of a process. It is never dropped: it ends with the process.
static SERVER: OnceLock<Option<DevelopmentPostgres>> = OnceLock::new();

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

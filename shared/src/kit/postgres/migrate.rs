//! Migrations: a service brings its own schema up to date when it starts.
//!
//! Each migration is a file of SQL, embedded, applied once and in order, in a transaction of its
//! own. Names without a schema are those of the schema that is migrated, so that the same files can
//! make a second schema of the same shape. Instances that start at the same time wait for each
//! other (an advisory lock). A migration that was applied is never edited: its hash is kept, and
//! another one is an error.

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use tracing::info;

use crate::hex;

/// A step from one version of a schema to the next.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Name, with its number in front: `0001_history`.
    pub name: &'static str,
    /// The statements.
    pub sql: &'static str,
}

/// Applies what `schema` has not seen yet, and returns how many that were. The schema is created if
/// it is missing. `client` must be the owner, or be allowed to create the schema.
pub async fn migrate(client: &mut Client, schema: &str, migrations: &[Migration]) -> anyhow::Result<usize> {
    // Held until it is given back or the connection ends.
    client
        .execute("select pg_advisory_lock(hashtextextended('latchline ' || $1, 0))", &[&schema])
        .await
        .context("wait for other migrations")?;
    let applied = apply_missing(client, schema, migrations).await;
    client
        .execute("select pg_advisory_unlock(hashtextextended('latchline ' || $1, 0))", &[&schema])
        .await
        .context("let other migrations go on")?;
    applied
}

/// Looks whether `schema` has all migrations and no other, for a login that may not migrate.
pub async fn is_current(client: &Client, schema: &str, migrations: &[Migration]) -> anyhow::Result<()> {
    let applied = applied(client, schema, migrations).await?;
    ensure!(
        applied == migrations.len(),
        "schema {schema} has {applied} of {} migrations: somebody must migrate it as its owner",
        migrations.len()
    );
    Ok(())
}

async fn apply_missing(client: &mut Client, schema: &str, migrations: &[Migration]) -> anyhow::Result<usize> {
    let ledger = format!(
        "create schema if not exists {schema};
         create table if not exists {schema}.migration (
             name text primary key,
             sha256 text not null,
             applied_at timestamptz not null default now()
         )"
    );
    // Asked first: a login that may not create anything can still run on what is there.
    let there =
        client.query_one("select to_regclass($1) is not null", &[&format!("{schema}.migration")]).await?;
    if !there.get::<_, bool>(0) {
        client.batch_execute(&ledger).await.with_context(|| format!("create schema {schema}"))?;
    }
    let applied = applied(client, schema, migrations).await?;
    for migration in &migrations[applied..] {
        apply(client, schema, migration).await.with_context(|| format!("migration {}", migration.name))?;
        info!(schema, migration = migration.name, "migrated");
    }
    Ok(migrations.len() - applied)
}

/// How many of the migrations are applied; one that is not ours is an error.
async fn applied(client: &Client, schema: &str, migrations: &[Migration]) -> anyhow::Result<usize> {
    let rows =
        client.query(&format!("select name, sha256 from {schema}.migration order by name"), &[]).await?;
    for (number, row) in rows.iter().enumerate() {
        let (name, hash): (&str, &str) = (row.get(0), row.get(1));
        let ours = migrations.get(number).with_context(|| {
            format!(
                "schema {schema} has migration {name}, of which this program knows nothing: it is too old"
            )
        })?;
        ensure!(
            ours.name == name && fingerprint(ours) == hash,
            "migration {name} of schema {schema} is not the {} of this program",
            ours.name
        );
    }
    Ok(rows.len())
}

async fn apply(client: &mut Client, schema: &str, migration: &Migration) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    // Until the end of the transaction.
    transaction.batch_execute(&format!("set local search_path to {schema}")).await?;
    transaction.batch_execute(migration.sql).await?;
    transaction
        .execute(
            &format!("insert into {schema}.migration (name, sha256) values ($1, $2)"),
            &[&migration.name, &fingerprint(migration)],
        )
        .await?;
    transaction.commit().await?;
    Ok(())
}

fn fingerprint(migration: &Migration) -> String {
    hex::encode(&<[u8; 32]>::from(Sha256::digest(migration.sql)))
}

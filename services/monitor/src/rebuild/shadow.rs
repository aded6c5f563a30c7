//! The shadow schema: made, filled with what is live (`was_…`), given what does not follow from
//! records, removed.
//!
//! Invariants: a schema that no rebuild has made is never touched (a comment on it says so); there is
//! one rebuild at a time for each (an advisory lock of the connection); of the live schema nothing is
//! locked but that its tables stay.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, ensure};
use deadpool_postgres::{Object, Pool};
use jiff::Timestamp;
use latchline_shared::kit::clock;
use latchline_shared::kit::postgres::migrate;
use tokio_postgres::{Client, IsolationLevel};

use super::COPIED;
use crate::alarm::sweep::prune::{ALARM_KEEP_MS, OTHER_KEEP_MS};
use crate::migrations::{ROLE, SCHEMA};

/// What stands on a schema of ours.
const MARK: &str = "shadow of the monitor, made by its rebuild";
const TABLES: [&str; 6] = ["alarm", "alarm_event", "lock_current", "battery_day", "lane", "consumer_offset"];
const KEYS: &str = "
    alter table was_alarm add primary key (id);
    create index on was_alarm (client_id);
    alter table was_alarm_event add primary key (alarm_id, no);
    alter table was_lock_current add primary key (client_id);
    create index on was_lock_current (partition);
    alter table was_battery_day add primary key (client_id, day);
    analyze was_alarm, was_alarm_event, was_lock_current, was_battery_day";

/// To copy, index and compare takes as long as there are rows.
const UNBOUNDED: &str = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0";

const BEHIND: &str = "select coalesce(sum(greatest(was.next_offset - now.next_offset, 0)), 0)::bigint
    from was_consumer_offset was join consumer_offset now using (stream, partition)
    where was.partition <> all($1)";

const MISSING: &str = "select concat(stream, ': partition ', partition, ' ends at offset ', now.next_offset,
        ', the live one has read up to ', was.next_offset)
    from was_consumer_offset was join consumer_offset now using (stream, partition)
    where now.next_offset < was.next_offset order by stream, partition";

/// Presence is what a clock saw. While a lock is offline, so is when its next delay ends.
const PRESENCE: &str = "update lock_current now set online = was.online, online_since = was.online_since,
        pending_at = case when was.online then now.pending_at else was.pending_at end
    from was_lock_current was
    where was.client_id = now.client_id and now.partition = $1
        and (was.online, was.online_since) is distinct from (now.online, now.online_since)";

/// Whether a condition that held on was seen before or after somebody acted is not written down; once
/// it was seen after that, it makes no difference.
const SEEN: &str = "update alarm now set last_at = was.last_at, value = was.value
    from was_alarm was
    where was.id = now.id
        and (was.last_at, was.value::text) is distinct from (now.last_at, now.value::text)
        and exists (select from was_alarm_event event
            where event.alarm_id = was.id and event.origin in ('operator', 'clock')
                and event.at >= least(was.last_at, now.last_at))";

const COPY_ALARMS: &str = "insert into alarm select * from was_alarm where type = any($1)";
const COPY_EVENTS: &str = "insert into alarm_event overriding system value
    select * from was_alarm_event where alarm_id = any(array(select id from was_alarm where type = any($1)))";

/// What the sweep removes sooner or later, of both.
const OLD: [(&str, i64); 5] = [
    ("delete from alarm where closed_at < $1", ALARM_KEEP_MS),
    (
        "delete from was_alarm_event where alarm_id = any(array(select id from was_alarm where closed_at < $1))",
        ALARM_KEEP_MS,
    ),
    ("delete from was_alarm where closed_at < $1", ALARM_KEEP_MS),
    ("delete from battery_day where day < ($1 at time zone 'UTC')::date", OTHER_KEEP_MS),
    ("delete from was_battery_day where day < ($1 at time zone 'UTC')::date", OTHER_KEEP_MS),
];

/// The schema, and the connection that holds it.
pub(super) struct Shadow {
    name: String,
    client: Object,
}

/// What becomes of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
}

/// What is live, beside the tables.
pub(super) struct Snapshot {
    at_ms: i64,
    /// Behind the last record that had its effect, by stream and partition.
    pub(super) targets: HashMap<(String, i32), i64>,
    /// Up to when delays had ended, by lane.
    pub(super) evaluated: BTreeMap<i32, i64>,
}

/// The name goes into statements, and must not be that of the live schema.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    ensure!(
        name.len() <= 63
            && name.bytes().all(is_word)
            && name.starts_with(|first: char| first.is_ascii_lowercase()),
        "schema {name:?} is no name: a-z, 0-9 and _, at most 63"
    );
    ensure!(name != SCHEMA.name && !name.starts_with("pg_"), "schema {name} is not for a rebuild");
    Ok(())
}

impl Shadow {
    /// Makes the schema anew. `pool` has connections of an owner that look for names in it.
    pub(super) async fn make(pool: &Pool, name: &str) -> anyhow::Result<Self> {
        let mut client = pool.get().await.context("connect to postgres")?;
        client.batch_execute(UNBOUNDED).await?;
        migrate::is_current(&client, SCHEMA.name, SCHEMA.migrations).await.context("the live schema")?;
        let lock = "select pg_try_advisory_lock(hashtextextended('latchline rebuild ' || $1, 0))";
        let is_alone: bool = client.query_one(lock, &[&name]).await?.try_get(0)?;
        ensure!(is_alone, "another rebuild is at work on schema {name}");
        let look = "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = $1";
        if let Some(row) = client.query_opt(look, &[&name]).await? {
            let mark: Option<&str> = row.try_get(0)?;
            ensure!(mark == Some(MARK), "schema {name} was not made by a rebuild and is not touched");
            client.batch_execute(&format!("drop schema {name} cascade")).await?;
        }
        let make = format!("create schema {name}; comment on schema {name} is '{MARK}'");
        client.batch_execute(&make).await.with_context(|| format!("create schema {name}"))?;
        migrate::migrate(&mut client, name, SCHEMA.migrations).await?;
        Ok(Self { name: name.to_owned(), client })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Copies what is live, as it is at one moment.
    pub(super) async fn snapshot(&mut self, streams: &[String]) -> anyhow::Result<Snapshot> {
        let builder = self.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let transaction = builder.start().await?;
        let at_ms = i64::try_from(clock::unix_ms())?;
        for table in TABLES {
            let copy = format!("create table was_{table} as table {}.{table}", SCHEMA.name);
            transaction.batch_execute(&copy).await.with_context(|| format!("copy {table}"))?;
        }
        transaction.commit().await?;
        let Self { client, .. } = self;
        client.batch_execute(KEYS).await.context("index the copies")?;
        let tables = TABLES.map(|table| format!("was_{table}")).join(", ");
        client.batch_execute(&format!("grant select on {tables} to {}", ROLE.0)).await?;
        client.execute("delete from was_consumer_offset where stream <> all($1)", &[&streams]).await?;
        // From the beginning, so that what Kafka does not have any more is found missing.
        let begin = "insert into consumer_offset (stream, partition, next_offset)
            select stream, partition, 0 from was_consumer_offset";
        client.execute(begin, &[]).await?;
        let mut snapshot = Snapshot { at_ms, targets: HashMap::new(), evaluated: BTreeMap::new() };
        for row in client.query("select stream, partition, next_offset from was_consumer_offset", &[]).await?
        {
            snapshot.targets.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
        }
        for row in client.query("select partition, evaluated_at from was_lane", &[]).await? {
            let at: Timestamp = row.try_get(1)?;
            snapshot.evaluated.insert(row.try_get(0)?, at.as_millisecond());
        }
        Ok(snapshot)
    }

    /// How many records are still to be replayed, at most; none of lanes that have `ended`.
    pub(super) async fn behind(&mut self, ended: &BTreeSet<i32>) -> anyhow::Result<i64> {
        let ended: Vec<i32> = ended.iter().copied().collect();
        Ok(self.client.query_one(BEHIND, &[&ended]).await?.try_get(0)?)
    }

    /// What Kafka does not have any more though the live one has read it.
    pub(super) async fn missing(&mut self) -> anyhow::Result<Vec<String>> {
        let rows = self.client.query(MISSING, &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Takes over what does not follow from records.
    pub(super) async fn adopt(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let Self { client, .. } = self;
        for lane in snapshot.evaluated.keys() {
            client.execute(PRESENCE, &[lane]).await.context("adopt presence")?;
        }
        client.execute(SEEN, &[]).await.context("adopt values")?;
        let types = COPIED.map(|alarm| alarm.name());
        for statement in [COPY_ALARMS, COPY_EVENTS] {
            client.execute(statement, &[&types.as_slice()]).await.context("adopt alarms of clocks")?;
        }
        for (statement, keep_ms) in OLD {
            let before = Timestamp::from_millisecond(snapshot.at_ms.saturating_sub(keep_ms))?;
            client.execute(statement, &[&before]).await.context("remove what is old")?;
        }
        Ok(())
    }

    /// Lets go of the schema.
    pub(super) async fn leave(self, how: Leave) -> anyhow::Result<()> {
        let Self { name, client } = self;
        if how == Leave::Remove {
            client.batch_execute(&format!("drop schema {name} cascade")).await?;
        }
        client.batch_execute("select pg_advisory_unlock_all()").await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_shadows_are_names() {
        for (name, expected) in [
            ("monitor_rebuild", true),
            ("a1", true),
            ("monitor", false),
            ("pg_temp", false),
            ("", false),
            ("1a", false),
            ("Monitor", false),
            ("a; drop schema monitor", false),
        ] {
            assert_eq!(check_name(name).is_ok(), expected, "{name}");
        }
    }
}

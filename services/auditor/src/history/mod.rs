//! History in Postgres: rows are added to the end of a chain and read back in its order.
//!
//! The head of a chain is a row that whoever appends locks until the end of the transaction, so
//! each chain has one writer at a time and its numbers have no gap, however many instances write.
//! Rows go in by `copy`, which takes lists and is faster than `insert`.
//!
//! Invariant: what is hashed is what is stored. Values that a column cannot keep (a time beyond
//! the calendar, a battery that is no number) become null before they are hashed; the raw record
//! has them.

use std::error::Error as StdError;
use std::pin::pin;

use futures_util::future::join;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, GenericClient, Transaction};

use crate::chain::Head;
use crate::event::{Direction, Event, Kind, Place, Row, Severity};
use crate::history::types::{Bytes32, Micros, Xid};

pub mod types;

/// The columns of `auditor.event`, in the order of [`row`].
pub const COLUMNS: &str = "chain_id, seq, occurred_at, ingested_at, xid, direction, kind, client_id, \
    process_id, action, lock_state, lock_state_raw, battery, publisher, receiver, username, verdict, \
    findings, severity, reason, nonce_str, cmd_ts, skew_ms, sign_bits, kid, raw, raw_sha256, k_topic, \
    k_partition, k_offset, mid, node, qos, leaf_hash, chain_hash, detail_hash";

const TYPES: [Type; 36] = [
    Type::INT2,
    Type::INT8,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
    Type::XID8,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::FLOAT4,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT_ARRAY,
    Type::INT2,
    Type::TEXT,
    Type::TEXT,
    Type::TIMESTAMPTZ,
    Type::INT8,
    Type::INT2,
    Type::TEXT,
    Type::BYTEA,
    Type::BYTEA,
    Type::TEXT,
    Type::INT4,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::INT2,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
];

/// A stored row that is none: a column holds what was never written there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {seq} of chain {chain_id} cannot be read: {what}")]
pub struct Unreadable {
    /// Its chain.
    pub chain_id: i16,
    /// Its number.
    pub seq: i64,
    /// Which column, and why.
    pub what: String,
}

/// Adds events to the end of a chain, in the transaction of their cause, and returns them as rows.
/// The chain is locked until that ends.
pub async fn append(
    transaction: &Transaction<'_>,
    chain_id: i16,
    events: Vec<Event>,
) -> Result<Vec<Row>, Fault> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut months: Vec<Micros> = Vec::new();
    for event in &events {
        let occurred_at = Micros::of_ms(event.occurred_at_ms)
            .ok_or_else(|| Fault::Permanent(format!("{} ms is no time", event.occurred_at_ms).into()))?;
        if !months.iter().any(|month| month.month() == occurred_at.month()) {
            months.push(occurred_at);
        }
    }
    let of = |error: Error| fault::of(&error);
    let parameters: [&(dyn ToSql + Sync); 1] = [&months];
    let ensured = transaction
        .execute("select auditor.ensure_month(month) from unnest($1::timestamptz[]) month", &parameters);
    let (ensured, locked) = join(ensured, lock_head(transaction, chain_id)).await;
    let (_, locked) = fault::both(ensured.map_err(of), locked.map_err(of))?;
    let Locked { mut head, now, xid } = locked;
    let rows: Vec<Row> =
        events.into_iter().map(|event| head.link(chain_id, storable(event), now.0, xid.0)).collect();
    copy(transaction, &rows).await.map_err(|error| match error.code() {
        // No partition takes the row: retention has just detached the month.
        Some(&SqlState::CHECK_VIOLATION) => Fault::transient("the month of an event was detached"),
        _ => of(error),
    })?;
    transaction
        .execute(
            "update auditor.chain_head set seq = $2, chain_hash = $3, detail_hash = $4 where chain_id = $1",
            &[&chain_id, &head.seq, &head.chain_hash.as_slice(), &head.detail_hash.as_slice()],
        )
        .await
        .map_err(of)?;
    Ok(rows)
}

struct Locked {
    head: Head,
    now: Micros,
    xid: Xid,
}

async fn lock_head(transaction: &Transaction<'_>, chain_id: i16) -> Result<Locked, Error> {
    let select = "select seq, chain_hash, detail_hash, clock_timestamp(), pg_current_xact_id() \
        from auditor.chain_head where chain_id = $1 for update";
    let row = match transaction.query_opt(select, &[&chain_id]).await? {
        Some(row) => row,
        None => {
            let head = Head::genesis(chain_id);
            let insert = "insert into auditor.chain_head values ($1, 0, $2, $3) on conflict do nothing";
            let (chain_hash, detail_hash) = (head.chain_hash.as_slice(), head.detail_hash.as_slice());
            transaction.execute(insert, &[&chain_id, &chain_hash, &detail_hash]).await?;
            transaction.query_one(select, &[&chain_id]).await?
        }
    };
    let (chain_hash, detail_hash) = (row.try_get::<_, Bytes32>(1)?.0, row.try_get::<_, Bytes32>(2)?.0);
    Ok(Locked {
        head: Head { seq: row.try_get(0)?, chain_hash, detail_hash },
        now: row.try_get(3)?,
        xid: row.try_get(4)?,
    })
}

/// What the columns can keep of an event.
fn storable(mut event: Event) -> Event {
    event.cmd_ts = event.cmd_ts.filter(|ts| Micros::of_seconds(*ts).is_some());
    event.battery = event.battery.filter(|battery| battery.is_finite());
    event
}

async fn copy(transaction: &Transaction<'_>, rows: &[Row]) -> Result<(), Error> {
    let sink = transaction.copy_in(&format!("copy auditor.event ({COLUMNS}) from stdin binary")).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &TYPES));
    for row in rows {
        let event = &row.event;
        writer
            .as_mut()
            .write(&[
                &row.chain_id,
                &row.seq,
                &Micros(event.occurred_at_ms.saturating_mul(1_000)),
                &Micros(row.ingested_at_us),
                &Xid(row.xid),
                &event.direction.name(),
                &event.kind.name(),
                &event.client_id,
                &event.process_id,
                &event.action,
                &event.lock_state,
                &event.lock_state_raw,
                &event.battery,
                &event.publisher,
                &event.receiver,
                &event.username,
                &event.verdict,
                &event.findings,
                &event.severity.level(),
                &event.reason,
                &event.nonce_str,
                &event.cmd_ts.map(|ts| Micros(ts.saturating_mul(1_000_000))),
                &event.skew_ms,
                &event.sign_bits,
                &event.kid,
                &(!row.raw_removed).then_some(&event.raw),
                &row.raw_sha256.as_slice(),
                &event.place.stream,
                &event.place.partition,
                &event.place.offset,
                &event.mid,
                &event.node,
                &event.qos,
                &row.leaf_hash.as_slice(),
                &row.chain_hash.as_slice(),
                &row.detail_hash.as_slice(),
            ])
            .await?;
    }
    writer.finish().await?;
    Ok(())
}

/// How far a chain has been read. Not by number alone, because a forged row may repeat one.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    seq: i64,
    occurred_at: Micros,
}

impl Position {
    /// Before the first row.
    pub const START: Self = Self { seq: i64::MIN, occurred_at: Micros(i64::MIN) };

    /// After all rows up to this number.
    pub fn after(seq: i64) -> Self {
        Self { seq, occurred_at: Micros(i64::MAX) }
    }
}

/// The next rows of a chain, in its order; goes on to them. No rows: that was the end.
pub async fn page(
    client: &impl GenericClient,
    chain_id: i16,
    position: &mut Position,
    rows_max: i64,
) -> Result<Vec<Result<Row, Unreadable>>, Error> {
    let select = format!(
        "select {COLUMNS} from auditor.event where chain_id = $1 and seq >= $2 \
         and (seq, occurred_at) > ($2, $3) order by seq, occurred_at limit $4"
    );
    let parameters: [&(dyn ToSql + Sync); 4] = [&chain_id, &position.seq, &position.occurred_at, &rows_max];
    let rows = client.query(&select, &parameters).await?;
    if let Some(last) = rows.last() {
        *position = Position { seq: last.try_get(1)?, occurred_at: last.try_get(2)? };
    }
    Ok(rows.iter().map(row).collect())
}

/// A row of a query that selects [`COLUMNS`], first.
pub fn row(columns: &tokio_postgres::Row) -> Result<Row, Unreadable> {
    let mut place = (0, 0);
    read(columns, &mut place).map_err(|error| {
        let what = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Unreadable { chain_id: place.0, seq: place.1, what }
    })
}

fn read(columns: &tokio_postgres::Row, place: &mut (i16, i64)) -> Result<Row, Box<dyn StdError>> {
    let (chain_id, seq) = (columns.try_get(0)?, columns.try_get(1)?);
    *place = (chain_id, seq);
    let occurred_at: Micros = columns.try_get(2)?;
    let cmd_ts: Option<Micros> = columns.try_get(21)?;
    let raw: Option<Vec<u8>> = columns.try_get(25)?;
    Ok(Row {
        chain_id,
        seq,
        ingested_at_us: columns.try_get::<_, Micros>(3)?.0,
        xid: columns.try_get::<_, Xid>(4)?.0,
        raw_removed: raw.is_none(),
        raw_sha256: columns.try_get::<_, Bytes32>(26)?.0,
        leaf_hash: columns.try_get::<_, Bytes32>(33)?.0,
        chain_hash: columns.try_get::<_, Bytes32>(34)?.0,
        detail_hash: columns.try_get::<_, Bytes32>(35)?.0,
        event: Event {
            occurred_at_ms: whole(occurred_at, 1_000, "occurred_at")?,
            direction: word(columns, 5, Direction::from_name)?,
            kind: word(columns, 6, Kind::from_name)?,
            client_id: columns.try_get(7)?,
            process_id: columns.try_get(8)?,
            action: columns.try_get(9)?,
            lock_state: columns.try_get(10)?,
            lock_state_raw: columns.try_get(11)?,
            battery: columns.try_get(12)?,
            publisher: columns.try_get(13)?,
            receiver: columns.try_get(14)?,
            username: columns.try_get(15)?,
            verdict: columns.try_get(16)?,
            findings: columns.try_get(17)?,
            severity: Severity::from_level(columns.try_get(18)?).ok_or("severity is none of ours")?,
            reason: columns.try_get(19)?,
            nonce_str: columns.try_get(20)?,
            cmd_ts: cmd_ts.map(|ts| whole(ts, 1_000_000, "cmd_ts")).transpose()?,
            skew_ms: columns.try_get(22)?,
            sign_bits: columns.try_get(23)?,
            kid: columns.try_get(24)?,
            raw: raw.unwrap_or_default(),
            place: Place {
                stream: columns.try_get(27)?,
                partition: columns.try_get(28)?,
                offset: columns.try_get(29)?,
            },
            mid: columns.try_get(30)?,
            node: columns.try_get(31)?,
            qos: columns.try_get(32)?,
        },
    })
}

fn word<T>(
    columns: &tokio_postgres::Row,
    index: usize,
    from_name: fn(&str) -> Option<T>,
) -> Result<T, Box<dyn StdError>> {
    let name: &str = columns.try_get(index)?;
    Ok(from_name(name).ok_or_else(|| format!("{} is {name:?}", columns.columns()[index].name()))?)
}

/// What is written is a whole number of the unit; a part of it was added later.
fn whole(time: Micros, unit_us: i64, column: &str) -> Result<i64, String> {
    if time.0 % unit_us == 0 { Ok(time.0 / unit_us) } else { Err(format!("{column} is too precise")) }
}

#[cfg(test)]
pub(crate) mod tests;

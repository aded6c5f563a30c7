//! What is known after a batch was judged.

use std::time::Duration;

use latchline_shared::fault::Fault;
use latchline_shared::report::Said;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::{failed, time};
use crate::judge::known::Known;
use crate::verdict::Verdict;

const NONCES: &str = "insert into auditor.nonce
        (client_id, nonce_str, payload_sha256, first_at, first_mid, first_from, expires_at)
    select client_id, nonce_str, payload_sha256, first_at, first_mid, first_from,
        first_at + make_interval(secs => $7)
    from unnest($1, $2, $3, $4, $5, $6)
        as row (client_id, nonce_str, payload_sha256, first_at, first_mid, first_from)
    on conflict do nothing";

const PROCESSES: &str = "insert into auditor.process
        (client_id, process_id, action, nonce_str, commanded_at, delivered_at, reported_at, outcome,
         verdict, deadline_at, chain_id, updated_at)
    select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    on conflict (client_id, process_id) do update set
        action = excluded.action, nonce_str = excluded.nonce_str, commanded_at = excluded.commanded_at,
        delivered_at = excluded.delivered_at, reported_at = excluded.reported_at,
        outcome = excluded.outcome, verdict = excluded.verdict, deadline_at = excluded.deadline_at,
        chain_id = excluded.chain_id, updated_at = excluded.updated_at";

const LOCKS: &str = "insert into auditor.lock_state (client_id, lock_state_raw, changed_at)
    select * from unnest($1, $2, $3)
    on conflict (client_id) do update set
        lock_state_raw = excluded.lock_state_raw, changed_at = excluded.changed_at";

// Time does not go back; greatest() passes over null.
const LANE: &str = "insert into auditor.lane as lane (chain_id, reports_at, commands_at) values ($1, $2, $3)
    on conflict (chain_id) do update set
        reports_at = greatest(lane.reports_at, excluded.reports_at),
        commands_at = greatest(lane.commands_at, excluded.commands_at)";

/// Writes the rows that changed, and the lane's time.
pub async fn save(
    transaction: &Transaction<'_>,
    lane: i16,
    known: &Known,
    nonce_keep: Duration,
) -> Result<(), Fault> {
    save_nonces(transaction, known, nonce_keep).await?;
    save_processes(transaction, known).await?;
    save_locks(transaction, known).await?;
    let reports_at = known.clock.reports_at_ms.and_then(time);
    let commands_at = known.clock.commands_at_ms.and_then(time);
    let at = Type::TIMESTAMPTZ;
    transaction
        .execute_typed(LANE, &[(&lane, Type::INT2), (&reports_at, at.clone()), (&commands_at, at)])
        .await
        .map_err(failed)?;
    Ok(())
}

async fn save_nonces(transaction: &Transaction<'_>, known: &Known, keep: Duration) -> Result<(), Fault> {
    let changes = known.nonces.changes();
    if changes.is_empty() {
        return Ok(());
    }
    let locks: Vec<&str> = changes.iter().map(|((lock, _), _)| lock.as_str()).collect();
    let nonces: Vec<&str> = changes.iter().map(|((_, nonce), _)| nonce.as_str()).collect();
    let hashes: Vec<&[u8]> = changes.iter().map(|(_, first)| first.payload_sha256.as_slice()).collect();
    let at: Vec<_> = changes.iter().map(|(_, first)| time(first.at_ms)).collect();
    let mids: Vec<Option<&str>> = changes.iter().map(|(_, first)| first.mid.as_deref()).collect();
    let from: Vec<&str> = changes.iter().map(|(_, first)| first.from.as_str()).collect();
    transaction
        .execute_typed(
            NONCES,
            &[
                (&locks, Type::TEXT_ARRAY),
                (&nonces, Type::TEXT_ARRAY),
                (&hashes, Type::BYTEA_ARRAY),
                (&at, Type::TIMESTAMPTZ_ARRAY),
                (&mids, Type::TEXT_ARRAY),
                (&from, Type::TEXT_ARRAY),
                (&keep.as_secs_f64(), Type::FLOAT8),
            ],
        )
        .await
        .map_err(failed)?;
    Ok(())
}

async fn save_processes(transaction: &Transaction<'_>, known: &Known) -> Result<(), Fault> {
    let changes = known.processes.changes();
    if changes.is_empty() {
        return Ok(());
    }
    let locks: Vec<&str> = changes.iter().map(|((lock, _), _)| lock.as_str()).collect();
    let ids: Vec<&str> = changes.iter().map(|((_, id), _)| id.as_str()).collect();
    let rows: Vec<_> = changes.iter().map(|(_, process)| *process).collect();
    let actions: Vec<_> = rows.iter().map(|row| row.action.as_deref()).collect();
    let nonces: Vec<_> = rows.iter().map(|row| row.nonce.as_deref()).collect();
    let commanded: Vec<_> = rows.iter().map(|row| row.commanded_at_ms.and_then(time)).collect();
    let delivered: Vec<_> = rows.iter().map(|row| row.delivered_at_ms.and_then(time)).collect();
    let reported: Vec<_> = rows.iter().map(|row| row.reported_at_ms.and_then(time)).collect();
    let outcomes: Vec<_> = rows.iter().map(|row| row.outcome.map(Said::name)).collect();
    let verdicts: Vec<_> = rows.iter().map(|row| row.verdict.map(Verdict::name)).collect();
    let deadlines: Vec<_> = rows.iter().map(|row| row.deadline_at_ms.and_then(time)).collect();
    let lanes: Vec<i16> = rows.iter().map(|row| row.lane).collect();
    let updated: Vec<_> = rows.iter().map(|row| time(row.updated_at_ms)).collect();
    transaction
        .execute_typed(
            PROCESSES,
            &[
                (&locks, Type::TEXT_ARRAY),
                (&ids, Type::TEXT_ARRAY),
                (&actions, Type::TEXT_ARRAY),
                (&nonces, Type::TEXT_ARRAY),
                (&commanded, Type::TIMESTAMPTZ_ARRAY),
                (&delivered, Type::TIMESTAMPTZ_ARRAY),
                (&reported, Type::TIMESTAMPTZ_ARRAY),
                (&outcomes, Type::TEXT_ARRAY),
                (&verdicts, Type::TEXT_ARRAY),
                (&deadlines, Type::TIMESTAMPTZ_ARRAY),
                (&lanes, Type::INT2_ARRAY),
                (&updated, Type::TIMESTAMPTZ_ARRAY),
            ],
        )
        .await
        .map_err(failed)?;
    Ok(())
}

async fn save_locks(transaction: &Transaction<'_>, known: &Known) -> Result<(), Fault> {
    let changes = known.locks.changes();
    if changes.is_empty() {
        return Ok(());
    }
    let locks: Vec<&str> = changes.iter().map(|(lock, _)| lock.as_str()).collect();
    let states: Vec<i64> = changes.iter().map(|(_, last)| last.raw).collect();
    let at: Vec<_> = changes.iter().map(|(_, last)| time(last.changed_at_ms)).collect();
    transaction
        .execute_typed(
            LOCKS,
            &[(&locks, Type::TEXT_ARRAY), (&states, Type::INT8_ARRAY), (&at, Type::TIMESTAMPTZ_ARRAY)],
        )
        .await
        .map_err(failed)?;
    Ok(())
}

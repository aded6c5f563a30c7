//! What is known when a batch is judged.

use std::collections::BTreeSet;

use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault::both;
use latchline_shared::report::Said;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Transaction};

use super::{DUE_MAX, failed, time};
use crate::judge::known::{Clock, Key, Known, LastState, Wants};
use crate::process::Process;
use crate::verdict::{FirstUse, Verdict};

const NONCES: &str = "select client_id, nonce_str, payload_sha256, first_at, first_mid, first_from
    from unnest($1, $2) as wanted (client_id, nonce_str) join auditor.nonce using (client_id, nonce_str)";

const PROCESSES: &str = "select client_id, process_id, action, nonce_str, commanded_at, delivered_at,
        reported_at, outcome, verdict, deadline_at, chain_id, updated_at
    from unnest($1, $2) as wanted (client_id, process_id) join auditor.process using (client_id, process_id)";

const DUE: &str = "select client_id, process_id, action, nonce_str, commanded_at, delivered_at,
        reported_at, outcome, verdict, deadline_at, chain_id, updated_at
    from auditor.process where chain_id = $1 and deadline_at < $2
    order by deadline_at, client_id, process_id limit $3";

const LOCKS: &str = "select client_id, lock_state_raw, changed_at
    from unnest($1) as wanted (client_id) join auditor.lock_state using (client_id)";

const LANE: &str = "select reports_at, commands_at from auditor.lane where chain_id = $1";

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// The rows that a batch of this lane may touch.
pub async fn load(transaction: &Transaction<'_>, lane: i16, wants: &Wants) -> Result<Known, Fault> {
    let (nonces, processes, locks) =
        (columns(&wants.nonces), columns(&wants.processes), wants.locks.iter().cloned().collect::<Vec<_>>());
    let nonces: [Parameter<'_>; 2] = [(&nonces.0, Type::TEXT_ARRAY), (&nonces.1, Type::TEXT_ARRAY)];
    let processes: [Parameter<'_>; 2] = [(&processes.0, Type::TEXT_ARRAY), (&processes.1, Type::TEXT_ARRAY)];
    let locks: [Parameter<'_>; 1] = [(&locks, Type::TEXT_ARRAY)];
    let (nonces, processes, locks, known) = tokio::join!(
        transaction.query_typed(NONCES, &nonces),
        transaction.query_typed(PROCESSES, &processes),
        transaction.query_typed(LOCKS, &locks),
        load_due(transaction, lane, wants.due_before_ms),
    );
    let ((nonces, processes), (locks, mut known)) =
        both(both(nonces.map_err(failed), processes.map_err(failed)), both(locks.map_err(failed), known))?;
    for row in &nonces {
        let (key, first) = first_use(row)?;
        known.nonces.load(key, first);
    }
    for row in &processes {
        let (key, process) = process(row)?;
        known.load_process(lane, key, process);
    }
    for row in &locks {
        let (lock, last) = last_state(row)?;
        known.locks.load(lock, last);
    }
    Ok(known)
}

/// The lane's time, and its processes that may be due before this.
pub async fn load_due(transaction: &Transaction<'_>, lane: i16, before_ms: i64) -> Result<Known, Fault> {
    let before = time(before_ms).unwrap_or(Timestamp::MIN);
    let due: [Parameter<'_>; 3] = [(&lane, Type::INT2), (&before, Type::TIMESTAMPTZ), (&DUE_MAX, Type::INT8)];
    let lane_only: [Parameter<'_>; 1] = [(&lane, Type::INT2)];
    let (due, clock) =
        tokio::join!(transaction.query_typed(DUE, &due), transaction.query_typed(LANE, &lane_only));
    let (due, clock) = both(due.map_err(failed), clock.map_err(failed))?;
    let mut known = Known::default();
    if let Some(row) = clock.first() {
        known.clock = Clock { reports_at_ms: ms(row, 0)?, commands_at_ms: ms(row, 1)? };
    }
    for row in &due {
        let (key, process) = process(row)?;
        known.load_process(lane, key, process);
    }
    Ok(known)
}

fn columns(keys: &BTreeSet<Key>) -> (Vec<&str>, Vec<&str>) {
    keys.iter().map(|(lock, second)| (lock.as_str(), second.as_str())).unzip()
}

fn first_use(row: &Row) -> Result<(Key, FirstUse), Fault> {
    let hash: &[u8] = row.try_get(2).map_err(failed)?;
    let first = FirstUse {
        payload_sha256: hash.try_into().map_err(|_| unreadable("auditor.nonce.payload_sha256"))?,
        at_ms: ms(row, 3)?.ok_or_else(|| unreadable("auditor.nonce.first_at"))?,
        mid: row.try_get(4).map_err(failed)?,
        from: row.try_get(5).map_err(failed)?,
    };
    Ok((key(row)?, first))
}

fn process(row: &Row) -> Result<(Key, Process), Fault> {
    let word = |index: usize| row.try_get::<_, Option<&str>>(index).map_err(failed);
    let outcome = word(7)?
        .map(|word| Said::from_name(word).ok_or_else(|| unreadable("auditor.process.outcome")))
        .transpose()?;
    let verdict = word(8)?
        .map(|word| Verdict::from_name(word).ok_or_else(|| unreadable("auditor.process.verdict")))
        .transpose()?;
    let process = Process {
        action: row.try_get(2).map_err(failed)?,
        nonce: row.try_get(3).map_err(failed)?,
        commanded_at_ms: ms(row, 4)?,
        delivered_at_ms: ms(row, 5)?,
        reported_at_ms: ms(row, 6)?,
        outcome,
        verdict,
        deadline_at_ms: ms(row, 9)?,
        lane: row.try_get(10).map_err(failed)?,
        updated_at_ms: ms(row, 11)?.ok_or_else(|| unreadable("auditor.process.updated_at"))?,
    };
    Ok((key(row)?, process))
}

fn last_state(row: &Row) -> Result<(String, LastState), Fault> {
    let last = LastState {
        raw: row.try_get(1).map_err(failed)?,
        changed_at_ms: ms(row, 2)?.ok_or_else(|| unreadable("auditor.lock_state.changed_at"))?,
    };
    Ok((row.try_get(0).map_err(failed)?, last))
}

fn key(row: &Row) -> Result<Key, Fault> {
    Ok((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?))
}

fn ms(row: &Row, index: usize) -> Result<Option<i64>, Fault> {
    let at: Option<Timestamp> = row.try_get(index).map_err(failed)?;
    Ok(at.map(Timestamp::as_millisecond))
}

fn unreadable(column: &str) -> Fault {
    Fault::Bug(format!("{column} holds what was never written there").into())
}

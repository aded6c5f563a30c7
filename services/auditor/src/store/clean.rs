//! Forgetting what is not needed any more, a little at a time.

use std::time::Duration;

use latchline_shared::fault::Fault;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::failed;

/// Most rows of each table that one call removes.
const ROWS_MAX: u64 = 2_000;

// By the time of the slowest lane, never by the clock: after an outage, records that are days old
// are still to be judged by the nonces of their days. Rows that another lane is about to remove are
// left to it.
const NONCES: &str = "delete from auditor.nonce where (client_id, nonce_str) in (
    select client_id, nonce_str from auditor.nonce where expires_at < (
        select case when bool_and(commands_at is not null) then min(commands_at) end from auditor.lane)
    order by expires_at limit $1 for update skip locked)";

// The last process that a lock answered stays, because its heartbeats go on repeating it.
const PROCESSES: &str = "delete from auditor.process where (client_id, process_id) in (
    select client_id, process_id from auditor.process old where updated_at < (
        select case when bool_and(reports_at is not null and commands_at is not null)
            then min(least(reports_at, commands_at)) end from auditor.lane) - make_interval(secs => $2)
    and deadline_at is null
    and (reported_at is null or exists (
        select from auditor.process later
        where later.client_id = old.client_id and later.reported_at > old.reported_at))
    order by updated_at limit $1 for update skip locked)";

/// Removes nonces that have expired and processes that are over, a bounded number of them. True if
/// there may be more.
pub async fn clean(transaction: &Transaction<'_>, process_keep: Duration) -> Result<bool, Fault> {
    let rows_max = ROWS_MAX as i64;
    let nonces = transaction.execute_typed(NONCES, &[(&rows_max, Type::INT8)]).await.map_err(failed)?;
    let keep_s = process_keep.as_secs_f64();
    let processes = transaction
        .execute_typed(PROCESSES, &[(&rows_max, Type::INT8), (&keep_s, Type::FLOAT8)])
        .await
        .map_err(failed)?;
    Ok(nonces >= ROWS_MAX || processes >= ROWS_MAX)
}

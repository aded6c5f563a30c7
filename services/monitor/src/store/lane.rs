//! A lane's view of the clock and of its locks: what the fleet's alarm is decided on, and what
//! tells a lane whether what it remembers is what is stored.

use std::collections::BTreeMap;

use latchline_shared::fault::Fault;
use tokio_postgres::Transaction;
use tokio_postgres::types::{Json, Type};

use super::{Parameter, failed, optional_ms, time};

/// The last finding that was applied of each chain of the auditor: its number in the chain, and its
/// time in Unix milliseconds.
pub type Findings = BTreeMap<i16, (i64, i64)>;

/// A row of `lane`, but for what its locks come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// How often the lane has written.
    pub version: i64,
    /// The newest report of any of its locks.
    pub last_report_at_ms: Option<i64>,
    /// What was found last.
    pub findings: Findings,
}

/// What a transaction writes of its lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// How often the lane had written before.
    pub version: i64,
    /// Up to when delays have been looked at, in Unix milliseconds.
    pub evaluated_at_ms: i64,
    /// Since when it has kept up without a break.
    pub live_since_ms: Option<i64>,
    /// The newest report of any of its locks.
    pub last_report_at_ms: Option<i64>,
    /// How many locks it has.
    pub locks: i64,
    /// How many of these are silent.
    pub offline: i64,
    /// How many of these fell silent of late.
    pub lost: i64,
    /// What was found last.
    pub findings: Findings,
}

const LOAD: &str = "select version, last_report_at, findings from lane where partition = $1";

const SAVE: &str = "insert into lane
        (partition, version, evaluated_at, live_since, last_report_at, locks, offline, lost, findings, updated_at)
    values ($1, $2 + 1, $3, $4, $5, $6, $7, $8, $9, now())
    on conflict (partition) do update set
        version = excluded.version, evaluated_at = greatest(lane.evaluated_at, excluded.evaluated_at),
        live_since = excluded.live_since, last_report_at = excluded.last_report_at,
        locks = excluded.locks, offline = excluded.offline, lost = excluded.lost,
        findings = excluded.findings, updated_at = excluded.updated_at
    where lane.version = $2";

const FALTER: &str = "update lane set live_since = null, updated_at = now() where partition = $1";

/// What is stored of the lane; of one that never wrote, nothing.
pub async fn load(transaction: &Transaction<'_>, lane: i32) -> Result<Known, Fault> {
    let rows = transaction.query_typed(LOAD, &[(&lane, Type::INT4)]).await.map_err(failed)?;
    let Some(row) = rows.first() else { return Ok(Known::default()) };
    let Json(findings) = row.try_get(2).map_err(failed)?;
    Ok(Known { version: row.try_get(0).map_err(failed)?, last_report_at_ms: optional_ms(row, 1)?, findings })
}

/// Writes the lane's view. False if somebody else has written since it was loaded: then nothing of
/// this transaction may stay.
pub async fn save(transaction: &Transaction<'_>, lane: i32, view: &View) -> Result<bool, Fault> {
    let at = |ms: Option<i64>| ms.map(time);
    let (evaluated, live, last) =
        (time(view.evaluated_at_ms), at(view.live_since_ms), at(view.last_report_at_ms));
    let findings = Json(&view.findings);
    let parameters: [Parameter<'_>; 9] = [
        (&lane, Type::INT4),
        (&view.version, Type::INT8),
        (&evaluated, Type::TIMESTAMPTZ),
        (&live, Type::TIMESTAMPTZ),
        (&last, Type::TIMESTAMPTZ),
        (&view.locks, Type::INT8),
        (&view.offline, Type::INT8),
        (&view.lost, Type::INT8),
        (&findings, Type::JSON),
    ];
    Ok(transaction.execute_typed(SAVE, &parameters).await.map_err(failed)? == 1)
}

/// The lane does not keep up: what its locks said meanwhile is not known.
pub async fn falter(transaction: &Transaction<'_>, lane: i32) -> Result<(), Fault> {
    transaction.execute_typed(FALTER, &[(&lane, Type::INT4)]).await.map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::tests::database;

    #[tokio::test]
    async fn who_remembers_another_version_writes_nothing() {
        let database = database().await;
        let mut client = database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        assert_eq!(load(&transaction, 3).await.unwrap(), Known::default());
        let view = View {
            version: 0,
            evaluated_at_ms: 5_000,
            live_since_ms: Some(4_000),
            last_report_at_ms: Some(3_000),
            locks: 7,
            offline: 2,
            lost: 1,
            findings: Findings::from([(3, (7, 5_000))]),
        };
        assert!(save(&transaction, 3, &view).await.unwrap());
        let known = Known { version: 1, last_report_at_ms: Some(3_000), findings: view.findings.clone() };
        assert_eq!(load(&transaction, 3).await.unwrap(), known);
        assert!(!save(&transaction, 3, &view).await.unwrap());
        assert!(save(&transaction, 3, &View { version: 1, live_since_ms: None, ..view }).await.unwrap());
        assert_eq!(load(&transaction, 3).await.unwrap().version, 2);
        falter(&transaction, 3).await.unwrap();
    }
}

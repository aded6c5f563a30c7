//! Removes what is old, a bounded number of rows at once: notifications that are settled, with their
//! attempts; buckets that are full; processes, but the newest of each lock, which its heartbeats may
//! repeat for years.
//!
//! One instance does it at a time (an advisory lock of the transaction). What is removed is older than
//! what the route would write down ([`crate::route::Skip::TooOld`]): a replay brings nothing back.

use std::time::Duration;

use deadpool_postgres::Pool;
use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio::time::sleep;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// From one round to the next: each looks at all processes that are old.
const ROUND_EVERY: Duration = Duration::from_secs(3_600);
/// Until a step that failed is made again.
const RETRY: Duration = Duration::from_secs(10);
/// Between steps while there is more.
const PAUSE: Duration = Duration::from_millis(100);
const ROWS_MAX: i64 = 2_000;

const LOCK: &str =
    "select pg_try_advisory_xact_lock(hashtextextended('latchline notifier prune ' || current_schema(), 0))";

// Keys are found first: a join might read the table from end to end.
const NOTIFICATIONS: &str = "delete from notification where id = any(array(
    select id from notification
    where settled_at < now() - $1 * interval '1 second' and occurred_at < now() - $1 * interval '1 second'
    order by settled_at limit $2 for update skip locked))";

const RATES: &str = "delete from rate where key = any(array(
    select key from rate where full_at < now() - interval '1 minute' order by full_at limit $1
    for update skip locked))";

// The newest of a lock stays for ever, so the table is walked part by part, and what was looked at is
// looked at again only in the next round.
const PROCESSES: &str = "with part as materialized (
        select client_id, process_id, at from process
        where (at, client_id, process_id) > ($1, $2, $3) and at < now() - $4 * interval '1 second'
        order by at, client_id, process_id limit $5),
    gone as (
        delete from process using part
        where process.client_id = part.client_id and process.process_id = part.process_id
            and exists (select from process newer
                where newer.client_id = part.client_id and newer.at > part.at))
    select at, client_id, process_id from part order by at desc, client_id desc, process_id desc limit 1";

/// How long things are kept, and how far processes were walked.
#[derive(Debug)]
pub struct Prune {
    retention: Duration,
    reached: (Timestamp, String, String),
}

impl Prune {
    /// Begins with the oldest.
    pub fn new(retention: Duration) -> Self {
        Self { retention, reached: begin() }
    }

    /// Removes a part of what is old; whether there is more.
    pub async fn step(&mut self, pool: &Pool) -> Result<bool, Fault> {
        let mut client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
        let step = async {
            let transaction = client.transaction().await?;
            let is_more = self.step_in(&transaction).await?;
            transaction.commit().await?;
            Ok::<_, Error>(is_more)
        };
        step.await.map_err(|error| fault::of(&error))
    }

    async fn step_in(&mut self, transaction: &Transaction<'_>) -> Result<bool, Error> {
        let rows = transaction.query_typed(LOCK, &[]).await?;
        if !rows.first().map_or(Ok(false), |row| row.try_get(0))? {
            return Ok(false);
        }
        let keep_s = self.retention.as_secs_f64();
        let values = [(&keep_s as _, Type::FLOAT8), (&ROWS_MAX as _, Type::INT8)];
        let notifications = transaction.execute_typed(NOTIFICATIONS, &values).await?;
        let rates = transaction.execute_typed(RATES, &[(&ROWS_MAX, Type::INT8)]).await?;
        let is_walking = self.processes(transaction, keep_s).await?;
        Ok(is_walking || notifications.max(rates) >= ROWS_MAX.unsigned_abs())
    }

    /// Goes one part further; whether there is another.
    async fn processes(&mut self, transaction: &Transaction<'_>, keep_s: f64) -> Result<bool, Error> {
        let (at, client_id, process_id) = &self.reached;
        let values = [
            (at as _, Type::TIMESTAMPTZ),
            (client_id as _, Type::TEXT),
            (process_id as _, Type::TEXT),
            (&keep_s as _, Type::FLOAT8),
            (&ROWS_MAX as _, Type::INT8),
        ];
        let last = transaction.query_typed(PROCESSES, &values).await?;
        let Some(row) = last.first() else {
            self.reached = begin();
            return Ok(false);
        };
        self.reached = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(true)
    }

    /// Removes what is old until the token is cancelled.
    pub async fn run(mut self, pool: Pool, token: CancellationToken) -> anyhow::Result<()> {
        let mut is_failing = false;
        while !token.is_cancelled() {
            // Cancel safety: a step that is given up is rolled back, and made again.
            let Some(step) = token.run_until_cancelled(self.step(&pool)).await else { break };
            let pause = match step {
                Ok(is_more) => {
                    if std::mem::take(&mut is_failing) {
                        info!("what is old is removed again");
                    }
                    if is_more { PAUSE } else { ROUND_EVERY }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(error = %error, "what is old is not removed");
                    }
                    RETRY
                }
            };
            token.run_until_cancelled(sleep(pause)).await;
        }
        Ok(())
    }
}

/// In front of all that is there.
fn begin() -> (Timestamp, String, String) {
    (Timestamp::UNIX_EPOCH, String::new(), String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::tests::database;

    const DAY: Duration = Duration::from_secs(86_400);

    const ROWS: &str = "
        insert into notification (id, event_type, severity, priority, client_id, user_id, contact_id, channel,
            address, locale, time_zone, facts, status, due_at, occurred_at, expires_at, settled_at)
        select gen_random_uuid(), 'unlocked', 'info', 0, '1', 'u', gen_random_uuid(), 'email', '', 'en', 'UTC',
            '{}', case when settled is null then 'pending' else 'sent' end, now(), now() - occurred, now(), now() - settled
        from (select n, case when n < 5000 then interval '91 days' when n < 5010 then interval '89 days' end,
            case when n < 4990 then interval '92 days' when n < 5000 then interval '80 days' else interval '99 days' end
            from generate_series(1, 5020) n) as row (n, settled, occurred);
        insert into attempt (notification_id, n, provider, outcome) select id, 1, 'p', 'accepted' from notification;
        insert into rate (key, full_at) values ('old', now() - interval '2 minutes'), ('new', now());
        insert into process (client_id, process_id, at)
            select 'many', n::text, now() - interval '100 days' + n * interval '1 second' from generate_series(1, 4500) n;
        insert into process (client_id, process_id, at)
            select 'lock' || n, '1', now() - interval '100 days' from generate_series(1, 100) n;
        insert into process (client_id, process_id, at) values
            ('both', 'old', now() - interval '99 days'), ('both', 'new', now()), ('young', '1', now() - interval '9 days');";

    #[tokio::test]
    async fn what_is_old_goes_and_what_may_be_asked_for_stays() {
        let database = database().await;
        let owner = database.owner.get().await.unwrap();
        owner.batch_execute(ROWS).await.unwrap();
        let mut prune = Prune::new(90 * DAY);
        let mut steps = 0;
        while prune.step(&database.pool).await.unwrap() {
            steps += 1;
            assert!(steps < 20);
        }
        assert!(steps >= 3, "{steps}");
        let count = async |from: &str| -> i64 {
            owner.query_one(&format!("select count(*) from {from}"), &[]).await.unwrap().get(0)
        };
        // Settled lately, happened lately, or not settled.
        assert_eq!(count("notification where settled_at > now() - interval '90 days'").await, 10);
        assert_eq!(count("notification where occurred_at > now() - interval '90 days'").await, 10);
        assert_eq!(count("notification where status = 'pending'").await, 11);
        assert_eq!((count("notification").await, count("attempt").await), (31, 31));
        assert_eq!(count("rate").await, 1);
        // The newest of each lock.
        assert_eq!(count("process where client_id = 'many'").await, 1);
        assert_eq!(count("process where client_id = 'many' and process_id = '4500'").await, 1);
        assert_eq!(count("process where client_id like 'lock%'").await, 100);
        assert_eq!(count("process where client_id = 'both' and process_id = 'new'").await, 1);
        assert_eq!(count("process").await, 103);
        // The next round finds what has grown old.
        owner
            .batch_execute(
                "update process set at = at - interval '90 days' where client_id = 'young';
            insert into process values ('young', '2', now())",
            )
            .await
            .unwrap();
        while prune.step(&database.pool).await.unwrap() {}
        assert_eq!(count("process where client_id = 'young'").await, 1);
    }

    #[tokio::test]
    async fn one_instance_at_a_time() {
        let database = database().await;
        let owner = database.owner.get().await.unwrap();
        owner
            .batch_execute("insert into rate (key, full_at) values ('old', now() - interval '2 minutes')")
            .await
            .unwrap();
        owner.batch_execute(&format!("begin; {LOCK}")).await.unwrap();
        assert!(!Prune::new(DAY).step(&database.pool).await.unwrap());
        let count =
            async || -> i64 { owner.query_one("select count(*) from rate", &[]).await.unwrap().get(0) };
        assert_eq!(count().await, 1);
        owner.batch_execute("commit").await.unwrap();
        Prune::new(DAY).step(&database.pool).await.unwrap();
        assert_eq!(count().await, 0);
    }
}

//! Notifications that are told together: all that wait for a digest of one name become one message when
//! the first of them is due.
//!
//! A part that waits alone is told as what it is; there is nothing to put together. One instance makes
//! a digest at a time (an advisory lock of the transaction, for each name). The parts and the message
//! that tells of them change in one transaction, so nothing is told twice or not at all.
//!
//! A name that fails does not keep the others from being told; it is tried again in the next step.
//!
//! Ordering: the contact is held before the parts, as by whoever deletes it, so that no address is
//! copied of somebody who has gone; parts are held in the order of their ids.

mod gather;
pub mod metrics;
pub mod task;

#[cfg(test)]
mod tests;

use deadpool_postgres::{Client, Pool};
use futures_util::{StreamExt, TryStreamExt, stream};
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

/// Names that are looked at in one step.
const NAMES_MAX: i64 = 1_000;
/// Digests that are made at once.
const CONCURRENCY: usize = 4;
/// Most parts of one message. More are told by the next one.
const PARTS_MAX: i64 = 5_000;

/// What a step has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Messages that tell of several notifications.
    pub digests: u64,
    /// Notifications that they tell of.
    pub parts: u64,
    /// Notifications that waited alone.
    pub released: u64,
    /// Notifications that nobody can be told of any more.
    pub ended: u64,
    /// Names that failed.
    pub failed: u64,
    /// Why one of them did.
    pub error: Option<String>,
    /// Whether there may be more that is due.
    pub is_more: bool,
}

/// Somebody waits for this digest.
struct Due {
    name: String,
    contact_id: Uuid,
}

// Both look at what is due only, and at all that waits with it. Who is alone and is not among the first
// that are due, is found with the digests.
const RELEASE: &str = "with lonely as (
        select due.id from (
            select id, digest from notification
            where status = 'pending' and digest is not null and due_at <= now() order by due_at limit $1) due
        where not exists (select from notification other
            where other.digest = due.digest and other.status = 'pending' and other.id <> due.id)),
    released as (
        update notification set digest = null, due_at = now()
        where id in (select n.id from notification n join lonely using (id)
            where n.status = 'pending' for update of n skip locked)
        returning channel),
    woken as (select pg_notify('latchline_notifier', channel) from (select distinct channel from released) as one)
    select (select count(*) from released), (select count(*) from woken)";

const DUE: &str = "select digest, contact_id from notification
    where status = 'pending' and digest is not null and due_at <= now()
    group by digest, contact_id order by min(due_at) limit $1";

/// Does what is due.
pub async fn step(pool: &Pool) -> Result<Made, Fault> {
    let client = client(pool).await?;
    let released = client.query_typed(RELEASE, &[(&NAMES_MAX, Type::INT8)]).await.map_err(failed)?;
    let released: i64 = released.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
    let due = due(&client).await.map_err(failed)?;
    drop(client);
    let is_more = |count: usize| i64::try_from(count).is_ok_and(|count| count >= NAMES_MAX);
    let mut made = Made { released: released.unsigned_abs(), ..Made::default() };
    let names = due.len();
    let mut done = stream::iter(due).map(|due| one(pool, due)).buffer_unordered(CONCURRENCY);
    while let Some(one) = done.try_next().await? {
        made.add(one);
    }
    drop(done);
    // What fails is not tried again at once.
    let is_any_made = made.failed < names as u64;
    made.is_more = released >= NAMES_MAX || is_more(names) && is_any_made;
    Ok(made)
}

impl Made {
    fn add(&mut self, one: Self) {
        self.digests += one.digests;
        self.parts += one.parts;
        self.released += one.released;
        self.ended += one.ended;
        self.failed += one.failed;
        if one.error.is_some() {
            self.error = one.error;
        }
    }
}

async fn client(pool: &Pool) -> Result<Client, Fault> {
    pool.get().await.map_err(|error| fault::of_pool(&error))
}

fn failed(error: Error) -> Fault {
    fault::of(&error)
}

async fn due(client: &Client) -> Result<Vec<Due>, Error> {
    let rows = client.query_typed(DUE, &[(&NAMES_MAX, Type::INT8)]).await?;
    rows.iter().map(|row| Ok(Due { name: row.try_get(0)?, contact_id: row.try_get(1)? })).collect()
}

/// Makes one digest. What fails of it is its own matter, unless there is no connection.
async fn one(pool: &Pool, due: Due) -> Result<Made, Fault> {
    let mut client = client(pool).await?;
    let made = async {
        let transaction = client.transaction().await?;
        let made = one_in(&transaction, &due).await?;
        transaction.commit().await?;
        Ok::<_, Error>(made)
    };
    Ok(made.await.unwrap_or_else(|error| {
        let error = Some(format!("digest {}: {}", due.name, failed(error)));
        Made { failed: 1, error, ..Made::default() }
    }))
}

const LOCK: &str = "select pg_try_advisory_xact_lock(
    hashtextextended('latchline notifier digest ' || current_schema() || ' ' || $1, 0))";
const HOLD: &str = "select from contact where id = $1 for key share";
const END: &str = "update notification set settled_at = now(),
        status = case when $2 then 'expired' else 'suppressed' end,
        reason = case when $2 then 'expired' else 'no_contact' end
    where id in (select id from notification
        where status = 'pending' and digest = $1 and (expires_at <= now() or not $2) order by id for update)";

async fn one_in(transaction: &Transaction<'_>, due: &Due) -> Result<Made, Error> {
    let rows = transaction.query_typed(LOCK, &[(&due.name, Type::TEXT)]).await?;
    if !rows.first().map_or(Ok(false), |row| row.try_get(0))? {
        return Ok(Made::default());
    }
    let is_there = !transaction.query_typed(HOLD, &[(&due.contact_id, Type::UUID)]).await?.is_empty();
    // Of a contact that has gone, everything ends; else what nobody put together in time.
    let ended = transaction.execute_typed(END, &[(&due.name, Type::TEXT), (&is_there, Type::BOOL)]).await?;
    let made = gather::digest(transaction, &due.name).await?;
    Ok(Made { ended, ..made })
}

//! The table `notification` as a queue: rows that are due are leased, for a time, by an owner.
//!
//! A lease and the attempt that it is for are written together, before anything is sent; so an attempt
//! whose end nobody wrote down is known ([`recover`]). Whatever ends an attempt asks for the lease
//! ([`settle`]): a row has one owner at a time, and one that was lost is not written by its old owner.
//!
//! Invariant: rows are taken by `for update skip locked`, critical ones first, the oldest first.

pub mod backlog;
pub mod recover;
pub mod settle;

use std::time::Duration;

use deadpool_postgres::Pool;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::event::{Channel, EventType, Facts, Severity};
use crate::status::Status;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Rows of this channel.
    pub channel: Channel,
    /// Who asks; nobody else has this name.
    pub owner: &'a str,
    /// Who is to get the messages.
    pub provider: &'a str,
    /// How long they are ours.
    pub lease: Duration,
    /// Most rows.
    pub rows_max: usize,
    /// Most of them that are not critical.
    pub ordinary_max: usize,
}

/// A row that is ours, and which attempt it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The notification.
    pub id: Uuid,
    /// Which attempt, from 1.
    pub n: i32,
}

/// A row that is ours.
#[derive(Debug, Clone)]
pub struct Leased {
    /// Which attempt.
    pub attempt: Attempt,
    /// Attempts that were answered with "later".
    pub failures: i32,
    /// Attempts that may have arrived.
    pub ambiguous: i32,
    /// Whether it is sent again though it may have arrived.
    pub is_critical: bool,
    /// Where to.
    pub address: String,
    /// Language of the text.
    pub locale: String,
    /// Where the user is; an unknown name is UTC.
    pub zone: TimeZone,
    /// The key of a webhook's signature.
    pub secret: Vec<u8>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
    /// Not worth telling after that.
    pub expires_at: Timestamp,
    /// What is told, or why nobody can read it.
    pub told: Result<Told, String>,
}

/// What is told.
#[derive(Debug, Clone)]
pub struct Told {
    /// What happened.
    pub event_type: EventType,
    /// How bad it is.
    pub severity: Severity,
    /// What is known of it.
    pub facts: Facts,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Taken {
    /// Rows that are to be sent.
    pub leased: Vec<Leased>,
    /// What became of the rows that are not sent any more.
    pub ended: Vec<Status>,
}

/// Whether a row may still be sent is decided here, when its turn has come: by its expiry, and by the
/// contact as it is now; a code in the place of which another was sent is good for nothing. An SMS that may
/// have arrived is sent again by the gateway that had it, since only that one knows the copy. The limits are
/// plain numbers, so that the planner knows how few rows it is about.
const LEASE: &str = "with urgent as materialized (
        select id, contact_id, event_type, priority, expires_at, created_at from notification
        where channel = $1 and status = 'pending' and digest is null and priority = 1 and due_at <= now()
        order by due_at limit $2 for update skip locked),
    ordinary as materialized (
        select id, contact_id, event_type, priority, expires_at, created_at from notification
        where channel = $1 and status = 'pending' and digest is null and priority = 0 and due_at <= now()
            and (channel <> 'sms' or ambiguous = 0 or provider = $6)
        order by due_at limit $3 for update skip locked),
    picked as (
        select p.id, c.secret, case
            when p.expires_at <= now() then 'expired'
            when c.id is null then 'no_contact'
            when c.status = 'bounced' then 'bounced'
            when c.status = 'unverified' and p.event_type <> 'verification' then 'unverified'
            when p.event_type = 'verification' and p.created_at < c.code_sent_at then 'replaced'
        end as why
        from (select * from urgent union all select * from ordinary order by priority desc limit $2) p
        left join contact c on c.id = p.contact_id),
    leased as (
        update notification n set
            status = case when p.why is null then 'sending' when p.why = 'expired' then 'expired'
                else 'suppressed' end,
            reason = coalesce(p.why, n.reason),
            attempts = n.attempts + (p.why is null)::int,
            provider = case when p.why is null then $6 else n.provider end,
            lease_owner = case when p.why is null then $4 end,
            lease_until = case when p.why is null then now() + $5 * interval '1 second' end,
            settled_at = case when p.why is not null then now() end,
            facts = case when p.why is not null and n.event_type = 'verification' then n.facts - 'code'
                else n.facts end
        from picked p where n.id = p.id
        returning n.*, p.secret),
    tried as (
        insert into attempt (notification_id, n, provider, outcome)
        select id, attempts, provider, 'started' from leased where status = 'sending')
    select status, id, attempts, failures, ambiguous, priority, address, locale, time_zone, secret,
        occurred_at, created_at, expires_at, event_type, severity, facts
    from leased order by priority desc, due_at";

/// Leases rows that are due. Those that are not to be sent any more are ended, and count as rows.
pub async fn lease(pool: &Pool, wish: Wish<'_>) -> Result<Taken, Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let taken = async {
        let rows = client
            .query_typed(
                LEASE,
                &[
                    (&wish.channel.name(), Type::TEXT),
                    (&number(wish.rows_max), Type::INT8),
                    (&number(wish.ordinary_max), Type::INT8),
                    (&wish.owner, Type::TEXT),
                    (&wish.lease.as_secs_f64(), Type::FLOAT8),
                    (&wish.provider, Type::TEXT),
                ],
            )
            .await?;
        let mut taken = Taken::default();
        for row in &rows {
            match Status::from_name(row.try_get(0)?) {
                Some(Status::Sending) => taken.leased.push(of_row(row)?),
                status => taken.ended.push(status.unwrap_or(Status::Suppressed)),
            }
        }
        Ok::<_, Error>(taken)
    };
    taken.await.map_err(|error| fault::of(&error))
}

fn of_row(row: &Row) -> Result<Leased, Error> {
    let zone: &str = row.try_get(8)?;
    Ok(Leased {
        attempt: Attempt { id: row.try_get(1)?, n: row.try_get(2)? },
        failures: row.try_get(3)?,
        ambiguous: row.try_get(4)?,
        is_critical: row.try_get::<_, i16>(5)? > 0,
        address: row.try_get(6)?,
        locale: row.try_get(7)?,
        zone: TimeZone::get(zone).unwrap_or(TimeZone::UTC),
        secret: row.try_get::<_, Option<Vec<u8>>>(9)?.unwrap_or_default(),
        occurred_at: row.try_get(10)?,
        created_at: row.try_get(11)?,
        expires_at: row.try_get(12)?,
        told: told(row.try_get(13)?, row.try_get(14)?, row.try_get(15)?),
    })
}

fn told(event_type: &str, severity: &str, facts: Value) -> Result<Told, String> {
    Ok(Told {
        event_type: EventType::from_name(event_type).ok_or("its event type is unknown")?,
        severity: Severity::from_name(severity).ok_or("its severity is unknown")?,
        facts: serde_json::from_value(facts).map_err(|error| format!("its facts: {error}"))?,
    })
}

/// As a limit of Postgres.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

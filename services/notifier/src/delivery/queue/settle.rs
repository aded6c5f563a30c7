//! The end of an attempt: the attempt, its row, and what it says of the contact, in one statement.

use std::time::Duration;

use deadpool_postgres::Pool;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use latchline_shared::kit::postgres::statement::Statement;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, GenericClient};
use uuid::Uuid;

use super::Attempt;
use crate::channel::{Answer, Bounce};
use crate::delivery::policy::Verdict;
use crate::status::{Outcome, Status};

/// Hard bounces in a row that are as bad as gone.
const BOUNCES_MAX: i32 = 2;
/// Most other rows that are ended with an address; an outage may leave very many.
const OTHERS_MAX: usize = 1_000;

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct End<'a> {
    /// Which attempt.
    pub attempt: Attempt,
    /// Who made it.
    pub owner: &'a str,
    /// Who got the message, or should have.
    pub provider: &'a str,
    /// How long it took, if anybody has seen its end.
    pub took: Option<Duration>,
    /// What the provider said.
    pub answer: &'a Answer,
    /// What follows.
    pub verdict: Verdict,
}

/// What became of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is as the end says, or further: a delivery report can be faster than the answer.
    Done {
        /// Where it stands.
        status: Status,
        /// Whether its contact is not used any more.
        bounced: bool,
    },
    /// The lease was lost; whoever has it now decides.
    Lost,
}

/// Who may write: the owner of the lease; and whoever knows that the message was taken, as long as
/// nobody has begun another attempt. A report that was faster stays.
const MINE: &str = "id = $1 and attempts = $2 and (status = 'sending' and lease_owner = $3
    or status in ('delivered', 'undelivered') or $4 = 'sent' and status in ('pending', 'ambiguous'))";

/// Writes the end of an attempt.
pub async fn settle(pool: &Pool, end: &End<'_>) -> Result<Settled, Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    settle_in(&**client, end).await.map_err(|error| fault::of(&error))
}

pub(super) async fn settle_in(client: &impl GenericClient, end: &End<'_>) -> Result<Settled, Error> {
    let statement = statement(end);
    let Some(row) = client.query_typed_opt(&statement.text, &statement.values()).await? else {
        return Ok(Settled::Lost);
    };
    let status = Status::from_name(row.try_get(0)?).unwrap_or(end.verdict.status);
    Ok(Settled::Done { status, bounced: row.try_get(1)? })
}

fn statement(end: &End<'_>) -> Statement {
    let End { attempt, owner, provider, took, answer, verdict } = end;
    let mut statement = Statement::default();
    let ms = took.map(|took| i32::try_from(took.as_millis()).unwrap_or(i32::MAX));
    let settled = verdict.status.is_final();
    statement.bind(attempt.id, Type::UUID);
    statement.bind(attempt.n, Type::INT4);
    statement.bind((*owner).to_owned(), Type::TEXT);
    statement.bind(verdict.status.name(), Type::TEXT);
    statement.bind((*provider).to_owned(), Type::TEXT);
    statement.bind(ms, Type::INT4);
    statement.bind(answer.outcome.name(), Type::TEXT);
    statement.bind(answer.code.clone(), Type::TEXT);
    statement.bind(answer.excerpt.clone(), Type::TEXT);
    statement.bind(answer.provider_id.clone(), Type::TEXT);
    statement.bind(verdict.failures, Type::INT4);
    statement.bind(verdict.ambiguous, Type::INT4);
    statement.bind(verdict.wait.as_secs_f64(), Type::FLOAT8);
    statement.bind(settled, Type::BOOL);
    let reported = "status in ('delivered', 'undelivered')";
    statement.push(&format!(
        "with mine as (
            update notification set
                status = case when {reported} then status else $4 end,
                reason = case when {reported} then reason else $7 end,
                failures = $11, ambiguous = $12,
                due_at = case when $14 then due_at else now() + $13 * interval '1 second' end,
                lease_owner = null, lease_until = null,
                provider = $5, provider_id = coalesce($10, provider_id),
                sent_at = case when $7 = '{accepted}' then now() else sent_at end,
                settled_at = case when {reported} then coalesce(settled_at, now()) when $14 then now() end,
                facts = case when ($14 or {reported}) and event_type = 'verification' then facts - 'code'
                    else facts end
            where {MINE}
            returning id, contact_id, status, address),
        tried as (
            update attempt set outcome = $7, ms = $6, code = $8, provider = $5,
                excerpt = case when mine.address <> '' then $9 end
            from mine where notification_id = mine.id and n = $2)",
        accepted = Outcome::Accepted.name(),
    ));
    match (answer.outcome, verdict.bounce) {
        (Outcome::Accepted, _) => statement.push(
            ", cured as (update contact set bounces = 0 from mine where contact.id = mine.contact_id and bounces > 0)
            select status, false from mine",
        ),
        (_, Some(bounce)) => statement.push(&bounced(bounce)),
        _ => statement.push(" select status, false from mine"),
    }
    statement
}

/// Whatever else waits for an address that is gone is not sent. What is left over here, because it is too
/// much or somebody holds it, is found when it is leased.
fn bounced(bounce: Bounce) -> String {
    let gone = match bounce {
        Bounce::Gone => "true".to_owned(),
        Bounce::Hard => format!("bounces + 1 >= {BOUNCES_MAX}"),
    };
    format!(
        ", refused as (
            update contact set bounces = bounces + 1,
                status = case when {gone} then 'bounced' else contact.status end,
                bounced_at = case when {gone} then now() else bounced_at end
            from mine where contact.id = mine.contact_id
            returning contact.id, contact.status),
        others as (
            update notification set status = 'suppressed', reason = 'bounced', settled_at = now(),
                facts = case when event_type = 'verification' then facts - 'code' else facts end
            where id in (select n.id from refused join notification n on n.contact_id = refused.id
                where refused.status = 'bounced' and n.status = 'pending' and n.id <> $1
                limit {OTHERS_MAX} for update of n skip locked))
        select status, exists (select from refused where status = 'bounced') from mine"
    )
}

/// Gives rows back that were not sent, each for a while: their attempts did not take place.
pub async fn put_back(pool: &Pool, rows: &[(Attempt, Duration)], owner: &str) -> Result<(), Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let update = "with mine as (
            update notification set status = 'pending', attempts = attempts - 1, lease_owner = null,
                lease_until = null, due_at = now() + given.wait * interval '1 second'
            from unnest($1, $2, $3) as given (id, n, wait)
            where notification.id = given.id and attempts = given.n and status = 'sending'
                and lease_owner = $4
            returning given.id, given.n)
        delete from attempt using mine where notification_id = mine.id and attempt.n = mine.n";
    let ids: Vec<Uuid> = rows.iter().map(|(attempt, _)| attempt.id).collect();
    let numbers: Vec<i32> = rows.iter().map(|(attempt, _)| attempt.n).collect();
    let waits: Vec<f64> = rows.iter().map(|(_, wait)| wait.as_secs_f64()).collect();
    let values: [(&(dyn ToSql + Sync), Type); 4] = [
        (&ids, Type::UUID_ARRAY),
        (&numbers, Type::INT4_ARRAY),
        (&waits, Type::FLOAT8_ARRAY),
        (&owner, Type::TEXT),
    ];
    client.execute_typed(update, &values).await.map(drop).map_err(|error| fault::of(&error))
}

//! The ends of attempts: the attempts, their rows, and what they say of contacts, in one statement.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::{GenericClient, Pool};
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use latchline_shared::kit::postgres::statement::Statement;
use tokio_postgres::Error;
use tokio_postgres::types::{ToSql, Type};
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
pub struct End {
    /// Which attempt.
    pub attempt: Attempt,
    /// Who made it.
    pub owner: String,
    /// Who got the message, or should have.
    pub provider: String,
    /// How long it took, if anybody has seen its end.
    pub took: Option<Duration>,
    /// What the provider said.
    pub answer: Answer,
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
const MINE: &str = "n.attempts = given.n and (n.status = 'sending' and n.lease_owner = given.owner
    or n.status in ('delivered', 'undelivered') or given.status = 'sent' and n.status in ('pending', 'ambiguous'))";

/// Writes the end of an attempt.
pub async fn settle(pool: &Pool, end: &End) -> Result<Settled, Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    settle_in(&client, end).await.map_err(|error| fault::of(&error))
}

pub(super) async fn settle_in(client: &impl GenericClient, end: &End) -> Result<Settled, Error> {
    let settled = write(client, std::slice::from_ref(end), end.verdict.bounce).await?;
    Ok(settled.first().copied().unwrap_or(Settled::Lost))
}

/// Writes the ends of several attempts, in their order; none of them says that its address is bad.
pub async fn settle_all(pool: &Pool, ends: &[End]) -> Result<Vec<Settled>, Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    write(&client, ends, None).await.map_err(|error| fault::of(&error))
}

async fn write(
    client: &impl GenericClient,
    ends: &[End],
    bounce: Option<Bounce>,
) -> Result<Vec<Settled>, Error> {
    let statement = statement(ends, bounce);
    let (values, types): (Vec<_>, Vec<_>) = statement.values().into_iter().unzip();
    // Prepared, unlike others: to plan it costs more than to execute it, and one plan suits all values.
    let prepared = client.prepare_typed_cached(&statement.text, &types).await?;
    let mut done = HashMap::with_capacity(ends.len());
    for row in client.query(&prepared, &values).await? {
        let attempt = Attempt { id: row.try_get(0)?, n: row.try_get(1)? };
        done.insert(attempt, (Status::from_name(row.try_get(2)?), row.try_get(3)?));
    }
    let settled = |end: &End| match done.get(&end.attempt) {
        Some((status, bounced)) => {
            Settled::Done { status: status.unwrap_or(end.verdict.status), bounced: *bounced }
        }
        None => Settled::Lost,
    };
    Ok(ends.iter().map(settled).collect())
}

/// Rows are locked in the order of their ids, so that those who write several do not wait for each other;
/// what is locked stays ours to the end, so who may write is asked once, which is most of the plan.
fn statement(ends: &[End], bounce: Option<Bounce>) -> Statement {
    let mut statement = given(ends);
    let reported = "n.status in ('delivered', 'undelivered')";
    statement.push(&format!(
        ", held as materialized (
            select given.* from notification n join given on given.id = n.id
            where {MINE} order by n.id for update of n),
        mine as (
            update notification n set
                status = case when {reported} then n.status else given.status end,
                reason = case when {reported} then n.reason else given.outcome end,
                failures = given.failures, ambiguous = given.ambiguous,
                due_at = case when given.is_final then n.due_at else now() + given.wait * interval '1 second' end,
                lease_owner = null, lease_until = null,
                provider = given.provider, provider_id = coalesce(given.provider_id, n.provider_id),
                sent_at = case when given.outcome = '{accepted}' then now() else n.sent_at end,
                settled_at = case when {reported} then coalesce(n.settled_at, now())
                    when given.is_final then now() end,
                facts = case when (given.is_final or {reported}) and n.event_type = 'verification'
                    then n.facts - 'code' else n.facts end
            from held given where n.id = given.id
            returning n.id, given.n, n.contact_id, n.status, n.address, given.ms, given.outcome, given.code,
                given.provider, given.excerpt),
        tried as (
            update attempt set outcome = mine.outcome, ms = mine.ms, code = mine.code, provider = mine.provider,
                excerpt = case when mine.address <> '' then mine.excerpt end
            from mine where notification_id = mine.id and attempt.n = mine.n),
        cured as (
            update contact set bounces = 0 from mine
            where contact.id = mine.contact_id and mine.outcome = '{accepted}' and contact.bounces > 0)",
        accepted = Outcome::Accepted.name(),
    ));
    match bounce {
        Some(bounce) => statement.push(&bounced(bounce)),
        None => statement.push(" select id, n, status, false from mine"),
    }
    statement
}

/// The ends, a row each.
fn given(ends: &[End]) -> Statement {
    fn all<T>(ends: &[End], value: impl Fn(&End) -> T) -> Vec<T> {
        ends.iter().map(value).collect()
    }
    let ms = |took: Duration| i32::try_from(took.as_millis()).unwrap_or(i32::MAX);
    let mut statement = Statement::default();
    statement.bind(all(ends, |end| end.attempt.id), Type::UUID_ARRAY);
    statement.bind(all(ends, |end| end.attempt.n), Type::INT4_ARRAY);
    statement.bind(all(ends, |end| end.owner.clone()), Type::TEXT_ARRAY);
    statement.bind(all(ends, |end| end.verdict.status.name()), Type::TEXT_ARRAY);
    statement.bind(all(ends, |end| end.provider.clone()), Type::TEXT_ARRAY);
    statement.bind(all(ends, |end| end.took.map(ms)), Type::INT4_ARRAY);
    statement.bind(all(ends, |end| end.answer.outcome.name()), Type::TEXT_ARRAY);
    statement.bind(all(ends, |end| end.answer.code.clone()), Type::TEXT_ARRAY);
    statement.bind(all(ends, |end| end.answer.excerpt.clone()), Type::TEXT_ARRAY);
    statement.bind(all(ends, |end| end.answer.provider_id.clone()), Type::TEXT_ARRAY);
    statement.bind(all(ends, |end| end.verdict.failures), Type::INT4_ARRAY);
    statement.bind(all(ends, |end| end.verdict.ambiguous), Type::INT4_ARRAY);
    statement.bind(all(ends, |end| end.verdict.wait.as_secs_f64()), Type::FLOAT8_ARRAY);
    statement.bind(all(ends, |end| end.verdict.status.is_final()), Type::BOOL_ARRAY);
    statement.push(
        "with given as materialized (
            select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
                as given (id, n, owner, status, provider, ms, outcome, code, excerpt, provider_id, failures,
                    ambiguous, wait, is_final))",
    );
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
                where refused.status = 'bounced' and n.status = 'pending' and n.id <> all ($1)
                limit {OTHERS_MAX} for update of n skip locked))
        select id, n, status, exists (select from refused where status = 'bounced') from mine"
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

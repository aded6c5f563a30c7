//! What nobody ends: leases whose owner died, and rows that wait past their expiry.

use std::time::Duration;

use deadpool_postgres::Pool;
use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::Error;
use tokio_postgres::types::Type;

use super::settle::{End, Settled, settle_in};
use super::{Attempt, number};
use crate::channel::Answer;
use crate::delivery::policy::{Tried, Verdict};
use crate::event::{Channel, Severity};
use crate::status::{Outcome, Status};

/// Most rows of one step.
pub const ROWS_MAX: usize = 100;
/// Most rows that are expired in one step.
pub const EXPIRED_MAX: usize = 1_000;
/// The code of an attempt whose end nobody saw.
const CODE: &str = "lost";

/// An attempt that nobody ends any more.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Of which channel.
    pub channel: Channel,
    /// Who may have got the message.
    pub provider: String,
    /// Where it stood; whether it is sent again is for the caller to say.
    pub tried: Tried,
    /// Whether it is sent again though it may have arrived.
    pub is_critical: bool,
}

/// Settles attempts whose lease ran out: they may have arrived. Returns what became of the rows;
/// [`ROWS_MAX`] of them: there may be more.
pub async fn leases(
    pool: &Pool,
    verdict: impl Fn(&Lost, &Answer) -> Verdict,
) -> Result<Vec<(Channel, Status)>, Fault> {
    let mut client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let done = async {
        let transaction = client.transaction().await?;
        let select = "select id, attempts, lease_owner, channel, provider, failures, ambiguous, severity,
                expires_at, now()
            from notification where status = 'sending' and lease_until < now()
            order by lease_until limit $1 for update skip locked";
        let rows = transaction.query_typed(select, &[(&number(ROWS_MAX), Type::INT8)]).await?;
        let answer = Answer::new(Outcome::Ambiguous, CODE, "");
        let mut settled = Vec::with_capacity(rows.len());
        for row in &rows {
            let (expires_at, now): (Timestamp, Timestamp) = (row.try_get(8)?, row.try_get(9)?);
            let severity = Severity::from_name(row.try_get(7)?).unwrap_or(Severity::Info);
            let is_critical = severity == Severity::Critical;
            let lost = Lost {
                channel: Channel::from_name(row.try_get(3)?).unwrap_or(Channel::Sms),
                provider: row.try_get::<_, Option<String>>(4)?.unwrap_or_default(),
                tried: Tried {
                    attempts: row.try_get(1)?,
                    failures: row.try_get(5)?,
                    ambiguous: row.try_get(6)?,
                    is_resent: is_critical,
                    is_lost: true,
                    severity,
                    left: Duration::try_from(expires_at.duration_since(now)).unwrap_or_default(),
                },
                is_critical,
            };
            let end = End {
                attempt: Attempt { id: row.try_get(0)?, n: row.try_get(1)? },
                owner: row.try_get(2)?,
                provider: lost.provider.clone(),
                took: None,
                verdict: verdict(&lost, &answer),
                answer: answer.clone(),
            };
            if let Settled::Done { status, .. } = settle_in(&transaction, &end).await? {
                settled.push((lost.channel, status));
            }
        }
        transaction.commit().await?;
        Ok::<_, Error>(settled)
    };
    done.await.map_err(|error| fault::of(&error))
}

/// Ends rows that are not worth telling any more, also of channels that nobody takes messages of.
/// Returns how many, by channel; [`EXPIRED_MAX`] of them: there may be more.
pub async fn expired(pool: &Pool) -> Result<Vec<(Channel, usize)>, Fault> {
    let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
    let update = "with ended as (
            update notification set status = 'expired', reason = 'expired', settled_at = now(),
                facts = case when event_type = 'verification' then facts - 'code' else facts end
            where id in (select id from notification
                where status = 'pending' and digest is null and expires_at <= now()
                order by expires_at limit $1 for update skip locked)
            returning channel)
        select channel, count(*) from ended group by channel";
    let done = async {
        let rows = client.query_typed(update, &[(&number(EXPIRED_MAX), Type::INT8)]).await?;
        let mut ended = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(channel) = Channel::from_name(row.try_get(0)?) {
                ended.push((channel, usize::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default()));
            }
        }
        Ok::<_, Error>(ended)
    };
    done.await.map_err(|error| fault::of(&error))
}

//! Codes: whoever can read what is sent to an address, and says so here, may be told more there.
//!
//! A code is six digits, good for a quarter of an hour and five tries, and sent again at most once a
//! minute. An address gets so many codes a day, and so many wrong ones are taken, whoever it is a contact
//! of and however often it was made anew: [`count`]. Only its hash is kept with the contact; the code itself is in the notification that takes
//! it there, until that was sent.
//!
//! Invariant: whoever looks at a code or changes it holds the contact's row, so that tries that are
//! made at once are counted one by one.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

use crate::directory::enqueue::enqueue;
use crate::directory::secret::random;
use crate::event::{EventType, Facts};

/// How long a code is good.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How many wrong ones are allowed.
pub const TRIES_MAX: i32 = 5;
/// Time from one code to the next.
pub const AGAIN: Duration = Duration::from_secs(60);

/// Most codes to an address in a day.
pub const CODES_A_DAY: i32 = 5;
/// Most wrong ones of an address in a day.
pub const WRONG_A_DAY: i32 = 15;

const DAY: Duration = Duration::from_secs(86_400);
/// How many addresses whose day is over are forgotten when a code is sent: more than come to be.
const FORGOTTEN_MAX: i64 = 100;

const CODES: u64 = 1_000_000;

/// What became of the wish to send a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// It is on its way, as this notification.
    Enqueued(Uuid),
    /// There is no such contact.
    NoContact,
    /// It needs no code.
    Verified,
    /// One was sent just now; the next may be after this.
    TooSoon(Duration),
    /// The address got as many as it may get in a day; the next may be after this.
    TooMany(Duration),
}

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was right.
    Right,
    /// There is no such contact.
    NoContact,
    /// The contact is verified already.
    Verified,
    /// No code is good now: none was sent, it is too old, or there were too many tries.
    NoCode,
    /// It was wrong; so many tries are left.
    Wrong(i32),
    /// There were as many wrong ones of the address as there may be in a day; the next may be after this.
    TooMany(Duration),
}

/// What is known of a contact and its code.
struct Held {
    address_hash: [u8; 32],
    is_verified: bool,
    hash: Option<Vec<u8>>,
    tries: i32,
    /// Since the code was sent.
    age: Option<Duration>,
}

/// What is known of an address, whatever became of its contacts.
struct Count {
    codes: i32,
    wrong: i32,
    /// Since the last code was sent there.
    age: Option<Duration>,
    /// Until another day begins.
    rest: Duration,
}

/// Sends a code to a contact, in the place of one that was sent before. A contact that bounced gets
/// another chance.
pub async fn send(transaction: &Transaction<'_>, user_id: &str, contact_id: Uuid) -> anyhow::Result<Sending> {
    let Some(held) = hold(transaction, user_id, contact_id).await? else { return Ok(Sending::NoContact) };
    if held.is_verified {
        return Ok(Sending::Verified);
    }
    let count = count(transaction, &held.address_hash).await?;
    if let Some(wait) = count.age.and_then(|age| AGAIN.checked_sub(age)).filter(|wait| !wait.is_zero()) {
        return Ok(Sending::TooSoon(wait));
    }
    // A code that nobody may give back is of no use.
    if count.codes >= CODES_A_DAY || count.wrong >= WRONG_A_DAY {
        return Ok(Sending::TooMany(count.rest));
    }
    let counted = "update code_count set codes = codes + 1, sent_at = now() where address_hash = $1";
    let address_hash: &[u8] = &held.address_hash;
    transaction.execute_typed(counted, &[(&address_hash, Type::BYTEA)]).await?;
    forget_days(transaction).await?;
    forget_unsent(transaction, contact_id).await?;
    let code = code()?;
    // The same now() as that of the notification below: what is older than its contact's code_sent_at takes
    // a code that is not good any more.
    let update = "update contact set status = 'unverified', bounces = 0, code_hash = $2, code_tries = 0, \
         code_sent_at = now() where id = $1";
    let hash = hash(contact_id, &code);
    let hash: &[u8] = &hash;
    transaction.execute_typed(update, &[(&contact_id, Type::UUID), (&hash, Type::BYTEA)]).await?;
    let at_ms = Timestamp::now().as_millisecond();
    let facts = Facts { at_ms, code: Some(code), ..Facts::default() };
    let id = enqueue(transaction, contact_id, EventType::Verification, &facts, LIFETIME).await?;
    Ok(Sending::Enqueued(id))
}

/// Looks at a code that somebody has read. Whatever the verdict, it counts when the transaction is
/// committed.
pub async fn verify(
    transaction: &Transaction<'_>,
    user_id: &str,
    contact_id: Uuid,
    code: &str,
) -> Result<Verdict, Error> {
    let Some(held) = hold(transaction, user_id, contact_id).await? else { return Ok(Verdict::NoContact) };
    if held.is_verified {
        return Ok(Verdict::Verified);
    }
    let count = count(transaction, &held.address_hash).await?;
    if count.wrong >= WRONG_A_DAY {
        return Ok(Verdict::TooMany(count.rest));
    }
    let is_good = held.age.is_some_and(|age| age < LIFETIME) && held.tries < TRIES_MAX;
    let Some(expected) = held.hash.filter(|_| is_good) else { return Ok(Verdict::NoCode) };
    let is_right: bool = expected.ct_eq(&hash(contact_id, code)).into();
    let update = if is_right {
        "update contact set status = 'active', verified_at = now(), code_hash = null, code_tries = 0 \
         where id = $1"
    } else {
        "update contact set code_tries = code_tries + 1 where id = $1"
    };
    transaction.execute_typed(update, &[(&contact_id, Type::UUID)]).await?;
    if is_right {
        return Ok(Verdict::Right);
    }
    let counted = "update code_count set wrong = wrong + 1 where address_hash = $1";
    let address_hash: &[u8] = &held.address_hash;
    transaction.execute_typed(counted, &[(&address_hash, Type::BYTEA)]).await?;
    let left = (TRIES_MAX - held.tries).min(WRONG_A_DAY - count.wrong) - 1;
    Ok(Verdict::Wrong(left))
}

/// Looks at what went to an address today, and holds that until the end of the transaction. Whoever comes
/// here holds the contact.
async fn count(transaction: &Transaction<'_>, address_hash: &[u8]) -> Result<Count, Error> {
    let upsert = "insert into code_count as old (address_hash, since, codes, wrong) values ($1, now(), 0, 0) \
         on conflict (address_hash) do update set \
             since = case when old.since <= now() - $2 * interval '1 second' then now() else old.since end, \
             codes = case when old.since <= now() - $2 * interval '1 second' then 0 else old.codes end, \
             wrong = case when old.since <= now() - $2 * interval '1 second' then 0 else old.wrong end \
         returning codes, wrong, extract(epoch from now() - sent_at)::float8, \
             extract(epoch from since - now())::float8 + $2";
    let day_s = DAY.as_secs_f64();
    let values = [(&address_hash as _, Type::BYTEA), (&day_s as _, Type::FLOAT8)];
    let row = transaction.query_typed_one(upsert, &values).await?;
    let age: Option<f64> = row.try_get(2)?;
    Ok(Count {
        codes: row.try_get(0)?,
        wrong: row.try_get(1)?,
        age: age.map(length),
        rest: length(row.try_get(3)?),
    })
}

/// Forgets some addresses whose day is over.
async fn forget_days(transaction: &Transaction<'_>) -> Result<(), Error> {
    let delete = "delete from code_count where address_hash = any(array(select address_hash from code_count \
         where since <= now() - $1 * interval '1 second' order by since limit $2 for update skip locked))";
    let day_s = DAY.as_secs_f64();
    let values = [(&day_s as _, Type::FLOAT8), (&FORGOTTEN_MAX as _, Type::INT8)];
    transaction.execute_typed(delete, &values).await?;
    Ok(())
}

/// What is less than nothing is nothing: whoever waited for another has the older clock.
fn length(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

async fn hold(transaction: &Transaction<'_>, user_id: &str, contact_id: Uuid) -> Result<Option<Held>, Error> {
    let select = "select status, code_hash, code_tries, \
             extract(epoch from now() - code_sent_at)::float8, channel, address \
         from contact where user_id = $1 and id = $2 for update";
    let values = [(&user_id as _, Type::TEXT), (&contact_id as _, Type::UUID)];
    let row = transaction.query_typed_opt(select, &values).await?;
    row.map(|row| {
        let age: Option<f64> = row.try_get(3)?;
        let (channel, address): (&str, &str) = (row.try_get(4)?, row.try_get(5)?);
        Ok(Held {
            address_hash: Sha256::digest(format!("{channel}|{address}")).into(),
            is_verified: row.try_get::<_, &str>(0)? == "active",
            hash: row.try_get(1)?,
            tries: row.try_get(2)?,
            age: age.map(length),
        })
    })
    .transpose()
}

/// A code that is still on its way is not good any more: nobody shall wonder which one is.
async fn forget_unsent(transaction: &Transaction<'_>, contact_id: Uuid) -> Result<(), Error> {
    let update = "update notification set status = 'suppressed', reason = 'replaced', settled_at = now(), \
             facts = facts - 'code' \
         where contact_id = $1 and status = 'pending' and event_type = 'verification'";
    transaction.execute_typed(update, &[(&contact_id, Type::UUID)]).await?;
    Ok(())
}

fn code() -> anyhow::Result<String> {
    // Of so many numbers that none of the codes is noticeably more likely.
    let number = u64::from_le_bytes(random().context("a code")?);
    Ok(format!("{:06}", number % CODES))
}

fn hash(contact_id: Uuid, code: &str) -> [u8; 32] {
    Sha256::digest(format!("{contact_id}|{code}")).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_six_digits_that_nobody_knows() {
        let codes: HashSet<String> = (0..100).map(|_| code().unwrap()).collect();
        assert!(codes.iter().all(|code| code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit())));
        // Two of a hundred are the same once in two hundred times; five never are.
        assert!(codes.len() > 95, "{codes:?}");
    }

    #[test]
    fn a_code_is_of_one_contact() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(hash(one, "012345"), hash(one, "012345"));
        assert_ne!(hash(one, "012345"), hash(other, "012345"));
        assert_ne!(hash(one, "012345"), hash(one, "12345"));
    }
}

//! The directory, written. Each of these is done again without harm.
//!
//! Invariant: whoever adds something of a user holds the user's row, so that limits hold and a user
//! who is being deleted gets nothing more.

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

use super::secret::Secret;
use super::{CONTACTS_MAX, Contact, Member, Preference, User};

/// Why something was not put in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such user.
    #[error("there is no such user")]
    NoUser,
    /// The user has as many contacts as one may have.
    #[error("the user has {CONTACTS_MAX} contacts, which is the most that one may have")]
    TooManyContacts,
    /// Postgres did not do it.
    #[error(transparent)]
    Postgres(#[from] Error),
}

/// Holds the row of a user until the end of the transaction; whether there is one.
pub async fn hold(transaction: &Transaction<'_>, user_id: &str) -> Result<bool, Error> {
    let select = "select from users where id = $1 for no key update";
    Ok(transaction.query_typed_opt(select, &[(&user_id, Type::TEXT)]).await?.is_some())
}

/// Puts a user in, or changes one; whether it is a new one.
pub async fn put_user(transaction: &Transaction<'_>, user: &User) -> Result<bool, Error> {
    let upsert = "insert into users (id, name, locale, time_zone) values ($1, $2, $3, $4) \
         on conflict (id) do update set name = excluded.name, locale = excluded.locale, \
             time_zone = excluded.time_zone, updated_at = now() \
         returning xmax = 0";
    let User { id, name, locale, time_zone } = user;
    transaction
        .query_typed_one(
            upsert,
            &[(id, Type::TEXT), (name, Type::TEXT), (locale, Type::TEXT), (time_zone, Type::TEXT)],
        )
        .await?
        .try_get(0)
}

/// Adds a contact, unverified; whether it is a new one. One that is there stays as it is.
pub async fn add_contact(
    transaction: &Transaction<'_>,
    contact: &Contact,
    secret: Option<&Secret>,
) -> Result<bool, Refused> {
    if !hold(transaction, &contact.user_id).await? {
        return Err(Refused::NoUser);
    }
    let id = contact.id();
    let select = "select count(*), count(*) filter (where id = $2) from contact where user_id = $1";
    let row =
        transaction.query_typed_one(select, &[(&contact.user_id, Type::TEXT), (&id, Type::UUID)]).await?;
    let (count, same): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if same > 0 {
        return Ok(false);
    }
    if count >= CONTACTS_MAX as i64 {
        return Err(Refused::TooManyContacts);
    }
    let insert = "insert into contact (id, user_id, channel, address, status, secret) \
         values ($1, $2, $3, $4, 'unverified', $5)";
    let (channel, secret) = (contact.channel.name(), secret.map(Secret::bytes));
    transaction
        .execute_typed(
            insert,
            &[
                (&id, Type::UUID),
                (&contact.user_id, Type::TEXT),
                (&channel, Type::TEXT),
                (&contact.address, Type::TEXT),
                (&secret, Type::BYTEA),
            ],
        )
        .await?;
    Ok(true)
}

/// Somebody who may say so says that an unverified contact is the user's.
pub async fn activate(transaction: &Transaction<'_>, contact_id: Uuid) -> Result<(), Error> {
    let update = "update contact set status = 'active', verified_at = now(), code_hash = null \
         where id = $1 and status = 'unverified'";
    transaction.execute_typed(update, &[(&contact_id, Type::UUID)]).await?;
    Ok(())
}

/// Gives a contact another key for its signatures.
pub async fn set_secret(
    transaction: &Transaction<'_>,
    contact_id: Uuid,
    secret: &Secret,
) -> Result<(), Error> {
    let update = "update contact set secret = $2 where id = $1 and secret is distinct from $2";
    transaction.execute_typed(update, &[(&contact_id, Type::UUID), (&secret.bytes(), Type::BYTEA)]).await?;
    Ok(())
}

/// Makes somebody a user of a lock, or changes what the lock is to them; whether they are new.
pub async fn put_member(transaction: &Transaction<'_>, member: &Member) -> Result<bool, Refused> {
    if !hold(transaction, &member.user_id).await? {
        return Err(Refused::NoUser);
    }
    let upsert = "insert into lock_member (client_id, user_id, lock_name, tier) values ($1, $2, $3, $4) \
         on conflict (client_id, user_id) do update \
             set lock_name = excluded.lock_name, tier = excluded.tier \
         returning xmax = 0";
    let Member { client_id, user_id, lock_name, tier } = member;
    Ok(transaction
        .query_typed_one(
            upsert,
            &[(client_id, Type::TEXT), (user_id, Type::TEXT), (lock_name, Type::TEXT), (tier, Type::INT2)],
        )
        .await?
        .try_get(0)?)
}

/// Somebody is no user of a lock any more, and what waits is not told; whether they were.
///
/// Of a digest that is on its way, the other locks may still be told: it stays. A batch of a lane that read
/// who is told just before may still tell of what it holds.
pub async fn remove_member(
    transaction: &Transaction<'_>,
    client_id: &str,
    user_id: &str,
) -> Result<bool, Error> {
    let delete = "delete from lock_member where client_id = $1 and user_id = $2";
    let values = [(&client_id as _, Type::TEXT), (&user_id as _, Type::TEXT)];
    let was_there = transaction.execute_typed(delete, &values).await? > 0;
    // What is being sent just now cannot be called back, but is not sent again.
    let update = "with gone as materialized (select id from notification \
             where contact_id = any(array(select id from contact where user_id = $2)) and ($1 = '*' or client_id = $1) and status in ('pending', 'sending') \
                 and event_type not in ('test', 'verification') \
                 and not (event_type = 'digest' and client_id = '') \
                 and not exists (select from lock_member where lock_member.user_id = $2 \
                     and lock_member.client_id in (notification.client_id, '*')) \
             order by contact_id, id for update) \
         update notification set \
             status = case status when 'pending' then 'suppressed' else status end, \
             reason = case status when 'pending' then 'no_member' else reason end, \
             settled_at = case status when 'pending' then now() else settled_at end, \
             expires_at = case status when 'sending' then least(expires_at, now()) else expires_at end \
         from gone where notification.id = gone.id";
    transaction.execute_typed(update, &values).await?;
    Ok(was_there)
}

/// Forgets what a user wants.
pub async fn clear_preferences(transaction: &Transaction<'_>, user_id: &str) -> Result<(), Error> {
    let delete = "delete from preference where user_id = $1";
    transaction.execute_typed(delete, &[(&user_id, Type::TEXT)]).await?;
    Ok(())
}

/// Puts in what a user wants, in the place of what there is for the same choices. The user is held.
pub async fn put_preferences(
    transaction: &Transaction<'_>,
    user_id: &str,
    preferences: &[Preference],
) -> Result<(), Error> {
    let upsert = "insert into preference (user_id, client_id, event_type, channel, enabled, min_severity, \
             quiet_from, quiet_to, digest_s) \
         select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::bool[], $6::text[], $7::time[], \
             $8::time[], $9::int[]) \
         on conflict (user_id, client_id, event_type, channel) do update set enabled = excluded.enabled, \
             min_severity = excluded.min_severity, quiet_from = excluded.quiet_from, \
             quiet_to = excluded.quiet_to, digest_s = excluded.digest_s";
    fn column<'a, T>(all: &'a [Preference], of: impl Fn(&'a Preference) -> T) -> Vec<T> {
        all.iter().map(of).collect()
    }
    let of = preferences;
    transaction
        .execute_typed(
            upsert,
            &[
                (&user_id, Type::TEXT),
                (&column(of, |one| one.client_id.as_str()), Type::TEXT_ARRAY),
                (&column(of, |one| one.event_type.as_str()), Type::TEXT_ARRAY),
                (&column(of, |one| one.channel.name()), Type::TEXT_ARRAY),
                (&column(of, |one| one.is_enabled), Type::BOOL_ARRAY),
                (&column(of, |one| one.min_severity.name()), Type::TEXT_ARRAY),
                (&column(of, |one| one.quiet.map(|(from, _)| from)), Type::TIME_ARRAY),
                (&column(of, |one| one.quiet.map(|(_, to)| to)), Type::TIME_ARRAY),
                (&column(of, |one| one.digest_s), Type::INT4_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

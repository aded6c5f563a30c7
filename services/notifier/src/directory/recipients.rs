//! Who may be told of locks: their members, where these can be reached, and what they want. As the
//! route needs it, read for all locks of a batch at once.
//!
//! Invariant: the number of statements does not depend on the number of locks, members or contacts. A
//! user who is a member of many locks (or of all of them) is read once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use latchline_shared::fault::Fault;
use latchline_shared::kit::postgres::fault;
use tokio_postgres::types::Type;
use tokio_postgres::{Row, Transaction};
use tracing::warn;
use uuid::Uuid;

use super::ANY;
use crate::event::{Channel, EventType, Severity};

/// A user who is told of a lock.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who.
    pub user: Arc<User>,
    /// What they call the lock; empty: nothing.
    pub lock_name: String,
    /// Told from this level of escalation on.
    pub tier: i16,
}

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    /// Id.
    pub id: String,
    /// Language of messages.
    pub locale: String,
    /// Name of the time zone, as it is kept.
    pub time_zone: String,
    /// The time zone; UTC if there is none of that name.
    pub zone: TimeZone,
    /// Where they can be reached: verified, and not bounced.
    pub contacts: Vec<ContactRef>,
    /// What they chose, by lock; [`ANY`] for every lock. Only of the locks that were asked for.
    pub preferences: HashMap<String, Vec<Preference>>,
}

/// Where a user can be reached.
#[derive(Debug, Clone)]
pub struct ContactRef {
    /// Id.
    pub id: Uuid,
    /// How.
    pub channel: Channel,
    /// Where.
    pub address: String,
}

/// What a user wants to be told of, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// The event; none: every one.
    pub event_type: Option<EventType>,
    /// On which channel.
    pub channel: Channel,
    /// Whether at all.
    pub enabled: bool,
    /// Only what is as bad as that.
    pub min_severity: Severity,
    /// When not.
    pub quiet: Option<Quiet>,
    /// Collected for so long; zero: told at once.
    pub digest: Duration,
}

/// Hours of a day in which a user wants to have peace, in the time zone of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// From this time …
    pub from: Time,
    /// … up to this one, of the next day if it is not later. The same: never.
    pub to: Time,
}

/// Who may be told of the locks that were asked for.
#[derive(Debug, Default)]
pub struct Recipients {
    by_lock: HashMap<String, Vec<Member>>,
}

impl Recipients {
    /// The members of a lock, each once: who is a member of it and of all is what the lock's row says.
    pub fn of<'a>(&'a self, client_id: &str) -> impl Iterator<Item = &'a Member> + use<'a> {
        let members = |client_id: &str| self.by_lock.get(client_id).map_or(&[][..], Vec::as_slice);
        let (own, all) = (if client_id == ANY { &[] } else { members(client_id) }, members(ANY));
        let named: HashSet<&str> = own.iter().map(|member| member.user.id.as_str()).collect();
        own.iter().chain(all.iter().filter(move |member| !named.contains(member.user.id.as_str())))
    }
}

const MEMBERS: &str = "select client_id, user_id, lock_name, tier from lock_member
    where client_id = any($1) order by client_id, user_id";
const USERS: &str = "select id, locale, time_zone from users
    where id in (select user_id from lock_member where client_id = any($1))";
const CONTACTS: &str = "select user_id, id, channel, address from contact
    where status = 'active' and user_id in (select user_id from lock_member where client_id = any($1))
    order by user_id, channel, address";
const PREFERENCES: &str = "select user_id, client_id, event_type, channel, enabled, min_severity,
        quiet_from, quiet_to, digest_s
    from preference
    where client_id = any($1)
        and user_id in (select user_id from lock_member where client_id = any($1))";

/// Reads who may be told of these locks. The empty id of what concerns no lock has the members of all.
pub async fn recipients(transaction: &Transaction<'_>, client_ids: &[&str]) -> Result<Recipients, Fault> {
    let wanted: Vec<&str> = client_ids.iter().copied().filter(|id| !id.is_empty()).chain([ANY]).collect();
    let read = async |sql: &str| {
        let rows = transaction.query_typed(sql, &[(&wanted, Type::TEXT_ARRAY)]).await;
        rows.map_err(|error| fault::of(&error))
    };
    // Statements of one connection: they go out together.
    let (members, users, contacts, preferences) =
        tokio::join!(read(MEMBERS), read(USERS), read(CONTACTS), read(PREFERENCES));
    let ((members, users), (contacts, preferences)) =
        fault::both(fault::both(members, users), fault::both(contacts, preferences))?;
    gather(&members, &users, &contacts, &preferences).map_err(|error| fault::of(&error))
}

fn gather(
    members: &[Row],
    users: &[Row],
    contacts: &[Row],
    preferences: &[Row],
) -> Result<Recipients, tokio_postgres::Error> {
    let mut by_id = HashMap::with_capacity(users.len());
    for row in users {
        let user = user(row)?;
        by_id.insert(user.id.clone(), user);
    }
    for row in contacts {
        let channel: &str = row.try_get(2)?;
        if let (Some(user), Some(channel)) =
            (by_id.get_mut(row.try_get::<_, &str>(0)?), Channel::from_name(channel))
        {
            user.contacts.push(ContactRef { id: row.try_get(1)?, channel, address: row.try_get(3)? });
        }
    }
    for row in preferences {
        // Words of a newer version match nothing that this one knows.
        if let (Some(user), Some(preference)) = (by_id.get_mut(row.try_get::<_, &str>(0)?), preference(row)?)
        {
            user.preferences.entry(row.try_get(1)?).or_default().push(preference);
        }
    }
    let by_id: HashMap<String, Arc<User>> =
        by_id.into_iter().map(|(id, user)| (id, Arc::new(user))).collect();
    let mut recipients = Recipients::default();
    for row in members {
        // Who was deleted between the statements is not told.
        let Some(user) = by_id.get(row.try_get::<_, &str>(1)?) else { continue };
        let member = Member { user: Arc::clone(user), lock_name: row.try_get(2)?, tier: row.try_get(3)? };
        recipients.by_lock.entry(row.try_get(0)?).or_default().push(member);
    }
    Ok(recipients)
}

fn user(row: &Row) -> Result<User, tokio_postgres::Error> {
    let (id, time_zone): (String, String) = (row.try_get(0)?, row.try_get(2)?);
    // It was known when it was written; the database of time zones may be another one now.
    let zone = TimeZone::get(&time_zone).unwrap_or_else(|error| {
        warn!(user = %id, error = %error, "unknown time zone, utc is used");
        TimeZone::UTC
    });
    let (contacts, preferences) = (Vec::new(), HashMap::new());
    Ok(User { id, locale: row.try_get(1)?, time_zone, zone, contacts, preferences })
}

fn preference(row: &Row) -> Result<Option<Preference>, tokio_postgres::Error> {
    let event_type = match row.try_get(2)? {
        ANY => None,
        name => match EventType::from_name(name) {
            Some(event_type) => Some(event_type),
            None => return Ok(None),
        },
    };
    let (Some(channel), Some(min_severity)) =
        (Channel::from_name(row.try_get(3)?), Severity::from_name(row.try_get(5)?))
    else {
        return Ok(None);
    };
    let quiet = match (row.try_get(6)?, row.try_get(7)?) {
        (Some(from), Some(to)) => Some(Quiet { from, to }),
        _ => None,
    };
    let digest_s: i32 = row.try_get(8)?;
    let digest = Duration::from_secs(u64::try_from(digest_s).unwrap_or_default());
    Ok(Some(Preference { event_type, channel, enabled: row.try_get(4)?, min_severity, quiet, digest }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::tests::database;

    const PEOPLE: &str = "
        insert into users (id, name, locale, time_zone) values
            ('taro', 'Taro', 'ja', 'Asia/Tokyo'), ('ops', 'Ops', 'en', 'Nowhere/Here'),
            ('other', 'Other', 'en', 'UTC');
        insert into lock_member (client_id, user_id, lock_name, tier) values
            ('1', 'taro', 'Door', 0), ('*', 'ops', '', 1), ('1', 'ops', 'Mine', 2), ('2', 'other', '', 0);
        insert into contact (id, user_id, channel, address, status) values
            (gen_random_uuid(), 'taro', 'email', 'taro@example.com', 'active'),
            (gen_random_uuid(), 'taro', 'sms', '+819012341234', 'unverified'),
            (gen_random_uuid(), 'taro', 'webhook', 'https://example.com/', 'bounced'),
            (gen_random_uuid(), 'ops', 'sms', '+819012341235', 'active');
        insert into preference (user_id, client_id, event_type, channel, enabled, min_severity, quiet_from, quiet_to, digest_s) values
            ('taro', '1', 'unlocked', 'email', true, 'info', '22:00', '07:00', 60),
            ('taro', '*', '*', 'sms', false, 'major', null, null, 0),
            ('taro', '2', '*', 'sms', false, 'major', null, null, 0),
            ('taro', '*', 'burning', 'sms', true, 'info', null, null, 0),
            ('ops', '*', 'tamper', 'sms', true, 'awful', null, null, 0);";

    async fn of(client_ids: &[&str], ask: &str) -> Vec<Member> {
        let database = database().await;
        database.owner.get().await.unwrap().batch_execute(PEOPLE).await.unwrap();
        let mut client = database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        recipients(&transaction, client_ids).await.unwrap().of(ask).cloned().collect()
    }

    fn told(members: &[Member]) -> Vec<(&str, &str, i16)> {
        members
            .iter()
            .map(|member| (member.user.id.as_str(), member.lock_name.as_str(), member.tier))
            .collect()
    }

    #[tokio::test]
    async fn members_of_a_lock_and_of_all_are_told() {
        let members = of(&["1", "3"], "1").await;
        assert_eq!(told(&members), [("ops", "Mine", 2), ("taro", "Door", 0)]);
        let (ops, taro) = (&members[0].user, &members[1].user);
        assert_eq!(
            (ops.zone.clone(), ops.preferences.len()),
            (TimeZone::UTC, 0),
            "what cannot be read is none"
        );
        let contacts: Vec<_> = taro.contacts.iter().map(|contact| contact.address.as_str()).collect();
        assert_eq!(contacts, ["taro@example.com"]);
        let quiet = Quiet { from: Time::constant(22, 0, 0, 0), to: Time::constant(7, 0, 0, 0) };
        let expected = Preference {
            event_type: Some(EventType::Unlocked),
            channel: Channel::Email,
            enabled: true,
            min_severity: Severity::Info,
            quiet: Some(quiet),
            digest: Duration::from_secs(60),
        };
        assert_eq!(taro.preferences["1"], [expected]);
        assert_eq!((taro.preferences[ANY].len(), taro.preferences.len()), (1, 2));
    }

    #[tokio::test]
    async fn what_concerns_no_lock_or_one_of_nobody_is_told_to_members_of_all() {
        for client_id in ["", "3", "*"] {
            assert_eq!(told(&of(&[client_id], client_id).await), [("ops", "", 1)], "{client_id:?}");
        }
    }
}

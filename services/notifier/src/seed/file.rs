//! The file of the seed, read. All that is wrong with it is told at once, with its place; addresses and
//! secrets are not quoted.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Person, Reached, Seed};
use crate::directory::secret::Secret;
use crate::directory::{
    CONTACTS_MAX, Choices, Contact, ContactFields, Member, MemberFields, Preference, PreferenceFields, User,
    UserFields,
};
use crate::event::Channel;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    users: Vec<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserTable {
    id: String,
    name: String,
    locale: String,
    time_zone: String,
    #[serde(default)]
    contacts: Vec<toml::Value>,
    #[serde(default)]
    locks: Vec<toml::Value>,
    #[serde(default)]
    preferences: Vec<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContactTable {
    channel: Channel,
    address: String,
    #[serde(default)]
    verified: bool,
    #[serde(default)]
    secret: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockTable {
    client_id: String,
    #[serde(default)]
    lock_name: String,
    #[serde(default)]
    tier: i16,
}

/// The people of a file, or all that is wrong with it.
pub(super) fn parse(text: &str, choices: &Choices) -> Result<Seed, Vec<String>> {
    // The library's own text quotes the line.
    let file: File = toml::from_str(text).map_err(|error| vec![located(text, &error)])?;
    let mut problems = Vec::new();
    let mut users = Vec::new();
    for (index, table) in file.users.into_iter().enumerate() {
        let place = format!("users[{index}]");
        users.extend(
            read(table, &place, &mut problems)
                .and_then(|table| person(table, choices, &place, &mut problems)),
        );
    }
    let ids = users.iter().map(|person: &Person| person.user.id());
    problems.extend(twice(ids, "users"));
    if problems.is_empty() { Ok(Seed { users }) } else { Err(problems) }
}

fn located(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
    format!("line {line}: {}", error.message())
}

fn read<T: DeserializeOwned>(table: toml::Value, place: &str, problems: &mut Vec<String>) -> Option<T> {
    T::deserialize(table)
        .map_err(|error: toml::de::Error| problems.push(format!("{place}: {}", error.message())))
        .ok()
}

fn person(table: UserTable, choices: &Choices, place: &str, problems: &mut Vec<String>) -> Option<Person> {
    let UserTable { id, name, locale, time_zone, contacts, locks, preferences } = table;
    let fields = UserFields { name, locale, time_zone };
    let user = User::new(&id, fields, choices, &format!("{place}."), problems);
    if contacts.len() > CONTACTS_MAX {
        problems.push(format!("{place}.contacts: has more than {CONTACTS_MAX}"));
    }
    let contacts = each(contacts, &format!("{place}.contacts"), problems, |table, place, problems| {
        reached(&id, table, choices, place, problems)
    });
    let ids = contacts.iter().map(|reached| reached.contact.id());
    problems.extend(twice(ids, &format!("{place}.contacts")));
    let locks = each(locks, &format!("{place}.locks"), problems, |table: LockTable, place, problems| {
        let LockTable { client_id, lock_name, tier } = table;
        Member::new(&client_id, &id, MemberFields { lock_name, tier }, &format!("{place}."), problems)
    });
    let preferences: Vec<PreferenceFields> =
        each(preferences, &format!("{place}.preferences"), problems, |fields, _, _| Some(fields));
    let preferences = Preference::list(preferences, &format!("{place}."), problems);
    Some(Person { user: user?, contacts, locks, preferences: preferences? })
}

/// The tables of a list that make sense.
fn each<T: DeserializeOwned, R>(
    tables: Vec<toml::Value>,
    list: &str,
    problems: &mut Vec<String>,
    check: impl Fn(T, &str, &mut Vec<String>) -> Option<R>,
) -> Vec<R> {
    let mut checked = Vec::with_capacity(tables.len());
    for (index, table) in tables.into_iter().enumerate() {
        let place = format!("{list}[{index}]");
        checked.extend(read(table, &place, problems).and_then(|table| check(table, &place, problems)));
    }
    checked
}

fn reached(
    user_id: &str,
    table: ContactTable,
    choices: &Choices,
    place: &str,
    problems: &mut Vec<String>,
) -> Option<Reached> {
    let ContactTable { channel, address, verified, secret } = table;
    let fields = ContactFields { channel, address };
    let contact = Contact::new(user_id, &fields, choices, &format!("{place}."), problems);
    let secret = secret.map(|text| match channel {
        Channel::Webhook => Secret::from_text(&text),
        _ => Err("is of webhooks only".to_owned()),
    });
    let secret = secret.transpose().map_err(|why| problems.push(format!("{place}.secret: {why}")));
    Some(Reached { contact: contact?, is_verified: verified, secret: secret.ok()? })
}

/// What is in a list for the second time.
fn twice<K: Eq + Hash>(keys: impl Iterator<Item = K>, list: &str) -> Vec<String> {
    let mut seen = HashMap::new();
    let again = |(index, key)| seen.insert(key, index).map(|first| (first, index));
    keys.enumerate()
        .filter_map(again)
        .map(|(first, index)| format!("{list}[{index}]: is the same as {list}[{first}]"))
        .collect()
}

//! People who are put in at every start, out of a file: for a demonstration, or a handful of
//! operators.
//!
//! ```toml
//! [[users]]
//! id = "taro"
//! name = "Taro"
//! locale = "ja"
//! time_zone = "Asia/Tokyo"
//! contacts = [{ channel = "email", address = "taro@example.com", verified = true }]
//! locks = [{ client_id = "*" }]
//! preferences = [{ channel = "email", min_severity = "warning" }]
//! ```
//!
//! What is there already is changed to what the file says; nothing is taken out. A contact that bounced
//! stays so, and no code goes to one that is not verified: somebody asks for it over HTTP.
//!
//! Invariant: a file with anything wrong in it is refused as a whole, and so is a seed of which Postgres
//! refuses a part: it is one transaction.

mod file;

use std::path::{Path, PathBuf};

use anyhow::Context;
use deadpool_postgres::Pool;
use latchline_shared::kit::config::value;
use serde::Deserialize;
use tokio_postgres::Transaction;
use tracing::info;

use crate::directory::secret::Secret;
use crate::directory::{Choices, Contact, Member, Preference, User, store};
use crate::event::Channel;

/// The `[seed]` table.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The file; none: nobody is put in.
    #[serde(deserialize_with = "value::optional")]
    pub file: Option<PathBuf>,
}

impl Settings {
    /// All that is wrong with the file.
    pub fn problems(&self, choices: &Choices, problems: &mut Vec<String>) {
        let wrong = self.file.as_deref().and_then(|path| Seed::read(path, choices).err());
        problems.extend(wrong.map(|error| format!("seed.file: {error:#}")));
    }
}

/// People who make sense.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seed {
    users: Vec<Person>,
}

#[derive(Debug, Clone, PartialEq)]
struct Person {
    user: User,
    contacts: Vec<Reached>,
    locks: Vec<Member>,
    preferences: Vec<Preference>,
}

#[derive(Debug, Clone, PartialEq)]
struct Reached {
    contact: Contact,
    is_verified: bool,
    secret: Option<Secret>,
}

impl Seed {
    /// Of a file. Blocks on the disk.
    pub fn read(path: &Path, choices: &Choices) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let seed = file::parse(&text, choices).map_err(|problems| anyhow::anyhow!(problems.join("; ")));
        seed.with_context(|| path.display().to_string())
    }

    /// Puts them in.
    pub async fn apply(&self, pool: &Pool) -> anyhow::Result<()> {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        for person in &self.users {
            put(&transaction, person).await.with_context(|| format!("user {}", person.user.id()))?;
        }
        transaction.commit().await?;
        info!(users = self.users.len(), "the seed is put in");
        Ok(())
    }
}

async fn put(transaction: &Transaction<'_>, person: &Person) -> anyhow::Result<()> {
    let Person { user, contacts, locks, preferences } = person;
    store::put_user(transaction, user).await?;
    for Reached { contact, is_verified, secret } in contacts {
        let new = match secret {
            None if contact.channel() == Channel::Webhook => Some(Secret::random()?),
            given => given.clone(),
        };
        let is_new = store::add_contact(transaction, contact, new.as_ref()).await?;
        if let Some(secret) = secret.as_ref().filter(|_| !is_new) {
            store::set_secret(transaction, contact.id(), secret).await?;
        }
        if *is_verified {
            store::activate(transaction, contact.id()).await?;
        }
    }
    for member in locks {
        store::put_member(transaction, member).await?;
    }
    Ok(store::put_preferences(transaction, user.id(), preferences).await?)
}

#[cfg(test)]
mod tests;

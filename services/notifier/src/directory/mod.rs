//! Users, their contacts, locks and preferences.
//!
//! Whoever writes them (the API, the seed) makes the types of this file, each of which is checked in
//! [`check`], and hands them to [`store`]; [`erase`] takes people out again, and what was to be told
//! to them.
//!
//! Invariant: what [`store`] is given makes sense: it was made by the `new` of its type, which tells
//! all that is wrong, with its place.

pub mod check;
pub mod secret;

pub mod enqueue;
pub mod erase;
pub mod store;

pub mod recipients;

use std::collections::BTreeSet;

use anyhow::Context;
use jiff::civil::Time;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::{Uuid, uuid};

use crate::channel::webhook::guard::Guard;
use crate::event::{Channel, Severity};
use crate::template::Templates;

/// Every lock, or every event.
pub const ANY: &str = "*";
/// Most contacts of a user.
pub const CONTACTS_MAX: usize = 20;
/// Most preferences of a user.
pub const PREFERENCES_MAX: usize = 1_000;

/// Ids of contacts are in this namespace.
const NAMESPACE: Uuid = uuid!("a0c7a0cd-4a4b-5f55-8a3c-3d8f0e6d7b21");

/// What may be chosen, by the configuration.
#[derive(Debug)]
pub struct Choices {
    /// Locales that there are words in, in lower case. A user has one of them, also with a region.
    pub locales: BTreeSet<String>,
    /// Where a webhook needs no TLS: at addresses in networks that are allowed by name.
    pub guard: Guard,
}

impl Choices {
    /// With these words, and these networks (CIDR) that webhooks may reach though they are not public.
    pub fn new(templates: &Templates, networks: &[String]) -> anyhow::Result<Self> {
        Ok(Self {
            locales: templates.locales(),
            guard: Guard::new(networks).context("webhook.allowed_networks")?,
        })
    }
}

/// A user, as somebody writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserFields {
    /// At most 100 characters, none of them a control character; not empty.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Language of the messages, one of `locales` of `/v1/templates`, also with a region (`ja-JP`).
    #[schema(example = "ja")]
    pub locale: String,
    /// IANA name.
    #[schema(example = "Asia/Tokyo")]
    pub time_zone: String,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    id: String,
    name: String,
    locale: String,
    time_zone: String,
}

impl User {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// A contact, as somebody writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContactFields {
    /// `email`, `sms` or `webhook`.
    #[schema(value_type = String)]
    pub channel: Channel,
    /// `user@host`, `+` and a number (E.164: 7 to 15 digits, the first not 0), or `https://…` without user and
    /// password (`http://` only to an address in one of `webhook.allowed_networks`). At most 320 bytes.
    #[schema(max_length = 320)]
    pub address: String,
}

/// A contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    user_id: String,
    channel: Channel,
    address: String,
}

impl Contact {
    /// Its id, from what it is of: the same contact again is the same one.
    pub fn id(&self) -> Uuid {
        let Self { user_id, channel, address } = self;
        Uuid::new_v5(&NAMESPACE, format!("{user_id}|{channel}|{address}").as_bytes())
    }

    /// How it is reached.
    pub fn channel(&self) -> Channel {
        self.channel
    }
}

/// What a lock is to a user, as somebody writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemberFields {
    /// What this user calls it, at most 100 characters, none of them a control character; empty: nothing.
    #[schema(max_length = 100)]
    pub lock_name: String,
    /// Told from this level of escalation on; 0: always.
    #[schema(minimum = 0, maximum = 100)]
    pub tier: i16,
}

/// A user of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    client_id: String,
    user_id: String,
    lock_name: String,
    tier: i16,
}

/// What a user wants to be told of, and when; as somebody writes and reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Preference)]
pub struct PreferenceFields {
    /// The lock; `*`: every lock.
    #[serde(default = "any")]
    pub client_id: String,
    /// The type of the event; `*`: every type.
    #[serde(default = "any")]
    pub event_type: String,
    /// `email`, `sms` or `webhook`.
    #[schema(value_type = String)]
    pub channel: Channel,
    /// Whether it is told at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Not told below: `info`, `warning`, `minor`, `major` or `critical`.
    #[serde(default = "info")]
    #[schema(value_type = String)]
    pub min_severity: Severity,
    /// Quiet from this time of day in the user's time zone, `22:00`; with `quiet_to`, or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "22:00")]
    pub quiet_from: Option<String>,
    /// Until this time; of the next day if it is earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "07:00")]
    pub quiet_to: Option<String>,
    /// Collected for so long before it is told, 60 to 86400 seconds; 0: told at once.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 86400)]
    pub digest_s: i32,
}

/// What a user wants to be told of, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    client_id: String,
    event_type: String,
    channel: Channel,
    is_enabled: bool,
    min_severity: Severity,
    quiet: Option<(Time, Time)>,
    digest_s: i32,
}

fn any() -> String {
    ANY.to_owned()
}

fn yes() -> bool {
    true
}

fn info() -> Severity {
    Severity::Info
}

#[cfg(test)]
mod tests;

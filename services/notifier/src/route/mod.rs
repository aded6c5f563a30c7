//! Who is told what, how and when: pure.
//!
//! Rules in order: the tier (nobody hears of what is not escalated to them), what the user chose, what
//! is too late; then what is critical is told at once, and the rest may wait: for the end of quiet hours,
//! for a digest that the user wants, or, if too much was told lately, for one that nobody chose.
//!
//! What waits is told by [`Digest`]: all parts of one name become one message when the first is due. So
//! no part may be due when another one of its name must be silent: a name says which quiet hours hold
//! for its parts (of what has none, it is the name alone), whether they may be disturbed, and each end
//! of quiet hours has its own.

mod quiet;
pub mod rate;
pub mod settings;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use latchline_shared::words;

use crate::directory::ANY;
use crate::directory::recipients::{ContactRef, Member, Preference, Quiet, User};
use crate::event::{Channel, EventType, Severity};
use settings::{Defaults, Expiry, Limits};

/// All that the route follows.
#[derive(Debug, Clone)]
pub struct Rules {
    /// For a user who has not chosen.
    pub defaults: Defaults,
    /// How much is too much.
    pub limits: Limits,
    /// How long it makes sense to tell.
    pub expiry: Expiry,
    /// What is older is not even written down.
    pub retention: Duration,
}

/// What happened, as far as the route looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What.
    pub event_type: EventType,
    /// How bad it is.
    pub severity: Severity,
    /// The lock; empty: none.
    pub client_id: &'a str,
    /// How often it was escalated.
    pub level: i16,
    /// Whether it is the result of a command that did not do what it should.
    pub is_failed_result: bool,
    /// When.
    pub at: Timestamp,
}

/// How a user is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// At once; if too much was told lately, by that digest. What must be told whatever was has none.
    Now {
        /// Not after that.
        expires_at: Timestamp,
        /// If too much was told lately.
        overflow: Option<Digest>,
    },
    /// Together with others.
    Later(Digest),
    /// Not any more: it was too late when we heard of it.
    Expired {
        /// Not after that.
        expires_at: Timestamp,
    },
}

/// What is told together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Why it waits.
    pub kind: Kind,
    /// All of this name are told together.
    pub name: String,
    /// When, if nobody has begun to wait.
    pub due_at: Timestamp,
    /// Not after that.
    pub expires_at: Timestamp,
}

words! {
    /// Why something is told later, with others.
    Kind {
        /// The user wants to have peace.
        Quiet = "quiet",
        /// The user wants one message instead of many.
        Digest = "digest",
        /// Too much was told lately.
        Overflow = "overflow",
    }
}

words! {
    /// Why nothing is told, not even later.
    Skip {
        /// It is not escalated to this user.
        Tier = "tier",
        /// The user does not want it, on this channel.
        Disabled = "disabled",
        /// The user did not ask for it by name.
        NotByName = "not_by_name",
        /// It is not bad enough.
        Severity = "severity",
        /// It is older than what is kept.
        TooOld = "too_old",
    }
}

/// What a user chose, or what holds if not.
struct Choice<'a> {
    enabled: bool,
    by_name: bool,
    min_severity: Severity,
    preference: Option<&'a Preference>,
}

impl Rules {
    /// How this member of the event's lock is told at this contact.
    pub fn plan(
        &self,
        event: &Event<'_>,
        member: &Member,
        contact: &ContactRef,
        now: Timestamp,
    ) -> Result<Plan, Skip> {
        if member.tier > event.level {
            return Err(Skip::Tier);
        }
        let choice = self.choice(event, &member.user, contact.channel);
        if !choice.enabled {
            return Err(Skip::Disabled);
        }
        if !choice.by_name && self.defaults.only_by_name.contains(&event.event_type) {
            return Err(Skip::NotByName);
        }
        if event.severity < choice.min_severity {
            return Err(Skip::Severity);
        }
        if later(event.at, self.retention) <= now {
            return Err(Skip::TooOld);
        }
        Ok(self.when(event, &member.user, contact, choice.preference, now))
    }

    /// The row that says most holds as a whole: lock before type of event.
    fn choice<'a>(&self, event: &Event<'_>, user: &'a User, channel: Channel) -> Choice<'a> {
        let of = |client_id: &str, event_type: Option<EventType>| {
            let rows = user.preferences.get(client_id)?;
            rows.iter().find(|row| row.channel == channel && row.event_type == event_type)
        };
        let name = Some(event.event_type);
        let chosen = of(event.client_id, name)
            .or_else(|| of(event.client_id, None))
            .or_else(|| of(ANY, name))
            .or_else(|| of(ANY, None));
        let standard = self.defaults.of(channel);
        Choice {
            enabled: chosen.map_or(standard.enabled, |row| row.enabled),
            by_name: chosen.is_some_and(|row| row.event_type.is_some()),
            min_severity: chosen.map_or(standard.min_severity, |row| row.min_severity),
            preference: chosen,
        }
    }

    fn when(
        &self,
        event: &Event<'_>,
        user: &User,
        contact: &ContactRef,
        preference: Option<&Preference>,
        now: Timestamp,
    ) -> Plan {
        let lifetime = self.expiry.of(contact.channel, event.severity);
        let expires_at = later(event.at, lifetime);
        if expires_at <= now {
            return Plan::Expired { expires_at };
        }
        if event.severity == Severity::Critical {
            return Plan::Now { expires_at, overflow: None };
        }
        let disturbs = disturbs(event);
        let quiet = preference.and_then(|preference| preference.quiet).filter(|_| !disturbs);
        let quiet_end = |at| quiet.and_then(|quiet| quiet::end(quiet, &user.zone, at));
        let digest = |kind: Kind, due_at: Timestamp, part: &str| Digest {
            kind,
            name: format!("{}|{kind}{part}", contact.id),
            due_at,
            expires_at: later(event.at.max(due_at), lifetime),
        };
        if let Some(end) = quiet_end(now) {
            return Plan::Later(digest(Kind::Quiet, end, &format!("|{}", end.as_second())));
        }
        // What is collected is not told in quiet hours, either.
        let collected = |kind, pause| {
            let due_at = later(now, pause);
            let part = match quiet {
                Some(Quiet { from, to }) => format!("|{from}-{to}"),
                None if disturbs => "|urgent".to_owned(),
                None => String::new(),
            };
            digest(kind, quiet_end(due_at).unwrap_or(due_at), &part)
        };
        match preference.map(|preference| preference.digest).filter(|pause| !pause.is_zero()) {
            Some(pause) => Plan::Later(collected(Kind::Digest, pause)),
            None => {
                let overflow = Some(collected(Kind::Overflow, self.limits.overflow_digest));
                Plan::Now { expires_at, overflow }
            }
        }
    }
}

/// Whether quiet hours do not hold for it.
fn disturbs(event: &Event<'_>) -> bool {
    event.severity >= Severity::Major
        || event.is_failed_result
        || event.event_type.name().starts_with("security_")
}

fn later(at: Timestamp, pause: Duration) -> Timestamp {
    at.checked_add(pause).unwrap_or(Timestamp::MAX)
}

//! Notifications before they are written: what is told to whom, and when. Pure, but for what rates and
//! running windows are, which whoever calls has read.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use uuid::Uuid;

use super::metrics::Tally;
use super::told::Told;
use crate::directory::recipients::{ContactRef, Member, Recipients};
use crate::event::Facts;
use crate::route::rate::Rate;
use crate::route::settings::Limits;
use crate::route::{Plan, Rules};
use crate::status::Status;

/// A notification before it is written.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) id: Uuid,
    pub(super) told: &'a Told,
    pub(super) member: &'a Member,
    pub(super) contact: &'a ContactRef,
    pub(super) plan: Plan,
    pub(super) facts: String,
}

/// What is to be told of these events.
pub(super) fn drafts<'a>(
    rules: &Rules,
    events: &'a [Told],
    recipients: &'a Recipients,
    now: Timestamp,
    tally: &mut Tally,
) -> Vec<Draft<'a>> {
    let mut drafts = Vec::new();
    for told in events {
        let mut is_anybody = false;
        for member in recipients.of(&told.client_id) {
            is_anybody = true;
            if member.user.contacts.is_empty() {
                tally.skip("no_contact");
            }
            for contact in &member.user.contacts {
                match rules.plan(&told.event(), member, contact, now) {
                    Ok(plan) => drafts.push(Draft::new(told, member, contact, plan)),
                    Err(skip) => tally.skip(skip.name()),
                }
            }
        }
        if !is_anybody {
            tally.skip("nobody");
        }
    }
    drafts
}

impl<'a> Draft<'a> {
    fn new(told: &'a Told, member: &'a Member, contact: &'a ContactRef, plan: Plan) -> Self {
        let facts = Facts { lock_name: member.lock_name.clone(), ..told.facts.clone() };
        Self {
            id: told.id(&member.user.id, contact.channel.name(), &contact.address),
            told,
            member,
            contact,
            plan,
            facts: serde_json::json!(facts).to_string(),
        }
    }

    /// The buckets that it takes from: of the address, and of the address for this lock and event. None
    /// if it is told whatever was told before, or is not told now.
    fn rates(&self, limits: &Limits) -> Option<[(String, Rate); 2]> {
        if !matches!(self.plan, Plan::Now { overflow: Some(_), .. }) {
            return None;
        }
        let contact = Rate { per_minute: limits.contact_per_minute, burst: limits.contact_burst };
        let lock = Rate { per_minute: limits.lock_per_minute, burst: limits.lock_burst };
        let Self { told, contact: ContactRef { id, .. }, .. } = self;
        let of_lock = format!("{id}|{}|{}", told.event_type, told.client_id);
        Some([(id.to_string(), contact), (of_lock, lock)])
    }

    pub(super) fn status(&self) -> Status {
        if matches!(self.plan, Plan::Expired { .. }) { Status::Expired } else { Status::Pending }
    }

    pub(super) fn is_due(&self) -> bool {
        matches!(self.plan, Plan::Now { .. })
    }

    /// `None`: at once. When that is, is up to the clock that delivery looks at.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        if let Plan::Later(digest) = &self.plan { Some(digest.due_at) } else { None }
    }

    pub(super) fn digest(&self) -> Option<&str> {
        if let Plan::Later(digest) = &self.plan { Some(&digest.name) } else { None }
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        match &self.plan {
            Plan::Now { expires_at, .. } | Plan::Expired { expires_at } => *expires_at,
            Plan::Later(digest) => digest.expires_at,
        }
    }

    /// How it is told, in a word.
    pub(super) fn how(&self) -> &'static str {
        match &self.plan {
            Plan::Now { .. } => "now",
            Plan::Expired { .. } => "expired",
            Plan::Later(digest) => digest.kind.name(),
        }
    }
}

/// Keys of all buckets that are taken from, in order.
pub(super) fn buckets(drafts: &[Draft<'_>], limits: &Limits) -> BTreeSet<String> {
    drafts.iter().filter_map(|draft| draft.rates(limits)).flatten().map(|(key, _)| key).collect()
}

/// Takes from the buckets, in order of events; what finds one empty is told by a digest. What is left
/// in `full_at` are those that were taken from.
pub(super) fn limit(
    drafts: &mut [Draft<'_>],
    limits: &Limits,
    full_at: &mut HashMap<String, Timestamp>,
    now: Timestamp,
) {
    let mut taken = HashMap::new();
    for draft in drafts {
        let Some(rates) = draft.rates(limits) else { continue };
        let take = |(key, rate): &(String, Rate)| rate.take(full_at.get(key).copied().unwrap_or(now), now);
        // From both, or from none.
        match [take(&rates[0]), take(&rates[1])] {
            [Some(one), Some(other)] => {
                for ((key, _), after) in rates.into_iter().zip([one, other]) {
                    full_at.insert(key.clone(), after);
                    taken.insert(key, after);
                }
            }
            _ => {
                if let Plan::Now { overflow, .. } = &mut draft.plan
                    && let Some(digest) = overflow.take()
                {
                    draft.plan = Plan::Later(digest);
                }
            }
        }
    }
    *full_at = taken;
}

/// Names of all digests that are waited for.
pub(super) fn digests<'a>(drafts: &'a [Draft<'_>]) -> BTreeSet<&'a str> {
    drafts.iter().filter_map(Draft::digest).collect()
}

/// What waits for a digest whose window is running, waits for its end.
pub(super) fn join(drafts: &mut [Draft<'_>], windows: &mut HashMap<String, Timestamp>) {
    for draft in drafts {
        if let Plan::Later(digest) = &mut draft.plan {
            let due_at = windows.entry(digest.name.clone()).or_insert(digest.due_at);
            digest.due_at = digest.due_at.min(*due_at);
        }
    }
}

//! Who subscribes to one filter.
//!
//! Nearly all filters have one ordinary subscriber (a lock and its commands), so that case is kept
//! in place, in 16 bytes; more subscribers and shared groups move to the heap.
//!
//! Ordering: receivers are ordered by session, so an outcome does not depend on who came first.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use latchline_shared::message::Qos;
use smallvec::SmallVec;

use super::{Match, Subscription};
use crate::session::mailbox::{Mailbox, SessionKey};

/// A [`Subscription`], packed.
#[derive(Debug)]
pub(super) struct Receiver {
    mailbox: Arc<Mailbox>,
    /// Subscription identifiers are never 0 (MQTT 5, section 3.8.2.1.2).
    id: Option<NonZeroU32>,
    qos: Qos,
    no_local: bool,
    retain_as_published: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) enum Subscribers {
    /// Nobody: whoever holds this drops it.
    #[default]
    None,
    /// One ordinary subscription.
    One(Receiver),
    /// Anything else.
    Many(Box<Many>),
}

/// Ordinary subscriptions, and groups of shared ones by name.
#[derive(Debug, Default)]
pub(super) struct Many {
    ordinary: BTreeMap<SessionKey, Receiver>,
    groups: BTreeMap<Box<str>, Group>,
}

/// A shared group on one filter (MQTT 5, section 4.8.2).
#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<SessionKey, Receiver>,
    /// Key of the member that was chosen last; the next one has the turn.
    served: AtomicU64,
}

impl From<Subscription> for Receiver {
    fn from(subscription: Subscription) -> Self {
        let Subscription { mailbox, qos, no_local, retain_as_published, id } = subscription;
        Self { mailbox, id: id.and_then(NonZeroU32::new), qos, no_local, retain_as_published }
    }
}

impl Receiver {
    fn key(&self) -> SessionKey {
        self.mailbox.key()
    }

    /// No-local subscriptions do not hear their own session (MQTT 5, section 3.8.3.1).
    fn ordinary_match(&self, publisher: Option<SessionKey>) -> Option<Match> {
        let is_own = self.no_local && publisher == Some(self.key());
        (!is_own).then(|| self.to_match(false))
    }

    fn to_match(&self, shared: bool) -> Match {
        let ids: SmallVec<[u32; 1]> = self.id.iter().map(|id| id.get()).collect();
        let (qos, retain_as_published) = (self.qos, self.retain_as_published);
        Match { mailbox: Arc::clone(&self.mailbox), qos, retain_as_published, ids, shared }
    }
}

impl Subscribers {
    /// Adds a subscription, shared if there is a group; returns the one that it replaces.
    pub(super) fn insert(&mut self, group: Option<&str>, receiver: Receiver) -> Option<Receiver> {
        let replaced;
        (*self, replaced) = match (std::mem::take(self), group) {
            (Self::None, None) => (Self::One(receiver), None),
            (Self::One(one), None) if one.key() == receiver.key() => (Self::One(receiver), Some(one)),
            (before, group) => {
                let mut many = before.into_many();
                let replaced = many.insert(group, receiver);
                (Self::Many(many), replaced)
            }
        };
        replaced
    }

    /// Takes a session's subscription out, shared if there is a group.
    pub(super) fn remove(&mut self, group: Option<&str>, key: SessionKey) -> Option<Receiver> {
        let removed;
        (*self, removed) = match std::mem::take(self) {
            Self::One(one) if group.is_none() && one.key() == key => (Self::None, Some(one)),
            Self::Many(mut many) => {
                let removed = many.remove(group, key);
                (Self::from_many(many), removed)
            }
            other => (other, None),
        };
        removed
    }

    /// Whether nobody is left.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Appends who shall receive a message of `publisher`: ordinary subscribers by their keys, then
    /// one member of each group.
    pub(super) fn collect(&self, publisher: Option<SessionKey>, out: &mut Vec<Match>) {
        match self {
            Self::None => {}
            Self::One(one) => out.extend(one.ordinary_match(publisher)),
            Self::Many(many) => {
                out.extend(many.ordinary.values().filter_map(|receiver| receiver.ordinary_match(publisher)));
                out.extend(
                    many.groups.values().filter_map(Group::choose).map(|member| member.to_match(true)),
                );
            }
        }
    }

    fn into_many(self) -> Box<Many> {
        match self {
            Self::None => Box::default(),
            Self::One(one) => {
                Box::new(Many { ordinary: BTreeMap::from([(one.key(), one)]), ..Many::default() })
            }
            Self::Many(many) => many,
        }
    }

    fn from_many(mut many: Box<Many>) -> Self {
        if many.ordinary.len() > 1 || !many.groups.is_empty() {
            return Self::Many(many);
        }
        many.ordinary.pop_first().map_or(Self::None, |(_, one)| Self::One(one))
    }
}

impl Many {
    fn insert(&mut self, group: Option<&str>, receiver: Receiver) -> Option<Receiver> {
        let receivers = match group {
            None => &mut self.ordinary,
            Some(group) => &mut self.groups.entry(group.into()).or_default().members,
        };
        receivers.insert(receiver.key(), receiver)
    }

    fn remove(&mut self, group: Option<&str>, key: SessionKey) -> Option<Receiver> {
        let Some(name) = group else { return self.ordinary.remove(&key) };
        let group = self.groups.get_mut(name)?;
        let removed = group.members.remove(&key);
        if group.members.is_empty() {
            self.groups.remove(name);
        }
        removed
    }
}

impl Group {
    /// The next member in turn that is online; if none is, the next in turn.
    ///
    /// Non-guarantee: two publishers at the same moment may choose the same member.
    fn choose(&self) -> Option<&Receiver> {
        let served = SessionKey(self.served.load(Ordering::Relaxed));
        let after = self.members.range((Bound::Excluded(served), Bound::Unbounded));
        let mut turns = after.chain(self.members.range(..=served)).map(|(_, member)| member);
        let next = turns.clone().next()?;
        let chosen = turns.find(|member| member.mailbox.is_online()).unwrap_or(next);
        self.served.store(chosen.key().0, Ordering::Relaxed);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subscriber_is_small() {
        assert_eq!(size_of::<Receiver>(), 16);
        assert_eq!(size_of::<Subscribers>(), 16);
        assert_eq!(size_of::<Option<Subscribers>>(), 16);
    }
}

//! Who receives a message: subscriptions by filter, and retained messages by topic.
//!
//! A publish runs on its connection's task: it asks [`Router::matches`] and pushes into the
//! mailboxes that it finds. Nothing here awaits, and publishers never exclude each other.
//!
//! Filters without wildcards, one per lock, are found by hash (`exact`); the few with wildcards by
//! a walk along the topic (`wildcard`, on the `trie` that retained messages use as well). Both keep
//! the same thing per filter: its `subscribers`.
//!
//! What a hostile client can cost:
//! - A filter of any number of levels takes two trie nodes at most, and no walk recurses. Filters
//!   are still to be held to [`LEVELS_MAX`] by the connection, as subscriptions are to a number.
//! - A walk visits each node once at most, and only nodes that the topic's first levels lead to:
//!   a literal and a `+` for each one before, so 2^n in level n. Whatever is subscribed, a lock's
//!   three levels lead to 14 nodes at most, beside their `#`. Only a topic of many levels can meet
//!   many filters, and then at most twice as many nodes as there are filters with wildcards.
//!   Non-guarantee: such a walk holds up new subscriptions with wildcards, and behind one of them
//!   other publishers, for 0.2 us a node; the bound on subscriptions keeps that short.
//!
//! Ordering: a subscription that [`Router::subscribe`] returned from is seen by every later match.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use latchline_shared::message::Qos;
use latchline_shared::topic;
use smallvec::SmallVec;

use crate::session::mailbox::{Mailbox, SessionKey};
use exact::ExactFilters;
use retained::Retained;
use subscribers::{Receiver, Subscribers};
use wildcard::WildcardFilters;

pub mod retained;

mod exact;
mod subscribers;
mod trie;
mod wildcard;

#[cfg(test)]
mod tests;

/// Most levels of a filter that a connection accepts.
pub const LEVELS_MAX: usize = 128;

/// Number of levels of a filter or topic.
pub fn levels(filter: &str) -> usize {
    filter.split('/').count()
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Router {
    /// Messages kept for later subscribers.
    pub retained: Retained,
    exact: ExactFilters,
    wildcard: WildcardFilters,
    subscriptions: AtomicUsize,
}

/// What a session asks for with one filter.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Where its messages go.
    pub mailbox: Arc<Mailbox>,
    /// Maximum QoS.
    pub qos: Qos,
    /// No Local; without effect on a shared subscription, where it is a protocol error.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Subscription Identifier; never 0.
    pub id: Option<u32>,
}

/// One receiver of a topic.
#[derive(Debug, Clone)]
pub struct Match {
    /// Where the message goes.
    pub mailbox: Arc<Mailbox>,
    /// Highest QoS of the matching subscriptions.
    pub qos: Qos,
    /// Whether any of the matching subscriptions asks for the RETAIN flag as published.
    pub retain_as_published: bool,
    /// Subscription identifiers of the matching subscriptions, equal ones included (MQTT 5,
    /// section 3.3.4).
    pub ids: SmallVec<[u32; 1]>,
    /// It comes from a shared subscription, so it stands beside the session's other matches.
    pub shared: bool,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// A router without subscriptions, whose retained messages have the default bounds.
    pub fn new() -> Self {
        Self::with_retained(Retained::default())
    }

    /// A router without subscriptions.
    pub fn with_retained(retained: Retained) -> Self {
        Self {
            retained,
            exact: ExactFilters::new(),
            wildcard: WildcardFilters::new(),
            subscriptions: AtomicUsize::new(0),
        }
    }

    /// Adds a subscription to a filter as the client wrote it, `$share/…` included. Replaces this
    /// session's subscription to the same filter; returns whether there was one.
    pub fn subscribe(&self, filter: &str, subscription: Subscription) -> bool {
        let (group, filter) = split_group(filter);
        let receiver = Receiver::from(subscription);
        let replaced = if topic::has_wildcard(filter) {
            self.wildcard.insert(filter, group, receiver)
        } else {
            self.exact.insert(filter, group, receiver)
        };
        if replaced.is_none() {
            self.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
        replaced.is_some()
    }

    /// Removes a session's subscription to a filter as the client wrote it; returns whether there
    /// was one.
    pub fn unsubscribe(&self, filter: &str, key: SessionKey) -> bool {
        let (group, filter) = split_group(filter);
        let removed = if topic::has_wildcard(filter) {
            self.wildcard.remove(filter, group, key)
        } else {
            self.exact.remove(filter, group, key)
        };
        if removed.is_some() {
            self.subscriptions.fetch_sub(1, Ordering::Relaxed);
        }
        removed.is_some()
    }

    /// Fills `out` with the receivers of a topic.
    ///
    /// A session's ordinary subscriptions are merged into one match; no-local ones of `publisher`
    /// are left out. For each shared subscription one member is chosen, in turn and preferably one
    /// that is online; a session may so appear again (MQTT 5, section 4.8.2).
    pub fn matches(&self, topic: &str, publisher: Option<SessionKey>, out: &mut Vec<Match>) {
        out.clear();
        let mut filters = 0;
        let mut collect = |subscribers: &Subscribers| {
            filters += 1;
            subscribers.collect(publisher, out);
        };
        self.exact.find(topic, &mut collect);
        self.wildcard.find(topic, &mut collect);
        // Within one filter every session is there once.
        if filters > 1 {
            merge(out);
        }
    }

    /// Number of subscriptions.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }
}

/// The group of a shared subscription, if it is one, and the filter that is matched.
fn split_group(filter: &str) -> (Option<&str>, &str) {
    match topic::split_share(filter) {
        Some(Ok((group, inner))) => (Some(group), inner),
        Some(Err(())) | None => (None, filter),
    }
}

/// Makes one match of a session's ordinary ones.
///
/// The sort is stable because that one takes advantage of sorted runs, and the matches of each
/// filter are sorted already.
fn merge(matches: &mut Vec<Match>) {
    matches.sort_by_key(|found| (found.shared, found.mailbox.key()));
    matches.dedup_by(|other, kept| {
        let is_same = !other.shared && !kept.shared && other.mailbox.key() == kept.mailbox.key();
        if is_same {
            kept.qos = kept.qos.max(other.qos);
            kept.retain_as_published |= other.retain_as_published;
            kept.ids.append(&mut other.ids);
        }
        is_same
    });
}

//! Filters without wildcards: a look-up by hash, whose cost does not grow with their number.
//!
//! A million locks connect and publish at once, so the map is cut into shards, each with a lock of
//! its own: publishers take read locks only, a subscribe holds up one shard, and a shard that grows
//! moves a few thousand entries instead of a million. Filters come from clients, so hashes are keyed
//! (SipHash): nobody can aim at one shard or one bucket.
//!
//! Invariant: no filter is kept without subscribers.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock};

use super::subscribers::{Receiver, Subscribers};
use crate::session::mailbox::SessionKey;

/// Number of shards. More than cores are needed, so that growing one is short.
const SHARDS: usize = 256;

/// Tables smaller than this are not worth shrinking.
const SHRINK_CAPACITY_MIN: usize = 64;

/// Filters of one shard. Boxed strings: exactly sized, and no network buffer kept alive.
type Shard = HashMap<Box<str>, Subscribers>;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct ExactFilters {
    hasher: RandomState,
    shards: Box<[RwLock<Shard>]>,
}

impl ExactFilters {
    /// No filters.
    pub(super) fn new() -> Self {
        let hasher = RandomState::new();
        let shards = (0..SHARDS).map(|_| RwLock::new(HashMap::with_hasher(hasher.clone()))).collect();
        Self { hasher, shards }
    }

    /// Adds a subscription, shared if there is a group; returns the one that it replaces.
    pub(super) fn insert(&self, filter: &str, group: Option<&str>, receiver: Receiver) -> Option<Receiver> {
        let mut shard = self.shard(filter).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscribers) = shard.get_mut(filter) {
            return subscribers.insert(group, receiver);
        }
        let mut subscribers = Subscribers::default();
        let replaced = subscribers.insert(group, receiver);
        shard.insert(filter.into(), subscribers);
        replaced
    }

    /// Takes a session's subscription out, shared if there is a group.
    pub(super) fn remove(&self, filter: &str, group: Option<&str>, key: SessionKey) -> Option<Receiver> {
        let mut shard = self.shard(filter).write().unwrap_or_else(PoisonError::into_inner);
        let subscribers = shard.get_mut(filter)?;
        let removed = subscribers.remove(group, key);
        if subscribers.is_empty() {
            shard.remove(filter);
            shrink(&mut shard);
        }
        removed
    }

    /// Shows the subscribers of a topic's own name.
    pub(super) fn find(&self, topic: &str, mut found: impl FnMut(&Subscribers)) {
        let shard = self.shard(topic).read().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscribers) = shard.get(topic) {
            found(subscribers);
        }
    }

    /// Number of filters, and for how many there is room.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        shards.fold((0, 0), |(filters, room), shard| (filters + shard.len(), room + shard.capacity()))
    }

    /// The tables place entries by the lowest bits of the same hash and tag them by the highest, so
    /// the shard is chosen by bits between.
    fn shard(&self, filter: &str) -> &RwLock<Shard> {
        let hash = self.hasher.hash_one(filter);
        &self.shards[(hash >> 40) as usize % SHARDS]
    }
}

/// Gives memory back when most of a table is unused; rarely enough that the cost per removal is
/// constant.
fn shrink(shard: &mut Shard) {
    if shard.is_empty() {
        shard.shrink_to_fit();
    } else if shard.capacity() > SHRINK_CAPACITY_MIN && shard.len() < shard.capacity() / 8 {
        shard.shrink_to(shard.len() * 2);
    }
}

//! Filters with wildcards: a trie by levels, walked along a topic.
//!
//! Invariant: no filter is kept without subscribers.

use std::sync::{PoisonError, RwLock};

use smallvec::SmallVec;

use super::subscribers::{Receiver, Subscribers};
use super::trie::{Children, Fit, Node, Trie, fit, split};
use crate::session::mailbox::SessionKey;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct WildcardFilters {
    trie: RwLock<Trie<Subscribers>>,
}

/// Nodes still to visit, each with the topic's levels from the node's tail on. A pop pushes two at
/// most, so this is never longer than the topic has levels, and rarely on the heap.
type Unvisited<'a> = SmallVec<[(&'a Node<Subscribers>, &'a str); 8]>;

impl WildcardFilters {
    /// No filters.
    pub(super) fn new() -> Self {
        Self { trie: RwLock::new(Trie::new()) }
    }

    /// Adds a subscription, shared if there is a group; returns the one that it replaces.
    pub(super) fn insert(&self, filter: &str, group: Option<&str>, receiver: Receiver) -> Option<Receiver> {
        let mut trie = self.trie.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscribers) = trie.get_mut(filter) {
            return subscribers.insert(group, receiver);
        }
        let mut subscribers = Subscribers::default();
        let replaced = subscribers.insert(group, receiver);
        trie.insert(filter, subscribers);
        replaced
    }

    /// Takes a session's subscription out, shared if there is a group.
    pub(super) fn remove(&self, filter: &str, group: Option<&str>, key: SessionKey) -> Option<Receiver> {
        let mut trie = self.trie.write().unwrap_or_else(PoisonError::into_inner);
        let subscribers = trie.get_mut(filter)?;
        let removed = subscribers.remove(group, key);
        if subscribers.is_empty() {
            trie.remove(filter);
        }
        removed
    }

    /// Shows the subscribers of each filter that matches a topic.
    pub(super) fn find(&self, topic: &str, mut found: impl FnMut(&Subscribers)) {
        let trie = self.trie.read().unwrap_or_else(PoisonError::into_inner);
        let mut unvisited = Unvisited::new();
        // A wildcard in the first level does not match names of the server (MQTT 5, section 4.7.2).
        if topic.starts_with('$') {
            let (level, rest) = split(topic);
            if let Some(child) = trie.children().get(level) {
                unvisited.push((child, rest));
            }
        } else {
            visit_children(trie.children(), topic, &mut unvisited, &mut found);
        }
        while let Some((node, rest)) = unvisited.pop() {
            match fit(&node.tail, rest) {
                Fit::All => node.value.iter().for_each(&mut found),
                Fit::Left { filter: "", topic: "" } => {
                    node.value.iter().for_each(&mut found);
                    // `a/#` matches `a` as well.
                    visit_hash(&node.children, &mut found);
                }
                Fit::Left { filter: "", topic } => {
                    visit_children(&node.children, &topic[1..], &mut unvisited, &mut found);
                }
                Fit::Left { .. } | Fit::Apart => {}
            }
        }
    }

    /// Number of nodes.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.trie.read().unwrap_or_else(PoisonError::into_inner).nodes()
    }
}

/// Notes the children that may match a topic whose levels from here on are `path`.
fn visit_children<'a>(
    children: &'a Children<Subscribers>,
    path: &'a str,
    unvisited: &mut Unvisited<'a>,
    found: &mut impl FnMut(&Subscribers),
) {
    let (level, rest) = split(path);
    for level in [level, "+"] {
        if let Some(child) = children.get(level) {
            unvisited.push((child, rest));
        }
    }
    visit_hash(children, found);
}

/// Nothing comes after `#`, so its node has neither tail nor children.
fn visit_hash(children: &Children<Subscribers>, found: &mut impl FnMut(&Subscribers)) {
    if let Some(hash) = children.get("#") {
        hash.value.iter().for_each(found);
    }
}

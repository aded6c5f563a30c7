//! The last retained message of each topic (MQTT 5, section 3.3.1.3).
//!
//! Topics are kept in a trie by levels, so that a filter with wildcards visits only what can match;
//! messages are copied in, so that a small message does not keep the read buffer alive that it came
//! in. Messages with an expiry are indexed by when it ends as well: each new message first removes
//! those that are over, so the bounds count nothing dead. The time is the new message's own.
//!
//! Invariant: `bytes` is the sum of the kept messages' bytes, and `expiring` has exactly those that
//! expire.

use std::collections::{BTreeSet, btree_map};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use latchline_shared::message::{Message, Properties};
use latchline_shared::topic;

use super::trie::{Children, Fit, Node, Trie, fit, split};

/// Most retained messages if nothing else is said.
pub const MESSAGES_MAX: usize = 100_000;

/// Most bytes of retained messages if nothing else is said.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a retained message takes beside its bytes: 410 measured for the message, its place in the
/// trie and what the allocator rounds up; the rest for its place among those that expire.
pub const OVERHEAD_BYTES: usize = 512;

/// See the module's documentation.
#[derive(Debug)]
pub struct Retained {
    messages_max: usize,
    bytes_max: usize,
    kept: RwLock<Kept>,
}

#[derive(Debug)]
struct Kept {
    messages: Trie<Arc<Message>>,
    /// Topics by the end of their message's time.
    expiring: BTreeSet<(Instant, ByteString)>,
    count: usize,
    bytes: usize,
}

/// Nodes next to each other, by their first level.
type Nodes<'a> = btree_map::Range<'a, Box<str>, Box<Node<Arc<Message>>>>;

/// What is still to visit at each level, and the filter's levels for it, each with its `/` before
/// it; none if everything below matches.
type Unvisited<'a, 'f> = Vec<(Nodes<'a>, Option<&'f str>)>;

impl Default for Retained {
    fn default() -> Self {
        Self::new(MESSAGES_MAX, BYTES_MAX)
    }
}

impl Retained {
    /// No messages, and at most so many to come. Bytes are those of topics, payloads, publishers and
    /// properties, and [`OVERHEAD_BYTES`] each.
    pub fn new(messages_max: usize, bytes_max: usize) -> Self {
        let kept = Kept { messages: Trie::new(), expiring: BTreeSet::new(), count: 0, bytes: 0 };
        Self { messages_max, bytes_max, kept: RwLock::new(kept) }
    }

    /// Keeps a message as its topic's retained one, or clears the topic if the payload is empty. The
    /// error is the cause why there is no room (a metric's label); the one before is kept then.
    pub fn set(&self, message: Arc<Message>) -> Result<(), &'static str> {
        let copy = (!message.payload.is_empty()).then(|| Arc::new(copy(&message)));
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.expire(message.received_at);
        let Some(copy) = copy else {
            kept.remove(&message.topic);
            return Ok(());
        };
        let before = kept.messages.get_mut(&copy.topic).map(|before| bytes(before));
        let count = kept.count + usize::from(before.is_none());
        if count > self.messages_max || kept.bytes - before.unwrap_or(0) + bytes(&copy) > self.bytes_max {
            return Err("retained_full");
        }
        kept.insert(copy);
        Ok(())
    }

    /// The messages whose topics match a filter, without those that have expired. None for a shared
    /// subscription, which gets no retained messages (MQTT 5, section 4.8.2).
    pub fn matching(&self, filter: &str, now: Instant) -> Vec<Arc<Message>> {
        if topic::split_share(filter).is_some() {
            return Vec::new();
        }
        let mut matching = Vec::new();
        {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            walk(kept.messages.children(), filter, |message| matching.push(Arc::clone(message)));
        }
        let found = matching.len();
        matching.retain(|message| message.remaining(now) != Some(None));
        if matching.len() < found {
            self.kept.write().unwrap_or_else(PoisonError::into_inner).expire(now);
        }
        matching
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the messages count for.
    pub fn bytes(&self) -> usize {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Number of nodes.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).messages.nodes()
    }
}

impl Kept {
    fn insert(&mut self, message: Arc<Message>) {
        self.count += 1;
        self.bytes += bytes(&message);
        if let Some(before) = self.messages.insert(&message.topic, Arc::clone(&message)) {
            self.forget(&before);
        }
        // Ordering: after the one before is forgotten, which may expire at the same moment.
        if let Some(expires_at) = expires_at(&message) {
            self.expiring.insert((expires_at, message.topic.clone()));
        }
    }

    fn remove(&mut self, topic: &str) {
        if let Some(message) = self.messages.remove(topic) {
            self.forget(&message);
        }
    }

    /// Counts a message off that is no longer kept.
    fn forget(&mut self, message: &Message) {
        self.count -= 1;
        self.bytes -= bytes(message);
        if let Some(expires_at) = expires_at(message) {
            self.expiring.remove(&(expires_at, message.topic.clone()));
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.expiring.first().is_some_and(|(expires_at, _)| *expires_at <= now) {
            if let Some((_, topic)) = self.expiring.pop_first() {
                self.remove(&topic);
            }
        }
    }
}

/// Shows the messages whose topics match a filter, in the order of topics by levels.
fn walk(roots: &Children<Arc<Message>>, filter: &str, mut found: impl FnMut(&Arc<Message>)) {
    let mut unvisited = Unvisited::new();
    match split(filter) {
        // A wildcard in the first level does not match names of the server, which are those from
        // `$` up to the next character, `%` (MQTT 5, section 4.7.2).
        (level @ ("+" | "#"), rest) => {
            let rest = (level == "+").then_some(rest);
            unvisited.push((range(roots, Bound::Included("%"), Bound::Unbounded), rest));
            unvisited.push((range(roots, Bound::Unbounded, Bound::Excluded("$")), rest));
        }
        (level, rest) => unvisited.push((one(roots, level), Some(rest))),
    }
    while let Some((nodes, filter)) = unvisited.last_mut() {
        let Some((_, node)) = nodes.next() else {
            unvisited.pop();
            continue;
        };
        match filter.map_or(Fit::All, |filter| fit(filter, &node.tail)) {
            Fit::All => {
                node.value.iter().for_each(&mut found);
                unvisited.push((all(&node.children), None));
            }
            Fit::Left { filter: "", topic: "" } => node.value.iter().for_each(&mut found),
            Fit::Left { filter, topic: "" } => match split(&filter[1..]) {
                ("+", rest) => unvisited.push((all(&node.children), Some(rest))),
                (level, rest) => unvisited.push((one(&node.children, level), Some(rest))),
            },
            Fit::Left { .. } | Fit::Apart => {}
        }
    }
}

fn all(children: &Children<Arc<Message>>) -> Nodes<'_> {
    range(children, Bound::Unbounded, Bound::Unbounded)
}

fn one<'a>(children: &'a Children<Arc<Message>>, level: &str) -> Nodes<'a> {
    range(children, Bound::Included(level), Bound::Included(level))
}

fn range<'a>(children: &'a Children<Arc<Message>>, from: Bound<&str>, to: Bound<&str>) -> Nodes<'a> {
    children.range::<str, _>((from, to))
}

fn expires_at(message: &Message) -> Option<Instant> {
    message.received_at.checked_add(message.expiry?)
}

/// The same message in memory of its own.
fn copy(message: &Message) -> Message {
    let properties = message.properties.as_deref().map(|properties| {
        Box::new(Properties {
            utf8_payload: properties.utf8_payload,
            content_type: properties.content_type.as_ref().map(copy_text),
            response_topic: properties.response_topic.as_ref().map(copy_text),
            correlation_data: properties.correlation_data.as_ref().map(|data| Bytes::copy_from_slice(data)),
            user: properties.user.iter().map(|(name, value)| (copy_text(name), copy_text(value))).collect(),
        })
    });
    Message {
        from: copy_text(&message.from),
        topic: copy_text(&message.topic),
        payload: Bytes::copy_from_slice(&message.payload),
        properties,
        ..*message
    }
}

fn copy_text(text: &ByteString) -> ByteString {
    ByteString::from(&**text)
}

fn bytes(message: &Message) -> usize {
    message.bytes() + message.from.len() + OVERHEAD_BYTES
}

//! A map from slash-separated paths to values that can be walked level by level.
//!
//! Filters with wildcards and retained topics are both kept in one of these; the walks, which know
//! what wildcards mean, are in [`super::wildcard`] and [`super::retained`]. Here `+` and `#` are
//! levels like any other.
//!
//! Levels that lead to one place only are folded into one node (its `tail`), so a path of a
//! thousand levels that shares nothing costs one node, and there are at most two nodes per path,
//! however many levels a hostile client writes. Children are in an ordered map rather than a hash
//! map: it cannot be flooded with collisions, never stops to rehash a million children while a lock
//! is held, and walks come out in the order of topics.
//!
//! Invariant: every node but the root has a value or at least two children, so removing a path
//! frees what inserting it took.
//! Invariant: nothing here recurses by depth, not even the drop.

use std::collections::BTreeMap;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Trie<V> {
    /// Has neither tail nor value: a path has at least one level, which may be empty.
    root: Node<V>,
}

/// Children by their first level.
pub(super) type Children<V> = BTreeMap<Box<str>, Box<Node<V>>>;

/// What the paths that begin alike have in common.
#[derive(Debug)]
pub(super) struct Node<V> {
    /// The levels after the one that the parent knows this node by, each with its `/` before it.
    pub(super) tail: Box<str>,
    /// What was inserted under the path that ends here.
    pub(super) value: Option<V>,
    /// Longer paths.
    pub(super) children: Children<V>,
}

/// Where a path goes on from a node.
enum Step<'a> {
    /// It ends here.
    Here,
    /// To the child for the first of these levels.
    Below(&'a str),
    /// Nowhere: it is not in the trie.
    Apart,
}

/// The first level of a path, and the levels after it, each with its `/` before it.
pub(super) fn split(path: &str) -> (&str, &str) {
    // Levels are short: looking at each byte is faster than a search made for long texts.
    path.split_at(path.bytes().position(|byte| byte == b'/').unwrap_or(path.len()))
}

/// How a filter's levels fit a topic's, each with its `/` before it.
pub(super) enum Fit<'f, 't> {
    /// They do not.
    Apart,
    /// They do, whatever comes after in the topic: the filter has a `#`.
    All,
    /// They do as far as both have levels; these are left over.
    Left {
        /// Of the filter.
        filter: &'f str,
        /// Of the topic.
        topic: &'t str,
    },
}

/// Compares a filter's levels with a topic's. Either may be a part only, from the same level on.
pub(super) fn fit<'f, 't>(mut filter: &'f str, mut topic: &'t str) -> Fit<'f, 't> {
    while let Some(levels) = filter.strip_prefix('/') {
        let (level, after) = split(levels);
        if level == "#" {
            return Fit::All;
        }
        let Some(names) = topic.strip_prefix('/') else { break };
        let (name, beyond) = split(names);
        if level != "+" && level != name {
            return Fit::Apart;
        }
        (filter, topic) = (after, beyond);
    }
    Fit::Left { filter, topic }
}

impl<V> Trie<V> {
    /// An empty trie.
    pub(super) fn new() -> Self {
        Self { root: Node::leaf("", None) }
    }

    /// The paths' first levels.
    pub(super) fn children(&self) -> &Children<V> {
        &self.root.children
    }

    /// The value of a path.
    pub(super) fn get_mut(&mut self, path: &str) -> Option<&mut V> {
        let mut node = &mut self.root;
        let mut path = path;
        loop {
            let (level, rest) = split(path);
            node = node.children.get_mut(level)?;
            match node.step(rest) {
                Step::Here => return node.value.as_mut(),
                Step::Below(below) => path = below,
                Step::Apart => return None,
            }
        }
    }

    /// Sets the value of a path; returns the one before.
    pub(super) fn insert(&mut self, path: &str, value: V) -> Option<V> {
        let mut node = &mut self.root;
        let mut path = path;
        loop {
            let (level, rest) = split(path);
            node = node.children.entry(level.into()).or_insert_with(|| Box::new(Node::leaf(rest, None)));
            let common = common_levels(&node.tail, rest);
            if common < node.tail.len() {
                node.unfold(common);
            }
            match rest[common..].strip_prefix('/') {
                None => return node.value.replace(value),
                Some(below) => path = below,
            }
        }
    }

    /// Takes a path out; returns its value.
    pub(super) fn remove(&mut self, path: &str) -> Option<V> {
        let mut parent = &mut self.root;
        let mut parent_is_root = true;
        let mut path = path;
        loop {
            let (level, rest) = split(path);
            match parent.children.get(level)?.step(rest) {
                Step::Here => return parent.remove_child(level, parent_is_root),
                Step::Below(below) => path = below,
                Step::Apart => return None,
            }
            parent = parent.children.get_mut(level)?;
            parent_is_root = false;
        }
    }

    /// Number of nodes beside the root.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        let mut nodes = 0;
        let mut unseen = vec![&self.root];
        while let Some(node) = unseen.pop() {
            nodes += node.children.len();
            unseen.extend(node.children.values().map(|child| &**child));
        }
        nodes
    }
}

impl<V> Drop for Trie<V> {
    fn drop(&mut self) {
        let mut doomed = vec![std::mem::take(&mut self.root.children)];
        while let Some(children) = doomed.pop() {
            for mut node in children.into_values() {
                if !node.children.is_empty() {
                    doomed.push(std::mem::take(&mut node.children));
                }
            }
        }
    }
}

impl<V> Node<V> {
    fn leaf(tail: &str, value: Option<V>) -> Self {
        Self { tail: tail.into(), value, children: BTreeMap::new() }
    }

    /// Where a path goes on whose levels from this node's tail on are `rest`.
    fn step<'a>(&self, rest: &'a str) -> Step<'a> {
        match rest.strip_prefix(&*self.tail) {
            Some("") => Step::Here,
            Some(rest) => rest.strip_prefix('/').map_or(Step::Apart, Step::Below),
            None => Step::Apart,
        }
    }

    /// Ends this node's tail after `at` bytes; the rest, with all that hangs on it, becomes a child.
    fn unfold(&mut self, at: usize) {
        let (level, tail) = split(&self.tail[at + 1..]);
        let child = Self {
            tail: tail.into(),
            value: self.value.take(),
            children: std::mem::take(&mut self.children),
        };
        self.children = BTreeMap::from([(level.into(), Box::new(child))]);
        self.tail = self.tail[..at].into();
    }

    /// Folds a node that has become a mere passage into the one child that it leads to.
    fn fold(&mut self) {
        if self.value.is_some() || self.children.len() != 1 {
            return;
        }
        if let Some((level, child)) = self.children.pop_first() {
            let tail = [&*self.tail, "/", &*level, &*child.tail].concat();
            *self = Self { tail: tail.into(), ..*child };
        }
    }

    /// Takes the value out of the child for `level` and restores the invariant around it.
    fn remove_child(&mut self, level: &str, is_root: bool) -> Option<V> {
        let child = self.children.get_mut(level)?;
        let value = child.value.take()?;
        if child.children.is_empty() {
            self.children.remove(level);
        } else {
            child.fold();
        }
        if self.children.is_empty() {
            // An emptied map keeps memory.
            self.children = BTreeMap::new();
        }
        if !is_root {
            self.fold();
        }
        Some(value)
    }
}

/// Length of the levels, each with its `/` before it, that both begin with.
fn common_levels(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let ends_level = |path: &[u8]| path.get(same).is_none_or(|byte| *byte == b'/');
    if ends_level(one) && ends_level(other) {
        return same;
    }
    one[..same].iter().rposition(|byte| *byte == b'/').unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_levels_end_at_a_slash() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "/a", 0),
            ("/a", "/a", 2),
            ("/a", "/a/b", 2),
            ("/a", "/ab", 0),
            ("/a/b", "/a/c", 2),
            ("/a/bc", "/a/bd", 2),
            ("/a/", "/a", 2),
            ("/a/", "/a/b", 2),
            ("/é", "/è", 0),
            ("//", "/", 1),
        ] {
            assert_eq!(common_levels(one, other), expected, "{one:?} and {other:?}");
            assert_eq!(common_levels(other, one), expected, "{other:?} and {one:?}");
        }
    }

    #[test]
    fn paths_are_folded() {
        let mut trie = Trie::new();
        for (path, nodes) in [("a/b/c", 1), ("a/b/d", 3), ("a", 4), ("a/b", 4), ("x/y/z", 5)] {
            assert_eq!(trie.insert(path, path), None);
            assert_eq!(trie.nodes(), nodes, "with {path}");
        }
        for (path, nodes) in [("a", 4), ("a/b/c", 3), ("a/b", 2), ("x/y/z", 1), ("a/b/d", 0)] {
            assert_eq!(trie.remove(path), Some(path));
            assert_eq!(trie.remove(path), None);
            assert_eq!(trie.nodes(), nodes, "without {path}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let depth = 30_000;
        let mut trie = Trie::new();
        let mut path = String::from("a");
        for level in 0..depth {
            path.push_str("/a");
            // Every thousandth prefix, so that the test takes no time squared in the depth.
            if level % 1_000 == 0 {
                trie.insert(&path, level);
            }
        }
        trie.insert(&path, depth);
        assert_eq!(trie.get_mut(&path), Some(&mut depth.clone()));

        let mut chain = Trie::new();
        for level in 1..=depth {
            // Nested nodes as deep as the path is long: each level is a node of its own.
            chain.insert(&path[..2 * level - 1], level);
            if level == 3_000 {
                break;
            }
        }
        assert_eq!(chain.nodes(), 3_000);
        let dropped = std::thread::Builder::new().stack_size(32 * 1024).spawn(move || drop(chain));
        dropped.expect("a thread starts").join().expect("the drop does not overflow");
    }

    proptest! {
        #[test]
        fn is_a_map(operations in prop::collection::vec(("[ab/]{0,6}", 0..3_u8), 1..60)) {
            let mut model = BTreeMap::new();
            let mut trie = Trie::new();
            for (n, (path, operation)) in operations.into_iter().enumerate() {
                match operation {
                    0 => prop_assert_eq!(trie.insert(&path, n), model.insert(path, n)),
                    1 => prop_assert_eq!(trie.remove(&path), model.remove(&path)),
                    _ => prop_assert_eq!(trie.get_mut(&path), model.get_mut(&path)),
                }
                prop_assert!(trie.nodes() <= 2 * model.len());
            }
            for path in model.keys() {
                prop_assert!(trie.remove(path).is_some());
            }
            prop_assert_eq!(trie.nodes(), 0);
        }
    }
}

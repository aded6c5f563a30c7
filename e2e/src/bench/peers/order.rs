//! What one subscriber has got of what numbered publishers sent: how many of them, what twice, what
//! out of order. Pure.
//!
//! A message that was acknowledged and never comes is a loss. One that comes again is no loss, and
//! counts as nothing but a duplicate; one that comes for the first time behind a later one of its
//! publisher is out of order.

use std::collections::HashMap;

/// What has come so far.
#[derive(Debug, Default)]
pub struct Order {
    topics: HashMap<String, Seen>,
    /// Different messages, as far as they have numbers.
    pub received: u64,
    /// Messages that had come before.
    pub duplicates: u64,
    /// Messages that a later one has overtaken.
    pub disordered: u64,
}

#[derive(Debug, Default)]
struct Seen {
    /// By number.
    has: Vec<bool>,
}

impl Order {
    /// Takes a message that has no number: nobody can tell whether it came before.
    pub fn count(&mut self) {
        self.received += 1;
    }

    /// Takes message `number` of a topic.
    pub fn take(&mut self, topic: &str, number: u16) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), Seen::default());
        }
        let (Some(seen), at) = (self.topics.get_mut(topic), usize::from(number)) else { return };
        if seen.has.get(at) == Some(&true) {
            self.duplicates += 1;
            return;
        }
        self.received += 1;
        if at < seen.has.len() {
            self.disordered += 1;
        } else {
            seen.has.resize(at + 1, false);
        }
        seen.has[at] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(numbers: &[u16], (received, duplicates, disordered): (u64, u64, u64)) {
        let mut order = Order::default();
        for &number in numbers {
            order.take("a", number);
            order.take("b", 1);
        }
        let others = numbers.len() as u64;
        assert_eq!(order.received, received + 1, "{numbers:?}");
        assert_eq!(order.duplicates, duplicates + others - 1, "{numbers:?}");
        assert_eq!(order.disordered, disordered, "{numbers:?}");
        order.count();
        assert_eq!(order.received, received + 2, "{numbers:?}");
    }

    #[test]
    fn losses_duplicates_and_disorder_are_apart() {
        check(&[1, 2, 3], (3, 0, 0));
        check(&[1, 3], (2, 0, 0));
        check(&[1, 2, 2, 1, 3], (3, 2, 0));
        check(&[2, 1, 3], (3, 0, 1));
        check(&[3, 1, 2, 1], (3, 1, 2));
    }
}

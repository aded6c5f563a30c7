//! What one subscriber has got of what numbered publishers sent: how many of them, what twice, what
//! out of order. Pure.
//!
//! A message that was acknowledged and never comes is a loss. One that comes again is no loss, and
//! counts as nothing but a duplicate; one that comes for the first time behind a later one of its
//! publisher is out of order.

use std::collections::HashMap;

use crate::load::stamp::Stamp;

/// What has come so far.
#[derive(Debug, Default)]
pub struct Order {
    /// Which have come, by publisher and number.
    has: HashMap<u32, Vec<bool>>,
    /// Different messages.
    pub received: u64,
    /// Messages that had come before.
    pub duplicates: u64,
    /// Messages that a later one has overtaken.
    pub disordered: u64,
}

impl Order {
    /// Takes a message.
    pub fn take(&mut self, Stamp { stream, sequence, .. }: Stamp) {
        let (has, at) = (self.has.entry(stream).or_default(), sequence as usize);
        if has.get(at) == Some(&true) {
            self.duplicates += 1;
            return;
        }
        self.received += 1;
        if at < has.len() {
            self.disordered += 1;
        } else {
            has.resize(at + 1, false);
        }
        has[at] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(numbers: &[u32], (received, duplicates, disordered): (u64, u64, u64)) {
        let mut order = Order::default();
        for &sequence in numbers {
            for (stream, sequence) in [(7, sequence), (8, 1)] {
                order.take(Stamp { run: 0, stream, sequence, due_us: 0 });
            }
        }
        let others = numbers.len() as u64;
        assert_eq!(order.received, received + 1, "{numbers:?}");
        assert_eq!(order.duplicates, duplicates + others - 1, "{numbers:?}");
        assert_eq!(order.disordered, disordered, "{numbers:?}");
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

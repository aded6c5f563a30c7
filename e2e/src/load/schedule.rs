//! When messages are due. Pure: what is due does not depend on what becomes of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use latchline_shared::kit::testing::Random;

/// From when until when something is due, in microseconds of the run.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The first moment.
    pub from_us: u64,
    /// The first moment after it.
    pub to_us: u64,
}

/// How long a load goes on.
#[derive(Debug, Clone, Copy)]
pub struct Spans {
    /// All of it.
    pub load: Span,
    /// The part of it that is measured, after the warm-up.
    pub measured: Span,
}

/// So many a second, evenly: when, and the number of each.
pub fn even(per_second: f64, span: Span) -> impl Iterator<Item = (u64, u64)> + Send {
    let due_us = move |number: u64| span.from_us.saturating_add((number as f64 * 1e6 / per_second) as u64);
    (0..).map(move |number| (due_us(number), number)).take_while(move |(due_us, _)| *due_us < span.to_us)
}

/// Members that act every so often, give or take some, each from a moment of its own.
#[derive(Debug)]
pub struct Periodic {
    next: BinaryHeap<Reverse<(u64, u32)>>,
    every_us: u64,
    jitter_us: u64,
    to_us: u64,
    random: Random,
}

impl Periodic {
    /// So many members; the jitter is less than the period.
    pub fn new(members: u32, every_us: u64, jitter_us: u64, span: Span, mut random: Random) -> Self {
        let mut first = || span.from_us.saturating_add(random.below(every_us.max(1)));
        let next = (0..members).map(|member| Reverse((first(), member))).collect();
        Self {
            next,
            every_us,
            jitter_us: jitter_us.min(every_us.saturating_sub(1)),
            to_us: span.to_us,
            random,
        }
    }
}

impl Iterator for Periodic {
    /// When, and who.
    type Item = (u64, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let mut top = self.next.peek_mut()?;
        let Reverse((due_us, member)) = *top;
        if due_us >= self.to_us {
            return None;
        }
        let later_us = self.every_us - self.jitter_us + self.random.below(2 * self.jitter_us + 1);
        *top = Reverse((due_us.saturating_add(later_us.max(1)), member));
        Some((due_us, member))
    }
}

#[cfg(test)]
mod tests {
    use latchline_shared::kit::testing::Seed;

    use super::*;

    #[test]
    fn an_even_rate_is_kept_without_drift() {
        let due: Vec<_> = even(300_000.0, Span { from_us: 1_000, to_us: 1_001_000 }).collect();
        assert_eq!(due.len(), 300_000);
        assert_eq!((due[0], due[3], due[299_999]), ((1_000, 0), (1_010, 3), (1_000_996, 299_999)));
        assert_eq!(even(1.0, Span { from_us: 5, to_us: 5 }).count(), 0);
    }

    #[test]
    fn members_act_every_period_give_or_take_the_jitter() {
        let random = Seed::of_this_run().random("members_act_every_period_give_or_take_the_jitter");
        let span = Span { from_us: 7_000, to_us: 1_007_000 };
        let mut last = [None::<u64>; 20];
        let (mut before_us, mut count) = (0, 0);
        for (due_us, member) in Periodic::new(20, 10_000, 3_000, span, random) {
            assert!(due_us >= before_us, "in order of time");
            let place = &mut last[member as usize];
            match place.replace(due_us) {
                None => assert!((7_000..17_000).contains(&due_us)),
                Some(last_us) => assert!((7_000..=13_000).contains(&(due_us - last_us))),
            }
            (before_us, count) = (due_us, count + 1);
        }
        assert!((1_700..2_300).contains(&count), "{count}");
        assert!(last.iter().all(Option::is_some));
    }
}

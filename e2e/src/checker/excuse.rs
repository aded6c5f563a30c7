//! What the broker's documented non-guarantees (docs/limits.md) let be lost: what it had in memory, or on
//! the wire, when it went away. Narrow, so that nothing else passes for it.

use crate::checker::ledger::{Book, Outage, Part, Sent, Way};

impl Book {
    /// The end of the broker, by its time, whose memory may have lost a command: it was after the lock's
    /// last subscription before the command, and before the lock can have taken it.
    pub fn end_that_lost(&self, command: &Sent) -> Option<u64> {
        let until_ms = self.settled_ms(&command.lock, command.at_ms);
        let end_ms = self.ends_of_broker().map(|end| end.from_ms).rfind(|end_ms| *end_ms <= until_ms)?;
        let granted = self.locks.get(&command.lock).map_or(&[][..], |page| &page.granted_ms);
        let is_back = granted.iter().any(|granted_ms| (end_ms..command.at_ms).contains(granted_ms));
        (!is_back).then_some(end_ms)
    }

    /// The end of the broker, by its time, with which the record of a lock's acknowledgement at that time
    /// may have died: it was under way when the broker ended, or was given to a broker that had ended
    /// already. A broker that ends in order stores what it has read.
    pub fn end_that_lost_receipt(&self, lock: &str, receipt_ms: u64) -> Option<u64> {
        let mut ends = self.ends_of_broker();
        let end = ends.find(|end| {
            let until_ms = match end.way {
                Way::InOrder => self.delivered_ms(lock, receipt_ms, ON_WIRE_MS),
                Way::Suddenly => self.settled_ms(lock, receipt_ms),
            };
            end.from_ms <= until_ms && receipt_ms <= self.noticed_ms(lock, end.from_ms)
        })?;
        Some(end.from_ms)
    }

    /// Most commands and receipts that may be lost by an end of the broker. What waits for Kafka gathers in
    /// its memory for as long as Kafka has been away.
    pub fn lost_max(&self, end: &Outage) -> u64 {
        let is_then = |away: &&Outage| {
            let until_ms = away.until_ms.map_or(u64::MAX, |until_ms| until_ms + RECOVERY_MS);
            away.part == Part::Kafka && (away.from_ms..=until_ms).contains(&end.from_ms)
        };
        let waited = self.outages.iter().filter(is_then).map(|away| end.from_ms - away.from_ms).max();
        match (end.way, waited) {
            (Way::Suddenly, Some(ms)) => IN_MEMORY_MAX + WAITING_PER_SECOND_MAX * (ms / 1_000 + 1),
            _ => IN_MEMORY_MAX,
        }
    }

    /// Most receipts among them. Who ends in order stores those that it has read: only what is on the wire
    /// just then is lost, and that is as good as nothing of this traffic.
    pub fn lost_receipts_max(&self, end: &Outage) -> u64 {
        match end.way {
            Way::InOrder => ON_WIRE_MAX,
            Way::Suddenly => self.lost_max(end),
        }
    }

    /// When a lock noticed that the broker had ended. Until then it reads commands that had been delivered
    /// before, and acknowledges them to nobody. If it was not connected, there was nothing to notice.
    fn noticed_ms(&self, lock: &str, end_ms: u64) -> u64 {
        let Some(page) = self.locks.get(lock) else { return end_ms };
        let first = |times: &[u64]| times.iter().copied().find(|ms| *ms >= end_ms);
        let back_ms = first(&page.granted_ms).unwrap_or(u64::MAX);
        first(&page.ended_ms).filter(|ended_ms| *ended_ms <= back_ms).unwrap_or(end_ms)
    }

    /// When the broker ended.
    pub fn ends_of_broker(&self) -> impl DoubleEndedIterator<Item = &Outage> {
        self.outages.iter().filter(|outage| outage.part == Part::Broker)
    }

    /// Until when what was under way between the broker and a lock at that time has surely come: soon; or
    /// soon after the lock is back, if its connection ended and it has to be delivered again.
    fn delivered_ms(&self, lock: &str, at_ms: u64, under_way_ms: u64) -> u64 {
        let until_ms = at_ms + under_way_ms;
        let Some(page) = self.locks.get(lock) else { return until_ms };
        let Some(ended_ms) = page.ended_ms.iter().find(|ended_ms| (at_ms..=until_ms).contains(ended_ms))
        else {
            return until_ms;
        };
        let back_ms = page.granted_ms.iter().find(|granted_ms| *granted_ms >= ended_ms);
        back_ms.map_or(u64::MAX, |back_ms| back_ms + under_way_ms)
    }

    /// Until when what was under way between the broker and a lock at that time is surely stored: soon
    /// after it has come, or soon after Kafka is back.
    fn settled_ms(&self, lock: &str, at_ms: u64) -> u64 {
        let mut until_ms = self.delivered_ms(lock, at_ms, UNDER_WAY_MS);
        for outage in self.outages.iter().filter(|outage| outage.part == Part::Kafka) {
            let end_ms = outage.until_ms.map_or(u64::MAX, |until_ms| until_ms + RECOVERY_MS);
            if outage.from_ms <= until_ms && at_ms < end_ms {
                until_ms = until_ms.max(end_ms);
            }
        }
        until_ms
    }
}

/// How long something may be under way in the broker while all is well, on a busy machine: receipts that
/// were given 2.8 s before the broker was killed, the first of their stream, were seen to be lost.
const UNDER_WAY_MS: u64 = 5_000;
/// How long the broker may take to read what a lock has sent: a busy machine has other things to do.
const ON_WIRE_MS: u64 = 1_000;
/// Receipts that are on the wire when a broker ends in order, with room: of this traffic, 25 ends on a busy
/// machine lost one at most, and most of them none.
const ON_WIRE_MAX: u64 = 3;
/// What the broker has in memory at any time, in commands and receipts, with room: up to 13 of this
/// traffic were lost when it was killed.
const IN_MEMORY_MAX: u64 = 40;
/// What gathers there while receipts wait for Kafka: up to 78 were lost after four seconds of that.
const WAITING_PER_SECOND_MAX: u64 = 30;
/// How long after Kafka is back what waited for it may still wait.
const RECOVERY_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::checker::ledger::{Page, Said};

    fn book(outages: &[(Part, u64, u64)], granted_ms: &[u64]) -> Book {
        let outages = outages.iter().map(|&(part, from_ms, until_ms)| Outage {
            part,
            way: Way::Suddenly,
            from_ms,
            until_ms: Some(until_ms),
        });
        let page = Page { granted_ms: granted_ms.to_vec(), ..Page::default() };
        Book { locks: [("a".to_owned(), page)].into(), outages: outages.collect(), ..Book::default() }
    }

    fn sent(at_ms: u64) -> Sent {
        let payload = Bytes::new();
        let (lock, said) = ("a".to_owned(), Said::Acked);
        Sent { lock, payload, at_ms, times: 1, said, received: 0, receipt_ms: None }
    }

    #[test]
    fn a_command_is_lost_with_the_broker_that_had_it_or_before_the_lock_is_back() {
        let died = (Part::Broker, 10_000, 11_000);
        for (at_ms, granted_ms, lost) in [
            (4_000, vec![1], false),
            (9_500, vec![1], true),
            (11_500, vec![1], true),
            (11_500, vec![1, 11_600], true),
            (11_500, vec![1, 11_400], false),
            (20_000, vec![1], true),
        ] {
            let book = book(&[died], &granted_ms);
            let end = lost.then_some(10_000);
            assert_eq!(book.end_that_lost(&sent(at_ms)), end, "{at_ms} {granted_ms:?}");
        }
        assert_eq!(book(&[(Part::Kafka, 10_000, 11_000)], &[1]).end_that_lost(&sent(9_500)), None);
        // Of several ends, the last one that it was before.
        let twice = [died, (Part::Broker, 30_000, 31_000)];
        assert_eq!(book(&twice, &[1, 11_500]).end_that_lost(&sent(28_000)), Some(30_000));
    }

    #[test]
    fn a_receipt_is_under_way_for_a_moment_or_while_kafka_is_out() {
        let died = (Part::Broker, 20_000, 21_000);
        for (outages, at_ms, lost) in [
            (vec![died], 14_000, false),
            (vec![died], 19_000, true),
            (vec![died], 20_001, false),
            (vec![(Part::Kafka, 11_000, 16_000), died], 12_000, true),
            (vec![(Part::Kafka, 11_000, 16_000), died], 5_000, false),
            (vec![(Part::Kafka, 1_000, 2_000), died], 1_500, false),
        ] {
            let end = book(&outages, &[]).end_that_lost_receipt("a", at_ms);
            assert_eq!(end, lost.then_some(20_000), "{outages:?} {at_ms}");
        }
    }

    #[test]
    fn a_receipt_is_given_to_a_broker_that_has_ended_until_the_lock_notices() {
        for (receipt_ms, ended_ms, granted_ms, lost) in [
            (20_005, vec![20_010], vec![1, 21_500], true),
            // The connection on which it came was noticed to have ended.
            (20_011, vec![20_010], vec![1, 21_500], false),
            // To the next broker, on a connection that ends as well.
            (22_000, vec![20_010, 30_000], vec![1, 21_500], false),
            // The lock was not connected when the broker ended.
            (22_000, vec![19_900, 30_000], vec![1, 21_500, 30_100], false),
            (20_005, vec![], vec![1], false),
        ] {
            let mut book = book(&[(Part::Broker, 20_000, 21_000)], &granted_ms);
            book.page("a").ended_ms = ended_ms.clone();
            let end = book.end_that_lost_receipt("a", receipt_ms);
            assert_eq!(end, lost.then_some(20_000), "{receipt_ms} {ended_ms:?} {granted_ms:?}");
        }
    }

    #[test]
    fn a_receipt_that_its_connection_may_have_lost_is_given_again_when_the_lock_is_back() {
        for (ended_ms, granted_ms, lost) in [
            (vec![], vec![1], false),
            (vec![2_000], vec![1, 18_000], true),
            (vec![2_000], vec![1, 12_000], false),
            (vec![2_000], vec![1], true),
            (vec![500], vec![1, 18_000], false),
            (vec![15_000], vec![1, 18_000], false),
        ] {
            let mut book = book(&[(Part::Broker, 20_000, 21_000)], &granted_ms);
            book.page("a").ended_ms = ended_ms.clone();
            let end = book.end_that_lost_receipt("a", 1_000);
            assert_eq!(end, lost.then_some(20_000), "{ended_ms:?} {granted_ms:?}");
        }
    }

    #[test]
    fn who_ends_in_order_stores_what_it_has_read() {
        for (receipt_ms, ended_ms, granted_ms, lost) in [
            (18_500, vec![20_010], vec![1, 21_500], false),
            // On the wire when it ended, or given to nobody after that.
            (19_500, vec![20_010], vec![1, 21_500], true),
            (20_005, vec![20_010], vec![1, 21_500], true),
            (20_011, vec![20_010], vec![1, 21_500], false),
            // Lost on the wire before, and not given again by then.
            (15_000, vec![15_500, 20_010], vec![1, 19_500], true),
            (15_000, vec![15_500, 20_010], vec![1, 17_000], false),
        ] {
            // That Kafka was away shortly before excuses nothing.
            let mut book =
                book(&[(Part::Kafka, 16_000, 17_000), (Part::Broker, 20_000, 21_000)], &granted_ms);
            book.outages[1].way = Way::InOrder;
            book.page("a").ended_ms = ended_ms.clone();
            let end = book.end_that_lost_receipt("a", receipt_ms);
            assert_eq!(end, lost.then_some(20_000), "{receipt_ms} {ended_ms:?} {granted_ms:?}");
        }
    }

    #[test]
    fn more_may_be_lost_the_longer_kafka_has_been_away() {
        let died = (Part::Broker, 20_000, 21_000);
        for (outages, way, most, most_receipts) in [
            (vec![died], Way::Suddenly, 40, 40),
            (vec![(Part::Kafka, 1_000, 12_000), died], Way::Suddenly, 40, 40),
            (vec![(Part::Kafka, 18_500, 30_000), died], Way::Suddenly, 100, 100),
            (vec![(Part::Kafka, 12_000, 17_000), died], Way::Suddenly, 310, 310),
            // What waited is stored before it ends.
            (vec![(Part::Kafka, 12_000, 17_000), died], Way::InOrder, 40, 3),
            (vec![died], Way::InOrder, 40, 3),
            (vec![(Part::Postgres, 12_000, 30_000), died], Way::Suddenly, 40, 40),
        ] {
            let mut book = book(&outages, &[]);
            let end = book.outages.last_mut().unwrap();
            end.way = way;
            let end = *end;
            let found = (book.lost_max(&end), book.lost_receipts_max(&end));
            assert_eq!(found, (most, most_receipts), "{outages:?} {way:?}");
        }
    }
}

//! What the broker's documented non-guarantees (docs/limits.md) let be lost: what it had in memory, or on
//! the wire, when it went away. Narrow, so that nothing else passes for it.

use crate::checker::ledger::{Book, Part, Sent};

impl Book {
    /// Whether the broker's memory may have lost a command: it went away after the lock's last
    /// subscription before the command, and before the lock can have taken it.
    pub fn is_lost_with_broker(&self, command: &Sent) -> bool {
        let until_ms = self.settled_ms(&command.lock, command.at_ms);
        let last_end = self.ends_of_broker().rfind(|end_ms| *end_ms <= until_ms);
        let granted = self.locks.get(&command.lock).map_or(&[][..], |page| &page.granted_ms);
        last_end.is_some_and(|end_ms| {
            !granted.iter().any(|granted_ms| (end_ms..command.at_ms).contains(granted_ms))
        })
    }

    /// Whether the record of a lock's acknowledgement at that time may have died with the broker: it was
    /// under way when the broker ended, or was given to a broker that had ended already.
    pub fn is_receipt_lost_with_broker(&self, lock: &str, receipt_ms: u64) -> bool {
        let until_ms = self.settled_ms(lock, receipt_ms);
        self.ends_of_broker().any(|end_ms| end_ms <= until_ms && receipt_ms <= self.noticed_ms(lock, end_ms))
    }

    /// When a lock noticed that the broker had ended. Until then it reads commands that had been delivered
    /// before, and acknowledges them to nobody. If it was not connected, there was nothing to notice.
    fn noticed_ms(&self, lock: &str, end_ms: u64) -> u64 {
        let Some(page) = self.locks.get(lock) else { return end_ms };
        let first = |times: &[u64]| times.iter().copied().find(|ms| *ms >= end_ms);
        let back_ms = first(&page.granted_ms).unwrap_or(u64::MAX);
        first(&page.ended_ms).filter(|ended_ms| *ended_ms <= back_ms).unwrap_or(end_ms)
    }

    fn ends_of_broker(&self) -> impl DoubleEndedIterator<Item = u64> {
        let of_broker = self.outages.iter().filter(|outage| outage.part == Part::Broker);
        of_broker.map(|outage| outage.from_ms)
    }

    /// Until when what was under way between the broker and a lock at that time is surely stored: soon;
    /// or soon after the lock is back, if its connection ended and it has to be delivered again; or
    /// soon after Kafka is.
    fn settled_ms(&self, lock: &str, at_ms: u64) -> u64 {
        let mut until_ms = at_ms + UNDER_WAY_MS;
        if let Some(page) = self.locks.get(lock)
            && let Some(ended_ms) =
                page.ended_ms.iter().find(|ended_ms| (at_ms..=until_ms).contains(ended_ms))
        {
            let back_ms = page.granted_ms.iter().find(|granted_ms| *granted_ms >= ended_ms);
            until_ms = back_ms.map_or(u64::MAX, |back_ms| back_ms + UNDER_WAY_MS);
        }
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
/// How long after Kafka is back what waited for it may still wait.
const RECOVERY_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::checker::ledger::{Outage, Page, Said};

    fn book(outages: &[(Part, u64, u64)], granted_ms: &[u64]) -> Book {
        let outages = outages.iter().map(|&(part, from_ms, until_ms)| Outage {
            part,
            from_ms,
            until_ms: Some(until_ms),
        });
        let page = Page { granted_ms: granted_ms.to_vec(), ..Page::default() };
        Book { locks: [("a".to_owned(), page)].into(), outages: outages.collect(), ..Book::default() }
    }

    fn sent(at_ms: u64) -> Sent {
        let payload = Bytes::new();
        Sent { lock: "a".to_owned(), payload, at_ms, said: Said::Acked, received: 0, receipt_ms: None }
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
            assert_eq!(book.is_lost_with_broker(&sent(at_ms)), lost, "{at_ms} {granted_ms:?}");
        }
        assert!(!book(&[(Part::Kafka, 10_000, 11_000)], &[1]).is_lost_with_broker(&sent(9_500)));
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
            let is_lost = book(&outages, &[]).is_receipt_lost_with_broker("a", at_ms);
            assert_eq!(is_lost, lost, "{outages:?} {at_ms}");
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
            let is_lost = book.is_receipt_lost_with_broker("a", receipt_ms);
            assert_eq!(is_lost, lost, "{receipt_ms} {ended_ms:?} {granted_ms:?}");
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
            let is_lost = book.is_receipt_lost_with_broker("a", 1_000);
            assert_eq!(is_lost, lost, "{ended_ms:?} {granted_ms:?}");
        }
    }
}

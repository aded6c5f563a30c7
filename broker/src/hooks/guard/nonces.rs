//! The nonces of the commands that were let through, for as long as these could come again.
//!
//! Pure: the caller brings the time. A nonce is kept until its command would be stale, and as long
//! as a sender that missed its acknowledgement may repeat it: 60 s to 6 minutes.
//!
//! Invariant: a command is let through once. What was forgotten cannot come back, even when the
//! clock is set back: nothing passes that would have been stale at the time of the last nonce that
//! was forgotten, and nothing that was signed before the memory began.
//! Invariant: memory is bounded by `total_max` entries of 240 bytes at most; at a bound nothing new
//! passes (`busy`), since what cannot be remembered could come twice.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use latchline_shared::command::{Command, Freshness, SKEW_MAX, freshness};
use sha2::{Digest, Sha256};

use super::verdict::Verdict;

/// How long the same bytes of the same sender, with DUP, are a repetition that harms nobody.
const RETRANSMIT_MS: i64 = 60_000;

/// Nonces forgotten at one call, so that no message pays for all that came before it.
const FORGOTTEN_MAX: usize = 1_024;

/// The leftmost half of a SHA-256: who can make two of them equal can sign.
type Print = [u8; 16];

/// What is remembered, and how much of it.
#[derive(Debug)]
pub struct Nonces {
    total_max: usize,
    per_lock_max: usize,
    /// Commands that were signed earlier are stale: what was let through then is not known.
    begun_at_ms: i64,
    /// Commands that are good until then at most are stale: their nonces may have been forgotten.
    forgotten_until_ms: i64,
    seen: HashMap<Print, Seen>,
    /// Nonces by the second in which they are forgotten.
    due: BTreeMap<i64, Vec<Print>>,
    /// How many nonces each lock has.
    locks: HashMap<Print, usize>,
}

/// A command that was let through.
#[derive(Debug)]
struct Seen {
    payload: Print,
    publisher: Print,
    lock: Print,
    at_ms: i64,
}

/// A command whose signature has verified, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'a> {
    /// The lock that it is for.
    pub lock: &'a str,
    /// What it says.
    pub command: &'a Command,
    /// Its bytes.
    pub payload: &'a [u8],
    /// Client id of who sent it.
    pub publisher: &'a str,
    /// DUP flag.
    pub dup: bool,
}

impl Nonces {
    /// A memory that begins now, of so many nonces in total and of one lock.
    pub fn new(total_max: usize, per_lock_max: usize, now_ms: i64) -> Self {
        Self {
            total_max,
            per_lock_max,
            begun_at_ms: now_ms,
            forgotten_until_ms: i64::MIN,
            seen: HashMap::new(),
            due: BTreeMap::new(),
            locks: HashMap::new(),
        }
    }

    /// Nonces that are remembered.
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Whether the command may pass; if so, it is remembered.
    pub fn admit(&mut self, verified: Verified<'_>, now_ms: i64) -> Verdict {
        self.forget(now_ms);
        let Verified { lock, command, payload, publisher, dup } = verified;
        let key = print(&[lock, &command.nonce]);
        let (payload, publisher, lock) = (print_of(payload), print(&[publisher]), print(&[lock]));
        if let Some(seen) = self.seen.get(&key) {
            return match seen.payload == payload {
                false => Verdict::NonceConflict,
                true if dup && seen.publisher == publisher && now_ms - seen.at_ms <= RETRANSMIT_MS => {
                    Verdict::Retransmit
                }
                true => Verdict::Replay,
            };
        }
        match freshness(command.ts, command.ttl, now_ms) {
            Freshness::Stale => return Verdict::Stale,
            Freshness::Future => return Verdict::Future,
            Freshness::Fresh => {}
        }
        // It is fresh, so these numbers are near the present.
        let signed_at_ms = command.ts * 1000;
        let good_until_ms = signed_at_ms + in_ms(command.ttl) + in_ms(SKEW_MAX);
        if signed_at_ms < self.begun_at_ms || good_until_ms <= self.forgotten_until_ms {
            return Verdict::Stale;
        }
        if self.seen.len() >= self.total_max {
            return Verdict::Busy;
        }
        let of_lock = self.locks.entry(lock).or_default();
        if *of_lock >= self.per_lock_max {
            return Verdict::Busy;
        }
        *of_lock += 1;
        self.seen.insert(key, Seen { payload, publisher, lock, at_ms: now_ms });
        let until_ms = good_until_ms.max(now_ms + RETRANSMIT_MS);
        self.due.entry(until_ms / 1000 + 1).or_default().push(key);
        Verdict::Ok
    }

    /// Forgets what is due, a bounded number at a time.
    fn forget(&mut self, now_ms: i64) {
        for _ in 0..FORGOTTEN_MAX {
            let Some(mut first) = self.due.first_entry() else { return };
            let due_at_ms = *first.key() * 1000;
            if due_at_ms > now_ms {
                return;
            }
            let Some(key) = first.get_mut().pop() else {
                first.remove();
                continue;
            };
            self.forgotten_until_ms = self.forgotten_until_ms.max(due_at_ms);
            let Some(seen) = self.seen.remove(&key) else { continue };
            if let MapEntry::Occupied(mut of_lock) = self.locks.entry(seen.lock) {
                *of_lock.get_mut() -= 1;
                if *of_lock.get() == 0 {
                    of_lock.remove();
                }
            }
        }
    }
}

fn in_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Of texts, each with its length: no two lists of texts have the same bytes.
fn print(texts: &[&str]) -> Print {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    half(&hash.finalize().into())
}

fn print_of(bytes: &[u8]) -> Print {
    half(&Sha256::digest(bytes).into())
}

fn half(hash: &[u8; 32]) -> Print {
    *hash.first_chunk().expect("half of a hash is shorter than the hash")
}

#[cfg(test)]
mod tests {
    use latchline_shared::command::Action;
    use latchline_shared::command::draft::{Draft, SignLength, sign_command};
    use latchline_shared::keys::CommandKey;
    use proptest::prelude::*;

    use super::*;

    const NOW_S: i64 = 1_574_744_434;
    const NOW_MS: i64 = NOW_S * 1000;

    struct Sent {
        lock: &'static str,
        payload: String,
        command: Command,
        publisher: &'static str,
        dup: bool,
    }

    fn sent(lock: &'static str, nonce: &str, ts: i64, process_id: &str) -> Sent {
        let draft = Draft { process_id, action: Action::Lock, nonce, ts, ttl: None, kid: None, extra: &[] };
        let key = CommandKey::from_bytes([1; 32]);
        let payload = sign_command(&draft, lock, &key, SignLength::Full).unwrap();
        let command = Command::parse(payload.as_bytes(), lock).unwrap();
        Sent { lock, payload, command, publisher: "operator", dup: false }
    }

    impl Nonces {
        fn take(&mut self, sent: &Sent, now_ms: i64) -> Verdict {
            let Sent { lock, payload, command, publisher, dup } = sent;
            let verified = Verified { lock, command, payload: payload.as_bytes(), publisher, dup: *dup };
            self.admit(verified, now_ms)
        }
    }

    fn begun_earlier() -> Nonces {
        Nonces::new(1_000, 100, NOW_MS - 3_600_000)
    }

    #[test]
    fn the_first_passes_and_what_follows_has_its_word() {
        let mut nonces = begun_earlier();
        let first = sent("1", "nonce001", NOW_S, "p1");
        assert_eq!(nonces.take(&first, NOW_MS), Verdict::Ok);
        let other_body = sent("1", "nonce001", NOW_S, "p2");
        let dup = || Sent { dup: true, ..sent("1", "nonce001", NOW_S, "p1") };
        for (what, again, after_ms, expected) in [
            ("the same", sent("1", "nonce001", NOW_S, "p1"), 1, Verdict::Replay),
            ("the same with DUP", dup(), 1, Verdict::Retransmit),
            ("at the last moment", dup(), 60_000, Verdict::Retransmit),
            ("by somebody else", Sent { publisher: "eve", ..dup() }, 1, Verdict::Replay),
            ("another body", other_body, 1, Verdict::NonceConflict),
            ("another lock", sent("2", "nonce001", NOW_S, "p1"), 1, Verdict::Ok),
            ("another nonce", sent("1", "nonce002", NOW_S, "p1"), 1, Verdict::Ok),
            ("later", dup(), 60_001, Verdict::Replay),
            ("much later", dup(), 62_000, Verdict::Stale),
        ] {
            assert_eq!(nonces.take(&again, NOW_MS + after_ms), expected, "{what}");
        }
    }

    #[test]
    fn time_decides_about_new_ones() {
        for (ts, expected) in [
            (NOW_S - 61, Verdict::Stale),
            (NOW_S - 60, Verdict::Ok),
            (NOW_S + 30, Verdict::Ok),
            (NOW_S + 31, Verdict::Future),
            (-(1 << 53) + 1, Verdict::Stale),
            ((1 << 53) - 1, Verdict::Future),
        ] {
            assert_eq!(begun_earlier().take(&sent("1", "nonce001", ts, "p"), NOW_MS), expected, "{ts}");
        }
        let mut new = Nonces::new(10, 10, NOW_MS);
        assert_eq!(new.take(&sent("1", "nonce001", NOW_S - 1, "p"), NOW_MS + 10), Verdict::Stale);
        assert_eq!(new.take(&sent("1", "nonce001", NOW_S, "p"), NOW_MS + 10), Verdict::Ok);
    }

    #[test]
    fn what_was_forgotten_does_not_come_back_with_the_clock() {
        let mut nonces = begun_earlier();
        let first = sent("1", "nonce001", NOW_S, "p");
        assert_eq!(nonces.take(&first, NOW_MS), Verdict::Ok);
        assert_eq!(nonces.take(&sent("1", "nonce002", NOW_S + 62, "p"), NOW_MS + 62_000), Verdict::Ok);
        assert_eq!(nonces.count(), 1);
        assert_eq!(nonces.take(&first, NOW_MS), Verdict::Stale);
    }

    #[test]
    fn at_its_bounds_it_is_busy_until_something_is_forgotten() {
        let mut nonces = Nonces::new(5, 3, NOW_MS - 3_600_000);
        let mut take = |lock, n: i64, now_s: i64| {
            nonces.take(&sent(lock, &format!("nonce{n:03}"), now_s, "p"), now_s * 1000)
        };
        for n in 0..3 {
            assert_eq!(take("1", n, NOW_S), Verdict::Ok);
        }
        assert_eq!(take("1", 3, NOW_S), Verdict::Busy);
        assert_eq!(take("1", 2, NOW_S), Verdict::Replay);
        for n in 4..6 {
            assert_eq!(take("2", n, NOW_S), Verdict::Ok);
        }
        assert_eq!(take("3", 6, NOW_S), Verdict::Busy);
        assert_eq!(take("3", 6, NOW_S + 61), Verdict::Ok);
        assert_eq!(take("1", 7, NOW_S + 61), Verdict::Ok);
        assert_eq!((nonces.seen.len(), nonces.locks.len(), nonces.due.len()), (2, 2, 1));
    }

    #[test]
    fn no_message_pays_for_all_that_came_before_it() {
        let mut nonces = Nonces::new(10_000, 10_000, NOW_MS - 3_600_000);
        for n in 0..3_000 {
            assert_eq!(nonces.take(&sent("1", &format!("nonce{n:04}"), NOW_S, "p"), NOW_MS), Verdict::Ok);
        }
        let later = NOW_S + 100;
        assert_eq!(nonces.take(&sent("1", "anotherone", later, "p"), later * 1000), Verdict::Ok);
        assert_eq!(nonces.count(), 3_000 - FORGOTTEN_MAX + 1);
        // What is still there although it is due is known all the same.
        let stale = sent("1", "nonce0000", NOW_S, "p");
        assert_eq!(nonces.take(&stale, later * 1000), Verdict::Replay);
    }

    proptest! {
        /// Whatever comes, in whatever order, with whatever clock: nothing passes twice.
        #[test]
        fn nothing_passes_twice(
            steps in proptest::collection::vec((0usize..4, 0usize..3, -200i64..200, any::<bool>()), 1..80),
        ) {
            let locks = ["1", "2", "3", "4"];
            let mut nonces = Nonces::new(20, 6, NOW_MS);
            let mut passed = std::collections::HashSet::new();
            for (lock, nonce, seconds, dup) in steps {
                let ts = NOW_S + i64::try_from(lock).unwrap() * 20;
                let one = Sent { dup, ..sent(locks[lock], ["nonce001", "nonce002", "nonce003"][nonce], ts, "p") };
                if nonces.take(&one, NOW_MS + seconds * 1000) == Verdict::Ok {
                    prop_assert!(passed.insert((lock, nonce)), "{lock} {nonce}");
                }
                prop_assert!(nonces.count() <= 20);
                prop_assert_eq!(nonces.locks.values().sum::<usize>(), nonces.count());
                prop_assert_eq!(nonces.due.values().map(Vec::len).sum::<usize>(), nonces.count());
            }
        }
    }
}

//! Helpers for the tests of every crate and for the end-to-end tests: wait for a level with a
//! deadline, and randomness whose seed is printed.
//!
//! Not behind a feature of its own: it is small, and has no dependency that the kit has not.

use std::time::Duration;

use crate::kit::clock;

/// Name of the environment variable that repeats a run: `LATCHLINE_SEED=1234 cargo test …`.
pub const SEED_VARIABLE: &str = "LATCHLINE_SEED";

/// Waits until `condition` holds; panics with `what` when the deadline passes first.
///
/// The condition is asked every 10 ms, so it must be a level (a state that stays), not an edge.
pub async fn eventually(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(deadline, wait).await.is_err() {
        panic!("not within {deadline:?}: {what}");
    }
}

/// Where a test's randomness begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// From `LATCHLINE_SEED`, else from the clock.
    pub fn of_this_run() -> Self {
        match std::env::var(SEED_VARIABLE) {
            Ok(text) => {
                Self(text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE} is not a number: {text}")))
            }
            Err(_) => Self(clock::unix_ms()),
        }
    }

    /// The generator for the test `name`; says on standard error how to repeat it.
    #[expect(clippy::disallowed_macros, reason = "a test talks to whoever reads its output")]
    pub fn random(self, name: &str) -> Random {
        eprintln!("{name}: to repeat, set {SEED_VARIABLE}={}", self.0);
        Random::new(self)
    }
}

/// SplitMix64: small, fast, good enough for tests, the same everywhere. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that says nothing about its seed.
    pub fn new(seed: Seed) -> Self {
        Self(seed.0)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert_ne!(bound, 0, "nothing is below 0");
        // The high half of the product; the bias of 1 in 2^64 / bound does not matter to a test.
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// An index into something with `length` elements.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// One of the elements.
    pub fn choose<'a, T>(&mut self, elements: &'a [T]) -> &'a T {
        &elements[self.index(elements.len())]
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// `length` random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn eventually_waits_for_the_level() {
        let mut asked = 0;
        eventually(Duration::from_secs(1), "asked five times", async || {
            asked += 1;
            asked == 5
        })
        .await;
        assert_eq!(asked, 5);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 1s: pigs fly")]
    async fn eventually_gives_up() {
        eventually(Duration::from_secs(1), "pigs fly", async || false).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "an answer")]
    async fn eventually_gives_up_on_a_condition_that_hangs() {
        eventually(Duration::from_secs(1), "an answer", async || std::future::pending().await).await;
    }

    #[test]
    fn splitmix_gives_the_published_numbers() {
        let mut random = Seed(1_234_567).random("splitmix_gives_the_published_numbers");
        assert_eq!(random.number(), 6_457_827_717_110_365_317);
        assert_eq!(random.number(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Seed::of_this_run().random("numbers_stay_below_their_bound");
        let mut seen = [false; 3];
        for _ in 0..1_000 {
            seen[random.index(3)] = true;
        }
        assert_eq!(seen, [true; 3]);
    }
}

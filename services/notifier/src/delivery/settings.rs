//! The `[retry]` table.

use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use serde::Deserialize;

/// From one attempt to the next.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The longest wait after the first failure; twice that after the next.
    #[serde(rename = "base_ms", deserialize_with = "value::milliseconds")]
    pub base: Duration,
    /// The longest wait of all.
    #[serde(rename = "cap_ms", deserialize_with = "value::milliseconds")]
    pub cap: Duration,
    /// A message that was answered with "later" so often is given up.
    pub attempts_max: i32,
    /// A message that may have arrived so often is not sent again, whoever would recognise it.
    pub ambiguous_max: i32,
    /// A provider that fails so often …
    pub breaker_failures: usize,
    /// … within so long …
    #[serde(rename = "breaker_within_ms", deserialize_with = "value::milliseconds")]
    pub breaker_within: Duration,
    /// … is left alone for so long.
    #[serde(rename = "breaker_open_ms", deserialize_with = "value::milliseconds")]
    pub breaker_open: Duration,
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        for (name, duration) in [
            ("base_ms", self.base),
            ("breaker_within_ms", self.breaker_within),
            ("breaker_open_ms", self.breaker_open),
        ] {
            if duration.is_zero() {
                problems.push(format!("retry.{name}: must not be 0"));
            }
        }
        if self.cap < self.base {
            problems.push("retry.cap_ms: must not be less than retry.base_ms".to_owned());
        }
        if self.attempts_max < 1 {
            problems.push("retry.attempts_max: must be 1 or more".to_owned());
        }
        if self.ambiguous_max < 1 {
            problems.push("retry.ambiguous_max: must be 1 or more".to_owned());
        }
        if self.breaker_failures == 0 {
            problems.push("retry.breaker_failures: must not be 0".to_owned());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Those of the default document, in short.
    pub(in crate::delivery) fn settings() -> Settings {
        Settings {
            base: Duration::from_secs(2),
            cap: Duration::from_secs(900),
            attempts_max: 12,
            ambiguous_max: 3,
            breaker_failures: 10,
            breaker_within: Duration::from_secs(60),
            breaker_open: Duration::from_secs(60),
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let mut problems = Vec::new();
        settings().problems(&mut problems);
        assert_eq!(problems, Vec::<String>::new());
        let nothing = Settings {
            base: Duration::ZERO,
            attempts_max: 0,
            ambiguous_max: 0,
            breaker_failures: 0,
            breaker_within: Duration::ZERO,
            breaker_open: Duration::ZERO,
            ..settings()
        };
        nothing.problems(&mut problems);
        Settings { cap: Duration::from_secs(1), ..settings() }.problems(&mut problems);
        let keys: Vec<_> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(
            keys,
            [
                "retry.base_ms",
                "retry.breaker_within_ms",
                "retry.breaker_open_ms",
                "retry.attempts_max",
                "retry.ambiguous_max",
                "retry.breaker_failures",
                "retry.cap_ms"
            ]
        );
    }
}

//! The log of a broker, read as data: a test fails on any warning that it has not announced.

use std::ops::Range;

use serde::Deserialize;
use serde_json::{Map, Value};

/// One line of a JSON log.
#[derive(Debug, Clone, Deserialize)]
pub struct Line {
    /// `INFO`, `WARN` and so on.
    pub level: String,
    /// What happened.
    pub message: String,
    /// The module that says so.
    #[serde(default)]
    pub target: String,
    /// Everything else.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Line {
    /// A field's text, empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The lines that are log lines; what a process writes before its log is up is not.
pub fn parse(lines: &[String]) -> Vec<Line> {
    lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A warning that is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// What is in its line.
    pub text: String,
    /// Numbers of the lines for which it counts.
    pub lines: Range<usize>,
}

impl Expectation {
    /// Whether it excuses the line with this number.
    pub fn covers(&self, number: usize, line: &str) -> bool {
        self.lines.contains(&number) && line.contains(&self.text)
    }
}

/// Warnings, errors and lines that are no log lines (a panic, an abort), except those that are
/// `expected`; `lines` are all from the first on.
pub fn surprises(lines: &[String], expected: &[Expectation]) -> Vec<String> {
    let is_expected = |number, line: &str| expected.iter().any(|one| one.covers(number, line));
    let surprises =
        lines.iter().enumerate().filter(|(number, line)| is_loud(line) && !is_expected(*number, line));
    surprises.map(|(_, line)| line.clone()).collect()
}

/// Whether a line is a warning, an error or no log line.
pub fn is_loud(line: &str) -> bool {
    serde_json::from_str::<Line>(line).map_or(true, |line| matches!(line.level.as_str(), "WARN" | "ERROR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_data_and_surprises_are_found() {
        let lines = [
            r#"{"timestamp":"t","level":"INFO","message":"listening","listener":"tcp","address":"127.0.0.1:1","target":"b"}"#,
            r#"{"timestamp":"t","level":"WARN","message":"kafka is away","target":"b"}"#,
            r#"{"timestamp":"t","level":"ERROR","message":"panicked","target":"b"}"#,
            "memory allocation failed",
        ]
        .map(str::to_owned);
        let parsed = parse(&lines);
        assert_eq!(parsed.len(), 3);
        assert_eq!(
            (parsed[0].message.as_str(), parsed[0].field("listener"), parsed[0].field("address")),
            ("listening", "tcp", "127.0.0.1:1")
        );
        let away = |lines| [Expectation { text: "kafka is away".to_owned(), lines }];
        assert_eq!(surprises(&lines, &away(0..usize::MAX)), lines[2..]);
        assert_eq!(surprises(&lines, &away(1..2)), lines[2..]);
        // What was announced for another time excuses nothing.
        assert_eq!(surprises(&lines, &away(0..1)), lines[1..]);
        assert_eq!(surprises(&lines, &away(2..9)), lines[1..]);
        assert_eq!(surprises(&lines, &[]), lines[1..]);
    }
}

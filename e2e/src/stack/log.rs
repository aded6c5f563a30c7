//! The log of a broker, read as data: a test fails on any warning that it has not announced.

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

/// Warnings, errors and lines that are no log lines (a panic, an abort), except those that contain
/// one of the `expected` texts.
pub fn surprises(lines: &[String], expected: &[String]) -> Vec<String> {
    let calm = |line: &String| {
        serde_json::from_str::<Line>(line).is_ok_and(|line| !matches!(line.level.as_str(), "WARN" | "ERROR"))
    };
    lines
        .iter()
        .filter(|line| !calm(line) && !expected.iter().any(|text| line.contains(text.as_str())))
        .cloned()
        .collect()
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
        assert_eq!(surprises(&lines, &["kafka is away".to_owned()]), lines[2..]);
        assert_eq!(surprises(&lines, &[]), lines[1..]);
    }
}

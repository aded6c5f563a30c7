//! What the auditor found, on the stream of findings (contract, section 7): one record for each row
//! of history with a bad verdict or with findings.
//!
//! Written with all keys, in the order of the fields; read with unknown keys, and without those that
//! may be null. (`chain_id`, `seq`) is the row, and the id of the record: it may come twice.

use serde::{Deserialize, Serialize};

/// The value of such a record; its key is `client_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingRecord {
    /// The lock; empty where it is about none.
    pub client_id: String,
    /// When it happened: the row's `occurred_at`, in Unix milliseconds.
    pub at: i64,
    /// What was judged: `command`, `attempt`, `result`, `change` or `finding`.
    pub kind: String,
    /// The verdict, or how it ended; empty if there is none.
    pub verdict: String,
    /// What is wrong beside the verdict.
    pub findings: Vec<String>,
    /// `info`, `warning`, `major` or `critical`.
    pub severity: String,
    /// Ties a command and its result.
    pub process_id: Option<String>,
    /// `unlock`, `lock`, …
    pub action: Option<String>,
    /// Client id of the publisher.
    pub publisher: Option<String>,
    /// Client id of the receiver.
    pub receiver: Option<String>,
    /// User name, as far as it is known.
    pub username: Option<String>,
    /// In words.
    pub reason: Option<String>,
    /// The row's chain.
    pub chain_id: i16,
    /// The row's number in it.
    pub seq: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"client_id":"10083618796833171","at":1574744434123,"kind":"command","verdict":"replay","findings":["unexpected_receiver"],"severity":"critical","process_id":"7802441525528958","action":"unlock","publisher":"backend","receiver":"eve","username":"eve","reason":"seen before","chain_id":3,"seq":17}"#;
    const SPARSE: &str = r#"{"client_id":"","at":-1,"kind":"finding","verdict":"","findings":[],"severity":"critical","process_id":null,"action":null,"publisher":null,"receiver":null,"username":null,"reason":null,"chain_id":0,"seq":1}"#;

    fn sparse() -> FindingRecord {
        FindingRecord {
            client_id: String::new(),
            at: -1,
            kind: "finding".to_owned(),
            verdict: String::new(),
            findings: Vec::new(),
            severity: "critical".to_owned(),
            process_id: None,
            action: None,
            publisher: None,
            receiver: None,
            username: None,
            reason: None,
            chain_id: 0,
            seq: 1,
        }
    }

    fn full() -> FindingRecord {
        let text = |text: &str| Some(text.to_owned());
        FindingRecord {
            client_id: "10083618796833171".to_owned(),
            at: 1_574_744_434_123,
            kind: "command".to_owned(),
            verdict: "replay".to_owned(),
            findings: vec!["unexpected_receiver".to_owned()],
            process_id: text("7802441525528958"),
            action: text("unlock"),
            publisher: text("backend"),
            receiver: text("eve"),
            username: text("eve"),
            reason: text("seen before"),
            chain_id: 3,
            seq: 17,
            ..sparse()
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_contract() {
        for (record, bytes) in [(full(), FULL), (sparse(), SPARSE)] {
            assert_eq!(serde_json::to_string(&record).unwrap(), bytes);
            assert_eq!(serde_json::from_str::<FindingRecord>(bytes).unwrap(), record);
        }
    }

    #[test]
    fn what_later_versions_add_is_passed_over() {
        let more = FULL.replace(r#""seq":17"#, r#""seq":17,"later":{"a":[1]}"#);
        assert_eq!(serde_json::from_str::<FindingRecord>(&more).unwrap(), full());
        let less = SPARSE.replace(r#""reason":null,"#, "");
        assert_eq!(serde_json::from_str::<FindingRecord>(&less).unwrap(), sparse());
        assert!(serde_json::from_str::<FindingRecord>(&FULL.replace(r#","seq":17"#, "")).is_err());
    }
}

//! Whether a client reaches Kafka, and what it logs about that.
//!
//! The client library complains several times a second for each server it cannot reach, and says
//! nothing when all is well again. A [`Link`] turns that into one WARN when the cluster has gone
//! and one INFO when it is back; each single failure is DEBUG. Other complaints of the library are
//! WARN, each kind at most once in [`REPEAT_AFTER`].
//!
//! Gone is when the library says so, or when for [`DOWN_AFTER`] its statistics show no server to
//! which the connection is up; back is when they show one. A server that takes connections but
//! does not answer counts as gone after the client's own timeout.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tracing::{debug, info, warn};

/// The library's finest.
pub(super) const STATISTICS_INTERVAL_MS: &str = "1000";

/// Longer than a reconnect takes.
const DOWN_AFTER: Duration = Duration::from_secs(3);

/// The same complaint is not repeated earlier.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// How many kinds of complaint are remembered; the library has fewer.
const COMPLAINTS_MAX: usize = 64;

/// Facilities of the library's log that speak of single connections.
const CONNECTION_FACILITIES: [&str; 9] = [
    "FAIL",
    "ERROR",
    "BROKERFAIL",
    "DISCONNECT",
    "REQTMOUT",
    "TIMEOUT",
    "CONNECT",
    "GETPID",
    // A leader that is not known yet, as when a server comes back.
    "METADATAUPDATE",
];

/// End of the complaint about a property that only the other kind of client has.
const FOR_OTHERS: &str = "property and will be ignored by this producer instance";

/// In the complaint about a property of the publisher's that the library calls an experiment, with
/// what goes wrong without it.
const CHOSEN: &str = "Configuration property enable.gapless.guarantee is experimental";

/// What is wrong when nothing else is known.
const NO_ANSWER: &str = "no answer";

/// The state of one client's connection to Kafka.
#[derive(Debug)]
pub struct Link {
    client: &'static str,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// When a server was up last; at first, when the client was made.
    up_at: Instant,
    /// The latest failure of a connection.
    failure: String,
    complaints: HashMap<String, Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Up,
    Down { since: Instant },
}

impl Link {
    /// A link not seen up yet, of the client that logs call `client`.
    pub fn new(client: &'static str) -> Arc<Self> {
        let inner = Inner {
            state: State::Starting,
            up_at: Instant::now(),
            failure: NO_ANSWER.to_owned(),
            complaints: HashMap::new(),
        };
        Arc::new(Self { client, inner: Mutex::new(inner) })
    }

    /// Whether a server can be reached, as far as is known.
    pub fn is_up(&self) -> bool {
        self.lock().state == State::Up
    }

    /// Why not, as the library put it last.
    pub fn failure(&self) -> String {
        self.lock().failure.clone()
    }

    /// A line of the library's log.
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Producers and consumers are made of the same settings, and each has some for the other.
        let is_idle = facility == "CONFWARN" && (message.ends_with(FOR_OTHERS) || message.contains(CHOSEN));
        let serious = level as i32 <= RDKafkaLogLevel::Warning as i32 && !is_idle;
        if serious && !CONNECTION_FACILITIES.contains(&facility) {
            self.complain(facility, message);
        } else {
            debug!(client = self.client, facility, line = message, "kafka client");
        }
    }

    /// An error of the client as a whole.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown) => self.gone(&mut self.lock()),
            Some(Code::BrokerTransportFailure | Code::OperationTimedOut | Code::Resolve) => {
                debug!(client = self.client, reason, "kafka connection failed");
                self.lock().failure = reason.to_owned();
            }
            code => {
                self.lock().failure = reason.to_owned();
                let kind = code.map_or_else(|| "Unknown".to_owned(), |code| format!("{code:?}"));
                self.complain(&kind, reason);
            }
        }
    }

    /// The library's statistics as it wrote them, every second.
    pub fn statistics(&self, json: &[u8]) {
        let mut inner = self.lock();
        if contains(json, br#""state":"UP""#) {
            self.seen(&mut inner);
        } else if inner.up_at.elapsed() >= DOWN_AFTER {
            self.gone(&mut inner);
        }
    }

    /// Kafka has answered.
    pub fn answered(&self) {
        self.seen(&mut self.lock());
    }

    fn seen(&self, inner: &mut Inner) {
        inner.up_at = Instant::now();
        match inner.state {
            State::Up => return,
            State::Starting => info!(client = self.client, "connected to kafka"),
            State::Down { since } => {
                let outage_ms = since.elapsed().as_millis() as u64;
                info!(client = self.client, outage_ms, "kafka is back");
            }
        }
        inner.state = State::Up;
        NO_ANSWER.clone_into(&mut inner.failure);
    }

    fn gone(&self, inner: &mut Inner) {
        if !matches!(inner.state, State::Down { .. }) {
            warn!(client = self.client, error = inner.failure, "kafka cannot be reached");
            inner.state = State::Down { since: Instant::now() };
        }
    }

    /// Something is wrong that a human should know about: WARN, if this kind was not heard lately.
    pub fn complain(&self, kind: &str, reason: &str) {
        let mut inner = self.lock();
        let now = Instant::now();
        if inner.complaints.len() >= COMPLAINTS_MAX {
            inner.complaints.clear();
        }
        let last = inner.complaints.get(kind);
        if last.is_none_or(|last| now.duration_since(*last) >= REPEAT_AFTER) {
            inner.complaints.insert(kind.to_owned(), now);
            warn!(client = self.client, kind, reason, "kafka client complains");
        } else {
            debug!(client = self.client, kind, reason, "kafka client complains");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// What the client library calls back; for clients that need nothing else.
#[derive(Debug, Clone)]
pub struct LinkContext(pub Arc<Link>);

impl ClientContext for LinkContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }

    fn stats_raw(&self, json: &[u8]) {
        self.0.statistics(json);
    }
}

impl ConsumerContext for LinkContext {}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const UP: &[u8] = br#"{"brokers":{"a:1/1":{"state":"DOWN"},"a:2/2":{"nodeid":2,"state":"UP"}}}"#;
    const DOWN: &[u8] = br#"{"brokers":{"a:1/1":{"nodeid":1,"state":"TRY_CONNECT"}}}"#;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged at INFO and above while `act` runs.
    fn logged(act: impl FnOnce(&Link)) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || act(&Link::new("test")));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn error(code: RDKafkaErrorCode) -> KafkaError {
        KafkaError::Global(code)
    }

    #[test]
    fn an_outage_is_two_lines() {
        let lines = logged(|link| {
            link.statistics(UP);
            assert!(link.is_up());
            for _ in 0..1_000 {
                link.error(&error(RDKafkaErrorCode::BrokerTransportFailure), "a:1: Connection refused");
                link.log(RDKafkaLogLevel::Error, "FAIL", "a:1: Connection refused");
                link.error(&error(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
                link.statistics(DOWN);
            }
            assert!(!link.is_up());
            link.statistics(UP);
            link.statistics(UP);
            assert!(link.is_up());
        });
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(lines[0].starts_with("INFO connected to kafka"), "{}", lines[0]);
        assert!(lines[1].starts_with("WARN kafka cannot be reached"), "{}", lines[1]);
        assert!(lines[1].contains("a:1: Connection refused"), "{}", lines[1]);
        assert!(lines[2].starts_with("INFO kafka is back"), "{}", lines[2]);
    }

    #[test]
    fn a_reconnect_is_no_outage() {
        let lines = logged(|link| {
            link.statistics(UP);
            link.statistics(DOWN);
            link.statistics(UP);
        });
        assert_eq!(lines.len(), 1, "{lines:#?}");
    }

    #[test]
    fn each_kind_of_complaint_is_heard_once() {
        let lines = logged(|link| {
            for _ in 0..1_000 {
                link.error(&error(RDKafkaErrorCode::Authentication), "invalid credentials");
                link.log(RDKafkaLogLevel::Warning, "CONFWARN", "a strange setting");
                link.log(RDKafkaLogLevel::Warning, "CONFWARN", &format!("[thrd:app]: {CHOSEN}: When set"));
                link.log(RDKafkaLogLevel::Info, "TELEMETRY", "nothing of interest");
            }
        });
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].contains("invalid credentials"), "{}", lines[0]);
        assert!(lines[1].contains("a strange setting"), "{}", lines[1]);
    }
}

//! The table of attacks against a lock: with the guard enforcing, nothing of it reaches the lock, and
//! each attempt is on record with its reason; without the guard, the lock itself acts on genuine
//! commands only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use latchline_e2e::attack::{self, Answer, Arena, Attack, Attempt, Audited, Guarded};
use latchline_e2e::kafka::reader::Record;
use latchline_e2e::lock::run::{Happening, Settings, run};
use latchline_e2e::lock::state::Change;
use latchline_e2e::mqtt;
use latchline_e2e::operator::{Command, Operator};
use latchline_e2e::stack::audit::Audit;
use latchline_e2e::stack::{FINDINGS, REJECTED, Stack};
use latchline_shared::command::{Action, ShortSign};
use latchline_shared::finding::FindingRecord;
use latchline_shared::kit::testing::eventually;
use latchline_shared::message::Protocol;
use latchline_shared::record::RejectedRecord;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::support::{self, DEADLINE};

const LOCK: &str = "10083618796833171";
const OTHER_LOCK: &str = "10083618796833172";

/// A lock that counts how often it acts.
struct Target {
    acted: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    _changes: mpsc::Sender<Change>,
}

#[tokio::test]
async fn enforcing_the_guard_lets_nothing_through() {
    for protocol in [Protocol::V5, Protocol::V3] {
        let stack = Stack::start(support::development().await).await.unwrap();
        let target = Target::start(&stack).await;
        let attempts = attack_all(&stack, protocol).await;
        for (attack, attempt) in &attempts {
            assert!(attack.guard.is(attempt.answer, protocol), "{}: {attempt:?}", attack.name);
        }
        assert_eq!(target.acted_when_done(&stack).await, genuine(&attempts) + 1);
        assert_eq!(target.refused.load(Ordering::Relaxed), 0, "the lock has seen an attack");
        check_rejected(&stack, &attempts, |attack| match attack.guard {
            Guarded::Refused(word) => Some(word),
            Guarded::Absorbed => Some("retransmit"),
            Guarded::Passed => None,
        })
        .await;
        check_judged(&stack, &attempts, |attack| match attack.guard {
            Guarded::Refused(word) => Judged::Attempt(word),
            Guarded::Absorbed => Judged::Attempt("retransmit"),
            Guarded::Passed => Judged::of(attack.auditor),
        })
        .await;
        stack.finish().await.unwrap();
    }
}

#[tokio::test]
async fn without_the_guard_the_lock_acts_on_genuine_commands_only() {
    let kafka = support::development().await;
    let stack = Stack::start_with(kafka, &[("guard.mode", "off")]).await.unwrap();
    let target = Target::start(&stack).await;
    let attempts = attack_all(&stack, Protocol::V5).await;
    for (attack, attempt) in &attempts {
        let is_denied = matches!(attack.auditor, Audited::Attempt(_));
        assert_eq!(attempt.answer != Answer::Taken, is_denied, "{}: {attempt:?}", attack.name);
    }
    assert_eq!(target.acted_when_done(&stack).await, genuine(&attempts) + 1);
    // Every verdict is on a command that has reached the lock; so is the one with QoS 0, and an
    // eavesdropper's.
    let verdicts =
        attempts.iter().filter(|(attack, _)| matches!(attack.auditor, Audited::Verdict(_))).count();
    assert!(target.refused.load(Ordering::Relaxed) > verdicts, "{verdicts} attacks should reach the lock");
    check_rejected(&stack, &attempts, |attack| match attack.auditor {
        Audited::Attempt(cause) => Some(cause),
        Audited::Verdict(_) | Audited::Finding(_) => None,
    })
    .await;
    check_judged(&stack, &attempts, |attack| Judged::of(attack.auditor)).await;
    stack.finish().await.unwrap();
}

/// Who reads the stream of findings learns of an attack while it goes on, and of nothing else.
#[tokio::test]
async fn an_attack_is_on_the_stream_of_findings() {
    let stack = Stack::start(support::development().await).await.unwrap();
    let target = Target::start(&stack).await;
    let mut audit = Audit::start(&stack.kafka, &stack.secrets, &[]).await.unwrap();
    let replay = attack::all().iter().find(|attack| attack.name == "replay_other").unwrap();
    let attempt = attack::run(replay, &arena(&stack, Protocol::V5)).await.unwrap();
    let mut reader = stack.reader(&[FINDINGS]).await.unwrap();
    let records = reader.read(1, DEADLINE).await.unwrap();
    let finding: FindingRecord = serde_json::from_slice(&records[0].value).unwrap();
    assert_eq!((records[0].key.as_deref(), finding.client_id.as_str()), (Some(LOCK), LOCK));
    assert_eq!((finding.kind.as_str(), finding.verdict.as_str()), ("attempt", "replay"));
    assert_eq!(finding.publisher, Some(attempt.publisher));
    // The genuine commands are in history, too, and nobody is told of them.
    assert_eq!(target.acted_when_done(&stack).await, attempt.genuine + 1);
    let client = audit.connect().await.unwrap();
    let all_judged = async || history(&client).await.iter().filter(|row| row.kind == "result").count() == 2;
    eventually(DEADLINE, "both results are in history", all_judged).await;
    assert_eq!(reader.next(Duration::from_secs(1)).await.unwrap(), None);
    audit.auditor.stop().await.unwrap();
    audit.auditor.check_log().unwrap();
    stack.finish().await.unwrap();
}

async fn attack_all(stack: &Stack, protocol: Protocol) -> Vec<(&'static Attack, Attempt)> {
    let arena = arena(stack, protocol);
    let mut attempts = Vec::new();
    for attack in attack::all() {
        let attempt = attack::run(attack, &arena).await;
        attempts.push((attack, attempt.unwrap_or_else(|error| panic!("{}: {error:#}", attack.name))));
    }
    attempts
}

fn arena(stack: &Stack, protocol: Protocol) -> Arena {
    Arena {
        broker: stack.mqtt(),
        protocol,
        master: stack.secrets.master.clone(),
        operator: stack.secrets.operator.clone(),
        administrator: stack.secrets.administrator.clone(),
        lock: LOCK.to_owned(),
        other_lock: OTHER_LOCK.to_owned(),
        later: Duration::from_secs(2),
    }
}

fn genuine(attempts: &[(&Attack, Attempt)]) -> usize {
    attempts.iter().map(|(_, attempt)| attempt.genuine).sum()
}

/// The stream of refusals has one record for each attempt that `reason` says something of, with that
/// reason, and no others.
async fn check_rejected(
    stack: &Stack,
    attempts: &[(&Attack, Attempt)],
    reason: impl Fn(&Attack) -> Option<&'static str>,
) {
    let mut expected = BTreeMap::new();
    for (attack, attempt) in attempts {
        if let Some(word) = reason(attack) {
            expected.insert((attempt.publisher.clone(), attempt.payload.clone()), (attack.name, word));
        }
    }
    let count = expected.len();
    let mut reader = stack.reader(&[REJECTED]).await.unwrap();
    let records = reader.read_until(DEADLINE, |records| records.len() >= count).await.unwrap();
    assert_eq!(records.len(), count);
    for record in &records {
        assert_eq!((record.key.as_deref(), record.header("hook")), (Some(LOCK), "message.rejected"));
        let value: RejectedRecord = read(record);
        let key = (value.publisher, String::from_utf8(value.payload).unwrap());
        let (name, word) = expected.remove(&key).unwrap_or_else(|| panic!("nobody expects {key:?}"));
        assert_eq!(value.reason, word, "{name}");
    }
}

/// What the auditor must say of an attack.
#[derive(Debug, Clone, Copy)]
enum Judged {
    /// A delivered command with this verdict.
    Verdict(&'static str),
    /// A row with this finding.
    Finding(&'static str),
    /// An attempt with this reason.
    Attempt(&'static str),
}

impl Judged {
    fn of(audited: Audited) -> Self {
        match audited {
            Audited::Verdict(word) => Self::Verdict(word),
            Audited::Finding(word) => Self::Finding(word),
            Audited::Attempt(word) => Self::Attempt(word),
        }
    }

    /// Whether this row says so of the attempt.
    fn is_said_by(self, row: &Row, attempt: &Attempt) -> bool {
        let is_of_publisher = row.publisher.as_deref() == Some(&attempt.publisher);
        // A finding that comes from what did not happen has no publisher.
        let is_of_process = row.process_id.as_deref().is_some_and(|id| attempt.payload.contains(id));
        match self {
            Self::Verdict(word) => row.kind == "command" && is_of_publisher && row.verdict == word,
            Self::Finding(word) => {
                (is_of_publisher || is_of_process) && row.findings.iter().any(|finding| finding == word)
            }
            Self::Attempt(word) => {
                let reason = row.reason.as_deref().unwrap_or_default();
                row.kind == "attempt" && is_of_publisher && reason.split(';').next() == Some(word)
            }
        }
    }
}

/// A row of the history.
#[derive(Debug)]
struct Row {
    kind: String,
    verdict: String,
    findings: Vec<String>,
    reason: Option<String>,
    publisher: Option<String>,
    process_id: Option<String>,
}

/// An auditor that reads the streams says of each attack what it must, and finds no command `ok` but
/// the genuine ones.
async fn check_judged(stack: &Stack, attempts: &[(&Attack, Attempt)], expected: impl Fn(&Attack) -> Judged) {
    let soon = [("judge.orphan_grace_ms", "1000"), ("judge.idle_grace_ms", "500")];
    let audit = Audit::start(&stack.kafka, &stack.secrets, &soon).await.unwrap();
    let client = audit.connect().await.unwrap();
    let mut missing = Vec::new();
    let mut rows = Vec::new();
    let all_said = eventually_or(DEADLINE, async || {
        rows = history(&client).await;
        missing = attempts
            .iter()
            .filter(|(attack, attempt)| {
                let expected = expected(attack);
                !rows.iter().any(|row| expected.is_said_by(row, attempt))
            })
            .map(|(attack, _)| (attack.name, expected(attack)))
            .collect();
        missing.is_empty()
    })
    .await;
    assert!(all_said, "the auditor does not say {missing:?}; it says {rows:#?}");
    let is_ok = |row: &&Row| row.kind == "command" && row.verdict == "ok";
    assert_eq!(rows.iter().filter(is_ok).count(), genuine(attempts) + 1);
}

async fn history(client: &Client) -> Vec<Row> {
    let rows = client
        .query(
            "select kind, verdict, findings, reason, publisher, process_id from auditor.event
             where client_id = $1 order by occurred_at, seq",
            &[&LOCK],
        )
        .await
        .unwrap();
    let row = |row: &tokio_postgres::Row| Row {
        kind: row.get(0),
        verdict: row.get(1),
        findings: row.get(2),
        reason: row.get(3),
        publisher: row.get(4),
        process_id: row.get(5),
    };
    rows.iter().map(row).collect()
}

/// As [`eventually`], for a failure that has more to tell.
async fn eventually_or(deadline: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let until = Instant::now() + deadline;
    while !condition().await {
        if Instant::now() >= until {
            return false;
        }
        sleep(Duration::from_millis(100)).await;
    }
    true
}

fn read(record: &Record) -> RejectedRecord {
    serde_json::from_slice(&record.value).unwrap()
}

impl Target {
    async fn start(stack: &Stack) -> Self {
        let (acted, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let is_up = Arc::new(AtomicUsize::new(0));
        let counters = (Arc::clone(&acted), Arc::clone(&refused), Arc::clone(&is_up));
        let (changes, receiver) = mpsc::channel(1);
        let settings = Settings {
            mqtt: mqtt::Options {
                host: "127.0.0.1".to_owned(),
                port: stack.mqtt().port(),
                client_id: LOCK.to_owned(),
                login: Some(stack.secrets.lock_login(LOCK)),
                protocol: Protocol::V3,
                session: mqtt::Session::Kept,
            },
            key: stack.secrets.master.command_key(LOCK),
            short_sign: ShortSign::Refused,
            interval: Duration::from_secs(60),
            jitter: Duration::ZERO,
            battery_percent: 83.4,
            drain_percent_per_day: 0.0,
            jammed: false,
            seed: 1,
            nonces: Default::default(),
            nonce_file: None,
            observer: Arc::new(move |_, happening| {
                let (acted, refused, is_up) = &counters;
                match happening {
                    Happening::Acted(..) => acted.fetch_add(1, Ordering::Relaxed),
                    Happening::Refused(_) => refused.fetch_add(1, Ordering::Relaxed),
                    Happening::Reported(_) => is_up.fetch_add(1, Ordering::Relaxed),
                    _ => 0,
                };
            }),
        };
        tokio::spawn(run(settings, receiver));
        eventually(DEADLINE, "the lock reports", async || is_up.load(Ordering::Relaxed) > 0).await;
        Self { acted, refused, _changes: changes }
    }

    /// How often the lock has acted, one more genuine command included, which comes behind all others.
    async fn acted_when_done(&self, stack: &Stack) -> usize {
        let options = stack.secrets.operator_options(stack.mqtt().port(), Protocol::V5).unwrap();
        let mut operator = Operator::connect(options, LOCK).await.unwrap();
        let last = Command::sign(&stack.secrets.master, LOCK, Action::Lock).unwrap();
        let answer = operator.send(&last, DEADLINE).await.unwrap();
        let (_, report) = answer.report.expect("the lock answers");
        assert_eq!(report.result.as_deref(), Some("ok"));
        eventually(DEADLINE, "the lock has said so", async || self.acted.load(Ordering::Relaxed) > 0).await;
        self.acted.load(Ordering::Relaxed)
    }
}

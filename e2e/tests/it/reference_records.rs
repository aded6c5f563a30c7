//! The services live off the records of a reference installation: EMQX with its Kafka plugin, which
//! knows no headers and calls a client without user name "undefined".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use latchline_e2e::site::Site;
use latchline_e2e::site::ask::{self, DEADLINE};
use latchline_e2e::stack::notifier::User;
use latchline_e2e::stack::whole::{Whole, Wishes};
use latchline_e2e::stack::{COMMANDS, STATES, command_topic, state_topic};
use latchline_shared::kit::clock;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::support;

const LOCK: &str = "10083618796833171";
const OTHER: &str = "10083618796833172";
const PROCESS: &str = "7802441525528958";
const STATE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
const COMMAND: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;
/// Of the sample's fields by the key of the test vectors: V1, and V2, which is for the other lock.
const V1: &str = "0aebeba2333244de3dc4ad673bfc9add112da6dc68343c7f5b186f7376cd772c";
const V2: &str = "612a5895b668a01ba1b13f0b4168357dc5d285fcbda4c7b1615c19fb8f84bf7a";
/// When the reference's record was made, and when its command would have been fresh.
const RECORD_MS: u64 = 1_574_751_635_845;
const FRESH_MS: u64 = 1_574_744_435_000;

/// A reference installation, as far as Kafka sees it.
struct Reference(ThreadedProducer<DefaultProducerContext>);

impl Reference {
    fn open(bootstrap: &str) -> Self {
        Self(ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap())
    }

    fn state(&self, lock: &str, payload: &str, ts: u64) {
        let (topic, payload) = (state_topic(lock), STANDARD.encode(payload));
        self.send(STATES, lock, &format!(r#"{{"client_id":"{lock}","username":"undefined","topic":"{topic}","payload":"{payload}","qos":1,"node":"emqx@127.0.0.1","ts":{ts}}}"#));
    }

    fn command(&self, lock: &str, payload: &str, ts: u64) {
        let (topic, payload) = (command_topic(lock), STANDARD.encode(payload));
        self.send(COMMANDS, lock, &format!(r#"{{"client_id":"{lock}","username":"undefined","from":"backend","topic":"{topic}","payload":"{payload}","qos":1,"node":"emqx@127.0.0.1","ts":{ts}}}"#));
    }

    fn send(&self, stream: &str, key: &str, value: &str) {
        self.0.send(BaseRecord::to(stream).key(key).payload(value)).map_err(|(error, _)| error).unwrap();
        self.0.flush(DEADLINE).unwrap();
    }
}

/// Waits until the auditor has these verdicts of the commands of the process, in this order.
async fn judged(site: &Site, lock: &str, expected: &[&str]) {
    let ask = async || {
        let process = site.process(lock, PROCESS).await?;
        let events = process.map(|mut process| process["events"].take());
        let events: Vec<ask::Entry> = events.map(serde_json::from_value).transpose()?.unwrap_or_default();
        let commands = events.into_iter().filter(|event| event.kind == "command");
        Ok(commands.map(|event| event.verdict.unwrap_or_default()).collect::<Vec<_>>())
    };
    let what = format!("commands of {lock} are {expected:?}");
    ask::until(&what, DEADLINE, ask, |verdicts| verdicts == expected).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services_live_off_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    let key: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&secrets, format!("{LOCK} {key}\n{OTHER} {key}\n")).unwrap();
    let secrets = secrets.display().to_string();
    let short_signs = format!(r#"["{LOCK}"]"#);
    let auditor =
        [("keys.lock_secrets_file", secrets.as_str()), ("keys.short_sign_locks", short_signs.as_str())];
    let owner = User { id: "owner".to_owned(), phone: 9_012_345_678, locks: vec!["*".to_owned()] };
    let wishes = Wishes { users: &[owner], auditor: &auditor, ..Wishes::default() };
    let whole = Whole::start(support::development().await, wishes).await.unwrap();
    let site = whole.site().unwrap();
    let reference = Reference::open(&whole.stack.kafka.bootstrap());

    // By the time of the record, which is years ago. The sample cannot be verified by any key; the
    // same bytes once more, with nothing that says why, are the publisher's own repetition.
    reference.command(LOCK, COMMAND, FRESH_MS);
    reference.command(LOCK, &COMMAND.replace("e9f5af7deaa28563", &V1[..16]), FRESH_MS);
    reference.command(LOCK, &COMMAND.replace("e9f5af7deaa28563", &V1[..16]), FRESH_MS + 1_000);
    judged(&site, LOCK, &["bad_signature", "ok", "retransmit"]).await;
    reference.command(OTHER, &COMMAND.replace("e9f5af7deaa28563", V2), RECORD_MS);
    judged(&site, OTHER, &["stale"]).await;
    site.alarm(LOCK, "security_bad_signature", "active").await.unwrap();
    site.alarm(OTHER, "security_stale", "active").await.unwrap();

    // A result now; heartbeats repeat it byte for byte.
    let now_ms = clock::unix_ms() - 60_000;
    for heartbeat in 0..=60 {
        reference.state(LOCK, STATE, now_ms + heartbeat);
    }
    let present = site.presents(LOCK, |lock| lock.lock_state == "unlocked").await.unwrap();
    assert_eq!(present.battery, Some(83.4));
    // The battery runs down slowly; three reports in a row make it low. They still repeat the process.
    for (n, percent) in
        ["74.1", "65.0", "56.0", "47.0", "38.0", "29.0", "20.0", "19.9", "19.8"].into_iter().enumerate()
    {
        reference.state(LOCK, &STATE.replace("83.4", percent), now_ms + 1_000 + n as u64);
    }
    let low = site.alarm(LOCK, "battery_low", "active").await.unwrap();
    let told = site.told_by_all(LOCK, "battery_low", |one| one.alarm_id.as_deref() == Some(low.id.as_str()));
    assert!(told.await.unwrap().is_once());
    site.judged(LOCK, PROCESS, "result", "ok").await.unwrap();
    let unlocked = site.told_by_all(LOCK, "unlocked", |one| one.event_type == "unlocked").await.unwrap();
    assert!(unlocked.is_once(), "heartbeats tell nobody: {unlocked:?}");
    whole.finish().await.unwrap();
}

//! A signed command reaches the lock, the lock acts and answers, and both are in Kafka; without the
//! broker's guard a forged and a replayed one reach it as well, and it refuses them.

use std::sync::Arc;
use std::time::Duration;

use latchline_e2e::kafka::Kafka;
use latchline_e2e::kafka::reader::Record;
use latchline_e2e::lock::run::{Settings, run};
use latchline_e2e::lock::state::Change;
use latchline_e2e::mqtt;
use latchline_e2e::operator::{Acked, Command, Operator, Report};
use latchline_e2e::stack::{COMMANDS, STATES, Stack};
use latchline_shared::command::{Action, ShortSign};
use latchline_shared::message::Protocol;
use tokio::sync::mpsc;

use crate::support::{self, DEADLINE};

#[tokio::test]
async fn on_the_development_kafka() {
    check(support::development().await).await;
}

#[tokio::test]
async fn on_the_chosen_kafka() {
    let Some(kafka) = support::chosen().await else { return };
    check(kafka).await;
}

async fn check(kafka: Kafka) {
    let stack = Stack::start_with(kafka, &[("guard.mode", "off")]).await.unwrap();
    for (lock, protocol) in [("10083618796833171", Protocol::V3), ("10083618796833172", Protocol::V5)] {
        check_lock(&stack, lock, protocol).await;
    }
    stack.finish().await.unwrap();
}

async fn check_lock(stack: &Stack, lock: &str, protocol: Protocol) {
    let changes = start_lock(stack, lock, protocol);
    let options = stack.secrets.operator_options(stack.mqtt().port(), protocol).unwrap();
    let operator_id = options.client_id.clone();
    let mut operator = Operator::connect(options, lock).await.unwrap();
    // Its first report says that it listens.
    let mut reader = stack.reader(&[STATES]).await.unwrap();
    let reported = |records: &[Record]| records.iter().any(|record| record.key.as_deref() == Some(lock));
    reader.read_until(DEADLINE, reported).await.unwrap();

    let signed = Command::sign(&stack.secrets.master, lock, Action::Unlock).unwrap();
    check_answer(&mut operator, &signed.forged().unwrap(), "denied", Some(100), 0).await;
    check_answer(&mut operator, &signed.replayed(), "ok", None, 1).await;
    check_answer(&mut operator, &signed.replayed(), "denied", Some(102), 1).await;
    changes.send(Change::Jam).await.unwrap();
    let second = Command::sign(&stack.secrets.master, lock, Action::Lock).unwrap();
    check_answer(&mut operator, &second, "failed", Some(0), 2).await;

    check_records(stack, lock, &operator_id, &[&signed.forged().unwrap(), &signed, &signed, &second]).await;
}

fn start_lock(stack: &Stack, lock: &str, protocol: Protocol) -> mpsc::Sender<Change> {
    let (changes, receiver) = mpsc::channel(1);
    let settings = Settings {
        mqtt: mqtt::Options {
            host: "127.0.0.1".to_owned(),
            port: stack.mqtt().port(),
            client_id: lock.to_owned(),
            login: Some(stack.secrets.lock_login(lock)),
            protocol,
            session: mqtt::Session::Kept,
        },
        key: stack.secrets.master.command_key(lock),
        short_sign: ShortSign::Refused,
        interval: Duration::from_secs(60),
        jitter: Duration::ZERO,
        battery_percent: 83.4,
        drain_percent_per_day: 0.0,
        jammed: false,
        seed: 1,
        nonces: Default::default(),
        nonce_file: None,
        observer: Arc::new(|_, _| {}),
    };
    tokio::spawn(run(settings, receiver));
    changes
}

async fn check_answer(
    operator: &mut Operator,
    command: &Command,
    result: &str,
    error: Option<u64>,
    lock_state: u64,
) -> Report {
    let answer = operator.send(command, DEADLINE).await.unwrap();
    assert!(matches!(answer.acked, Acked::After(_)), "{answer:?}");
    let (_, report) = answer.report.expect("the lock answers");
    assert_eq!((report.result.as_deref(), report.error), (Some(result), error), "{report:?}");
    assert_eq!((report.lock_state, &report.process_id), (lock_state, &command.process_id));
    report
}

/// What the lock got is recorded once each, in order, and so is what it answered.
async fn check_records(stack: &Stack, lock: &str, operator_id: &str, commands: &[&Command]) {
    let of_lock = |records: &[Record]| -> Vec<Record> {
        records.iter().filter(|record| record.key.as_deref() == Some(lock)).cloned().collect()
    };
    let mut reader = stack.reader(&[COMMANDS]).await.unwrap();
    let records =
        reader.read_until(DEADLINE, |records| of_lock(records).len() >= commands.len()).await.unwrap();
    let records = of_lock(&records);
    assert_eq!(records.len(), commands.len());
    for (record, command) in records.iter().zip(commands) {
        let value = record.json().unwrap();
        assert_eq!(value["client_id"], lock, "the receiver");
        assert_eq!(value["from"], operator_id, "the publisher");
        assert_eq!(latchline_e2e::show::payload(&value).unwrap(), command.payload);
    }

    let results = |records: &[Record]| -> Vec<String> {
        let payload = |record: &Record| latchline_e2e::show::payload(&record.json().unwrap()).unwrap();
        of_lock(records).iter().map(payload).filter(|payload| payload.contains("\"result\"")).collect()
    };
    let mut reader = stack.reader(&[STATES]).await.unwrap();
    let records =
        reader.read_until(DEADLINE, |records| results(records).len() >= commands.len()).await.unwrap();
    let words: Vec<String> = results(&records)
        .iter()
        .map(|payload| serde_json::from_str::<Report>(payload).unwrap().result.unwrap())
        .collect();
    assert_eq!(words, ["denied", "ok", "denied", "failed"]);
}

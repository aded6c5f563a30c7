//! A broker that goes away takes all of its locks with it: that is one alarm and not one for each,
//! and when it is back nothing is left of it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use latchline_e2e::kafka::reader::Record;
use latchline_e2e::process::Process;
use latchline_e2e::stack::monitor::Monitor;
use latchline_e2e::stack::{self, ALARMS, Stack};
use latchline_shared::alarm::{AlarmRecord, AlarmType, Change};
use latchline_shared::kit::testing::eventually;
use tokio_postgres::Client;

use crate::support;

const LOCKS: i64 = 5_000;
/// The proportions of the default, a fifteenth of its times: locks report every 4 s.
const RULES: &str = "
    [device_offline]
    silent_s = 14
    hold_s = 4
    watch_s = 4
    [fleet_connectivity]
    window_s = 4
    end_delay_s = 4
";
/// Longest wait for something that thousands of locks do.
const LONG: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stops_is_one_alarm() {
    let mut stack = Stack::start(support::development().await).await.unwrap();
    let started =
        Monitor::start(&stack.kafka, RULES, &[("alarms.grace_ms", "500"), ("streams.findings", "")]).await;
    let mut monitor = started.unwrap();
    let client = monitor.connect().await.unwrap();
    let mut alarms = stack.reader(&[ALARMS]).await.unwrap();
    let _locks = start_locks(&stack);
    let online = "select count(*) from lock_current where online";
    eventually(LONG, "all locks are known", async || count(&client, online).await == LOCKS).await;
    let watched = "select count(*) from lane where locks > 0 and live_since < evaluated_at - interval '4 s'";
    let lanes = "select count(*) from lane where locks > 0";
    eventually(LONG, "silence counts", async || count(&client, watched).await == count(&client, lanes).await)
        .await;

    stack.broker.kill().unwrap();
    let offline = "select count(*) from lock_current where not online";
    eventually(LONG, "all are silent", async || count(&client, offline).await == LOCKS).await;
    // The last of them has been silent for longer than a single lock is held back.
    let held = "select count(*) from lane where evaluated_at <
        (select max(online_since) from lock_current) + interval '6 s'";
    eventually(LONG, "all would have been told", async || count(&client, held).await == 0).await;
    assert_eq!(types(&client).await, BTreeMap::from([("fleet_connectivity".to_owned(), 1)]));

    stack.broker.start(&stack::LISTENERS).await.unwrap();
    eventually(LONG, "all are back", async || count(&client, online).await == LOCKS).await;
    let over = "select count(*) from alarm where type = 'fleet_connectivity' and not condition";
    eventually(LONG, "the fleet has recovered", async || count(&client, over).await == 1).await;
    assert_eq!(types(&client).await, BTreeMap::from([("fleet_connectivity".to_owned(), 1)]));

    let told = |record: &Record| {
        let alarm: AlarmRecord = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(alarm.alarm_type, AlarmType::FleetConnectivity);
        (alarm.change, alarm.notify)
    };
    let is_last = |record: &Record| told(record).0 == Change::ReturnedToNormal;
    let records = alarms.read_until(LONG, |records| records.iter().any(is_last)).await.unwrap();
    let notifications = records.iter().filter(|record| told(record).1).count();
    assert!((1..=3).contains(&notifications), "{records:?}");
    monitor.monitor.stop().await.unwrap();
    stack.finish().await.unwrap();
}

fn start_locks(stack: &Stack) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locksim"));
    command
        .args(["--server", &stack.mqtt().to_string()])
        .args(["--count", &LOCKS.to_string()])
        .args(["--interval", "4", "--jitter", "1", "--connect-rate", "1000"])
        .env("LATCHLINE_MASTER_KEY", &stack.secrets.master_hex);
    Process::start("locksim", &mut command).unwrap()
}

/// How many alarms there are of each type, whatever has become of them.
async fn types(client: &Client) -> BTreeMap<String, i64> {
    let rows = client.query("select type, count(*) from alarm group by type", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

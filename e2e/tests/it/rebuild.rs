//! The monitor's tables are what the records make them, whatever happened to the process.

use std::process::Command;

use latchline_e2e::feed::{Feed, Report};
use latchline_e2e::stack::STATES;
use latchline_e2e::stack::monitor::{LISTENERS, Monitor};
use latchline_shared::kit::clock;
use latchline_shared::kit::testing::eventually;

use crate::support::{self, DEADLINE};

const LOCKS: u64 = 200;
const REPORTS: u64 = 100;
const KILL_EVERY: u64 = 40;
const MINUTE_MS: u64 = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_equals_what_a_killed_monitor_has_made() {
    let kafka = support::development().await;
    let mut monitor = Monitor::start(&kafka, "", &[]).await.unwrap();
    let feed = Feed::open(&kafka.bootstrap()).unwrap();
    let start_ms = clock::unix_ms() - REPORTS * MINUTE_MS;
    for minute in 0..REPORTS {
        for n in 0..LOCKS {
            // Batteries drain, bolts jam and doors stay open, each at its own time.
            let lock = format!("{n:017}");
            let battery = 40.0 - (minute * (n % 7)) as f32 / 10.0;
            let lock_state = [0, 0, 1, 2][((minute + n) / 20 % 4) as usize];
            let ts_ms = start_ms + minute * MINUTE_MS + n;
            feed.send(STATES, &Report { battery, lock_state, ..Report::of(&lock, ts_ms) }.record()).unwrap();
        }
        if minute % KILL_EVERY == KILL_EVERY - 1 {
            monitor.monitor.kill().unwrap();
            monitor.monitor.start(&LISTENERS).await.unwrap();
        }
    }
    feed.flush().unwrap();
    let client = monitor.connect().await.unwrap();
    let read = "select coalesce(sum(next_offset), 0)::bigint from consumer_offset";
    let is_read =
        async || client.query_one(read, &[]).await.unwrap().get::<_, i64>(0) == (LOCKS * REPORTS) as i64;
    eventually(DEADLINE, "all reports are read", is_read).await;

    let (code, said) = rebuild(monitor.monitor.command().unwrap()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the rebuilt tables equal the live ones"), "{said}");
    client.execute("update alarm set severity = 'minor' where type = 'lock_fault'", &[]).await.unwrap();
    let (code, said) = rebuild(monitor.monitor.command().unwrap()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("severity is \"minor\", rebuilt \"critical\""), "{said}");
    monitor.monitor.stop().await.unwrap();
}

async fn rebuild(mut command: Command) -> (Option<i32>, String) {
    let output = tokio::task::spawn_blocking(move || command.arg("rebuild").output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

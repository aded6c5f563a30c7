//! `bench pipeline`, small, on the development Kafka: that everything is counted at both ends, timed from
//! end to end and drawn; and that the end of a part, or a signal, ends it. Nothing here depends on how
//! fast the machine is.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use latchline_e2e::bench::pipeline::{self, Plan};
use latchline_e2e::bench::scale::crowd::reports::Reports;
use latchline_e2e::kafka::Choice;
use latchline_e2e::process::{Process, send};
use latchline_e2e::stack::program::Name;
use latchline_shared::kit::testing::eventually;
use nix::sys::signal::Signal;

use crate::support::DEADLINE;

/// It would run for so long.
const SECONDS: &str = "3600";
/// As names of processes are cut off by the kernel.
const PARTS: [&str; 5] =
    ["latchline-audit", "latchline-crowd", "latchline-monit", "latchline-notif", "postgres"];

#[tokio::test]
async fn everything_arrives_and_is_timed() {
    for reports in [Reports::Heartbeat, Reports::Repeat] {
        let plan = Plan { reports, ..Plan::small() };
        let due = (plan.per_second * plan.window.as_secs_f64()) as u64;
        let probes = (plan.probes_per_second * plan.window.as_secs_f64()) as u64;
        let pipeline = pipeline::measure(Choice::Development, plan, |_| {}).await.unwrap();
        pipeline.check().unwrap();
        assert!(pipeline.drain_s.is_some() && pipeline.losses.is_empty(), "{pipeline}");
        assert_eq!(pipeline.pubacks.count, due, "{pipeline}");
        assert!(pipeline.acked >= due + probes && pipeline.stored == pipeline.acked, "{pipeline}");
        let applied = |name: &str| pipeline.lags.iter().find(|lag| lag.service == name).unwrap();
        for service in ["auditor", "monitor", "notifier"] {
            assert!(applied(service).applied_per_second > 0.0, "{pipeline}");
        }
        for timed in &pipeline.timed {
            assert_eq!((timed.delays.count, timed.missing), (probes / 2, 0), "{pipeline}");
            assert!(timed.delays.p50_ms > 0.0, "{pipeline}");
        }
        for part in ["broker", "postgres", "auditor", "monitor", "notifier", "load"] {
            assert!(pipeline.parts.iter().any(|one| one.name == part), "{part} in {pipeline}");
        }
        let svg = pipeline.svg();
        assert_eq!(svg.matches("<polyline").count(), 3 + 4 + 2 + 6, "{svg}");
    }
}

#[tokio::test]
async fn the_end_of_a_part_ends_it_and_is_said() {
    for (part, who) in
        [("latchline-crowd", "the crowd"), ("latchline-monit", "the monitor"), ("postgres", "postgres")]
    {
        let (bench, parts) = begun().await;
        send(parts[part], Signal::SIGKILL).unwrap();
        let said = ended(bench, &parts).await;
        let reason = format!("{who} has ended (signal: 9 (SIGKILL)");
        assert!(said.contains(&reason), "{reason} in {said}");
    }
}

#[tokio::test]
async fn a_signal_ends_it_with_all_that_it_has_started() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let (bench, parts) = begun().await;
        send(bench.id(), signal).unwrap();
        let said = ended(bench, &parts).await;
        assert!(said.contains(&format!("ended by {signal}")), "{said}");
    }
}

/// One that measures, and what it has started.
async fn begun() -> (Process, BTreeMap<String, u32>) {
    let mut command = Command::new(Name::Crowd.binary().unwrap().with_file_name("bench"));
    command.args(["pipeline", "--small", "--seconds", SECONDS]).env("KAFKA", "dev");
    let mut bench = Process::start("bench pipeline", &mut command).unwrap().with_children();
    let mut measures = false;
    eventually(DEADLINE, "it measures", async || {
        measures = bench.output().lines().iter().any(|line| line.ends_with(&format!("for {SECONDS} s")));
        measures || bench.ended().is_some()
    })
    .await;
    assert!(measures, "{}", bench.output().lines().join("\n"));
    let parts = children(bench.id());
    assert!(parts.keys().eq(PARTS), "{parts:?}");
    (bench, parts)
}

/// Waits until it ends, as a failure, long before it would have; the answer is what it has said.
async fn ended(mut bench: Process, parts: &BTreeMap<String, u32>) -> String {
    let status = bench.wait(DEADLINE).await.unwrap();
    let said = bench.output().lines().join("\n");
    assert_eq!(status.code(), Some(1), "{said}");
    for (name, id) in parts {
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "{name} is left behind: {said}");
    }
    said
}

/// By name, of all threads; threads and children may end meanwhile.
fn children(id: u32) -> BTreeMap<String, u32> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let ids = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let ids: Vec<u32> = ids
        .flat_map(|ids| ids.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    let name = |id: u32| std::fs::read_to_string(format!("/proc/{id}/comm")).ok();
    ids.into_iter().filter_map(|id| Some((name(id)?.trim().to_owned(), id))).collect()
}

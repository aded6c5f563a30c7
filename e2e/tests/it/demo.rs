//! The demo comes true: it ends with exit code 0 only if every record that it tells of was seen.

use std::process::Command;

use latchline_e2e::process::Process;

use crate::support::DEADLINE;

#[tokio::test]
async fn the_story_comes_true() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    // With the Kafka that this machine, or KAFKA, chooses.
    let mut demo = Process::start("the demo", command.arg("--once")).unwrap();
    let status = demo.wait(3 * DEADLINE).await.unwrap();
    let output = demo.output().lines().join("\n");
    assert!(status.success(), "{status}\n{output}");
    for told in [
        "1  Locks connect and report",
        "reports: ok, unlocked",
        "refused (bad_signature): unlock",
        "refused (replay): unlock",
        "battery 9.5 %",
        "reports: failed (error 0), fault",
        "nothing is lost",
        "All of it was seen in Kafka.",
    ] {
        assert!(output.contains(told), "not told: {told}\n{output}");
    }
}

#[tokio::test]
async fn it_ends_when_told_to() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    let demo = Process::start("the demo", command.env("KAFKA", "dev")).unwrap();
    let told = |text: &str| demo.output().lines().iter().any(|line| line.contains(text));
    latchline_shared::kit::testing::eventually(3 * DEADLINE, "the story is over", async || {
        told("Try it yourself")
    })
    .await;
    let output = demo.output().clone();
    let status = demo.stop(DEADLINE).await.unwrap();
    assert!(status.success(), "{status}\n{}", output.lines().join("\n"));
    let folder = output.lines().iter().find_map(|line| {
        line.split_once("source ")
            .and_then(|(_, rest)| rest.split_once("/environment"))
            .map(|(path, _)| path.to_owned())
    });
    let folder = folder.expect("the demo says where its environment is");
    assert!(!std::path::Path::new(&folder).exists(), "secrets are gone with the demo");
}

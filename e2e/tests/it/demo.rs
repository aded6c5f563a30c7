//! The demo comes true: it ends with exit code 0 only if everything that it tells of was seen. And
//! what it says at its end works.

use std::process::Command;
use std::time::Duration;

use latchline_e2e::process::{Output, Process};
use latchline_shared::kit::testing::eventually;
use tokio::sync::Mutex;

use crate::support::DEADLINE;

/// Longest wait for all of it.
const STORY: Duration = DEADLINE.saturating_mul(5);

/// Two demos at once want the same well-known ports, and a port that was free a moment ago is taken.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn text(output: &Output) -> String {
    output.lines().join("\n")
}

#[tokio::test]
async fn the_story_comes_true() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    // With the Kafka that this machine, or KAFKA, chooses.
    let mut demo = Process::start("the demo", command.env("DEMO_ONCE", "1")).unwrap();
    let status = demo.wait(STORY).await.unwrap();
    let output = text(demo.output());
    assert!(status.success(), "{status}\n{output}");
    for told in [
        "1  Locks connect and report",
        "Front door reports: ok, unlocked",
        "Front door: unlocked",
        "Front door: Unlocked",
        "command of operator, ok, info",
        "refused (bad_signature): unlock",
        "attempt of operator, bad_signature, critical",
        "Office: FORGED COMMAND",
        "refused (replay): unlock",
        "security_replay (critical) raised",
        "Cellar: battery_low (warning) raised",
        "[Warning] Cellar: Battery low",
        "Garden gate: lock_fault (critical) raised",
        "Garden gate: LOCK JAMMED",
        "Garden gate reports: failed (error 0), fault",
        "after the door was open, once",
        "none was changed, removed or put in",
        "it happens → the owner has an SMS",
        "All of it came true.",
    ] {
        assert!(output.contains(told), "not told: {told}\n{output}");
    }
    assert!(!output.contains('\x1b'), "no colours where there is no terminal");
    for line in output.lines() {
        assert!(line.chars().count() <= 100, "a line is too wide: {line}");
    }
}

#[tokio::test]
async fn what_it_says_at_its_end_works_until_it_is_told_to_end() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    let demo = Process::start("the demo", command.env("KAFKA", "dev")).unwrap();
    let output = demo.output().clone();
    // The last line of all.
    eventually(STORY, "the story is over", async || text(&output).contains("$ mosquitto_sub")).await;
    let said = text(&output);
    let (_, further) = said.split_once("\nOpen;").expect("the demo says what to open");
    let words = further.split_whitespace();
    let urls: Vec<&str> = words.filter(|word| word.starts_with("http://")).collect();
    assert_eq!(urls.len(), 7, "{further}");
    for url in urls {
        let answer = reqwest::get(url).await.unwrap();
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        let page = answer.text().await.unwrap();
        assert!(!url.ends_with("5/") || page.contains("Front door: Unlocked"), "{url}: {page}");
    }
    let typed: Vec<&str> = further.lines().filter_map(|line| line.trim().strip_prefix("$ ")).collect();
    let folder = typed[0].trim_start_matches("source ").split("/environment").next().unwrap().to_owned();
    // The attacks take their time and have a test of their own; a subscriber does not end.
    let is_tried = |line: &&str| !line.starts_with("locksim") && !line.starts_with("mosquitto_sub");
    let script: Vec<String> =
        typed.into_iter().filter(is_tried).map(|line| line.replace("curl -sS", "curl -fsS")).collect();
    let script = script.join("\n").replace("--forge", "--forge || test $? = 2");
    let tried = tokio::task::spawn_blocking(move || {
        Command::new("bash").args(["-e", "-u", "-c", &script]).output().unwrap()
    });
    let tried = tried.await.unwrap();
    let printed = String::from_utf8_lossy(&tried.stdout).into_owned();
    assert!(tried.status.success(), "{printed}\n{}", String::from_utf8_lossy(&tried.stderr));
    for expected in [
        r#""verdict":"ok""#,
        r#""intact":true"#,
        r#""type":"lock_fault""#,
        r#""status":"sent""#,
        "refused   by the broker",
        "lock_alarm/",
    ] {
        assert!(printed.contains(expected), "{expected} is not in {printed}");
    }
    let children = children(demo.id());
    assert!(children.len() >= 5, "four programs and Postgres: {children:?}");
    // SIGTERM and SIGINT end it alike.
    let status = demo.stop(DEADLINE).await.unwrap();
    assert!(status.success(), "{status}\n{}", text(&output));
    assert!(!std::path::Path::new(&folder).exists(), "secrets are gone with the demo");
    for child in children {
        assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "{child} was left behind");
    }
}

fn children(id: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let children =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    children
        .flat_map(|line| line.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

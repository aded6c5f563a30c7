//! The command-line tools as processes, as people call them.

use std::process::Command;

use latchline_e2e::process::Process;
use latchline_e2e::stack::{COMMANDS, Stack};
use latchline_shared::kit::testing::eventually;

use crate::support::{self, DEADLINE};

const LOCK: &str = "10083618796833172";

#[tokio::test]
async fn lockctl_commands_the_locks_of_locksim() {
    // Without the guard, so that the locks have something to refuse.
    let kafka = support::development().await;
    let stack = Stack::start_with(kafka, &[("guard.mode", "off")]).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let remember = folder.path().join("nonces");
    let mut locks = start_locks(&stack, &remember).await;

    for (arguments, code, expected) in [
        (&["unlock", LOCK][..], 0, "ok, unlocked, battery"),
        (&["lock", LOCK], 0, "ok, locked, battery"),
        (&["unlock", LOCK, "--v5"], 0, "ok, unlocked"),
        (&["lock", LOCK, "--forge"], 2, "denied (bad_sign), unlocked"),
        (&["lock", LOCK, "--replay"], 2, "denied (replay), locked"),
        (&["unlock", "nobody", "--wait", "1"], 3, "answered  no"),
    ] {
        let output = lockctl(&stack, arguments).await;
        assert!(output.contains(expected), "{arguments:?}: {output}");
        assert!(output.ends_with(&format!("exit code {code}")), "{arguments:?}: {output}");
    }
    let password = lockctl(&stack, &["password", LOCK]).await;
    assert_eq!(password, format!("{}\nexit code 0", stack.secrets.lock_login(LOCK).1));
    let records = lockctl(&stack, &["records", COMMANDS, "--kafka", &stack.kafka.bootstrap()]).await;
    assert!(
        records.contains("hook=message.acked") && records.contains("payload  {\"process_id\""),
        "{records}"
    );

    locks.pause().await.unwrap();
    locks.kill();
    locks = start_locks(&stack, &remember).await;
    let remembered = std::fs::read_to_string(&remember).unwrap();
    assert_eq!(remembered.lines().count(), 4, "what was acted on is on disk: {remembered}");
    drop(locks);
    stack.finish().await.unwrap();
}

#[tokio::test]
async fn locksim_attacks_in_vain() {
    let stack = Stack::start(support::development().await).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let _locks = start_locks(&stack, &folder.path().join("nonces")).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_locksim"));
    command
        .args(["attack", "--v5", "--later", "1", "--server", &stack.mqtt().to_string()])
        .env("LATCHLINE_PASSWORD", &stack.secrets.operator)
        .env("LATCHLINE_ADMINISTRATOR_PASSWORD", &stack.secrets.administrator)
        .env("LATCHLINE_MASTER_KEY", &stack.secrets.master_hex);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(", 0 not answered as by an enforcing guard"), "{text}");
    assert!(text.contains("Refused(\"nonce_conflict\")"), "{text}");
    stack.finish().await.unwrap();
}

#[tokio::test]
async fn lockctl_says_what_is_wrong() {
    let stack = Stack::start(support::development().await).await.unwrap();
    for (arguments, expected) in [
        (&["unlock", LOCK, "--password", "wrong"][..], "no connection to 127.0.0.1:"),
        (&["unlock", LOCK, "--server", "nonsense"], "--server is host:port"),
        (&["unlock", LOCK, "--master-key", "12"], "64 lower-case hexadecimal digits"),
        (&["records", "nowhere", "--kafka", &stack.kafka.bootstrap()], "nowhere"),
    ] {
        let output = lockctl(&stack, arguments).await;
        assert!(output.contains(expected), "{arguments:?}: {output}");
        assert!(output.ends_with("exit code 1"), "{arguments:?}: {output}");
    }
    stack.finish().await.unwrap();
}

async fn start_locks(stack: &Stack, remember: &std::path::Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_locksim"));
    command
        .args(["--count", "3", "--server", &stack.mqtt().to_string(), "--remember"])
        .arg(remember)
        .env("LATCHLINE_MASTER_KEY", &stack.secrets.master_hex);
    let locks = Process::start("locksim", &mut command).unwrap();
    let count = |what: &str| locks.output().lines().iter().filter(|line| line.contains(what)).count();
    eventually(DEADLINE, "three locks report", async || count("  reports ") >= 3).await;
    locks
}

/// What `lockctl` prints, and its exit code.
async fn lockctl(stack: &Stack, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockctl"));
    command
        .args(arguments)
        .env("LATCHLINE_SERVER", stack.mqtt().to_string())
        .env("LATCHLINE_PASSWORD", &stack.secrets.operator)
        .env("LATCHLINE_MASTER_KEY", &stack.secrets.master_hex);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap();
    format!("{}{}exit code {code}", text(&output.stdout), text(&output.stderr))
}

//! `demo`: starts Kafka, the broker and a few locks on this machine, and tells what happens.
//!
//! It runs on until Ctrl-C, so that people can try things; with `--once` it ends after the story,
//! with exit code 0 if everything that was told was seen in Kafka.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use latchline_e2e::demo::follower::Follower;
use latchline_e2e::demo::screen::{self, heading, say};
use latchline_e2e::demo::story::{LOCKS, Story};
use latchline_e2e::kafka::reader::{From, Reader};
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::stack::{COMMANDS, REJECTED, STATES, Stack};
use tokio::signal::unix::{SignalKind, signal};

/// Shows Latchline at work on this machine
#[derive(Parser)]
struct Arguments {
    /// End after the story; the exit code says whether it came true
    #[arg(long, env = "DEMO_ONCE", value_parser = clap::builder::FalseyValueParser::new())]
    once: bool,
    /// Seconds between two reports of a lock
    #[arg(long, default_value_t = 20)]
    interval: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tokio::select! {
        result = play(&arguments) => result,
        result = ended() => result,
    }
}

/// Ready when the demo is told to end. What it started ends with it, because it is dropped.
async fn ended() -> anyhow::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("wait for Ctrl-C")?,
        _ = hang_up.recv() => {}
        _ = terminate.recv() => {}
    }
    say("\nThe demo ends.");
    Ok(())
}

async fn play(arguments: &Arguments) -> anyhow::Result<()> {
    heading("Latchline carries the messages of smart locks from MQTT into Kafka, and loses none");
    say("  lock ──MQTT──> broker ──> Kafka          (acknowledged when Kafka has it)\n  \
           lock <──signed command── operator");
    let choice = Choice::of_environment()?;
    say(&format!("\nStarting {} and the broker …", choice.name()));
    let mut stack = Stack::start_for_people(Kafka::start(choice).await?).await?;
    say(&format!("MQTT at {}, Kafka at {}", stack.mqtt(), stack.kafka.bootstrap()));
    // From now on: a Kafka that was there already may hold much.
    let reader = Reader::open(&stack.kafka.bootstrap(), &[STATES, COMMANDS, REJECTED], From::End).await?;
    let follower = Follower::start(reader, screen::record);

    let interval = Duration::from_secs(arguments.interval);
    let locks = Story::begin(&mut stack, &follower, interval).await?.play().await?;
    if arguments.once {
        heading("All of it was seen in Kafka.");
        drop(locks);
        return stack.finish().await;
    }
    look_further(&stack)?;
    std::future::pending().await
}

fn look_further(stack: &Stack) -> anyhow::Result<()> {
    let http = stack.broker.address("http");
    let folder = own_folder()?;
    let environment = write_environment(stack)?;
    let (folder, environment) = (folder.display(), environment.display());
    let lock = LOCKS[1];
    heading("Try it yourself; the locks go on until Ctrl-C");
    say(&format!(
        "source {environment}      (server, passwords, keys of this run)\n\
         {folder}/lockctl unlock {lock}\n\
         {folder}/lockctl unlock {lock} --v5 --forge\n\
         {folder}/lockctl records {COMMANDS}\n\
         {folder}/lockctl records {REJECTED}\n\
         {folder}/locksim attack\n\
         mosquitto_sub -p {port} -u operator -P \"$LATCHLINE_PASSWORD\" -i operator-me -t 'devices/+/state'\n\
         http://{http}/metrics   http://{http}/readyz",
        port = stack.mqtt().port(),
    ));
    println!();
    Ok(())
}

fn own_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    Ok(own.parent().context("this program is in no folder")?.to_owned())
}

/// Secrets of this run, in a file that only its owner can read, gone when the demo ends.
fn write_environment(stack: &Stack) -> anyhow::Result<PathBuf> {
    let path = stack.folder().join("environment");
    let mut file = private_file(&path)?;
    for (name, value) in [
        ("SERVER", stack.mqtt().to_string()),
        ("KAFKA", stack.kafka.bootstrap()),
        ("PASSWORD", stack.secrets.operator.clone()),
        ("ADMINISTRATOR_PASSWORD", stack.secrets.administrator.clone()),
        ("MASTER_KEY", stack.secrets.master_hex.clone()),
    ] {
        writeln!(file, "export LATCHLINE_{name}={value}")?;
    }
    Ok(path)
}

fn private_file(path: &Path) -> anyhow::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))
}

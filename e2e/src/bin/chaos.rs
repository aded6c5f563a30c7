//! `chaos`: the whole system under load while faults strike it at random; exit code 0 only if every
//! promise was kept. `checker::account` explains the figures.
//!
//! Whatever ends it, what it has started and mounted ends before.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use latchline_e2e::chaos::Chaos;
use latchline_e2e::chaos::schedule::Schedule;
use latchline_e2e::kafka::Choice;
use latchline_e2e::signal::ended;
use latchline_e2e::stack::ground::{Ground, Room};
use latchline_shared::kit::testing::{Random, Seed};

/// Lets faults strike the whole system at random, and accounts for each message
#[derive(Parser)]
struct Arguments {
    /// For how long faults strike
    #[arg(long, default_value_t = 1_200, overrides_with = "seconds")]
    seconds: u64,
    /// Repeats the faults of another run; else from LATCHLINE_SEED or the clock
    #[arg(long)]
    seed: Option<u64>,
    /// Fail where full disks or clock steps cannot be had, instead of leaving them out
    #[arg(long, env = "CHAOS_ALL", value_parser = clap::builder::FalseyValueParser::new())]
    all: bool,
    /// Write the result as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write what the programs have said into this folder
    #[arg(long)]
    logs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = tokio::select! {
        result = run(&arguments) => result,
        // Everything is dropped.
        signal = ended() => signal.and_then(|signal| bail!("ended by {signal}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let choice = Choice::of_environment()?;
    ensure!(choice == Choice::Apache, "it kills an Apache Kafka of its own, and here is {}", choice.name());
    if let Some(file) = &arguments.json {
        // An old result is none of this run.
        remove(file)?;
    }
    let seed = arguments.seed.map_or_else(Seed::of_this_run, Seed);
    println!("chaos: {} s on {}; to repeat: --seed {}", arguments.seconds, choice.name(), seed.0);
    let mut random = Random::new(seed);
    let mut left_out = Vec::new();
    let ground = Ground::shaky(choice, Room::Hour, |what| {
        println!("LEFT OUT here, {what}");
        left_out.push(what);
    });
    let ground = ground.await?;
    ensure!(left_out.is_empty() || !arguments.all, "{}", left_out.join("; "));
    let mut chaos = Chaos::start(ground, Seed(random.number())).await?;
    let (result, mut json) = examine(&mut chaos, arguments, random).await;
    json["seed"] = seed.0.into();
    json["left_out"] = left_out.clone().into();
    if let Some(folder) = &arguments.logs {
        chaos.write_logs(folder)?;
    }
    if let Some(file) = &arguments.json {
        write(file, &json)?;
    }
    if let Err(error) = &result {
        // At once: what ends now may have a word of its own to say.
        println!("FAILED {error:#}");
    }
    let lost = result?;
    match left_out.as_slice() {
        [] => println!("{lost}"),
        what => println!("{lost}; LEFT OUT: {}", what.join("; ")),
    }
    Ok(())
}

/// Lets faults strike and accounts for what came of it: what was lost, in words, and all of it as data.
async fn examine(
    chaos: &mut Chaos,
    arguments: &Arguments,
    random: Random,
) -> (anyhow::Result<String>, serde_json::Value) {
    let for_long = Duration::from_secs(arguments.seconds);
    let outcome = match strike(chaos, Schedule::new(random), for_long).await {
        Ok(()) => chaos.account().await,
        Err(error) => Err(error),
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            let failure = chaos.failure(&error);
            return (Err(error), failure);
        }
    };
    println!("{} faults in {:.0?}\n{}", outcome.trials.len(), outcome.lasted, outcome.account);
    for loss in outcome.account.losses() {
        println!(
            "{} commands and {} receipts lost with the broker that ended, at most {} (receipts {})",
            loss.commands, loss.receipts, loss.lost_max, loss.receipts_max
        );
    }
    (outcome.check().map(|()| outcome.lost()), outcome.json())
}

async fn strike(chaos: &mut Chaos, schedule: Schedule, for_long: Duration) -> anyhow::Result<()> {
    let means = chaos.means();
    for trial in schedule.filter(|trial| trial.is_possible(means)) {
        if chaos.elapsed() >= for_long {
            break;
        }
        println!("{}", chaos.undergo(trial).await?);
    }
    Ok(())
}

fn remove(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("remove {}", file.display()))
}

fn write(file: &Path, value: &serde_json::Value) -> anyhow::Result<()> {
    std::fs::write(file, serde_json::to_string_pretty(value)?)
        .with_context(|| format!("write {}", file.display()))
}

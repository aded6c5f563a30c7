//! `chaos`: the whole system under load while faults strike it at random; exit code 0 only if every
//! promise was kept. docs/benchmarks.md explains the figures.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use latchline_e2e::chaos::Chaos;
use latchline_e2e::chaos::schedule::Schedule;
use latchline_e2e::kafka::Choice;
use latchline_e2e::stack::ground::Ground;
use latchline_shared::kit::testing::{Random, Seed};

/// Lets faults strike the whole system at random, and accounts for each message
#[derive(Parser)]
struct Arguments {
    /// For how long faults strike
    #[arg(long, default_value_t = 1_200)]
    seconds: u64,
    /// Repeats the faults of another run; else from LATCHLINE_SEED or the clock
    #[arg(long)]
    seed: Option<u64>,
    /// Write the result as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write what the programs have said into this folder
    #[arg(long)]
    logs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let choice = Choice::of_environment()?;
    ensure!(choice == Choice::Apache, "it kills an Apache Kafka of its own, and here is {}", choice.name());
    let seed = arguments.seed.map_or_else(Seed::of_this_run, Seed);
    println!("chaos: {} s on {}; to repeat: --seed {}", arguments.seconds, choice.name(), seed.0);
    let mut random = Random::new(seed);
    let ground = Ground::shaky(choice, |what| println!("LEFT OUT here, {what}")).await?;
    let mut chaos = Chaos::start(ground, Seed(random.number())).await?;
    let schedule = Schedule::new(random, chaos.means());
    let struck = strike(&mut chaos, schedule, Duration::from_secs(arguments.seconds)).await;
    if let Some(folder) = &arguments.logs {
        chaos.write_logs(folder)?;
    }
    if let Err(error) = struck {
        // At once: what ends now may have a word of its own to say.
        println!("FAILED {error:#}");
        return Err(error);
    }
    let outcome = chaos.account().await?;
    println!("{} faults in {:.0?}\n{}", outcome.trials.len(), outcome.lasted, outcome.account);
    println!("{} excused, at most {}", outcome.account.excused(), outcome.excused_max());
    if let Some(file) = &arguments.json {
        write(file, &outcome.json(seed))?;
    }
    outcome.check()?;
    println!("lost = 0");
    Ok(())
}

async fn strike(chaos: &mut Chaos, schedule: Schedule, for_long: Duration) -> anyhow::Result<()> {
    for trial in schedule {
        if chaos.elapsed() >= for_long {
            break;
        }
        println!("{}", chaos.undergo(trial).await?);
    }
    Ok(())
}

fn write(file: &Path, value: &serde_json::Value) -> anyhow::Result<()> {
    std::fs::write(file, serde_json::to_string_pretty(value)?)
        .with_context(|| format!("write {}", file.display()))
}

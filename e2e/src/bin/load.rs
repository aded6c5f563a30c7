//! `load`: loads an MQTT broker and says what that took, as a table and as JSON;
//! `docs/benchmarks.md` explains it. The exit code is 1 if anything was lost, refused or
//! disconnected, and 2 if it could not be tried.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Context;
use clap::Parser;
use latchline_e2e::load::modes::Mode;
use latchline_e2e::load::report::Report;
use tokio::runtime::{Builder, Runtime};

/// Loads any MQTT broker; delays count from when something was due
#[derive(Parser)]
#[command(after_help = "Exit code: 0 if everything arrived, 1 if anything was lost, refused or \
                        disconnected, 2 if the run failed. More: docs/benchmarks.md.")]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

/// Threads that read, where the broker and the thread that paces leave cores for them.
const READERS: usize = 2;

fn main() -> ExitCode {
    let mode = Arguments::parse().mode;
    let outcome = runtime().and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                outcome = run(&mode) => outcome,
                signal = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped by Ctrl-C: {signal:?}")),
            }
        })
    });
    match outcome {
        Ok(report) => ExitCode::from(u8::from(!report.is_clean())),
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = if available_parallelism()?.get() > READERS {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(READERS).thread_name("reader");
        builder
    } else {
        Builder::new_current_thread()
    };
    builder.enable_all().build().context("start the runtime")
}

async fn run(mode: &Mode) -> anyhow::Result<Report> {
    let report = mode.run().await?;
    print!("{report}");
    if let Some(path) = &mode.common().json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(report)
}

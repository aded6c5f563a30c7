//! `load`: loads an MQTT broker and says what that took, as a table and as JSON;
//! `docs/benchmarks.md` explains it. The exit code is 1 if anything was lost, refused or
//! disconnected, and 2 if it could not be tried.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use latchline_e2e::load::modes::Mode;
use latchline_e2e::load::report::Report;

/// Loads any MQTT broker; delays count from when something was due
#[derive(Parser)]
#[command(after_help = "Exit code: 0 if everything arrived, 1 if anything was lost, refused or \
                        disconnected, 2 if the run failed. More: docs/benchmarks.md.")]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mode = Arguments::parse().mode;
    let outcome = tokio::select! {
        outcome = run(&mode) => outcome,
        signal = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped by Ctrl-C: {signal:?}")),
    };
    match outcome {
        Ok(report) => ExitCode::from(u8::from(!report.is_clean())),
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::from(2)
        }
    }
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

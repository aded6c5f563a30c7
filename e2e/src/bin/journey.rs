//! `journey`: takes the whole path on a running system, from outside; exit code 0 only if all came
//! true. Where the system is, and its secrets, are in the environment: LATCHLINE_SERVER,
//! LATCHLINE_WEBSOCKET, LATCHLINE_BROKER_URL, LATCHLINE_AUDITOR_URL, LATCHLINE_MONITOR_URL,
//! LATCHLINE_NOTIFIER_URL, LATCHLINE_MAIL_URL, LATCHLINE_SMS_URL, LATCHLINE_API_TOKEN,
//! LATCHLINE_PASSWORD, LATCHLINE_ADMINISTRATOR_PASSWORD and LATCHLINE_MASTER_KEY.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use latchline_e2e::journey::account::Account;
use latchline_e2e::journey::{path, traffic};
use latchline_e2e::site::Site;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Takes the whole path on a running system, from outside
#[derive(Parser)]
struct Arguments {
    /// Longest wait until the system is ready, in seconds
    #[arg(long, default_value_t = 120, global = true)]
    wait: u64,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Everything once: reports, commands, attacks, alarms, mails, SMS, history
    Run {
        /// File for what must still be true later
        #[arg(long)]
        account: Option<PathBuf>,
    },
    /// Whether what `run --account` wrote is still true
    Again {
        /// That file
        account: PathBuf,
    },
    /// Reports and commands until SIGTERM or SIGINT, then an account of each
    Traffic {
        /// End when standard input is closed, too
        #[arg(long)]
        until_stdin_closes: bool,
        /// Longest wait until everything is accounted for, in seconds
        #[arg(long, default_value_t = 240)]
        settle: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("journey: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let site = Site::of_environment()?;
    site.ready(Duration::from_secs(arguments.wait)).await?;
    match arguments.what {
        What::Run { account: file } => {
            let account = path::run(&site, &mut |line| println!("{line}")).await?;
            if let Some(file) = file {
                let text = serde_json::to_string_pretty(&account)?;
                std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            }
        }
        What::Again { account: file } => {
            let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let account: Account = serde_json::from_slice(&text).context("what must still be true")?;
            account.check(&site).await?;
            println!(
                "{} commands and {} alarms are as they were",
                account.judged.len(),
                account.alarms.len()
            );
        }
        What::Traffic { until_stdin_closes, settle } => {
            let stop = stopped(until_stdin_closes)?;
            let settle = Duration::from_secs(settle);
            for line in traffic::run(&site, &mut |line| println!("{line}"), stop, settle).await? {
                println!("{line}");
            }
            println!("lost = 0");
        }
    }
    Ok(())
}

/// When the traffic shall end.
fn stopped(until_stdin_closes: bool) -> anyhow::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (closed, mut ended) = mpsc::channel::<()>(1);
    if until_stdin_closes {
        let closed = closed.clone();
        std::thread::spawn(move || {
            // Whatever comes, and however it ends.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = closed.blocking_send(());
        });
    }
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = ended.recv() => {}
        }
        drop(closed);
    })
}

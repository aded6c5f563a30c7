//! The life of a process: command line, configuration, logs, runtime, signals, exit code. Every
//! `main.rs` calls [`run`] and is otherwise wiring.
//!
//! ```text
//! latchline-broker [--config FILE]          runs until SIGTERM or SIGINT
//! latchline-broker [--config FILE] check    lists the problems of the configuration
//! latchline-broker [--config FILE] config   prints the effective configuration
//! latchline-broker [--config FILE] health   asks the running one whether it is ready
//! ```
//!
//! A program may have [`Commands`] of its own beside these ([`run_with`]); they are given the
//! settings and end by themselves.
//!
//! Exit codes: 0 ended as asked; 1 failed to start or to run, did not end in time, or is not ready;
//! 64 bad command line or configuration.

pub mod health;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::kit::config::{self, Validate};
use crate::kit::shutdown::Shutdown;
use crate::kit::telemetry::{self, Log};

/// What is fixed at build time about a binary.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Name of the binary.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Version for `--version`.
    pub version: &'static str,
    /// The default configuration.
    pub default_toml: &'static str,
    /// Begin of the environment variables, like `LATCHLINE_BROKER`.
    pub env_prefix: &'static str,
}

/// What [`run`] needs to know of a configuration.
pub trait Settings: DeserializeOwned + Validate {
    /// How to log.
    fn log(&self) -> &Log;

    /// From the wish to end to the end of the process.
    fn shutdown_deadline(&self) -> Duration;

    /// Where `/readyz` is answered, if anywhere.
    fn http_address(&self) -> Option<SocketAddr>;
}

/// What a program can be told to do beside running: the subcommands, as an enum.
pub trait Commands<S>: clap::Subcommand {
    /// Does it. What it has to say goes to standard output, its logs to standard error.
    fn execute(self, settings: S) -> impl Future<Output = anyhow::Result<Exit>>;
}

/// No commands.
#[derive(Debug, Subcommand)]
enum NoCommands {}

impl<S> Commands<S> for NoCommands {
    async fn execute(self, _: S) -> anyhow::Result<Exit> {
        match self {}
    }
}

#[derive(Debug, Parser)]
struct Arguments<C: Subcommand> {
    /// File with the settings that differ from the defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command<C>>,
}

#[derive(Debug, Subcommand)]
enum Command<C: Subcommand> {
    /// Print the effective configuration, secrets redacted.
    Config,
    /// List the problems of the configuration.
    Check,
    /// Ask the running program whether it is ready.
    Health,
    /// What this program has beside them.
    #[command(flatten)]
    Own(C),
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Done = 0,
    /// It failed, or what was checked is not as it should be.
    Failed = 1,
    /// Bad command line or configuration.
    BadConfiguration = 64,
}

/// Runs the program. `serve` starts everything, waits for [`Shutdown::requested`], ends what needs
/// an order, and returns; tasks given to the [`Shutdown`] are waited for after that. Returning
/// before the shutdown was requested ends the process too.
pub fn run<S, F>(program: &Program, serve: impl FnOnce(S, Shutdown) -> F) -> ExitCode
where
    S: Settings,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    run_with::<NoCommands, S, F>(program, serve)
}

/// As [`run`], for a program with commands of its own.
pub fn run_with<C, S, F>(program: &Program, serve: impl FnOnce(S, Shutdown) -> F) -> ExitCode
where
    C: Commands<S>,
    S: Settings,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    ExitCode::from(execute::<C, S, F>(program, std::env::args_os(), serve) as u8)
}

fn execute<C, S, F>(
    program: &Program,
    arguments: impl Iterator<Item = OsString>,
    serve: impl FnOnce(S, Shutdown) -> F,
) -> Exit
where
    C: Commands<S>,
    S: Settings,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let command = Arguments::<C>::command().name(program.name).about(program.about).version(program.version);
    let parsed = command.try_get_matches_from(arguments).and_then(|m| Arguments::from_arg_matches(&m));
    let arguments: Arguments<C> = match parsed {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Also help and version, which are no errors. Nobody is left to tell if this fails.
            drop(answer.print());
            return if answer.use_stderr() { Exit::BadConfiguration } else { Exit::Done };
        }
    };
    let (file, env) = (arguments.config.as_deref(), environment());
    if let Some(Command::Config) = arguments.command {
        return match config::effective::<S>(program.default_toml, file, program.env_prefix, env) {
            Ok(text) => answer(&text),
            Err(problems) => complain(Exit::BadConfiguration, program, &problems),
        };
    }
    let settings: S = match config::load(program.default_toml, file, program.env_prefix, env) {
        Ok(settings) => settings,
        Err(problems) => return complain(Exit::BadConfiguration, program, &problems),
    };
    match arguments.command {
        Some(Command::Check) => answer("the configuration is valid\n"),
        Some(Command::Health) => match healthy(&settings) {
            Ok(()) => answer("ready\n"),
            Err(error) => complain(Exit::Failed, program, &format_args!("{error:#}")),
        },
        Some(Command::Own(command)) => execute_own(program, settings, command)
            .unwrap_or_else(|error| complain(Exit::Failed, program, &format_args!("{error:#}"))),
        _ => start(program, settings, serve).unwrap_or_else(|error| {
            complain(Exit::Failed, program, &format_args!("cannot start: {error:#}"))
        }),
    }
}

fn healthy(settings: &impl Settings) -> anyhow::Result<()> {
    health::ask(settings.http_address().context("http.address is not set")?, "/readyz")
}

fn execute_own<C: Commands<S>, S: Settings>(
    program: &Program,
    settings: S,
    command: C,
) -> anyhow::Result<Exit> {
    telemetry::init(settings.log())?;
    let runtime = runtime(program)?;
    let exit = runtime.block_on(command.execute(settings));
    runtime.shutdown_background();
    exit
}

fn runtime(program: &Program) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(program.name)
        .build()
        .context("no runtime")
}

/// The environment. What is not UTF-8 is kept, mangled, so that it is complained about.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

fn answer(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Done,
        Err(_) => Exit::Failed,
    }
}

/// Before logs are started, problems go to standard error as they are.
fn complain(exit: Exit, program: &Program, problem: &dyn std::fmt::Display) -> Exit {
    // Nobody is left to tell if this fails.
    drop(writeln!(std::io::stderr(), "{}: {problem}", program.name));
    exit
}

fn start<S, F>(program: &Program, settings: S, serve: impl FnOnce(S, Shutdown) -> F) -> anyhow::Result<Exit>
where
    S: Settings,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    telemetry::init(settings.log())?;
    telemetry::log_panics();
    let runtime = runtime(program)?;
    info!(program = program.name, version = program.version, "starting");
    let deadline = settings.shutdown_deadline();
    let exit = runtime.block_on(async {
        let shutdown = Shutdown::new();
        request_on_signal(&shutdown)?;
        let served = serve(settings, shutdown.clone());
        anyhow::Ok(supervise(shutdown, deadline, served).await)
    })?;
    // What has not ended by now was given its time.
    runtime.shutdown_background();
    info!(code = exit as u8, "stopped");
    Ok(exit)
}

fn request_on_signal(shutdown: &Shutdown) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
    let shutdown = shutdown.clone();
    // Runs until the first signal; it holds nothing, so nobody needs to wait for it.
    tokio::spawn(async move {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal, "shutting down");
        shutdown.request();
    });
    Ok(())
}

/// Runs `served` until it ends or the shutdown is requested, and then waits for everything, at
/// most until the deadline.
async fn supervise(
    shutdown: Shutdown,
    deadline: Duration,
    served: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> Exit {
    let mut served = tokio::spawn(served);
    let early = tokio::select! {
        end = &mut served => Some(end),
        () = shutdown.requested() => None,
    };
    shutdown.request();
    let by = Instant::now() + deadline;
    let end = match early {
        Some(end) => Ok(end),
        None => timeout_at(by, served).await,
    };
    match end {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => shutdown.fail(error),
        Ok(Err(_)) => shutdown.fail(anyhow!("the main task panicked")),
        Err(_) => shutdown.fail(anyhow!("the main task did not end within {deadline:?}")),
    }
    if let Err(unfinished) = shutdown.drain(by.saturating_duration_since(Instant::now())).await {
        shutdown.fail(unfinished.into());
    }
    if shutdown.take_failure().is_some() { Exit::Failed } else { Exit::Done }
}

#[cfg(test)]
mod tests;

//! `bench`: measures the broker on this machine and prints a table and JSON; `docs/benchmarks.md`
//! explains the figures.
//!
//! Whatever ends it, what it has started ends before.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand};
use latchline_e2e::arguments::Key;
use latchline_e2e::bench::fleet::{Order, hold};
use latchline_e2e::bench::plan::Plan;
use latchline_e2e::bench::progress::Progress;
use latchline_e2e::bench::report::{ALL, Part, measure};
use latchline_e2e::bench::scale::crowd::reports::Reports;
use latchline_e2e::bench::store::{self, side};
use latchline_e2e::bench::target::Surroundings;
use latchline_e2e::bench::{history, notify, peers, pipeline, scale, watch};
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::signal::ended;

/// Measures the broker: memory, CPU time, delays, storms
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: Run,
}

#[derive(Args)]
struct Run {
    /// Measure only these
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Write the JSON to this file instead of standard output
    #[arg(long)]
    json: Option<PathBuf>,
    /// Little of everything, to see that it works
    #[arg(long)]
    small: bool,
}

#[derive(Subcommand)]
enum Action {
    /// Connect idle locks and hold them (the benchmarks start this themselves)
    Hold {
        #[command(flatten)]
        order: Order,
        #[command(flatten)]
        key: Key,
    },
    /// Measure the broker with few locks and with a million
    Scale(ScaleRun),
    /// Measure the monitor under the reports of a whole fleet
    Watch {
        /// Little of everything, to see that it works
        #[arg(long)]
        small: bool,
        /// Write the JSON to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Measure the notifier: from a record to the provider that took the message
    Notify {
        /// Little of everything, to see that it works
        #[arg(long)]
        small: bool,
        /// Write the JSON to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Measure everything together: a million locks' reports through Kafka into all services
    Pipeline(PipelineRun),
    /// Measure other brokers and a bare echo beside ours
    Peers {
        /// Measure only these
        #[arg(long, value_delimiter = ',')]
        only: Vec<peers::Part>,
        /// Little of everything, to see that it works
        #[arg(long)]
        small: bool,
        /// Write the JSON to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Measure a bare Kafka producer beside the bridge
    Store {
        /// Little of everything, to see that it works
        #[arg(long)]
        small: bool,
        /// Write the JSON to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// One turn of one side of it (the benchmark starts this itself)
    StoreSide(side::Order),
    /// Measure the auditor: how fast it takes events in, and how fast it answers
    History {
        /// Little of everything, to see that it works
        #[arg(long)]
        small: bool,
    },
}

#[derive(Args)]
struct PipelineRun {
    /// Little of everything, to see that it works
    #[arg(long)]
    small: bool,
    /// Locks that report in turn [default: 1000000]
    #[arg(long)]
    locks: Option<u32>,
    /// Reports a second of all together [default: 16700]
    #[arg(long)]
    rate: Option<f64>,
    /// How long it is measured, after every lock has reported once [default: 600]
    #[arg(long)]
    seconds: Option<u64>,
    /// What locks report; `repeat` is what the reference's locks do: the last result once more
    /// [default: heartbeat]
    #[arg(long)]
    reports: Option<Reports>,
    /// Seconds that everything may take to be applied in the end [default: 3600]
    #[arg(long)]
    drain: Option<u64>,
    /// Write the JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the plot to this file
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Args)]
struct ScaleRun {
    /// Little of everything, to see that it works
    #[arg(long)]
    small: bool,
    /// Connected locks on sockets, rising
    #[arg(long, value_delimiter = ',')]
    sockets: Option<Vec<u32>>,
    /// Sessions in the broker's own process, rising
    #[arg(long, value_delimiter = ',')]
    sessions: Option<Vec<u32>>,
    /// Write the JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the plot to this file
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// The broker's: what is compared with it here, in this process, has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Also for what is started from here: mosquitto does not raise its own limit.
    rlimit::increase_nofile_limit(u64::MAX).context("raise the limit of open files")?;
    // Half of the cores, so that the load does not take them all from what it measures. The thread
    // that measures is none of them.
    let workers = (std::thread::available_parallelism()?.get() / 2).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(act(arguments))
}

async fn act(arguments: Arguments) -> anyhow::Result<()> {
    let work = async {
        match arguments.action {
            Some(Action::History { small }) => measure_history(small).await,
            Some(Action::Scale(run)) => measure_scale(run).await,
            Some(Action::Pipeline(run)) => measure_pipeline(run).await,
            Some(Action::Watch { small, json }) => measure_watch(small, json).await,
            Some(Action::Notify { small, json }) => measure_notify(small, json).await,
            Some(Action::Peers { only, small, json }) => measure_peers(only, small, json).await,
            Some(Action::Store { small, json }) => measure_store(small, json).await,
            // These have started nothing; who has started them kills them.
            Some(Action::Hold { order, key }) => hold(order, &key).await,
            Some(Action::StoreSide(order)) => side::run(&order).await,
            None => run(arguments.run).await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        // Everything is dropped, and ends with it.
        signal = ended() => signal.and_then(|signal| bail!("ended by {signal}")),
    }
}

async fn run(arguments: Run) -> anyhow::Result<()> {
    let kafka = Kafka::start(least_disturbing()?).await?;
    let surroundings = Surroundings::new(&kafka).await?;
    let parts = if arguments.only.is_empty() { ALL.to_vec() } else { arguments.only };
    let plan = if arguments.small { Plan::small() } else { Plan::full() };
    let report = measure(&parts, kafka.choice().name(), &surroundings, plan).await?;
    println!("{report}");
    let json = serde_json::to_string_pretty(&report)?;
    match arguments.json {
        Some(path) => std::fs::write(&path, json).with_context(|| format!("write {}", path.display())),
        None => {
            println!("{json}");
            Ok(())
        }
    }
}

/// The broker's work does not depend on which Kafka it is; the simplest disturbs least.
fn least_disturbing() -> anyhow::Result<Choice> {
    match std::env::var_os("KAFKA") {
        Some(_) => Choice::of_environment(),
        None => Ok(Choice::Development),
    }
}

async fn measure_scale(run: ScaleRun) -> anyhow::Result<()> {
    room_for([&run.json, &run.svg])?;
    let mut plan = if run.small { scale::Plan::small() } else { scale::Plan::full().fit()? };
    if let Some(sockets) = run.sockets {
        (plan.sockets, plan.sockets_left_out) = (sockets, Vec::new());
    }
    plan.sessions = run.sessions.unwrap_or(plan.sessions);
    let kafka = Kafka::start(least_disturbing()?).await?;
    let surroundings = Surroundings::new(&kafka).await?;
    let tell = follow("scale", &run.json);
    let figures = scale::measure(kafka.choice().name(), &surroundings, plan, tell).await?;
    println!("{figures}");
    keep(&figures, run.json.as_deref())?;
    figures.check()?;
    draw(run.svg, || figures.svg())
}

async fn measure_pipeline(run: PipelineRun) -> anyhow::Result<()> {
    room_for([&run.json, &run.svg])?;
    let mut plan = if run.small { pipeline::Plan::small() } else { pipeline::Plan::full() };
    plan.locks = run.locks.unwrap_or(plan.locks);
    plan.per_second = run.rate.unwrap_or(plan.per_second);
    plan.window = run.seconds.map_or(plan.window, Duration::from_secs);
    plan.drain_deadline = run.drain.map_or(plan.drain_deadline, Duration::from_secs);
    plan.reports = run.reports.unwrap_or(plan.reports);
    let tell = |what: &str| eprintln!("bench pipeline: {what}");
    let pipeline = pipeline::measure(Choice::of_environment()?, plan, tell).await?;
    println!("{pipeline}");
    keep(&pipeline, run.json.as_deref())?;
    pipeline.check()?;
    draw(run.svg, || pipeline.svg())?;
    ensure!(pipeline.verdict.holds, "it does not hold");
    Ok(())
}

async fn measure_peers(only: Vec<peers::Part>, small: bool, json: Option<PathBuf>) -> anyhow::Result<()> {
    room_for([&json])?;
    let mut plan = if small { peers::Plan::small() } else { peers::Plan::full() };
    if !only.is_empty() {
        plan.parts.retain(|part| only.contains(part));
    }
    let kafka = Kafka::start(least_disturbing()?).await?;
    let surroundings = Surroundings::new(&kafka).await?;
    let tell = follow("peers", &json);
    let peers = peers::measure(kafka.choice().name(), &surroundings, plan, tell).await?;
    println!("{peers}");
    keep(&peers, json.as_deref())?;
    peers.check()
}

async fn measure_store(small: bool, json: Option<PathBuf>) -> anyhow::Result<()> {
    room_for([&json])?;
    let plan = if small { store::Plan::small() } else { store::Plan::full() };
    let kafka = Kafka::start(least_disturbing()?).await?;
    let store = store::measure(&kafka, plan, follow("store", &json)).await?;
    println!("{store}");
    keep(&store, json.as_deref())
}

async fn measure_history(small: bool) -> anyhow::Result<()> {
    let plan = if small { history::Plan::small() } else { history::Plan::full() };
    println!("{}", history::measure(Choice::of_environment()?, plan, |part| println!("{part}")).await?);
    Ok(())
}

async fn measure_watch(small: bool, json: Option<PathBuf>) -> anyhow::Result<()> {
    let plan = if small { watch::Plan::small() } else { watch::Plan::full() };
    let watch = watch::measure(plan).await?;
    println!("{watch}");
    keep(&watch, json.as_deref())
}

async fn measure_notify(small: bool, json: Option<PathBuf>) -> anyhow::Result<()> {
    let plan = if small { notify::Plan::small() } else { notify::Plan::full() };
    let notify = notify::measure(plan).await?;
    println!("{notify}");
    keep(&notify, json.as_deref())
}

fn draw(path: Option<PathBuf>, svg: impl Fn() -> String) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(&path, svg()).with_context(|| format!("write {}", path.display()))
}

/// Makes the folders of files that are written in the end, so that nothing is measured for nothing.
fn room_for<const N: usize>(files: [&Option<PathBuf>; N]) -> anyhow::Result<()> {
    let folders = files.into_iter().flatten().filter_map(|path| path.parent());
    for folder in folders.filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    Ok(())
}

/// Prints what happens on standard error, and keeps the figures so far.
fn follow<T: serde::Serialize>(name: &str, json: &Option<PathBuf>) -> impl FnMut(Progress<'_, T>) {
    move |progress| match progress {
        Progress::Begins(part) => eprintln!("bench {name}: {part}"),
        Progress::Ended(figures, table) => {
            eprint!("{table}");
            if let Err(error) = keep(figures, json.as_deref()) {
                eprintln!("bench {name}: {error:#}");
            }
        }
    }
}

fn keep(figures: &impl serde::Serialize, json: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = json else { return Ok(()) };
    std::fs::write(path, serde_json::to_string_pretty(figures)?)
        .with_context(|| format!("write {}", path.display()))
}

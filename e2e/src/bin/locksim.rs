//! `locksim`: simulated locks. Each reports every minute and at once on change, and takes signed
//! commands, as the contract says.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use latchline_e2e::arguments::{Key, Server};
use latchline_e2e::lock::nonces::NonceFile;
use latchline_e2e::lock::run::{Happening, Observer, Settings, run};
use latchline_e2e::lock::state::{Change, is_lock_id};
use latchline_e2e::mqtt;
use latchline_shared::command::ShortSign;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Simulated locks
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    key: Key,
    /// How many locks
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Id of the first lock; the others follow by number
    #[arg(long, default_value = "10083618796833171")]
    first_id: String,
    /// Seconds between two reports
    #[arg(long, default_value_t = 60.0)]
    interval: f64,
    /// Seconds by which an interval is shorter or longer
    #[arg(long, default_value_t = 5.0)]
    jitter: f64,
    /// Charge of the batteries in percent
    #[arg(long, default_value_t = 83.4)]
    battery: f64,
    /// Percent of charge that the batteries lose per minute, beside their ordinary loss
    #[arg(long, default_value_t = 0.0)]
    drain: f64,
    /// The bolts are stuck
    #[arg(long)]
    jam: bool,
    /// Take signatures of 16 digits as well
    #[arg(long)]
    short_sign: bool,
    /// File in which the locks remember the commands that they have acted on
    #[arg(long)]
    remember: Option<PathBuf>,
    /// Repeat a run: where the randomness begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections to open per second
    #[arg(long, default_value_t = 200)]
    connect_rate: u64,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // One socket a lock.
    rlimit::increase_nofile_limit(u64::MAX).context("raise the limit of open files")?;
    let (mut locks, _changes) = start(&arguments).await?;
    tokio::select! {
        _ = locks.join_next() => anyhow::bail!("a lock ended"),
        signal = tokio::signal::ctrl_c() => signal.context("wait for Ctrl-C"),
    }
}

/// Starts the locks; they run until the senders are dropped.
async fn start(arguments: &Arguments) -> anyhow::Result<(JoinSet<()>, Vec<mpsc::Sender<Change>>)> {
    let master = arguments.key.read()?;
    let (host, port) = arguments.server.address()?;
    let seconds =
        |name, value| Duration::try_from_secs_f64(value).with_context(|| format!("--{name} {value}"));
    let (interval, jitter) = (seconds("interval", arguments.interval)?, seconds("jitter", arguments.jitter)?);
    ensure!(arguments.connect_rate > 0, "--connect-rate is at least 1");
    let (file, mut remembered) = match &arguments.remember {
        Some(path) => NonceFile::open(path).map(|(file, nonces)| (Some(file), nonces))?,
        None => (None, Default::default()),
    };
    let observer = if arguments.json { json() } else { text() };
    let (mut locks, mut changes) = (JoinSet::new(), Vec::new());
    let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(arguments.connect_rate)?);
    for id in ids(&arguments.first_id, arguments.count)? {
        pace.tick().await;
        let settings = Settings {
            mqtt: mqtt::Options {
                host: host.clone(),
                port,
                login: Some((id.clone(), master.mqtt_password(&id))),
                client_id: id.clone(),
                protocol: arguments.server.protocol(),
                session: mqtt::Session::Kept,
            },
            key: master.command_key(&id),
            short_sign: if arguments.short_sign { ShortSign::Allowed } else { ShortSign::Refused },
            interval,
            jitter,
            battery_percent: arguments.battery,
            drain_percent_per_day: arguments.drain * 24.0 * 60.0,
            jammed: arguments.jam,
            seed: arguments.seed.wrapping_add(changes.len() as u64),
            nonces: remembered.remove(&id).unwrap_or_default(),
            nonce_file: file.clone(),
            observer: Arc::clone(&observer),
        };
        let (sender, receiver) = mpsc::channel(1);
        changes.push(sender);
        locks.spawn(run(settings, receiver));
    }
    Ok((locks, changes))
}

fn ids(first: &str, count: u64) -> anyhow::Result<Vec<String>> {
    ensure!(is_lock_id(first), "--first-id {first} cannot be a lock's id");
    if count == 1 {
        return Ok(vec![first.to_owned()]);
    }
    let number: u64 = first.parse().with_context(|| format!("--first-id {first} is not a number"))?;
    (0..count).map(|n| Ok(number.checked_add(n).context("ids end at 2^64")?.to_string())).collect()
}

fn text() -> Observer {
    Arc::new(|id, happening| match happening {
        Happening::Connected => println!("{id}  connected"),
        Happening::Disconnected(why) => println!("{id}  disconnected: {why}"),
        Happening::Unsubscribed(why) => println!("{id}  gets no commands: {why}"),
        Happening::Reported(report) => println!("{id}  reports {report}"),
        Happening::Withheld(why) => println!("{id}  cannot report: {why}"),
        Happening::Acted(command, outcome) => println!("{id}  {}: {outcome:?}", command.action.name()),
        Happening::Refused(refusal) => println!("{id}  refuses: {} ({})", refusal.name(), refusal.code()),
    })
}

fn json() -> Observer {
    Arc::new(|id, happening| {
        let (event, detail) = match happening {
            Happening::Connected => ("connected", String::new()),
            Happening::Disconnected(why) => ("disconnected", why.clone()),
            Happening::Unsubscribed(why) => ("unsubscribed", why.clone()),
            Happening::Reported(report) => ("reported", report.clone()),
            Happening::Withheld(why) => ("withheld", why.clone()),
            Happening::Acted(command, outcome) => ("acted", format!("{} {outcome:?}", command.action.name())),
            Happening::Refused(refusal) => ("refused", refusal.name().to_owned()),
        };
        println!("{}", serde_json::json!({"lock": id, "event": event, "detail": detail}));
    })
}

//! `locksim`: simulated locks. Each reports every minute and at once on change, and takes signed
//! commands, as the contract says. `locksim attack` attacks one.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use latchline_e2e::arguments::{Key, Server};
use latchline_e2e::attack::{self, Arena};
use latchline_e2e::lock::nonces::NonceFile;
use latchline_e2e::lock::run::{Happening, Observer, Settings, run};
use latchline_e2e::lock::state::{Change, is_lock_id};
use latchline_e2e::operator::{Operator, Report};
use latchline_e2e::stack::secrets::OPERATOR;
use latchline_e2e::{mqtt, random};
use latchline_shared::command::ShortSign;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Simulated locks
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
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

#[derive(Subcommand)]
enum Verb {
    /// Attack a lock, and print what comes of it; the exit code is 2 if an attack was taken that the
    /// broker's guard would refuse, or if the lock acted on one
    Attack(Attack),
}

#[derive(Args)]
struct Attack {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    key: Key,
    /// Id of the lock
    #[arg(long, default_value = "10083618796833171")]
    lock: String,
    /// Id of another lock, in whose name is attacked as well: its own connection is taken over
    #[arg(long, default_value = "10083618796833999")]
    other_lock: String,
    /// The operator's password
    #[arg(long, env = "LATCHLINE_PASSWORD", hide_env_values = true)]
    password: String,
    /// The administrator's password
    #[arg(long, env = "LATCHLINE_ADMINISTRATOR_PASSWORD", hide_env_values = true)]
    administrator_password: String,
    /// Seconds after which a replay that waits comes
    #[arg(long, default_value_t = 5)]
    later: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(Verb::Attack(attack)) = &arguments.verb {
        return attack.run().await;
    }
    // One socket a lock.
    rlimit::increase_nofile_limit(u64::MAX).context("raise the limit of open files")?;
    let (mut locks, _changes) = start(&arguments).await?;
    tokio::select! {
        _ = locks.join_next() => anyhow::bail!("a lock ended"),
        signal = tokio::signal::ctrl_c() => signal.context("wait for Ctrl-C").map(|()| ExitCode::SUCCESS),
    }
}

impl Attack {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let (host, port) = self.server.address()?;
        let broker = tokio::net::lookup_host((host.as_str(), port)).await.context("look up --server")?;
        let arena = Arena {
            broker: broker.into_iter().next().context("--server has no address")?,
            protocol: self.server.protocol(),
            master: self.key.read()?,
            operator: self.password.clone(),
            administrator: self.administrator_password.clone(),
            lock: self.lock.clone(),
            other_lock: self.other_lock.clone(),
            later: Duration::from_secs(self.later),
        };
        let options = mqtt::Options {
            host,
            port,
            client_id: format!("{OPERATOR}-{}", random::process_id()?),
            login: Some((OPERATOR.to_owned(), self.password.clone())),
            protocol: self.server.protocol(),
            session: mqtt::Session::Clean,
        };
        let mut watch = Watch::start(Operator::connect(options, &self.lock).await?);
        let (mut genuine, mut unexpected) = (0, 0);
        println!("{:<18} {:<46} {:<28} broker", "attack", "does", "guard");
        for attack in attack::all() {
            let attempt = attack::run(attack, &arena).await.with_context(|| attack.name)?;
            let is_expected = attack.guard.is(attempt.answer, arena.protocol);
            genuine += attempt.genuine;
            unexpected += usize::from(!is_expected);
            let mark = if is_expected { "" } else { "  <- not what an enforcing guard says" };
            let guard = format!("{:?}", attack.guard);
            println!("{:<18} {:<46} {guard:<28} {:?}{mark}", attack.name, attack.what, attempt.answer);
        }
        let acted = watch.acted(genuine).await;
        println!("\n{} attacks, {unexpected} not answered as by an enforcing guard", attack::all().len());
        println!("{genuine} genuine commands, on which the lock acted {acted} times");
        Ok(if unexpected == 0 && acted == genuine { ExitCode::SUCCESS } else { ExitCode::from(2) })
    }
}

/// Counts what the lock says that it has done, each process once: a state that an attack forges says
/// no result.
struct Watch {
    acted: Arc<Mutex<BTreeSet<String>>>,
    _task: JoinSet<()>,
}

impl Watch {
    fn start(mut operator: Operator) -> Self {
        let acted = Arc::new(Mutex::new(BTreeSet::new()));
        let (seen, mut task) = (Arc::clone(&acted), JoinSet::new());
        task.spawn(async move {
            while let Ok(received) = operator.next_report().await {
                let Ok(report) = serde_json::from_slice::<Report>(&received.payload) else { continue };
                if report.result.as_deref() == Some("ok") {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).insert(report.process_id);
                }
            }
        });
        Self { acted, _task: task }
    }

    /// How many, once there are as many as there should be and nothing more has come for a while.
    async fn acted(&mut self, genuine: usize) -> usize {
        let count = || self.acted.lock().unwrap_or_else(PoisonError::into_inner).len();
        let until = Instant::now() + Duration::from_secs(10);
        while count() < genuine && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        count()
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

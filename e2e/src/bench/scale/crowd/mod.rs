//! The broker as a library with a crowd of clients in the same process, one byte stream in memory
//! each: more sessions than one process may have sockets. Runs as `latchline-crowd`, a process of
//! its own with the broker's allocator and runtime, and is driven by the benchmark through a
//! socket, a line for each order and each answer.
//!
//! The broker's own listener is open as well: publishers and bystanders come through it, and feel
//! what the crowd does to everybody.

mod line;
pub mod reports;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use latchline_bridge::{Bridge, config::Config as BridgeConfig};
use latchline_broker::assembly::assemble;
use latchline_broker::broker::Broker;
use latchline_broker::connection::serve;
use latchline_broker::connection::transport::Transport;
use latchline_broker::hooks::access::AccessControl;
use latchline_broker::settings::Settings;
use latchline_shared::hook::Hook;
use latchline_shared::keys::MasterKey;
use latchline_shared::kit::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::lock::{self, Session};
use crate::bench::storm::departure_deadline;
use line::{CONNECTING, Crowd, IDS};
use reports::{Log, Reported, Reports};

/// Environment variables that configure the process begin with it.
pub const ENV_PREFIX: &str = "LATCHLINE_CROWD";
/// The name under which the log tells where orders are taken.
pub const ORDERS: &str = "orders";

/// Time for a client's CONNECT; it is there when its connection begins.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Clients report in an order in which no two neighbours follow each other: a prime.
const STRIDE: u64 = 611_953;

/// What the crowd is to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Make the clients, and none of them connects.
    Gather {
        /// Number of the first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// All connect, log in and subscribe.
    Connect,
    /// One after the other reports.
    Report {
        /// So many a second.
        per_second: f64,
        /// For so long.
        seconds: f64,
        /// What.
        reports: Reports,
    },
    /// All leave at once.
    Leave,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done(Done),
    /// It is not.
    Failed(String),
}

/// What it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// From its beginning to when the broker was done with it.
    pub seconds: f64,
    /// CPU time of the clients' thread.
    pub clients_cpu_s: f64,
    /// What came of reports.
    pub reported: Option<Reported>,
}

/// The process: as the broker's own, and clients beside it.
pub async fn run(settings: Settings<BridgeConfig>, shutdown: Shutdown) -> anyhow::Result<()> {
    let Settings { broker: config, bridge } = settings;
    let mut registry = Registry::default();
    let access = Arc::new(AccessControl::open(&config)?);
    let storing = match bridge.enabled {
        true => {
            let bridge = Bridge::start(&bridge, &config.node, &mut registry).await.context("bridge")?;
            Some(bridge as Arc<dyn Hook>)
        }
        false => None,
    };
    let key = config.access.fleet_master_key()?.context("no access.fleet_master_key")?;
    let master = MasterKey::from_hex(key.expose_secret())?;
    let server = assemble(&config, access, storing, &mut registry, &shutdown)?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    tracing::info!(listener = ORDERS, address = %listener.local_addr()?, "listening");
    let host = Host { broker: Arc::clone(&server.broker), master, shutdown: shutdown.clone(), crowd: None };
    shutdown.spawn("orders", obey(listener, host));
    shutdown.requested().await;
    server.stop().await;
    Ok(())
}

/// Takes orders from one benchmark, one at a time, until it goes.
async fn obey(listener: TcpListener, mut host: Host) -> anyhow::Result<()> {
    let shutdown = host.shutdown.clone();
    let (stream, _) = tokio::select! {
        () = shutdown.requested() => return Ok(()),
        accepted = listener.accept() => accepted?,
    };
    let mut stream = BufReader::new(stream);
    let mut order = String::new();
    while stream.read_line(&mut order).await? > 0 {
        let deed = serde_json::from_str(&order).context("an order")?;
        order.clear();
        // Not on a thread of the runtime, which is the broker's; and so its CPU time is known.
        let handle = tokio::runtime::Handle::current();
        let outcome;
        (host, outcome) = tokio::task::spawn_blocking(move || {
            let outcome = handle.block_on(host.measured(deed));
            (host, outcome)
        })
        .await?;
        let answer = outcome.map_or_else(|error| Answer::Failed(format!("{error:#}")), Answer::Done);
        stream.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).await?;
    }
    shutdown.request();
    Ok(())
}

struct Host {
    broker: Arc<Broker>,
    master: MasterKey,
    shutdown: Shutdown,
    crowd: Option<Arc<Crowd>>,
}

impl Host {
    async fn measured(&mut self, deed: Deed) -> anyhow::Result<Done> {
        let (begun_at, cpu_before) = (Instant::now(), thread_cpu_s()?);
        let reported = match deed {
            Deed::Gather { first, count } => {
                self.crowd = Some(Arc::new(Crowd::new(first, count)?));
                None
            }
            Deed::Connect => self.connect().await.map(|()| None)?,
            Deed::Report { per_second, seconds, reports } => Some(self.report(per_second, seconds, reports)?),
            Deed::Leave => self.leave().map(|()| None)?,
        };
        let clients_cpu_s = thread_cpu_s()? - cpu_before;
        Ok(Done { seconds: begun_at.elapsed().as_secs_f64(), clients_cpu_s, reported })
    }

    fn crowd(&self) -> anyhow::Result<&Arc<Crowd>> {
        self.crowd.as_ref().context("no crowd")
    }

    async fn connect(&self) -> anyhow::Result<()> {
        let crowd = self.crowd()?;
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        for index in 0..crowd.len() {
            let Ok(turn) = crowd.turns.acquire().await else { return crowd.check() };
            // It comes back when the client has its subscription.
            turn.forget();
            let hello = lock::hello(&self.master, crowd.first + index as u32, Session::Clean);
            let stream = Transport::other(crowd.arrive(index, hello));
            let deadline = Instant::now() + CONNECT_DEADLINE;
            self.shutdown.track(serve(Arc::clone(&self.broker), stream, peer, None, deadline));
        }
        match crowd.turns.acquire_many(CONNECTING).await {
            Ok(_) => Ok(()),
            Err(_) => crowd.check(),
        }
    }

    /// Messages leave when they are due, whatever comes back; a lock of which as many as it has packet
    /// ids are under way holds up the others, and their delay grows.
    fn report(&self, per_second: f64, seconds: f64, reports: Reports) -> anyhow::Result<Reported> {
        let crowd = self.crowd()?;
        let count = (per_second * seconds) as u64;
        let (begun_at, acked_before) = (Instant::now(), crowd.acked());
        let mut log = Log::begin(crowd)?;
        for number in 0..count {
            let due = begun_at + Duration::from_secs_f64(number as f64 / per_second);
            let now = Instant::now();
            if now < due {
                thread::sleep((due - now).max(reports.nap()));
            }
            log.sends(due, now);
            log.look(crowd, now)?;
            let index = (number * STRIDE % crowd.len() as u64) as usize;
            let round = number / crowd.len() as u64;
            let packet_id = 1 + (round % u64::from(IDS)) as u16;
            if !crowd.is_free(index, packet_id) {
                let asked_at = Instant::now();
                wait_until("an older message of the same lock is acknowledged", crowd, || {
                    log.look(crowd, Instant::now())?;
                    Ok(crowd.is_free(index, packet_id))
                })?;
                log.was_held_up(asked_at.elapsed());
            }
            let id = lock::id(crowd.first + index as u32);
            let message = reports.message(&id, round, packet_id);
            crowd.publish(index, packet_id, &message, due)?;
            crowd.check()?;
        }
        wait_until("all messages are acknowledged", crowd, || {
            log.look(crowd, Instant::now())?;
            Ok(crowd.acked() - acked_before == count)
        })?;
        log.finish(crowd)
    }

    fn leave(&self) -> anyhow::Result<()> {
        let crowd = self.crowd()?;
        (0..crowd.len()).for_each(|index| crowd.leave(index));
        wait_until("the broker has let go of everybody", crowd, || Ok(crowd.left() == crowd.len()))
    }
}

/// How many deadlines a wait that makes progress may take: an hour with a million clients, as long as
/// services have to catch up.
const DEADLINES_MAX: u32 = 10;

/// Waits as long as messages are acknowledged or clients are let go meanwhile, within reason.
fn wait_until(
    what: &str,
    crowd: &Crowd,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = departure_deadline(crowd.len() as u32);
    let progress = || (crowd.acked(), crowd.left());
    let (mut before, mut silent_until) = (progress(), Instant::now() + deadline);
    let give_up_at = Instant::now() + deadline * DEADLINES_MAX;
    while !is_so()? {
        crowd.check()?;
        let now = Instant::now();
        if progress() != before {
            (before, silent_until) = (progress(), now + deadline);
        }
        ensure!(now < silent_until, "nothing happens for {deadline:?}, and it is not so that {what}");
        ensure!(now < give_up_at, "it is not so that {what} after {:?}", deadline * DEADLINES_MAX);
        thread::sleep(LOOK_EVERY);
    }
    crowd.check()
}

/// CPU time of this thread.
fn thread_cpu_s() -> anyhow::Result<f64> {
    const PATH: &str = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    let nanoseconds: u64 = text.split(' ').next().unwrap_or_default().parse().context(PATH)?;
    Ok(Duration::from_nanos(nanoseconds).as_secs_f64())
}

/// The benchmark's end: gives orders to a crowd.
#[derive(Debug)]
pub struct Orders(BufReader<TcpStream>);

impl Orders {
    /// Connects to where a crowd takes orders.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    /// Has it done. However long it takes: the crowd knows deadlines for each step.
    pub async fn carry_out(&mut self, deed: Deed) -> anyhow::Result<Done> {
        self.0.write_all(format!("{}\n", serde_json::to_string(&deed)?).as_bytes()).await?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).await?;
        match serde_json::from_str(&answer).with_context(|| format!("{deed:?}: the crowd says {answer:?}"))? {
            Answer::Done(done) => Ok(done),
            Answer::Failed(why) => bail!("{deed:?}: {why}"),
        }
    }
}

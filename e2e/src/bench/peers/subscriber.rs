//! One subscriber to `devices/+/state` at QoS 1, while many locks report as fast as their sockets take
//! it: how much of what was acknowledged to the locks the subscriber gets.
//!
//! The subscriber is a thread with a blocking socket, which does nothing but read, note and
//! acknowledge. It ends when it has everything, or when everything has been acknowledged to the
//! publishers and it has heard nothing for a while. It can be told to read slowly
//! ([`crate::bench::peers::slow`]). What our bridge has acknowledged is counted in
//! Kafka as well.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use bytes::BytesMut;
use latchline_shared::keys::MasterKey;
use latchline_shared::message::{Protocol, Qos};
use serde::Serialize;
use tokio::time::sleep;

use crate::bench::figures::Spread;
use crate::bench::group::there_and_back;
use crate::bench::lock::{CONNACK, KEEP_ALIVE_S, SUBACK, SUBSCRIBE_ID, ask};
use crate::bench::peers::order::Order;
use crate::bench::publishers::Publishers;
use crate::bench::stored::{Ends, Stored};
use crate::bench::target::{Failed, Kind, Surroundings, Target};
use crate::client::packet::{self, Ack, Connect, Packet};
use crate::load::stamp::Stamp;
use crate::load::tally::held;
use crate::stack::secrets::OPERATOR;

const FILTER: &str = "devices/+/state";
const READ_BYTES: usize = 64 * 1024;
/// How long the subscriber listens before it looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After everything was acknowledged: who has heard nothing new for so long gets nothing more.
const SILENCE: Duration = Duration::from_secs(5);
/// Without progress in writing an acknowledgement.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// More than anybody sends: it is not known yet how many there are.
const UNKNOWN: u64 = u64::MAX;

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Turns; each starts every broker once.
    pub rounds: u32,
    /// Locks that publish.
    pub locks: u32,
    /// Messages of each.
    pub each: u16,
}

/// What the subscriber of one broker got.
#[derive(Debug, Clone, Serialize)]
pub struct Received {
    /// Which broker.
    pub kind: Kind,
    /// Turns that ended well.
    pub turns: u32,
    /// Messages acknowledged to their publishers, each turn.
    pub acknowledged: u64,
    /// In all turns, both ends, if Kafka is one.
    pub stored: Option<Stored>,
    /// Of these, different messages that the subscriber got.
    pub received: Spread,
    /// Most that were lost in a turn.
    pub lost_max: u64,
    /// Messages that it got again, in all turns.
    pub duplicates: u64,
    /// Messages that came behind a later one of their lock, in all turns.
    pub disordered: u64,
    /// Messages received per second, from the first that was sent to the last that came.
    pub per_second: Spread,
    /// Microseconds of the broker's CPU time for each that was acknowledged.
    pub cpu_us: Spread,
}

struct Turn {
    received: u64,
    duplicates: u64,
    disordered: u64,
    per_second: f64,
    cpu_us: f64,
    /// Records that Kafka has stored.
    stored: Option<u64>,
}

/// Measures these brokers, by turns. One that fails has the rows of its turns before that, and is said
/// to have failed.
pub async fn measure(
    kinds: &[Kind],
    surroundings: &Surroundings,
    plan: &Plan,
    note: &mut impl FnMut(&str),
) -> (Vec<Received>, Vec<Failed>) {
    let mut turns: Vec<Vec<Turn>> = kinds.iter().map(|_| Vec::new()).collect();
    let mut failed: Vec<Failed> = Vec::new();
    for round in 0..plan.rounds {
        for number in there_and_back(kinds.len(), round) {
            let kind = kinds[number];
            if failed.iter().any(|failed| failed.kind == kind) {
                continue;
            }
            match turn(kind, surroundings, plan).await {
                Ok(turn) => {
                    note(&format!("turn {round}, {}: {} received", kind.name(), turn.received));
                    turns[number].push(turn);
                }
                Err(error) => {
                    failed.push(Failed::new(kind, &format!("one subscriber, turn {round}"), &error));
                }
            }
        }
    }
    let received = kinds.iter().zip(&turns).filter_map(|(&kind, turns)| sum_up(kind, turns, plan));
    (received.collect(), failed)
}

fn sum_up(kind: Kind, turns: &[Turn], plan: &Plan) -> Option<Received> {
    let acknowledged = plan.messages();
    let spread = |value: fn(&Turn) -> f64| Spread::of(turns.iter().map(value));
    let stored: Option<u64> = turns.iter().map(|turn| turn.stored).sum();
    Some(Received {
        kind,
        turns: turns.len() as u32,
        acknowledged,
        stored: stored.map(|stored| Stored {
            part: "one subscriber".to_owned(),
            acknowledged: acknowledged * turns.len() as u64,
            stored,
        }),
        received: spread(|turn| turn.received as f64)?,
        lost_max: turns.iter().map(|turn| acknowledged.saturating_sub(turn.received)).max()?,
        duplicates: turns.iter().map(|turn| turn.duplicates).sum(),
        disordered: turns.iter().map(|turn| turn.disordered).sum(),
        per_second: spread(|turn| turn.per_second)?,
        cpu_us: spread(|turn| turn.cpu_us)?,
    })
}

impl Plan {
    fn messages(&self) -> u64 {
        u64::from(self.locks) * u64::from(self.each)
    }
}

async fn turn(kind: Kind, surroundings: &Surroundings, plan: &Plan) -> anyhow::Result<Turn> {
    let target = Target::start(kind, surroundings).await?;
    let server = target.address();
    let ends = match kind {
        Kind::Bridge => Some(Ends::look(&surroundings.kafka).await?),
        _ => None,
    };
    let subscriber = Subscriber::connect(server, &surroundings.operator).await?;
    let master = MasterKey::from_hex(&surroundings.master_hex)?;
    let publishers = Publishers::connect(server, &master, 0, plan.locks).await?;
    let (begun_at, cpu_before) = (Instant::now(), target.process()?.cpu_time()?);
    publishers.burst(plan.each);
    publishers.drain().await?;
    ensure!(publishers.acked() == plan.messages(), "{} acknowledged", publishers.acked());
    let (order, last_at) = subscriber.finish(publishers.acked()).await?;
    let stored = match ends {
        Some(ends) => Some(ends.grown().await?),
        None => None,
    };
    let cpu = target.process()?.cpu_time()?.saturating_sub(cpu_before);
    drop(publishers);
    target.finish()?;
    let seconds = last_at.saturating_duration_since(begun_at).as_secs_f64();
    Ok(Turn {
        stored,
        received: order.received,
        duplicates: order.duplicates,
        disordered: order.disordered,
        // Who has received nothing has not done so quickly.
        per_second: if seconds > 0.0 { order.received as f64 / seconds } else { 0.0 },
        cpu_us: cpu.as_secs_f64() * 1e6 / plan.messages() as f64,
    })
}

/// A subscriber that is listening.
pub(crate) struct Subscriber {
    orders: Arc<Orders>,
    thread: JoinHandle<anyhow::Result<(Order, Instant)>>,
}

/// How fast it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// As fast as messages come.
    Fast,
    /// So many a second, or none.
    PerSecond(u32),
}

/// What its thread looks at.
struct Orders {
    /// How many messages were acknowledged to their publishers, once all of them are.
    awaited: AtomicU64,
    reads: Mutex<Reads>,
    /// Messages that have come so far.
    received: AtomicU64,
}

impl Subscriber {
    pub(crate) async fn connect(server: SocketAddr, password: &str) -> anyhow::Result<Self> {
        Self::connect_reading(server, password, Reads::Fast).await
    }

    pub(crate) async fn connect_reading(
        server: SocketAddr,
        password: &str,
        reads: Reads,
    ) -> anyhow::Result<Self> {
        let mut stream = tokio::net::TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let hello = Connect {
            protocol: Protocol::V3,
            client_id: OPERATOR,
            login: Some((OPERATOR, password)),
            clean: true,
            session_expiry_s: 0,
            keep_alive_s: KEEP_ALIVE_S,
        };
        ask(&mut stream, &packet::connect(&hello), CONNACK).await.context("connect")?;
        let subscribe = packet::subscribe(Protocol::V3, SUBSCRIBE_ID, &[(FILTER, Qos::AtLeastOnce)]);
        ask(&mut stream, &subscribe, SUBACK).await.context("subscribe")?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let (awaited, received) = (AtomicU64::new(UNKNOWN), AtomicU64::new(0));
        let orders = Arc::new(Orders { awaited, reads: Mutex::new(reads), received });
        let looks_at = Arc::clone(&orders);
        let thread =
            thread::Builder::new().name("subscriber".to_owned()).spawn(move || listen(stream, &looks_at))?;
        Ok(Self { orders, thread })
    }

    /// From now on it reads as fast as this.
    pub(crate) fn read(&self, reads: Reads) {
        *held(&self.orders.reads) = reads;
    }

    /// Messages that have come so far.
    pub(crate) fn received(&self) -> u64 {
        self.orders.received.load(Ordering::Relaxed)
    }

    /// Waits for the rest of so many messages; what has come, and when the last of it did.
    pub(crate) async fn finish(self, messages: u64) -> anyhow::Result<(Order, Instant)> {
        self.orders.awaited.store(messages, Ordering::Relaxed);
        while !self.thread.is_finished() {
            sleep(LOOK_EVERY).await;
        }
        self.thread.join().map_err(|_| anyhow!("the subscriber panicked"))?
    }
}

impl Orders {
    /// Waits until the next message may be read, by a reader who has read the last one at `last`.
    fn wait(&self, last: &mut Instant) {
        loop {
            let reads = *held(&self.reads);
            let next = match reads {
                Reads::Fast => return,
                Reads::PerSecond(0) => Instant::now() + LOOK_EVERY,
                Reads::PerSecond(per_second) => *last + Duration::from_secs(1) / per_second,
            };
            // Whoever is late does not make up for it.
            thread::sleep(next.saturating_duration_since(Instant::now()).min(LOOK_EVERY));
            if reads != Reads::PerSecond(0) && Instant::now() >= next {
                *last = next.max(Instant::now() - LOOK_EVERY);
                return;
            }
        }
    }
}

fn listen(mut stream: TcpStream, orders: &Orders) -> anyhow::Result<(Order, Instant)> {
    let mut read_at = Instant::now();
    let (mut order, mut last_at) = (Order::default(), Instant::now());
    // Begins anew with what has not come before, and until everything is acknowledged.
    let mut quiet_since = last_at;
    let (mut buffer, mut chunk, mut answers) = (BytesMut::new(), vec![0; READ_BYTES], Vec::new());
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => bail!("the broker has closed the connection"),
            Ok(read) => {
                buffer.extend_from_slice(&chunk[..read]);
                last_at = Instant::now();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if order.received >= orders.awaited.load(Ordering::Relaxed) {
                    return Ok((order, last_at));
                }
            }
            Err(error) => return Err(error).context("read"),
        }
        let received = order.received;
        while let Some(packet) = packet::decode(Protocol::V3, &mut buffer)? {
            let Packet::Publish(publish) = packet else { bail!("{packet:?} to a subscriber") };
            orders.wait(&mut read_at);
            orders.received.fetch_add(1, Ordering::Relaxed);
            let stamp = Stamp::find(&publish.payload);
            order.take(stamp.with_context(|| format!("a message of nobody's on {}", publish.topic))?);
            answers.extend_from_slice(&packet::ack(Ack::PubAck, publish.id));
            if *held(&orders.reads) != Reads::Fast {
                stream.write_all(&answers).context("PUBACK")?;
                answers.clear();
            }
        }
        stream.write_all(&answers).context("PUBACK")?;
        answers.clear();
        if order.received > received || orders.awaited.load(Ordering::Relaxed) == UNKNOWN {
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() >= SILENCE {
            return Ok((order, last_at));
        }
    }
}

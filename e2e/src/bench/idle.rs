//! Memory of an idle plain-TCP connection: how much the broker's process grows, divided by the locks
//! that have connected, each with a keep alive and a subscription of its own.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::bench::fleet::{Close, Fleet, Order};
use crate::bench::lock::Session;
use crate::bench::meter::memory_bytes_of;
use crate::bench::target::{Failed, Kind, Surroundings, Target};
use crate::process::Process;

/// What an idle connection may take.
pub const BYTES_MAX: f64 = 4096.0;
/// The number of connections for which that holds.
pub const BOUND_AT: u32 = 10_000;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks that must agree.
const CALM_LOOKS: u32 = 5;
const CALM_BYTES: u64 = 64 * 1024;
const CALM_DEADLINE: Duration = Duration::from_secs(20);

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    /// Which broker.
    pub kind: Kind,
    /// Idle connections.
    pub connections: u32,
    /// Bytes of the process before the first.
    pub empty_bytes: u64,
    /// Bytes that the process has grown by, per connection.
    pub bytes_per_connection: f64,
    /// Whether its memory had come to rest.
    pub is_at_rest: bool,
}

/// Measures one broker at each of these numbers of connections, which rise. If it fails, the others
/// before that are there nevertheless.
pub async fn measure(kind: Kind, surroundings: &Surroundings, at: &[u32]) -> (Vec<Idle>, Option<Failed>) {
    let mut measured = Vec::new();
    let outcome = fill(kind, surroundings, at, &mut measured).await;
    (measured, outcome.err().map(|error| Failed::new(kind, "memory", &error)))
}

async fn fill(
    kind: Kind,
    surroundings: &Surroundings,
    at: &[u32],
    measured: &mut Vec<Idle>,
) -> anyhow::Result<()> {
    let target = Target::start(kind, surroundings).await?;
    let empty_bytes = calm_bytes(target.process()?).await?;
    let (mut fleets, mut first) = (Vec::new(), 0);
    for &connections in at {
        let count = connections - first;
        let order =
            Order { server: target.address(), first, count, session: Session::Kept, close: Close::Rst };
        fleets.push(Fleet::connect(order, &surroundings.master_hex).await?);
        first = connections;
        let id = target.process()?.id();
        let Settled { bytes, is_calm } = settle(|| memory_bytes_of(id)).await?;
        let bytes_per_connection = bytes.saturating_sub(empty_bytes) as f64 / f64::from(connections);
        measured.push(Idle { kind, connections, empty_bytes, bytes_per_connection, is_at_rest: is_calm });
    }
    target.finish()
}

/// The memory of a process once it does not change any more.
pub(super) async fn calm_bytes(process: &Process) -> anyhow::Result<u64> {
    calm_bytes_of(process.id()).await
}

/// As [`calm_bytes`], of whatever process has this id.
pub async fn calm_bytes_of(id: u32) -> anyhow::Result<u64> {
    let settled = settle(|| memory_bytes_of(id)).await?;
    ensure!(settled.is_calm, "the memory of an idle broker does not come to rest");
    Ok(settled.bytes)
}

/// Memory that was waited for.
#[derive(Debug, Clone, Copy)]
pub struct Settled {
    /// How much it was in the end.
    pub bytes: u64,
    /// Whether it did not change any more.
    pub is_calm: bool,
}

/// Reads memory until it does not change any more, for as long as is reasonable.
pub async fn settle(read: impl Fn() -> anyhow::Result<u64>) -> anyhow::Result<Settled> {
    let until = Instant::now() + CALM_DEADLINE;
    let (mut reference, mut looks) = (read()?, 0);
    while looks < CALM_LOOKS && Instant::now() < until {
        sleep(LOOK_EVERY).await;
        let bytes = read()?;
        if bytes.abs_diff(reference) <= CALM_BYTES {
            looks += 1;
        } else {
            (reference, looks) = (bytes, 0);
        }
    }
    Ok(Settled { bytes: read()?, is_calm: looks >= CALM_LOOKS })
}

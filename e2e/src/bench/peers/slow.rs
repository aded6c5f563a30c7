//! One subscriber that reads slowly, or for a while not at all, at QoS 1, while locks publish as fast as
//! they are acknowledged: whether the publishers are slowed, or told that all is well, and whether what
//! the subscriber then misses is counted.
//!
//! A turn has a window in which the subscriber reads slowly and acknowledgements and deliveries are
//! counted. Then the locks stop, the subscriber reads as fast as it can, and gets what is left.
//!
//! Ours does what `limits.slow_receiver_wait_ms` says: publishers wait for the receiver for so long, then
//! messages to it are dropped, each counted by the metric `route_drops`. So it is measured with its
//! default and a slow reader, where nothing may be missing, and with a short wait and one that does not
//! read, where as much may be missing as was counted. Who has acknowledged more is caught lying.

use std::time::{Duration, Instant};

use anyhow::ensure;
use latchline_shared::keys::MasterKey;
use serde::Serialize;
use tokio::time::sleep;

use crate::bench::metric::metric;
use crate::bench::peers::subscriber::{Reads, Subscriber};
use crate::bench::publishers::{Publishers, WINDOW};
use crate::bench::stored::{Ends, Stored};
use crate::bench::target::{Failed, Kind, Surroundings, Target};

const PART: &str = "one slow subscriber";
const DROPPED: &str = "broker_route_drops_total";
const HELD_BACK: &str = r#"broker_session_read_pauses_total{cause="slow_receiver"}"#;

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Locks that publish.
    pub locks: u32,
    /// Messages that the slow subscriber reads in a second.
    pub reads_per_second: u32,
    /// From the first message until it is measured: queues fill.
    pub warm_up: Duration,
    /// How long it is measured.
    pub window: Duration,
    /// How long publishers wait for the one that does not read. Shorter than the warm-up.
    pub wait: Duration,
}

/// One turn.
#[derive(Debug, Clone, Serialize)]
pub struct Slow {
    /// Which broker.
    pub kind: Kind,
    /// Messages that the subscriber read in a second, until the locks stopped.
    pub reads_per_second: u32,
    /// For how long publishers wait for it, where that is not the default.
    pub wait_ms: Option<u64>,
    /// Messages acknowledged to their publishers, per second of the window.
    pub acknowledged_per_second: f64,
    /// Messages that the subscriber got, per second of the window.
    pub received_per_second: f64,
    /// Messages acknowledged in all.
    pub acknowledged: u64,
    /// Different messages that the subscriber got in all.
    pub received: u64,
    /// What our broker counted.
    pub counted: Option<Counted>,
    /// Both ends, if Kafka is one.
    pub stored: Option<Stored>,
}

/// What our broker's metrics say.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Counted {
    /// Messages that were not delivered, whatever the cause.
    pub dropped: u64,
    /// How often a publisher was held back for a receiver.
    pub held_back: u64,
}

impl Slow {
    /// Acknowledged messages that never came.
    pub fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.received)
    }

    /// Of these, the ones that nobody has counted; and those that were counted and came all the same.
    pub fn miscounted(&self) -> u64 {
        self.lost().abs_diff(self.counted.map_or(0, |counted| counted.dropped))
    }

    /// Fails if ours has not counted exactly what it has lost, has lost anything although its subscriber
    /// reads, or has not stored something.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.kind.is_ours() {
            let (name, lost, miscounted) = (self.kind.name(), self.lost(), self.miscounted());
            ensure!(miscounted == 0, "{name}, {PART}: {lost} messages are lost, {miscounted} miscounted");
            ensure!(lost == 0 || self.wait_ms.is_some(), "{name}, {PART}: {lost} messages are lost");
        }
        self.stored.as_ref().map_or(Ok(()), Stored::check)
    }
}

/// Measures these brokers, one after the other. One that fails is said to have failed.
pub async fn measure(
    kinds: &[Kind],
    surroundings: &Surroundings,
    plan: &Plan,
    note: &mut impl FnMut(&str),
) -> (Vec<Slow>, Vec<Failed>) {
    let usual = kinds.iter().map(|&kind| (kind, plan.reads_per_second, None));
    let stuck = kinds.iter().filter(|kind| kind.is_ours()).map(|&kind| (kind, 0, Some(plan.wait)));
    let (mut slow, mut failed) = (Vec::new(), Vec::new());
    for (kind, reads_per_second, wait) in usual.chain(stuck) {
        match turn(kind, surroundings, plan, (reads_per_second, wait)).await {
            Ok(turn) => {
                let (name, acknowledged) = (kind.name(), turn.acknowledged_per_second);
                note(&format!("{name}, {reads_per_second} read a second: {acknowledged:.0} acknowledged"));
                slow.push(turn);
            }
            Err(error) => failed.push(Failed::new(kind, PART, &error)),
        }
    }
    (slow, failed)
}

async fn turn(
    kind: Kind,
    surroundings: &Surroundings,
    plan: &Plan,
    (reads_per_second, wait): (u32, Option<Duration>),
) -> anyhow::Result<Slow> {
    let wait_ms = wait.map(|wait| wait.as_millis() as u64);
    let settings = wait_ms.map(|wait_ms| ("limits.slow_receiver_wait_ms", wait_ms.to_string()));
    let target = Target::start_with(kind, surroundings, settings.as_slice()).await?;
    let server = target.address();
    let ends = match kind {
        Kind::Bridge => Some(Ends::look(&surroundings.kafka).await?),
        _ => None,
    };
    let reads = Reads::PerSecond(reads_per_second);
    let subscriber = Subscriber::connect_reading(server, &surroundings.operator, reads).await?;
    let master = MasterKey::from_hex(&surroundings.master_hex)?;
    let publishers = Publishers::connect(server, &master, 0, plan.locks).await?;
    publishers.closed_loop(WINDOW).await;
    sleep(plan.warm_up).await;
    let look = || (Instant::now(), publishers.acked(), subscriber.received());
    let (begun_at, acked_before, received_before) = look();
    sleep(plan.window).await;
    let (ended_at, acked, received) = look();
    let seconds = ended_at.saturating_duration_since(begun_at).as_secs_f64();
    subscriber.read(Reads::Fast);
    publishers.drain().await?;
    let acknowledged = publishers.acked();
    let (order, _) = subscriber.finish(acknowledged).await?;
    let counted = match target.metrics().await? {
        Some(metrics) => Some(Counted {
            dropped: metric(&metrics, DROPPED)?.unwrap_or(0.0) as u64,
            held_back: metric(&metrics, HELD_BACK)?.unwrap_or(0.0) as u64,
        }),
        None => None,
    };
    let stored = match ends {
        Some(ends) => Some(ends.stored(PART.to_owned(), acknowledged).await?),
        None => None,
    };
    drop(publishers);
    target.finish()?;
    Ok(Slow {
        kind,
        reads_per_second,
        wait_ms,
        acknowledged_per_second: (acked - acked_before) as f64 / seconds,
        received_per_second: (received - received_before) as f64 / seconds,
        acknowledged,
        received: order.received,
        counted,
        stored,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_must_be_counted_by_ours() {
        for (kind, wait_ms, received, dropped, miscounted, is_right) in [
            (Kind::Alone, None, 100, Some(0), 0, true),
            (Kind::Alone, Some(1), 90, Some(10), 0, true),
            (Kind::Alone, None, 90, Some(10), 0, false),
            (Kind::Alone, Some(1), 90, Some(9), 1, false),
            (Kind::Alone, Some(1), 90, Some(11), 1, false),
            (Kind::Bridge, None, 99, Some(0), 1, false),
            (Kind::Mosquitto, None, 20, None, 80, true),
        ] {
            let slow = Slow {
                kind,
                reads_per_second: 1,
                wait_ms,
                acknowledged_per_second: 1.0,
                received_per_second: 1.0,
                acknowledged: 100,
                received,
                counted: dropped.map(|dropped| Counted { dropped, held_back: 0 }),
                stored: None,
            };
            assert_eq!((slow.miscounted(), slow.check().is_ok()), (miscounted, is_right), "{slow:?}");
        }
    }
}

//! How far everything is, once a second: where Kafka's streams end, where each service has applied them
//! to, and what each process has used so far.
//!
//! What is stored is asked before what there is, so that the difference is never too small.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_postgres::Client;

use super::parts::{PARTS, Processes};
use super::scene::Scene;
use crate::kafka::reader::Ends;
use crate::load::tally::held;
use crate::stack::{ALARMS, COMMANDS, FINDINGS, REJECTED, SERVICES, STATES};

const EVERY: Duration = Duration::from_secs(1);
const OFFSETS: &str = "select 0, stream, partition, next_offset from auditor.consumer_offset
    union all select 1, stream, partition, next_offset from monitor.consumer_offset
    union all select 2, stream, partition, next_offset from notifier.consumer_offset";

/// A stream's partition.
type Place = (String, i32);
/// The next record of each service, by its number, and place.
type Offsets = BTreeMap<(usize, Place), i64>;

/// One look.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    /// Seconds since the window began.
    pub(super) at_s: f64,
    /// Reports in Kafka.
    pub(super) stored: u64,
    /// Reports that each service has applied.
    pub(super) applied: [u64; SERVICES.len()],
    /// Records of all its streams that each service has not applied.
    pub(super) lags: [u64; SERVICES.len()],
    /// CPU time that each part has used so far.
    pub(super) cpu_s: [f64; PARTS.len()],
    /// What each part has in memory.
    pub(super) memory_bytes: [u64; PARTS.len()],
}

impl Sample {
    /// Whether all there is was applied.
    pub(super) fn is_drained(&self) -> bool {
        self.lags == [0; SERVICES.len()]
    }
}

/// Looks.
pub(super) struct Sampler {
    ends: Ends,
    client: Client,
    processes: Processes,
    begun_at: Mutex<Instant>,
    samples: Mutex<Vec<Sample>>,
}

impl Sampler {
    pub(super) async fn open(scene: &Scene) -> anyhow::Result<Self> {
        let bootstrap = scene.whole.stack.kafka.bootstrap();
        Ok(Self {
            ends: Ends::open(&bootstrap, &[STATES, COMMANDS, REJECTED, FINDINGS, ALARMS]).await?,
            client: scene.client().await?,
            processes: Processes::of(scene)?,
            begun_at: Mutex::new(Instant::now()),
            samples: Mutex::default(),
        })
    }

    /// The window begins after this look, which is its first.
    pub(super) async fn begin(&self) -> anyhow::Result<()> {
        *held(&self.begun_at) = Instant::now();
        let sample = self.look().await?;
        held(&self.samples).push(Sample { at_s: 0.0, ..sample });
        *held(&self.begun_at) = Instant::now();
        Ok(())
    }

    /// Seconds since the window began.
    pub(super) fn elapsed_s(&self) -> f64 {
        held(&self.begun_at).elapsed().as_secs_f64()
    }

    /// Looks once.
    pub(super) async fn look(&self) -> anyhow::Result<Sample> {
        let begun_at = *held(&self.begun_at);
        let rows = self.client.query(OFFSETS, &[]).await.context("read offsets")?;
        let at_s = begun_at.elapsed().as_secs_f64();
        let (cpu_s, memory_bytes) = (self.processes.cpu_s()?, self.processes.memory_bytes()?);
        let ends = self.ends.look().await?;
        let of_states = ends.iter().filter(|((stream, _), _)| stream == STATES);
        let stored = of_states.map(|(_, end)| end.unsigned_abs()).sum();
        let mut offsets = Offsets::new();
        for row in rows {
            let service = usize::try_from(row.try_get::<_, i32>(0)?)?;
            offsets.insert((service, (row.try_get(1)?, row.try_get(2)?)), row.try_get(3)?);
        }
        let (applied, lags) = progress(&ends, &offsets);
        Ok(Sample { at_s, stored, applied, lags, cpu_s, memory_bytes })
    }

    /// Looks once a second until it fails.
    pub(super) async fn run(&self) -> anyhow::Error {
        let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.look().await {
                Ok(sample) => held(&self.samples).push(sample),
                Err(error) => return error.context("look how far everything is"),
            }
        }
    }

    /// The last look.
    pub(super) fn last(&self) -> Option<Sample> {
        held(&self.samples).last().copied()
    }

    /// All looks.
    pub(super) fn take(&self) -> Vec<Sample> {
        std::mem::take(&mut held(&self.samples))
    }
}

/// Reports that each service has applied, and records that it has not. A place that it has not begun
/// with is one of which it has applied nothing.
fn progress(
    ends: &BTreeMap<Place, i64>,
    offsets: &Offsets,
) -> ([u64; SERVICES.len()], [u64; SERVICES.len()]) {
    let (mut applied, mut lags) = ([0; SERVICES.len()], [0; SERVICES.len()]);
    for (number, (_, streams)) in SERVICES.iter().enumerate() {
        for (place, end) in ends.iter().filter(|((stream, _), _)| streams.contains(&stream.as_str())) {
            let next = offsets.get(&(number, place.clone())).copied().unwrap_or(0);
            if place.0 == STATES {
                applied[number] += next.unsigned_abs();
            }
            lags[number] += u64::try_from(end - next).unwrap_or_default();
        }
    }
    (applied, lags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_has_not_begun_is_behind_by_everything() {
        let place = |stream: &str, partition| (stream.to_owned(), partition);
        let ends = BTreeMap::from([
            (place(STATES, 0), 10),
            (place(STATES, 1), 20),
            (place(COMMANDS, 0), 5),
            (place(ALARMS, 0), 3),
        ]);
        let offsets = Offsets::from([
            ((0, place(STATES, 0)), 10),
            ((0, place(STATES, 1)), 18),
            ((0, place(COMMANDS, 0)), 5),
            ((1, place(STATES, 1)), 20),
        ]);
        assert_eq!(progress(&ends, &offsets), ([28, 20, 0], [2, 10, 33]));
    }
}

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
use crate::stack::{ALARMS, COMMANDS, FINDINGS, REJECTED, STATES};

const EVERY: Duration = Duration::from_secs(1);
/// The services, in the order of their figures.
pub(super) const SERVICES: [&str; 3] = ["auditor", "monitor", "notifier"];

const OFFSETS: &str = "select 0, stream, partition, next_offset from auditor.consumer_offset
    union all select 1, stream, partition, next_offset from monitor.consumer_offset
    union all select 2, stream, partition, next_offset from notifier.consumer_offset";

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
        let ends: BTreeMap<_, _> = self.ends.look().await?;
        let of_states = ends.iter().filter(|((stream, _), _)| stream == STATES);
        let stored = of_states.map(|(_, end)| end.unsigned_abs()).sum();
        let mut sample = Sample { at_s, stored, applied: [0; 3], lags: [0; 3], cpu_s, memory_bytes };
        for row in rows {
            let (service, stream): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
            let (partition, next): (i32, i64) = (row.try_get(2)?, row.try_get(3)?);
            let service = usize::try_from(service)?;
            if stream == STATES {
                sample.applied[service] += next.unsigned_abs();
            }
            if let Some(end) = ends.get(&(stream, partition)) {
                sample.lags[service] += u64::try_from(end - next).unwrap_or_default();
            }
        }
        Ok(sample)
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

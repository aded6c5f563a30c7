//! One measurement: a process under an even load for some seconds, at a fixed rate or in a closed
//! loop.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::{sleep, sleep_until};

use crate::bench::figures::Delays;
use crate::bench::publishers::Publishers;
use crate::bench::shares::Shares;
use crate::load::look::Watched;
use crate::process::Process;

/// What a measurement came to.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// In which turn: what is compared is compared with another of the same turn.
    pub turn: u32,
    /// Microseconds of CPU time per message.
    pub cpu_us: f64,
    /// Messages acknowledged per second.
    pub per_second: f64,
    /// Who had the processors.
    pub shares: Shares,
}

/// What one at a fixed rate came to.
#[derive(Debug, Clone, Serialize)]
pub struct Paced {
    /// The cost.
    pub sample: Sample,
    /// Messages that were due per second.
    pub rate_per_second: f64,
    /// From due to acknowledged, of all messages that were due in the window.
    pub delays: Delays,
    /// How late the load was.
    pub late: Late,
}

/// How late the load itself was: whoever measures delays says by how much he may have made them. All
/// but one in a hundred were no later.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Late {
    /// Messages, after they were due.
    pub sending_p99_ms: f64,
    /// Tasks that read acknowledgements, after they could have.
    pub reading_p99_ms: f64,
}

/// What is measured, and for how long.
pub(super) struct Measuring<'a> {
    pub(super) process: &'a Process,
    pub(super) publishers: &'a Publishers,
    pub(super) turn: u32,
    /// From the start of the load to the start of the measurement.
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
}

impl Late {
    /// Sums up histograms of microseconds.
    fn of(sending_us: &Histogram<u64>, reading_us: &Histogram<u64>) -> Self {
        let p99_ms = |late_us: &Histogram<u64>| late_us.value_at_quantile(0.99) as f64 / 1000.0;
        Self { sending_p99_ms: p99_ms(sending_us), reading_p99_ms: p99_ms(reading_us) }
    }
}

impl Measuring<'_> {
    /// At a fixed rate.
    pub(super) async fn open(&self, rate_per_second: f64) -> anyhow::Result<Paced> {
        let reading = self.publishers.watch_reading()?;
        let load = self.publishers.open_loop(rate_per_second, self.warm_up, self.window)?;
        sleep_until(load.measured.start.into()).await;
        let sample = self.sample(load.measured.end).await?;
        // Messages that are late count, too.
        let sent = load.finish().await?;
        self.publishers.drain().await?;
        drop(reading);
        let delays = Delays::of(&self.publishers.delays());
        let due = rate_per_second * self.window.as_secs_f64();
        ensure!((sent.measured as f64 - due).abs() <= 1.0, "{} of {due} messages were sent", sent.measured);
        ensure!(delays.count == sent.measured, "{} of {} delays", delays.count, sent.measured);
        let late = Late::of(&sent.late_us, &self.publishers.reading_us());
        Ok(Paced { sample, rate_per_second, delays, late })
    }

    /// As fast as acknowledgements come, so many messages of each lock under way.
    pub(super) async fn closed(&self, under_way: u16) -> anyhow::Result<Sample> {
        self.publishers.closed_loop(under_way).await;
        sleep(self.warm_up).await;
        let sample = self.sample(Instant::now() + self.window).await?;
        self.publishers.drain().await?;
        Ok(sample)
    }

    /// CPU time and acknowledgements from now on until then.
    async fn sample(&self, until: Instant) -> anyhow::Result<Sample> {
        let watched = Watched::of(&[self.process.id()])?;
        let look = || anyhow::Ok((Instant::now(), watched.look()?, self.publishers.acked()));
        let (begun_at, before, acked_before) = look()?;
        sleep_until(until.into()).await;
        let (ended_at, after, acked) = look()?;
        self.publishers.check()?;
        let messages = (acked - acked_before) as f64;
        ensure!(messages > 0.0, "no message is acknowledged in {:?}", self.window);
        let cpu = after.processes[0].since(&before.processes[0]);
        Ok(Sample {
            turn: self.turn,
            cpu_us: cpu.as_secs_f64() * 1e6 / messages,
            per_second: messages / ended_at.saturating_duration_since(begun_at).as_secs_f64(),
            shares: Shares::between(&before, &after)?,
        })
    }
}

//! How many events a second an auditor takes in.
//!
//! The records lie in the streams before the auditor starts, so the rate is what it can do and not
//! what it is given. It is counted from the first event in Postgres to the last, second by second;
//! CPU time is that of the auditor's process and of all processes of Postgres.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::kit::clock;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::Plan;
use crate::bench::figures::Spread;
use crate::feed::{Feed, Scene};
use crate::kafka::Kafka;
use crate::process;
use crate::stack::audit::Audit;
use crate::stack::secrets::Secrets;
use crate::stack::{COMMANDS, PARTITIONS, REJECTED, STATES};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Without an event for so long, it has stopped.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Shorter than this, a window says little.
const WINDOW: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Ingest {
    events: u64,
    seconds: f64,
    per_second: f64,
    /// In windows of two seconds.
    windows: Spread,
    auditor_cpu_us: f64,
    postgres_cpu_us: f64,
}

/// Works the plan's records off.
pub async fn measure(kafka: &Kafka, postgres: DevelopmentPostgres, plan: &Plan) -> anyhow::Result<Ingest> {
    for stream in [STATES, COMMANDS, REJECTED] {
        kafka.create_stream(stream, PARTITIONS).await?;
    }
    let secrets = Secrets::random()?;
    fill(kafka, &secrets, plan)?;
    // Signed as often as by default, which tests do more often.
    let audit = Audit::start_on(postgres, kafka, &secrets, &[("checkpoint.interval_s", "600")]).await?;
    let client = audit.connect().await?;
    let samples = watch(&audit, &client, plan.records).await?;
    let (first, last) = (samples.first().context("no event")?, samples.last().context("no event")?);
    let (events, seconds) = (last.events - first.events, (last.at - first.at).as_secs_f64());
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / events as f64;
    Ok(Ingest {
        events,
        seconds,
        per_second: events as f64 / seconds,
        windows: windows(&samples).context("too short to measure")?,
        auditor_cpu_us: each(last.auditor - first.auditor),
        postgres_cpu_us: each(last.postgres.saturating_sub(first.postgres)),
    })
}

fn fill(kafka: &Kafka, secrets: &Secrets, plan: &Plan) -> anyhow::Result<()> {
    let feed = Feed::open(&kafka.bootstrap())?;
    let scenes = plan.records / 2;
    let start_ms = clock::unix_ms() - scenes;
    for n in 0..scenes {
        let lock = format!("{:017}", n % plan.locks);
        let scene = Scene { lock: &lock, n, ts_ms: start_ms + n };
        feed.send(COMMANDS, &scene.command(&secrets.master)?)?;
        feed.send(STATES, &scene.result())?;
    }
    feed.flush()
}

struct Sample {
    at: Instant,
    events: u64,
    auditor: Duration,
    postgres: Duration,
}

async fn watch(audit: &Audit, client: &Client, wanted: u64) -> anyhow::Result<Vec<Sample>> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut moved_at = Instant::now();
    loop {
        let row =
            client.query_one("select coalesce(sum(seq), 0)::bigint from auditor.chain_head", &[]).await?;
        let events = u64::try_from(row.get::<_, i64>(0))?;
        if events > samples.last().map_or(0, |last| last.events) {
            moved_at = Instant::now();
            samples.push(Sample {
                at: moved_at,
                events,
                auditor: audit.auditor.process()?.cpu_time()?,
                postgres: process::family_cpu_time(audit.postgres.process_id()?)?,
            });
        }
        if events >= wanted {
            ensure!(events == wanted, "{events} events of {wanted} records");
            return Ok(samples);
        }
        ensure!(moved_at.elapsed() < STALLED_AFTER, "only {events} events of {wanted} records");
        sleep(LOOK_EVERY).await;
    }
}

fn windows(samples: &[Sample]) -> Option<Spread> {
    let mut rates = Vec::new();
    let mut begin = samples.first()?;
    for sample in samples {
        let length = sample.at - begin.at;
        if length >= WINDOW {
            rates.push((sample.events - begin.events) as f64 / length.as_secs_f64());
            begin = sample;
        }
    }
    Spread::of(rates).or_else(|| {
        let (first, last) = (samples.first()?, samples.last()?);
        Spread::of([(last.events - first.events) as f64 / (last.at - first.at).as_secs_f64()])
    })
}

impl fmt::Display for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, seconds, per_second, windows, auditor_cpu_us, postgres_cpu_us } = self;
        writeln!(f, "events taken in               {events} in {seconds:.1} s: {per_second:.0} a second")?;
        writeln!(f, "  in windows of 2 s           {windows:.0} a second")?;
        writeln!(
            f,
            "  CPU time of an event        {auditor_cpu_us:.0} µs auditor, {postgres_cpu_us:.0} µs Postgres"
        )
    }
}

//! `rebuild`: replays the streams from the beginning into a shadow schema, without telling anybody,
//! and proves that the result equals the live tables.
//!
//! ```text
//! shadow: make the schema, copy what is live (was_…) → replay: up to the live offsets
//!     → shadow: adopt what does not follow from records → compare
//! ```
//!
//! What is live is read in one transaction that locks nothing and takes as long as the copy. Nothing
//! is written but the shadow schema: no outbox, no webhook, no dead letters. Thresholds and profiles
//! are those of the present configuration, so one that was changed shows as a difference.

mod compare;
mod replay;
mod shadow;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use deadpool_postgres::Pool;
use latchline_shared::alarm::AlarmType;
use latchline_shared::kit::clock;
use latchline_shared::kit::http::readiness::Readiness;
use latchline_shared::kit::kafka::consumer::metrics::Metrics;
use latchline_shared::kit::kafka::consumer::reader::Reader;
use latchline_shared::kit::run::Exit;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::migrations::ROLE;
use crate::settings::Settings;
use compare::Report;
use replay::Replay;
use shadow::{Leave, Shadow};

/// Alarms that do not follow from the records of one stream: what a clock saw, and what depends on
/// which of two streams was read first. Theirs are copied.
const COPIED: [AlarmType; 4] = [
    AlarmType::DeviceOffline,
    AlarmType::DeviceFlapping,
    AlarmType::FleetConnectivity,
    AlarmType::CommandNoResult,
];

const LOOK_EVERY: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(3);

/// Arguments of `rebuild`.
#[derive(Debug, Clone, clap::Args)]
pub struct RebuildArguments {
    /// The shadow schema; one that an earlier rebuild has left is made anew.
    #[arg(long, value_name = "NAME", default_value = "monitor_rebuild")]
    pub schema: String,
    /// Keep the shadow schema also if it equals the live one.
    #[arg(long)]
    pub keep: bool,
}

/// The command: rebuilds and writes what was found. [`Exit::Failed`]: the tables are not equal.
pub async fn cli(
    arguments: &RebuildArguments,
    settings: &Settings,
    out: &mut impl Write,
) -> anyhow::Result<Exit> {
    let report = rebuild(arguments, settings, out).await?;
    report.write(out)?;
    Ok(if report.is_equal() { Exit::Done } else { Exit::Failed })
}

/// Rebuilds and compares; progress goes to `out`. The schema stays if it is to be kept, or differs.
pub async fn rebuild(
    arguments: &RebuildArguments,
    settings: &Settings,
    out: &mut impl Write,
) -> anyhow::Result<Report> {
    let postgres = &settings.postgres.server;
    let schema = arguments.schema.as_str();
    shadow::check_name(schema)?;
    let owner = postgres.pool_in("latchline-monitor rebuild", None, schema)?;
    let mut shadow = Shadow::make(&owner, schema).await?;
    let snapshot = shadow.snapshot(&settings.streams.read()).await?;
    let total: i64 = snapshot.targets.values().sum();
    let partitions = snapshot.targets.len();
    writeln!(
        out,
        "to replay: up to {total} records of {partitions} partitions, with the present thresholds and profiles"
    )?;

    let lanes = postgres.pool_in("latchline-monitor rebuild lanes", Some(ROLE), schema)?;
    let replay = Arc::new(Replay::new(settings, snapshot.targets.clone())?);
    read(settings, &mut shadow, &replay, &lanes, out).await?;
    let missing = shadow.missing().await?;
    for (lane, evaluated_at_ms) in &snapshot.evaluated {
        replay.pass(&lanes, *lane, *evaluated_at_ms).await.with_context(|| format!("lane {lane}"))?;
    }
    shadow.adopt(&snapshot).await?;
    let tables = compare::compare(shadow.client()).await?;
    let notes = [replay.notes(), missing].concat();
    let mut report = Report { tables, notes, kept: None };
    if report.is_equal() && !arguments.keep {
        shadow.leave(Leave::Remove).await?;
    } else {
        shadow.leave(Leave::Keep).await?;
        report.kept = Some(schema.to_owned());
    }
    Ok(report)
}

/// Reads until all partitions have reached their live offsets.
async fn read(
    settings: &Settings,
    shadow: &mut Shadow,
    replay: &Arc<Replay>,
    pool: &Pool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if shadow.behind(&replay.ended()).await? == 0 {
        return Ok(());
    }
    let mut consumer = settings.consumer.clone();
    // Nobody else's: it shares no partitions, and nothing goes on where it ended.
    consumer.group = format!("{}-rebuild-{}", consumer.group, clock::unix_ms());
    consumer.instance_id = None;
    let readiness = Readiness::new();
    let reader = Reader {
        settings: consumer,
        // That of the live one, whose dead-letter streams are there; nothing is written to them.
        name: "monitor",
        // Once in the process's life.
        schema: shadow.name().to_owned().leak(),
        streams: settings.streams.read(),
        service: Arc::clone(replay),
        pool: pool.clone(),
        metrics: Metrics::new(&mut Registry::default()),
        readiness: readiness.clone(),
    };
    let token = CancellationToken::new();
    let mut reading = pin!(reader.run(token.clone()));
    let (mut told_at, mut told) = (Instant::now(), 0);
    loop {
        // Cancel safety: reading is polled on, a pause that is given up is nothing.
        tokio::select! {
            ended = &mut reading => {
                ended?;
                bail!("the reader has ended");
            }
            () = sleep(LOOK_EVERY) => {}
        }
        let behind = shadow.behind(&replay.ended()).await?;
        let elapsed = told_at.elapsed();
        if elapsed >= TELL_EVERY || behind == 0 {
            let read = replay.records();
            let rate = (read - told) as f64 / elapsed.as_secs_f64();
            writeln!(out, "{read} records replayed, {rate:.0}/s, at most {behind} to go")?;
            for (name, why) in readiness.reasons() {
                writeln!(out, "waiting: {name}: {why}")?;
            }
            (told_at, told) = (Instant::now(), read);
        }
        if behind == 0 {
            break;
        }
    }
    token.cancel();
    reading.await
}

//! One turn of one side, as the process that it is (`bench store-side`): a warm-up, then a number of
//! records, as fast as they are stored or at a fixed rate; its own CPU time from first to last.
//!
//! Both sides are driven by the same loop: a record is handed over when it is due and when fewer than
//! a window of records are under way, and each is waited for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::bench::store::bare::Bare;
use crate::bench::store::bridge::Hooked;
use crate::process;

/// What the line with the figures begins with.
pub const MEASURED: &str = "measured ";

/// Who stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The bridge: its hook is called, its receipts are awaited.
    Bridge,
    /// rdkafka, with nothing around it.
    Bare,
}

impl Side {
    /// The name in tables, and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Bare => "bare",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Args)]
pub struct Order {
    /// Who stores
    #[arg(long)]
    pub side: Side,
    /// Address of Kafka
    #[arg(long)]
    pub kafka: String,
    /// Locks that the records are of
    #[arg(long)]
    pub locks: u32,
    /// File with the records that the bare side sends
    #[arg(long)]
    pub templates: PathBuf,
    /// Records before it counts
    #[arg(long)]
    pub warm_up: u32,
    /// Records that count
    #[arg(long)]
    pub records: u32,
    /// Records under way
    #[arg(long)]
    pub window: u32,
    /// Records a second; 0 for as many as are stored
    #[arg(long)]
    pub rate: u32,
}

/// What a turn came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Microseconds of CPU time per record, of the whole process.
    pub cpu_us: f64,
    /// Records stored per second.
    pub per_second: f64,
}

impl Order {
    /// As they stand on the command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { side, kafka, locks, templates, warm_up, records, window, rate } = self;
        [
            ("--side", side.name().to_owned()),
            ("--kafka", kafka.clone()),
            ("--locks", locks.to_string()),
            ("--templates", templates.display().to_string()),
            ("--warm-up", warm_up.to_string()),
            ("--records", records.to_string()),
            ("--window", window.to_string()),
            ("--rate", rate.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }
}

/// What both sides can do.
pub(crate) trait Storing {
    /// Hands over the next record of lock number `lock`.
    fn store(&mut self, lock: usize) -> anyhow::Result<()>;

    /// Waits until one more record is stored, of those that were handed over.
    async fn stored(&mut self) -> anyhow::Result<()>;
}

/// Carries it out, and says what it came to.
#[expect(clippy::disallowed_macros, reason = "the parent process reads standard output")]
pub async fn run(order: &Order) -> anyhow::Result<()> {
    ensure!(order.locks > 0 && order.window > 0 && order.records > 0, "nothing to do");
    let measured = match order.side {
        Side::Bridge => measure(&mut Hooked::start(order).await?, order).await,
        Side::Bare => measure(&mut Bare::start(order)?, order).await,
    };
    println!("{MEASURED}{}", serde_json::to_string(&measured.context(order.side.name())?)?);
    Ok(())
}

async fn measure(storing: &mut impl Storing, order: &Order) -> anyhow::Result<Measured> {
    drive(storing, order, order.warm_up).await?;
    let cpu_time = || process::cpu_time(std::process::id());
    let (begun_at, before) = (Instant::now(), cpu_time()?);
    drive(storing, order, order.records).await?;
    let (elapsed, spent) = (begun_at.elapsed(), cpu_time()?.saturating_sub(before));
    let records = f64::from(order.records);
    Ok(Measured { cpu_us: spent.as_secs_f64() * 1e6 / records, per_second: records / elapsed.as_secs_f64() })
}

async fn drive(storing: &mut impl Storing, order: &Order, records: u32) -> anyhow::Result<()> {
    let (begun_at, mut under_way) = (Instant::now(), 0);
    for number in 0..records {
        if order.rate > 0 {
            let due = begun_at + Duration::from_secs_f64(f64::from(number) / f64::from(order.rate));
            if due > Instant::now() {
                sleep_until(due).await;
            }
        }
        if under_way == order.window {
            storing.stored().await?;
            under_way -= 1;
        }
        storing.store((number % order.locks) as usize)?;
        under_way += 1;
    }
    for _ in 0..under_way {
        storing.stored().await?;
    }
    Ok(())
}

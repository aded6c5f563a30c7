//! What the bridge costs beside the producer that it stands on: our hook, called directly, against
//! rdkafka producing the same records with nothing around it; the same Kafka, the same settings.
//!
//! Each turn of each side is a process of its own (`bench store-side`), which measures itself from
//! its first record to its last receipt, after a warm-up. The bare side sends what the bridge has
//! stored: some thousands of records, all different, are read back, key, headers and value, and sent
//! again and again ([`templates`]). That both store the same is looked at before anything is measured,
//! and Kafka's end is counted in every turn.

pub mod bare;
pub mod bridge;
pub mod side;
pub mod templates;

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use crate::bench::figures::Spread;
use crate::bench::fleet::binary;
use crate::bench::group::there_and_back;
use crate::bench::progress::Progress;
use crate::bench::report::Machine;
use crate::bench::stored::Ends;
use crate::kafka::Kafka;
use crate::kafka::reader::{From, Reader};
use crate::process::Process;
use crate::stack::{COMMANDS, PARTITIONS, REJECTED, STATES};
use side::{MEASURED, Measured, Order, Side};
use templates::{Template, by_turns, same};

const TURN_DEADLINE: Duration = Duration::from_secs(300);
const READ_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const SIDES: [Side; 2] = [Side::Bridge, Side::Bare];

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Turns; in each, both sides are measured once.
    pub rounds: u32,
    /// Locks that the records are of.
    pub locks: u32,
    /// Different records that the bare side sends.
    pub templates: u32,
    /// Records before it counts.
    pub warm_up: u32,
    /// Records of a turn, as fast as they are stored.
    pub records: u32,
    /// Records under way.
    pub window: u32,
    /// Records of a turn at the fixed rate.
    pub records_paced: u32,
    /// The fixed rate.
    pub rate_per_second: u32,
}

impl Plan {
    /// What the figures in `docs/benchmarks.md` come from.
    pub fn full() -> Self {
        Self {
            rounds: 5,
            locks: 50,
            templates: 4_000,
            warm_up: 5_000,
            records: 150_000,
            window: 500,
            records_paced: 25_000,
            rate_per_second: 5_000,
        }
    }

    /// Enough to see that something sensible is measured.
    pub fn small() -> Self {
        Self {
            rounds: 2,
            locks: 5,
            templates: 100,
            warm_up: 50,
            records: 2_000,
            window: 50,
            records_paced: 300,
            rate_per_second: 1_000,
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Store {
    /// Where.
    pub machine: Machine,
    /// Which Kafka.
    pub kafka: String,
    /// How much.
    pub plan: Plan,
    /// Records of both sides that were found to be the same, before anything was measured.
    pub compared: usize,
    /// Records that were counted in Kafka, in all turns.
    pub stored: u64,
    /// Bridge and bare, as fast as records are stored, then at the fixed rate.
    pub costs: Vec<Cost>,
    /// Bridge to bare.
    pub ratios: Vec<Ratio>,
}

/// What a record costs one side.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Which side.
    pub side: Side,
    /// How records come.
    pub load: &'static str,
    /// Microseconds of CPU time per record, of the whole process.
    pub cpu_us: Spread,
    /// Records stored per second.
    pub per_second: Spread,
    /// CPU time, turn by turn.
    pub samples_cpu_us: Vec<f64>,
}

/// What the bridge adds.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// How records come.
    pub load: &'static str,
    /// Of measurements of the same turn.
    pub ratio: Spread,
}

/// Measures both sides by turns.
pub async fn measure(
    kafka: &Kafka,
    plan: Plan,
    mut tell: impl FnMut(Progress<'_, Store>),
) -> anyhow::Result<Store> {
    for stream in [STATES, COMMANDS, REJECTED] {
        kafka.create_stream(stream, PARTITIONS).await?;
    }
    let (bootstrap, file) = (kafka.bootstrap(), NamedTempFile::with_prefix("latchline-bench-")?);
    let order = |side, warm_up, records, rate| Order {
        side,
        kafka: bootstrap.clone(),
        locks: plan.locks,
        templates: file.path().to_owned(),
        warm_up,
        records,
        window: plan.window,
        rate,
    };
    tell(Progress::Begins("both sides store the same"));
    // The figures of these are nobody's.
    let ours = by_turns(stored_by(&order(Side::Bridge, 0, plan.templates, 0)).await?);
    std::fs::write(file.path(), serde_json::to_vec(&ours)?)?;
    let bare = stored_by(&order(Side::Bare, 0, plan.templates, 0)).await?;
    same(&ours, &bare)?;

    let mut store = Store {
        machine: Machine::this()?,
        kafka: kafka.choice().name(),
        compared: ours.len(),
        stored: 0,
        costs: Vec::new(),
        ratios: Vec::new(),
        plan: plan.clone(),
    };
    let loads = [("closed loop", plan.records, 0), ("fixed rate", plan.records_paced, plan.rate_per_second)];
    for (load, records, rate) in loads {
        let mut turns = SIDES.map(|_| Vec::new());
        for round in 0..plan.rounds {
            for number in there_and_back(SIDES.len(), round) {
                tell(Progress::Begins(&format!("turn {round}, {load}, {}", SIDES[number].name())));
                turns[number].push(run(&order(SIDES[number], plan.warm_up, records, rate)).await?);
                store.stored += u64::from(plan.warm_up + records);
            }
        }
        let pair: Vec<Cost> =
            SIDES.iter().zip(&turns).filter_map(|(&side, turns)| sum_up(side, load, turns)).collect();
        if let [ours, bare] = &pair[..] {
            let ratio = Spread::of_ratios(&ours.samples_cpu_us, &bare.samples_cpu_us);
            store.ratios.extend(ratio.map(|ratio| Ratio { load, ratio }));
        }
        store.costs.extend(pair);
        tell(Progress::Ended(&store, &store.to_string()));
    }
    Ok(store)
}

/// The records that a side stores.
async fn stored_by(order: &Order) -> anyhow::Result<Vec<Template>> {
    // Opened before, so that it reads nothing that was there already.
    let mut reader = Reader::open(&order.kafka, &[STATES], From::End).await?;
    run(order).await?;
    let records = reader.read(order.records as usize, READ_DEADLINE).await?;
    Ok(records.into_iter().map(Template::of).collect())
}

fn sum_up(side: Side, load: &'static str, turns: &[Measured]) -> Option<Cost> {
    let samples_cpu_us: Vec<f64> = turns.iter().map(|turn| turn.cpu_us).collect();
    Some(Cost {
        side,
        load,
        cpu_us: Spread::of(samples_cpu_us.iter().copied())?,
        per_second: Spread::of(turns.iter().map(|turn| turn.per_second))?,
        samples_cpu_us,
    })
}

/// One turn of one side, in a process of its own; Kafka must have just as many records more then.
async fn run(order: &Order) -> anyhow::Result<Measured> {
    let name = order.side.name();
    let ends = Ends::look(&order.kafka).await?;
    let mut command = Command::new(binary()?);
    command.arg("store-side").args(order.arguments());
    let mut process = Process::start(name, &mut command)?;
    let status = process.wait(TURN_DEADLINE).await?;
    let lines = || process.output().lines();
    ensure!(status.success(), "{name} ended with {status}:\n{}", lines().join("\n"));
    // What it wrote last may still be on its way.
    let until = Instant::now() + READ_DEADLINE;
    let said = || lines().iter().find_map(|line| line.strip_prefix(MEASURED).map(str::to_owned));
    let measured = loop {
        match said() {
            Some(measured) => break measured,
            None => ensure!(Instant::now() < until, "{name} says nothing:\n{}", lines().join("\n")),
        }
        sleep(LOOK_EVERY).await;
    };
    let (due, stored) = (u64::from(order.warm_up + order.records), ends.grown().await?);
    ensure!(stored == due, "{name}: {due} records were acknowledged, {stored} are stored");
    serde_json::from_str(&measured).with_context(|| format!("{name} says {measured}"))
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {}", self.machine, self.kafka)?;
        let (compared, stored) = (self.compared, self.stored);
        writeln!(f, "{compared} records of both sides are the same; {stored} were sent and found in Kafka")?;
        writeln!(
            f,
            "\nCPU time of a stored record             µs, median (range)       records/s, median (range)"
        )?;
        for Cost { side, load, cpu_us, per_second, .. } in &self.costs {
            let name = format!("{}, {load}", side.name());
            let (cpu_us, per_second) = (cpu_us.to_string(), format!("{per_second:.0}"));
            writeln!(f, "  {name:36}  {cpu_us:24} {per_second}")?;
        }
        for Ratio { load, ratio } in &self.ratios {
            writeln!(f, "  {:36}  {ratio:.2}", format!("bridge to bare, {load}"))?;
        }
        Ok(())
    }
}

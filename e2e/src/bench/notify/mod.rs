//! The notifier with its Postgres, the development Kafka, a mail server and an SMS gateway on the same
//! machine: how long it takes from a record to the provider that took the message, whether many results
//! can be taken in, and whether critical messages wait behind others.
//!
//! Every result goes out by mail and by SMS. Results leave when they are due, whatever becomes of them
//! (open loop). Times are from the record's `ts` to the provider's answer, as the provider saw it; what
//! is taken in, to the row's transaction.

mod load;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::bench::figures::Delays;
use crate::bench::meter::memory_bytes;
use crate::bench::report::Machine;
use crate::kafka::{Choice, Kafka};
use crate::process::{self, free_port};
use crate::stack::notifier::{LISTENERS, NO_LIMITS, Notifier};
use load::Load;

/// Longest time from a record to the provider that took the message (`bounds` in the table).
const P95_MS_MAX: f64 = 5_000.0;
/// Longest delay that is told apart.
const LONGEST_US: u64 = 3_600_000_000;
const SETTLE_DEADLINE: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Users, each with a lock.
    pub users: u64,
    /// Results a second that are told in time.
    pub per_second: f64,
    /// Results a second that are taken in.
    pub burst_per_second: f64,
    /// How long each is measured.
    pub window: Duration,
}

impl Plan {
    /// What `docs/benchmarks.md` shows.
    pub fn full() -> Self {
        Self { users: 2_000, per_second: 50.0, burst_per_second: 500.0, window: Duration::from_secs(60) }
    }

    /// To see that it works.
    pub fn small() -> Self {
        Self { users: 50, per_second: 20.0, burst_per_second: 50.0, window: Duration::from_secs(3) }
    }
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Notify {
    machine: Machine,
    kafka: String,
    plan: Plan,
    /// At the lower rate, from the record to the mail server.
    pub mails: Delays,
    /// The same, to the SMS gateway.
    pub sms: Delays,
    /// At the higher rate, from the record to the row.
    pub taken_in: Delays,
    /// Meanwhile, from an alarm's record to the provider, if it is critical.
    pub critical: Delays,
    /// Meanwhile, from the record of a result.
    pub others: Delays,
    /// Messages that left a second at the higher rate, until all had.
    pub sent_per_second: f64,
    /// Resident memory of the notifier at the end.
    pub memory_bytes: u64,
    /// CPU time of a message, at the higher rate.
    pub notifier_cpu_us: f64,
    /// The same, of all processes of Postgres.
    pub postgres_cpu_us: f64,
}

/// Measures.
pub async fn measure(plan: Plan) -> anyhow::Result<Notify> {
    let machine = Machine::this()?;
    let kafka = Kafka::start(Choice::Development).await?;
    let folder = tempfile::Builder::new().prefix("latchline-notify-").tempdir()?;
    let data = folder.path().join("postgres");
    // A server that waits for its disk, as in production.
    let start = move || DevelopmentPostgres::start_in(&data, free_port()?);
    let postgres = tokio::task::spawn_blocking(start).await??;
    let load = Load::new(&kafka.bootstrap(), plan.users)?;
    let mut notifier = Notifier::prepare(postgres, &kafka, &load.users(), &NO_LIMITS).await?;
    notifier.notifier.start(&LISTENERS).await?;
    notifier.ready().await?;
    let client = notifier.connect().await?;

    let due = load.results(plan.per_second, plan.window, false).await?;
    settle(&client, due).await?;
    let calm = arrivals(&notifier, &client).await?;

    let cpu = || -> anyhow::Result<(Duration, Duration)> {
        let postgres = notifier.postgres.process_id()?;
        Ok((notifier.notifier.process()?.cpu_time()?, process::family_cpu_time(postgres)?))
    };
    let (begun, before) = (Instant::now(), cpu()?);
    let all = due + load.results(plan.burst_per_second, plan.window, true).await?;
    settle(&client, all).await?;
    let (seconds, after) = (begun.elapsed().as_secs_f64(), cpu()?);
    let busy: Vec<Arrival> =
        arrivals(&notifier, &client).await?.into_iter().filter(|one| !calm.contains(one)).collect();
    let messages = busy.len() as f64;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / messages;
    Ok(Notify {
        machine,
        kafka: kafka.choice().name(),
        plan,
        mails: of(calm.iter().filter(|one| one.channel == "email").map(Arrival::delay_ms))?,
        sms: of(calm.iter().filter(|one| one.channel == "sms").map(Arrival::delay_ms))?,
        taken_in: of(busy.iter().map(|one| one.row_ms - one.at_ms))?,
        critical: of(busy.iter().filter(|one| one.is_critical).map(Arrival::delay_ms))?,
        others: of(busy.iter().filter(|one| !one.is_critical).map(Arrival::delay_ms))?,
        sent_per_second: messages / seconds,
        memory_bytes: memory_bytes(notifier.notifier.process()?)?,
        notifier_cpu_us: each(after.0.saturating_sub(before.0)),
        postgres_cpu_us: each(after.1.saturating_sub(before.1)),
    })
}

/// Waits until so many messages have left, and none waits.
async fn settle(client: &Client, messages: u64) -> anyhow::Result<()> {
    let until = Instant::now() + SETTLE_DEADLINE;
    loop {
        let query = "select count(*) filter (where status = 'sent'), count(*) from notification";
        let row = client.query_one(query, &[]).await?;
        let (sent, all): (i64, i64) = (row.get(0), row.get(1));
        if sent.unsigned_abs() >= messages && sent == all {
            return Ok(());
        }
        ensure!(Instant::now() < until, "only {sent} of {messages} messages were sent, {all} rows");
        sleep(LOOK_EVERY).await;
    }
}

/// A message that arrived.
#[derive(Debug, PartialEq)]
struct Arrival {
    id: String,
    channel: String,
    is_critical: bool,
    at_ms: i64,
    row_ms: i64,
    arrived_ms: i64,
}

impl Arrival {
    fn delay_ms(&self) -> i64 {
        self.arrived_ms - self.at_ms
    }
}

/// All that arrived.
async fn arrivals(notifier: &Notifier, client: &Client) -> anyhow::Result<Vec<Arrival>> {
    let mut arrived = notifier.arrivals()?;
    let query = "select id::text, channel, priority > 0, occurred_at, created_at from notification";
    let rows = client.query(query, &[]).await?;
    let ms = |at: Timestamp| at.as_millisecond();
    rows.iter()
        .map(|row| {
            let id: String = row.get(0);
            let arrived_ms = first(&mut arrived, &id)?;
            Ok(Arrival {
                id,
                channel: row.get(1),
                is_critical: row.get(2),
                at_ms: ms(row.get(3)),
                row_ms: ms(row.get(4)),
                arrived_ms,
            })
        })
        .collect()
}

fn first(arrived: &mut HashMap<String, Vec<u64>>, id: &str) -> anyhow::Result<i64> {
    let times = arrived.remove(id).with_context(|| format!("{id} has not arrived"))?;
    ensure!(times.len() == 1, "{id} arrived {} times", times.len());
    Ok(i64::try_from(times[0])?)
}

fn of(delays_ms: impl Iterator<Item = i64>) -> anyhow::Result<Delays> {
    let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, LONGEST_US, 3)?;
    for delay_ms in delays_ms {
        histogram.record(u64::try_from(delay_ms).unwrap_or_default() * 1_000)?;
    }
    ensure!(!histogram.is_empty(), "nothing was measured");
    Ok(Delays::of(&histogram))
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, kernel, load_before } = &self.machine;
        let Plan { users, per_second, burst_per_second, window } = &self.plan;
        writeln!(f, "{processor}, {cores} cores, Linux {kernel}, load {load_before} before; {}", self.kafka)?;
        writeln!(f, "{users} users, each result a mail and an SMS, {} s each\n", window.as_secs())?;
        let bound = |delays: &Delays| {
            let word = if delays.p95_ms <= P95_MS_MAX { "held" } else { "NOT HELD" };
            format!("; bound of p95 {P95_MS_MAX:.0}: {word}")
        };
        let line = |f: &mut fmt::Formatter<'_>, name: &str, delays: &Delays, bound: &str| {
            let Delays { count, p50_ms, p95_ms, p99_ms, max_ms, .. } = delays;
            writeln!(
                f,
                "  {name:26}  p50 {p50_ms:.0} ms, p95 {p95_ms:.0} ms, p99 {p99_ms:.0} ms, max {max_ms:.0} ms of {count}{bound}"
            )
        };
        writeln!(f, "{per_second:.0} results a second:")?;
        line(f, "record to mail server", &self.mails, &bound(&self.mails))?;
        line(f, "record to SMS gateway", &self.sms, &bound(&self.sms))?;
        writeln!(f, "{burst_per_second:.0} results a second, and a critical alarm each second:")?;
        line(f, "record to row", &self.taken_in, "")?;
        line(f, "record to provider", &self.others, "")?;
        line(f, "the same, critical", &self.critical, &bound(&self.critical))?;
        writeln!(f, "  messages left a second      {:.0}", self.sent_per_second)?;
        writeln!(
            f,
            "  CPU time of a message       {:.0} µs notifier, {:.0} µs Postgres; memory {} MB",
            self.notifier_cpu_us,
            self.postgres_cpu_us,
            self.memory_bytes / 1_000_000
        )
    }
}

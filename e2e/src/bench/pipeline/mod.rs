//! The reports of a million locks on their whole way: MQTT, Kafka, and all three services with one
//! Postgres, on one machine. How far each service is behind, how long it takes from a lock to what
//! people see, what each part costs, and whether it holds.
//!
//! A million connected locks are more sockets than a process may have, and one connection cannot report
//! for many locks: who speaks for another is a finding. So the fleet is a crowd in the broker's own
//! process ([`crate::bench::scale::crowd`]), each lock a session of its own over a stream in memory;
//! what the clients themselves need is known and taken off. The locks that are timed from end to end
//! ([`probes`]) come through sockets. Everything else is a process of its own, as in production.
//!
//! First every lock reports once, to become known; when that is applied, the window begins. In the end
//! everything is waited for: what was acknowledged is in Kafka, and every service has applied it. A
//! process that ends meanwhile ends the run ([`guard`]).

mod figures;
mod guard;
mod parts;
mod picture;
mod probes;
mod sample;
mod scene;
mod table;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::bench::figures::Delays;
use crate::bench::report::Machine;
use crate::bench::scale::crowd::reports::{Reported, Reports, Second};
use crate::bench::scale::crowd::{Deed, Done};
use crate::kafka::Choice;
use figures::{Lag, Verdict};
use guard::Guard;
pub use parts::Part;
use probes::book::Book;
use probes::crew::Crew;
use probes::follow::Follow;
use probes::{Chain, Timed};
use sample::{Sample, Sampler};
use scene::Scene;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How much.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Locks that report in turn.
    pub locks: u32,
    /// Reports a second of all together.
    pub per_second: f64,
    /// How long it is measured.
    pub window: Duration,
    /// What they report.
    pub reports: Reports,
    /// Reports a second that are followed to their end.
    pub probes_per_second: f64,
    /// Locks that send them, of each kind.
    pub probe_locks: u32,
    /// How long everything may take to arrive in the end.
    pub drain_deadline: Duration,
}

impl Plan {
    /// What `docs/benchmarks.md` shows.
    pub fn full() -> Self {
        Self {
            locks: 1_000_000,
            per_second: 16_700.0,
            window: Duration::from_secs(600),
            reports: Reports::Heartbeat,
            probes_per_second: 5.0,
            probe_locks: 24,
            drain_deadline: Duration::from_secs(3_600),
        }
    }

    /// To see that it works.
    pub fn small() -> Self {
        Self {
            locks: 200,
            per_second: 100.0,
            window: Duration::from_secs(4),
            probe_locks: 4,
            drain_deadline: Duration::from_secs(120),
            ..Self::full()
        }
    }
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Pipeline {
    machine: Machine,
    kafka: String,
    plan: Plan,
    /// Before the window: every lock reports once, and that is applied.
    pub first_round: FirstRound,
    /// Reports of the window that were acknowledged, those of probes among them.
    pub acked: u64,
    /// By how much Kafka's streams of states grew.
    pub stored: u64,
    /// Of the crowd's reports, from when they were due.
    pub pubacks: Delays,
    /// How far each service was behind, and the broker.
    pub lags: Vec<Lag>,
    /// From end to end.
    pub timed: Vec<Timed>,
    /// What each part took.
    pub parts: Vec<Part>,
    /// From the last report until everything was applied; none if it was not, within the deadline.
    pub drain_s: Option<f64>,
    /// What is missing in the end.
    pub losses: Vec<String>,
    /// Warnings and errors in the logs, of each program: how many, and the first.
    pub warnings: Vec<String>,
    /// Whether it holds.
    pub verdict: Verdict,
    /// Second by second.
    samples: Vec<Sample>,
    seconds: Vec<Second>,
    probes: Vec<probes::Probe>,
}

/// Every lock becomes known.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FirstRound {
    /// From the first report to when every service had applied all.
    pub seconds: f64,
    /// Of that, after the last report.
    pub drain_s: f64,
    /// From when they were due to their acknowledgements.
    pub pubacks: Delays,
}

/// Measures; `tell` hears what is done.
pub async fn measure(choice: Choice, plan: Plan, tell: impl Fn(&str)) -> anyhow::Result<Pipeline> {
    let machine = Machine::this()?;
    let kafka = choice.name();
    tell(&format!("starting {kafka}, postgres, the broker and the services"));
    let mut scene = Scene::set(choice, &plan).await?;
    let guard = Guard::over(&scene)?;
    let (first_round, watched) = guard.during(run(&mut scene, &plan, &tell)).await?;
    sum_up(scene, watched, (machine, kafka, plan, first_round)).await
}

async fn run(scene: &mut Scene, plan: &Plan, tell: &impl Fn(&str)) -> anyhow::Result<(FirstRound, Watched)> {
    tell(&format!("connecting {} locks", plan.locks));
    scene.orders.carry_out(Deed::Gather { first: 0, count: plan.locks }).await?;
    scene.orders.carry_out(Deed::Connect).await?;
    let sampler = Sampler::open(scene).await?;
    tell("every lock reports once");
    let first_round = first_round(scene, &sampler, plan).await?;
    tell(&format!("{} reports a second for {} s", plan.per_second, plan.window.as_secs()));
    let watched = watch(scene, &sampler, plan, tell).await?;
    Ok((first_round, watched))
}

async fn first_round(scene: &mut Scene, sampler: &Sampler, plan: &Plan) -> anyhow::Result<FirstRound> {
    let begun_at = Instant::now();
    let seconds = f64::from(plan.locks) / plan.per_second;
    let reported = report(scene, plan, seconds).await?.1;
    let (reported_at, until) = (Instant::now(), Instant::now() + plan.drain_deadline);
    loop {
        let sample = sampler.look().await?;
        if sample.is_drained() {
            break;
        }
        let lags = sample.lags;
        ensure!(Instant::now() < until, "after the first round, services are behind by {lags:?} records");
        sleep(LOOK_EVERY).await;
    }
    Ok(FirstRound {
        seconds: begun_at.elapsed().as_secs_f64(),
        drain_s: reported_at.elapsed().as_secs_f64(),
        pubacks: reported.delays,
    })
}

async fn report(scene: &mut Scene, plan: &Plan, seconds: f64) -> anyhow::Result<(Done, Reported)> {
    let Plan { per_second, reports, .. } = *plan;
    let done = scene.orders.carry_out(Deed::Report { per_second, seconds, reports }).await?;
    let reported = done.reported.clone().context("reports of which nothing is known")?;
    Ok((done, reported))
}

/// What was seen of the window and of what came after it.
struct Watched {
    samples: Vec<Sample>,
    book: Book,
    done: Done,
    reported: Reported,
    /// Reports of probes that were acknowledged.
    probes: u64,
    parts: parts::Window,
    drain_s: Option<f64>,
}

async fn watch(
    scene: &mut Scene,
    sampler: &Sampler,
    plan: &Plan,
    tell: &impl Fn(&str),
) -> anyhow::Result<Watched> {
    let book = Book::open();
    let follow = Follow::begin(scene, &book).await?;
    let crew = Crew::connect(scene, plan).await?;
    let mut parts = parts::Window::begin(scene).await?;
    sampler.begin().await?;
    book.begin();
    let window = async {
        let send = crew.send(&book);
        let ((done, reported), probes) =
            tokio::try_join!(report(scene, plan, plan.window.as_secs_f64()), send)?;
        parts.end(done.clients_cpu_s).await?;
        tell("waiting until everything is applied");
        let (ended_at, ended_s) = (Instant::now(), sampler.elapsed_s());
        let drain_s = loop {
            // What was looked at before says nothing of the last reports.
            let is_drained = |sample: Sample| sample.at_s > ended_s && sample.is_drained();
            if sampler.last().is_some_and(is_drained) && book.is_complete() {
                break Some(ended_at.elapsed().as_secs_f64());
            }
            if ended_at.elapsed() >= plan.drain_deadline {
                break None;
            }
            sleep(LOOK_EVERY).await;
        };
        anyhow::Ok((done, reported, probes, drain_s))
    };
    let outcome = tokio::select! {
        outcome = window => outcome,
        failed = sampler.run() => Err(failed),
        failed = follow.run() => Err(failed),
    };
    let (done, reported, probes, drain_s) = outcome?;
    Ok(Watched { samples: sampler.take(), book, done, reported, probes, parts, drain_s })
}

async fn sum_up(
    scene: Scene,
    watched: Watched,
    (machine, kafka, plan, first_round): (Machine, String, Plan, FirstRound),
) -> anyhow::Result<Pipeline> {
    let Watched { samples, book, done, reported, probes, parts, drain_s } = watched;
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        bail!("too short to measure");
    };
    let (acked, stored) = (reported.delays.count + probes, last.stored - first.stored);
    let probes = book.into_probes();
    let timed: Vec<Timed> =
        Chain::ALL.iter().map(|chain| Timed::of(*chain, &probes)).collect::<Result<_, _>>()?;
    let window_s = plan.window.as_secs_f64();
    let mut lags = figures::lags(&samples, window_s, plan.per_second)?;
    lags.extend(figures::unacknowledged(&reported.seconds, window_s, plan.per_second));
    let mut losses = figures::losses(acked, stored, last, &timed, drain_s);
    match scene.losses(u64::from(plan.locks) + scene.probe_ids.len() as u64).await {
        Ok(more) => losses.extend(more),
        // The figures so far are worth having.
        Err(error) => losses.push(format!("what else is lost is not known: {error:#}")),
    }
    let warnings = scene.finish().await?;
    let verdict = figures::verdict(&plan, &lags, &probes, &reported, &losses)?;
    Ok(Pipeline {
        machine,
        kafka,
        first_round,
        acked,
        stored,
        pubacks: reported.delays,
        lags,
        parts: parts.sum_up(&samples, acked, done.seconds),
        timed,
        drain_s,
        losses,
        warnings,
        verdict,
        plan,
        samples,
        seconds: reported.seconds,
        probes,
    })
}

impl Pipeline {
    /// Fails if anything that was acknowledged is missing.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.losses.is_empty(), "{}", self.losses.join("; "));
        Ok(())
    }
}

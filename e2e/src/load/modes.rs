//! What the load can do, each mode a few steps.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use latchline_shared::kit::testing::{Random, Seed};
use latchline_shared::message::Qos;

use crate::bench::fleet::Close;
use crate::load::connection::Connection;
use crate::load::crowd::{Crowd, Due, Opening};
use crate::load::hello::Role;
use crate::load::look::Memory;
use crate::load::options::{Common, Flow, Messages, Rate};
use crate::load::pace::{Pace, closed_loop};
use crate::load::report::{Pacing, Report};
use crate::load::run::{Answers, Run};
use crate::load::schedule::{Periodic, Span, even};
use crate::load::stage::{Stage, make_room};
use crate::load::stamp::STAMP_BYTES;
use crate::load::tally::{Count, Delay, Kind};

/// What to do.
#[derive(Clone, Subcommand)]
pub enum Mode {
    /// Connect locks, at a rate or as fast as may be, and leave again
    Connect {
        /// What all modes share.
        #[command(flatten)]
        common: Common,
    },
    /// Connect locks and hold them: memory of a connection
    Idle {
        /// What all modes share.
        #[command(flatten)]
        common: Common,
    },
    /// Locks publish, each to a topic of its own
    Publish {
        /// What all modes share.
        #[command(flatten)]
        common: Common,
        /// How they publish.
        #[command(flatten)]
        publish: Publish,
    },
    /// Operators publish to the topics that locks subscribe to
    Commands {
        /// What all modes share.
        #[command(flatten)]
        common: Common,
        /// How they are commanded.
        #[command(flatten)]
        commands: Commands,
    },
    /// Every lock reports once in a while, and some are unlocked and answer
    Fleet {
        /// What all modes share.
        #[command(flatten)]
        common: Common,
        /// What they do.
        #[command(flatten)]
        fleet: Fleet,
    },
    /// Locks are cut all at once and come back
    Reconnect {
        /// What all modes share.
        #[command(flatten)]
        common: Common,
        /// How they are cut.
        #[command(flatten)]
        reconnect: Reconnect,
    },
}

/// How locks publish.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct Publish {
    #[command(flatten)]
    flow: Flow,
    /// How many of the locks publish [default: all]
    #[arg(long)]
    publishers: Option<u32>,
    /// Connections beside them that receive everything
    #[arg(long, default_value_t = 0)]
    subscribers: u32,
}

/// How locks are commanded.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct Commands {
    #[command(flatten)]
    flow: Flow,
    /// How many operators there are
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    operators: u32,
}

/// What a fleet does.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct Fleet {
    #[command(flatten)]
    messages: Messages,
    /// Seconds between two reports of a lock
    #[arg(long, default_value_t = 60.0)]
    every: f64,
    /// Seconds by which that is shorter or longer
    #[arg(long, default_value_t = 5.0)]
    jitter: f64,
    /// Locks unlocked per second; 0 for none
    #[arg(long, default_value_t = 10.0)]
    unlocks: f64,
    /// How many operators there are
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    operators: u32,
    /// Connections beside them that receive everything
    #[arg(long, default_value_t = 0)]
    subscribers: u32,
}

/// How locks are cut.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub struct Reconnect {
    /// How often
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// How the connections end
    #[arg(long, value_enum, default_value = "rst")]
    close: Close,
}

impl Mode {
    /// What all modes share.
    pub fn common(&self) -> &Common {
        match self {
            Self::Connect { common }
            | Self::Idle { common }
            | Self::Publish { common, .. }
            | Self::Commands { common, .. }
            | Self::Fleet { common, .. }
            | Self::Reconnect { common, .. } => common,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Idle { .. } => "idle",
            Self::Publish { .. } => "publish",
            Self::Commands { .. } => "commands",
            Self::Fleet { .. } => "fleet",
            Self::Reconnect { .. } => "reconnect",
        }
    }

    fn messages(&self) -> Messages {
        match self {
            Self::Connect { .. } | Self::Idle { .. } | Self::Reconnect { .. } => Messages::none(),
            Self::Publish { publish, .. } => publish.flow.messages,
            Self::Commands { commands, .. } => commands.flow.messages,
            Self::Fleet { fleet, .. } => fleet.messages,
        }
    }

    /// Connections beside the locks.
    fn beside(&self) -> u32 {
        match self {
            Self::Connect { .. } | Self::Idle { .. } | Self::Reconnect { .. } => 0,
            Self::Publish { publish, .. } => publish.subscribers,
            Self::Commands { commands, .. } => commands.operators,
            Self::Fleet { fleet, .. } => fleet.operators.saturating_add(fleet.subscribers),
        }
    }

    /// Does it.
    pub async fn run(&self) -> anyhow::Result<Report> {
        let common = self.common();
        make_room(u64::from(common.connections) + u64::from(self.beside()))?;
        let answers = if matches!(self, Self::Fleet { .. }) { Answers::AtOnce } else { Answers::None };
        let settings = common.settings(self.messages(), answers).await?;
        let mut stage = Stage::new(self.name(), settings, &common.pid, common.seed())?;
        stage.setup = common.setup(self.beside());
        match self {
            Self::Connect { .. } => connect(&mut stage, common).await?,
            Self::Idle { .. } => idle(&mut stage, common).await?,
            Self::Publish { publish, .. } => publish.run(&mut stage, common).await?,
            Self::Commands { commands, .. } => commands.run(&mut stage, common).await?,
            Self::Fleet { fleet, .. } => fleet.run(&mut stage, common).await?,
            Self::Reconnect { reconnect, .. } => reconnect.run(&mut stage, common).await?,
        }
        Ok(stage.finish())
    }
}

async fn connect(stage: &mut Stage, common: &Common) -> anyhow::Result<()> {
    let locks = stage.open("connect", Role::Lock, common.opening()?, Memory::Now).await?;
    locks.leave().await;
    Ok(())
}

async fn idle(stage: &mut Stage, common: &Common) -> anyhow::Result<()> {
    let locks = stage.open("connect", Role::Lock, common.opening()?, Memory::Calm).await?;
    let spans = stage.run.spans(Duration::ZERO, common.length()?);
    let Span { from_us, to_us } = spans.measured;
    let held = locks.members.len() as u64 * (to_us - from_us) / 1_000_000;
    // What is counted is connections times seconds: none in the beginning, all of them in the end.
    let counted = Cell::new(0);
    stage.watch("hold, per connection and second", spans.measured, || counted.replace(held)).await?;
    locks.leave().await;
    Ok(())
}

impl Publish {
    async fn run(&self, stage: &mut Stage, common: &Common) -> anyhow::Result<()> {
        let subscribers = open_subscribers(stage, common, self.flow.messages, self.subscribers).await?;
        let locks = stage.open("connect", Role::Lock, common.opening()?, Memory::Now).await?;
        let count = self.publishers.unwrap_or(common.connections).min(common.connections) as usize;
        let publishers: Vec<_> = locks.members.iter().take(count).map(Arc::clone).collect();
        ensure!(!publishers.is_empty(), "--publishers is 0");

        let load = Load { flow: self.flow, senders: &publishers };
        load.run(stage, common, ("publish", Kind::Report)).await?;
        stage.drain(&publishers, common.drain()?).await;
        locks.leave().await;
        subscribers.leave().await;
        Ok(())
    }
}

impl Commands {
    async fn run(&self, stage: &mut Stage, common: &Common) -> anyhow::Result<()> {
        let locks = open_commanded(stage, common).await?;
        let operators = open_operators(stage, common, self.operators).await?;
        let each = operators.members.len();
        ensure!(each <= locks.members.len(), "--operators {each} are more than the locks");
        for (number, operator) in operators.members.iter().enumerate() {
            let of_this = locks.members.iter().skip(number).step_by(each).map(Arc::clone);
            operator.set_addressees(of_this.collect());
        }
        let load = Load { flow: self.flow, senders: &operators.members };
        load.run(stage, common, ("command", Kind::Command)).await?;
        stage.drain(&operators.members, common.drain()?).await;
        operators.leave().await;
        locks.leave().await;
        Ok(())
    }
}

impl Fleet {
    async fn run(&self, stage: &mut Stage, common: &Common) -> anyhow::Result<()> {
        let us = |name, seconds| {
            let duration =
                Duration::try_from_secs_f64(seconds).with_context(|| format!("{name} {seconds}"))?;
            anyhow::Ok(duration.as_micros() as u64)
        };
        let (every_us, jitter_us) = (us("--every", self.every)?, us("--jitter", self.jitter)?);
        ensure!(every_us > 0 && jitter_us < every_us, "--jitter is less than --every");
        let subscribers = open_subscribers(stage, common, self.messages, self.subscribers).await?;
        let locks = open_commanded(stage, common).await?;
        let operators = open_operators(stage, common, self.operators).await?;
        stage.receivers[Kind::Answer as usize] = self.subscribers.into();

        let Self { every: every_s, jitter: jitter_s, unlocks: unlocks_per_second, .. } = *self;
        stage.setup.pacing = Pacing::Fleet { every_s, jitter_s, unlocks_per_second };
        let senders = [&locks.members[..], &operators.members].concat();
        stage.setup.senders = senders.len() as u32;
        let spans = stage.run.spans(common.warm_up()?, common.length()?);
        let mut random = Random::new(Seed(common.seed()));
        let second = Random::new(Seed(random.number()));
        let reporting = locks.members.clone();
        let members = u32::try_from(reporting.len())?;
        let due = Periodic::new(members, every_us, jitter_us, spans.load, second);
        let reports = Pace::start(&stage.run, due, move |due_us, lock| {
            reporting[lock as usize].report(Kind::Report, due_us);
        })?;
        let unlocks = (self.unlocks > 0.0).then(|| {
            let (commanded, operators) = (locks.members.clone(), operators.members.clone());
            Pace::start(&stage.run, even(self.unlocks, spans.load), move |due_us, _| {
                let lock = random.index(commanded.len());
                operators[lock % operators.len()].command_to(&commanded[lock], due_us);
            })
        });
        let unlocks = unlocks.transpose()?;
        let run = Arc::clone(&stage.run);
        stage.watch("report and unlock", spans.measured, || run.tally.of_all(Count::Acked)).await?;
        check_due(&run, Kind::Report, reports).await?;
        if let Some(unlocks) = unlocks {
            check_due(&run, Kind::Command, unlocks).await?;
        }
        stage.drain(&senders, common.drain()?).await;
        operators.leave().await;
        locks.leave().await;
        subscribers.leave().await;
        Ok(())
    }
}

impl Reconnect {
    async fn run(&self, stage: &mut Stage, common: &Common) -> anyhow::Result<()> {
        let opening = common.opening()?;
        let mut locks = stage.open("connect", Role::Lock, opening, Memory::Now).await?;
        // The first time they come is not what is measured.
        stage.run.tally.forget(Delay::Connect);
        for round in 1..=self.rounds {
            let cut_us = stage.run.tally.now_us();
            // They all want to come back at once, unless they are told to take their time.
            let due = if matches!(opening.due, Due::OnTurn) { Due::At(cut_us) } else { opening.due };
            let again = Opening { due, ..opening };
            locks = stage.come_back(&format!("cut and come back, {round}"), locks, self.close, again).await?;
        }
        locks.leave().await;
        Ok(())
    }
}

async fn open_subscribers(
    stage: &mut Stage,
    common: &Common,
    messages: Messages,
    count: u32,
) -> anyhow::Result<Crowd> {
    let is_stamped = count == 0 || messages.payload >= STAMP_BYTES;
    ensure!(is_stamped, "what is received can be checked from --payload {STAMP_BYTES} on");
    stage.receivers[Kind::Report as usize] = count.into();
    if count == 0 {
        return Crowd::open(&stage.run, Role::Subscriber, common.beside(0)).await;
    }
    stage.open("subscribe", Role::Subscriber, common.beside(count), Memory::Now).await
}

async fn open_commanded(stage: &mut Stage, common: &Common) -> anyhow::Result<Crowd> {
    let settings = &stage.run.settings;
    ensure!(settings.command_topic.is_some(), "--command-topic is empty");
    let is_stamped = settings.master.is_some() || settings.payload_bytes >= STAMP_BYTES;
    ensure!(is_stamped, "what is received can be checked from --payload {STAMP_BYTES} on");
    stage.receivers[Kind::Command as usize] = 1;
    stage.open("connect", Role::Lock, common.opening()?, Memory::Now).await
}

async fn open_operators(stage: &mut Stage, common: &Common, count: u32) -> anyhow::Result<Crowd> {
    stage.open("operators connect", Role::Operator, common.beside(count), Memory::Now).await
}

/// Messages at a rate, all senders in turn, or as fast as may be.
struct Load<'a> {
    flow: Flow,
    senders: &'a [Arc<Connection>],
}

impl Load<'_> {
    /// Loads, and notes it as a phase.
    async fn run(
        &self,
        stage: &mut Stage,
        common: &Common,
        (name, kind): (&str, Kind),
    ) -> anyhow::Result<()> {
        let run = Arc::clone(&stage.run);
        let pacing = self.pacing(run.settings.qos);
        (stage.setup.pacing, stage.setup.senders) = (pacing, self.senders.len() as u32);
        if let Pacing::ClosedLoop { window } = pacing {
            // Before the clock starts: with thousands of senders it takes its time.
            closed_loop(&run, self.senders, window).await;
        }
        let spans = stage.run.spans(common.warm_up()?, common.length()?);
        let pace = self.start(&run, pacing, spans.load)?;
        stage.watch(name, spans.measured, || run.tally.of(kind, Count::Acked)).await?;
        run.set_closed(false);
        match pace {
            Some(pace) => check_due(&run, kind, pace).await,
            None => Ok(()),
        }
    }

    fn pacing(&self, qos: Qos) -> Pacing {
        match self.flow.rate {
            Rate::PerSecond(per_second) => Pacing::OpenLoop { per_second },
            Rate::Max if qos == Qos::AtMostOnce => Pacing::Flood,
            Rate::Max => Pacing::ClosedLoop { window: self.flow.window },
        }
    }

    fn start(&self, run: &Arc<Run>, pacing: Pacing, span: Span) -> anyhow::Result<Option<Pace>> {
        let senders = self.senders.to_vec();
        Ok(match pacing {
            Pacing::OpenLoop { per_second } => Some(Pace::even(run, senders, per_second, span)?),
            Pacing::Flood => Some(Pace::flood(run, senders, span.to_us)?),
            Pacing::None | Pacing::ClosedLoop { .. } | Pacing::Fleet { .. } => None,
        })
    }
}

/// Waits until all that was due has been put in, and fails if it is not as much as was due.
async fn check_due(run: &Run, kind: Kind, pace: Pace) -> anyhow::Result<()> {
    let (due, put_in) = (pace.finish().await?, run.tally.of(kind, Count::Due));
    ensure!(due == put_in, "{due} messages of a kind ({}) were due, {put_in} were put in", kind.name());
    Ok(())
}

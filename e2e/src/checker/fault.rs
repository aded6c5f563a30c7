//! What is done to a running system, and how it is mended.
//!
//! Invariant: only who ends, or who others cannot reach, is away in the ledger's book. A process of ours
//! that is paused has lost nothing, and excuses nothing.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use tokio::time::sleep;

use crate::checker::ledger::{Ledger, Part};
use crate::checker::warning;
use crate::kafka::Kafka;
use crate::stack::LISTENERS;
use crate::stack::disk::Disk;
use crate::stack::program::Program;
use crate::stack::service::LISTENERS as SERVICE_LISTENERS;
use crate::stack::whole::Whole;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Fault {
    /// A process is killed (SIGKILL) and started again at once.
    Killed(Part),
    /// A part is stopped in order, and started again after a while.
    Stopped(Part, Duration),
    /// A part stands still for a while (SIGSTOP, SIGCONT): its sockets stay open and nobody answers.
    Paused(Part, Duration),
    /// The disk that its data are on is full for a while.
    Full(Part, Duration),
    /// Its wall clock is set by so many seconds, and set right after a while.
    Stepped(Part, i64, Duration),
}

impl Fault {
    /// Whom it strikes.
    pub fn part(self) -> Part {
        match self {
            Self::Killed(part)
            | Self::Stopped(part, _)
            | Self::Paused(part, _)
            | Self::Full(part, _)
            | Self::Stepped(part, ..) => part,
        }
    }

    /// For how long it stays as it is.
    pub fn lasts(self) -> Duration {
        match self {
            Self::Killed(_) => Duration::ZERO,
            Self::Stopped(_, duration)
            | Self::Paused(_, duration)
            | Self::Full(_, duration)
            | Self::Stepped(.., duration) => duration,
        }
    }

    /// Whether the broker's memory is lost by it.
    pub fn ends_broker(self) -> bool {
        matches!(self, Self::Killed(Part::Broker) | Self::Stopped(Part::Broker, _))
    }

    /// Whether its part is away, for the ledger.
    fn is_absence(self) -> bool {
        let is_program = PROGRAMS.contains(&self.part());
        !(is_program && matches!(self, Self::Paused(..) | Self::Stepped(..)))
    }

    /// Lets it happen, and mends it.
    pub async fn strike(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        self.begin(whole, ledger).await?;
        self.wait().await;
        self.mend(whole, ledger).await
    }

    /// Waits for as long as it lasts.
    pub async fn wait(self) {
        sleep(self.lasts()).await;
    }

    /// Lets it happen: the warnings that it brings are announced, and the ledger knows who is away.
    pub async fn begin(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        announce(self, whole)?;
        if self.is_absence() {
            ledger.goes(self.part());
        }
        self.take_away(whole).await.with_context(|| format!("{self:?}"))
    }

    /// Ends what was announced. To be called when everybody is over it: what is said from now on is not
    /// excused by it, what was said so far that nobody announced is an error. So is a part that was away
    /// for a while and that nobody missed, unless whoever would miss it was `killed` meanwhile. The
    /// answer is who has said how much of what was announced.
    pub fn is_over(self, killed: Option<Part>, whole: &mut Whole) -> anyhow::Result<Vec<(Part, usize)>> {
        let mut said = Vec::new();
        for part in PROGRAMS {
            let program = program(*part, whole)?;
            said.push((*part, program.expect_no_more()));
            program.check_log()?;
        }
        let is_missed = said.iter().any(|(_, lines)| *lines > 0);
        let others = warning::of(self).iter().flat_map(|(who, ..)| *who);
        let must_be_missed = matches!(self, Self::Stopped(..) | Self::Full(..))
            && others.into_iter().any(|part| Some(*part) != killed);
        ensure!(is_missed || !must_be_missed, "{self:?}, and nobody missed it");
        Ok(said)
    }

    /// Mends it. Other faults may begin and be mended meanwhile.
    pub async fn mend(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        let mended = match self {
            Self::Paused(part, _) => go_on(part, whole),
            Self::Full(part, _) => relieve(part, whole).await,
            Self::Stepped(part, seconds, _) => set_right(part, seconds, whole).await,
            Self::Killed(part) | Self::Stopped(part, _) => bring_back(part, whole).await,
        };
        mended.with_context(|| format!("{self:?} is mended"))?;
        if self.is_absence() {
            ledger.is_back(self.part());
        }
        Ok(())
    }

    async fn take_away(self, whole: &mut Whole) -> anyhow::Result<()> {
        match self {
            Self::Killed(Part::Kafka) => match &mut whole.stack.kafka {
                Kafka::Apache(apache) => apache.kill(),
                _ => bail!("only a node of our own is killed"),
            },
            Self::Killed(Part::Postgres) => {
                whole.postgres.crash();
                Ok(())
            }
            Self::Killed(part) => program(part, whole)?.kill(),
            Self::Stopped(Part::Kafka, _) => whole.stack.kafka.go_down().await,
            Self::Stopped(Part::Postgres, _) => {
                whole.postgres.stop();
                Ok(())
            }
            Self::Stopped(Part::Mail, _) => {
                whole.notifier.mail.stop().await;
                Ok(())
            }
            Self::Stopped(part, _) => program(part, whole)?.stop().await,
            Self::Paused(Part::Kafka, _) => whole.stack.kafka.go_silent().await,
            Self::Paused(Part::Postgres, _) => whole.postgres.pause(),
            Self::Paused(part, _) => program(part, whole)?.process()?.pause().await,
            Self::Full(part, _) => disk(part, whole)?.fill(),
            Self::Stepped(part, seconds, _) => step(part, seconds, whole),
        }
    }
}

/// Ends a pause.
fn go_on(part: Part, whole: &mut Whole) -> anyhow::Result<()> {
    match part {
        Part::Kafka => whole.stack.kafka.answer_again(),
        Part::Postgres => whole.postgres.go_on(),
        part => program(part, whole)?.process()?.resume(),
    }
}

async fn bring_back(part: Part, whole: &mut Whole) -> anyhow::Result<()> {
    match part {
        Part::Kafka => whole.stack.kafka.come_up().await,
        Part::Postgres => whole.postgres.resume(),
        Part::Mail => Ok(whole.notifier.mail.start_again().await?),
        Part::Broker => whole.stack.broker.start(&LISTENERS).await,
        Part::Auditor | Part::Monitor | Part::Notifier => {
            program(part, whole)?.start(&SERVICE_LISTENERS).await
        }
    }
}

/// Gives the space back. Whom the full disk has ended is started again: Kafka ends by itself when it
/// cannot write, and does not use a folder again that has failed it.
async fn relieve(part: Part, whole: &mut Whole) -> anyhow::Result<()> {
    disk(part, whole)?.relieve()?;
    match (part, &mut whole.stack.kafka) {
        (Part::Kafka, Kafka::Apache(apache)) => {
            apache.kill()?;
            apache.start().await
        }
        _ => whole.postgres.come_back().await,
    }
}

fn disk(part: Part, whole: &Whole) -> anyhow::Result<&Disk> {
    let disks = whole.disks.as_ref().context("no disks of their own")?;
    Ok(match part {
        Part::Kafka => &disks.kafka,
        Part::Postgres => &disks.postgres,
        part => bail!("the {part} has no data"),
    })
}

/// Sets the clock right. Whoever waits until a time of a clock that is set back waits longer by the step,
/// and is not over it before.
async fn set_right(part: Part, seconds: i64, whole: &Whole) -> anyhow::Result<()> {
    step(part, 0, whole)?;
    sleep(Duration::from_secs(seconds.unsigned_abs())).await;
    Ok(())
}

fn step(part: Part, seconds: i64, whole: &Whole) -> anyhow::Result<()> {
    whole.clocks.as_ref().context("no clocks of their own")?.step(part.name(), seconds)
}

fn program(part: Part, whole: &mut Whole) -> anyhow::Result<&mut Program> {
    Ok(match part {
        Part::Broker => &mut whole.stack.broker,
        Part::Auditor => &mut whole.audit.auditor,
        Part::Monitor => &mut whole.monitor.monitor,
        Part::Notifier => &mut whole.notifier.notifier,
        Part::Kafka | Part::Postgres | Part::Mail => bail!("the {part} is no program of ours"),
    })
}

const PROGRAMS: &[Part] = &[Part::Broker, Part::Auditor, Part::Monitor, Part::Notifier];

fn announce(fault: Fault, whole: &mut Whole) -> anyhow::Result<()> {
    for (who, text, _) in warning::of(fault) {
        for part in *who {
            program(*part, whole)?.expect_for_now(text);
        }
    }
    Ok(())
}

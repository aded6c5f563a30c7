//! What is done to a running system, and how it is mended.
//!
//! Invariant: only who ends, or who others cannot reach, is away in the ledger's book. A process of ours
//! that is paused has lost nothing, and excuses nothing.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::fmt::rfc2822;
use latchline_shared::kit::clock;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::checker::ledger::{Ledger, Part, Way};
use crate::checker::warning;
use crate::kafka::Kafka;
use crate::stack::LISTENERS;
use crate::stack::disk::Disk;
use crate::stack::postgres::Postgres;
use crate::stack::program::Program;
use crate::stack::service::{LISTENERS as SERVICE_LISTENERS, Service};
use crate::stack::whole::Whole;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Fault {
    /// A process is killed (SIGKILL; Postgres by SIGQUIT, which its server takes for a power cut) and started
    /// again at once.
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

    /// Whether its part is away, for the ledger.
    fn is_absence(self) -> bool {
        let is_program = PROGRAMS.contains(&self.part());
        !(is_program && matches!(self, Self::Paused(..) | Self::Stepped(..)))
    }

    /// Lets it happen, and mends it.
    pub async fn strike(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        let struck = match self.begin(whole, ledger).await {
            Ok(()) => self.endure(self.lasts(), whole).await,
            error => error,
        };
        // Mended whatever happened: who stands still cannot be ended in order.
        struck.and(self.mend(whole, ledger).await)
    }

    /// Lets it happen: the warnings that it brings are announced, and the ledger knows who is away.
    pub async fn begin(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        self.announce(whole, ledger)?;
        if self.is_absence() {
            let way = if matches!(self, Self::Stopped(..)) { Way::InOrder } else { Way::Suddenly };
            ledger.goes(self.part(), way);
        }
        self.take_away(whole).await.with_context(|| format!("{self:?}"))
    }

    /// Lets it stay as it is for so long, and until it has had its effect: what nobody notices is no fault,
    /// and what nobody notices in time is an error.
    pub async fn endure(self, rest: Duration, whole: &mut Whole) -> anyhow::Result<()> {
        sleep(rest).await;
        let until = Instant::now() + EFFECT_DEADLINE;
        while let Some(lacks) = self.lacks(whole).await.with_context(|| format!("{self:?}"))? {
            ensure!(Instant::now() < until, "{self:?}, and after {EFFECT_DEADLINE:?} more: {lacks}");
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// What it has not brought yet and must. Those whom others need are missed; of a program of ours that is
    /// away, or of who is back at once, nobody need say anything.
    async fn lacks(self, whole: &mut Whole) -> anyhow::Result<Option<&'static str>> {
        if let Self::Stepped(part, seconds, _) = self {
            let ahead_ms = clock_ahead_ms(part, whole).await?;
            let is_stepped = if seconds > 0 { ahead_ms > SEEN_MS } else { ahead_ms < -SEEN_MS };
            return Ok((!is_stepped).then_some("its answers do not say so"));
        }
        if let (Self::Full(Part::Kafka, _), Kafka::Apache(apache)) = (self, &mut whole.stack.kafka)
            && !apache.is_without_space()
        {
            return Ok(Some("Kafka has not noticed"));
        }
        if !matches!(self, Self::Stopped(..) | Self::Full(..)) || warning::of(self).next().is_none() {
            return Ok(None);
        }
        for part in PROGRAMS {
            if program(*part, whole)?.said_for_now() > 0 {
                return Ok(None);
            }
        }
        Ok(Some("nobody has missed it"))
    }

    /// Ends what was announced. To be called when everybody is over it: what is said from now on is not
    /// excused by it, what was said so far that nobody announced is an error. The answer is who has said
    /// how much of what was announced.
    pub fn is_over(whole: &mut Whole) -> anyhow::Result<Vec<(Part, usize)>> {
        let mut said = Vec::new();
        for part in PROGRAMS {
            let program = program(*part, whole)?;
            said.push((*part, program.expect_no_more()));
            program.check_log()?;
        }
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
            Self::Killed(Part::Postgres) => whole.postgres.blocking(Postgres::crash).await,
            Self::Killed(part) => program(part, whole)?.kill(),
            Self::Stopped(Part::Kafka, _) => whole.stack.kafka.go_down().await,
            Self::Stopped(Part::Postgres, _) => whole.postgres.blocking(Postgres::stop).await,
            Self::Stopped(Part::Mail, _) => {
                whole.notifier.mail.stop().await;
                Ok(())
            }
            Self::Stopped(part, _) => program(part, whole)?.stop().await,
            Self::Paused(Part::Kafka, _) => whole.stack.kafka.go_silent().await,
            Self::Paused(Part::Postgres, _) => whole.postgres.pause().await,
            Self::Paused(part, _) => program(part, whole)?.process()?.pause().await,
            Self::Full(part, _) => disk(part, whole)?.fill().await,
            Self::Stepped(part, seconds, _) => step(part, seconds, whole),
        }
    }

    fn announce(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        for (who, text, _) in warning::of(self) {
            for part in *who {
                program(*part, whole)?.expect_for_now(text);
            }
        }
        let starts = matches!(self, Self::Killed(_) | Self::Stopped(..)) && PROGRAMS.contains(&self.part());
        for (away, (who, text, _)) in warning::OF_A_START {
            if starts && who.contains(&self.part()) && ledger.is_away(*away) {
                program(self.part(), whole)?.expect_for_now(text);
            }
        }
        Ok(())
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
        Part::Postgres => whole.postgres.blocking(Postgres::resume).await?,
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
    let until = Instant::now() + EFFECT_DEADLINE;
    while clock_ahead_ms(part, whole).await?.abs() > SEEN_MS {
        ensure!(Instant::now() < until, "its clock is not right after {EFFECT_DEADLINE:?} more");
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// By how much a service's clock is ahead of ours, at least: what its HTTP answers say is the time. They say
/// the second, and one that was set back says its last until that is over.
async fn clock_ahead_ms(part: Part, whole: &Whole) -> anyhow::Result<i64> {
    let service: &Service = match part {
        Part::Auditor => &whole.audit,
        Part::Monitor => &whole.monitor,
        Part::Notifier => &whole.notifier,
        part => bail!("the {part} is no service"),
    };
    let now_ms = || i64::try_from(clock::unix_ms());
    let before_ms = now_ms()?;
    let answer = service.get("/readyz").await?;
    let after_ms = now_ms()?;
    let date = answer.headers().get("date").context("an answer without a date")?.to_str()?;
    let said = rfc2822::parse(date).with_context(|| format!("date {date}"))?.timestamp().as_millisecond();
    // Somewhere in that second, and said between before and after.
    Ok(if said > after_ms { said - after_ms } else { (said + 1_000 - before_ms).min(0) })
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
/// Longest wait for an effect that takes seconds on a machine with nothing else to do.
const EFFECT_DEADLINE: Duration = Duration::from_secs(60);
/// A clock that differs by more than that was stepped.
const SEEN_MS: i64 = 1_500;
const LOOK_EVERY: Duration = Duration::from_millis(50);

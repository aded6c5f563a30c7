//! What is done to a running system, and the warnings that this brings: all in one table, so that
//! whatever else a process says fails the test.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::sleep;

use crate::checker::ledger::{Ledger, Part};
use crate::kafka::Kafka;
use crate::stack::LISTENERS;
use crate::stack::program::Program;
use crate::stack::service::LISTENERS as SERVICE_LISTENERS;
use crate::stack::whole::Whole;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed (SIGKILL) and started again at once.
    Killed(Part),
    /// A part is stopped in order, and started again after a while.
    Stopped(Part, Duration),
}

impl Fault {
    /// Whom it strikes.
    pub fn part(self) -> Part {
        match self {
            Self::Killed(part) | Self::Stopped(part, _) => part,
        }
    }

    /// Lets it happen, and mends it.
    pub async fn strike(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        self.begin(whole, ledger).await?;
        self.wait().await;
        self.mend(whole, ledger).await
    }

    /// Waits for as long as it lasts.
    pub async fn wait(self) {
        if let Self::Stopped(_, duration) = self {
            sleep(duration).await;
        }
    }

    /// Lets it happen: the warnings that it brings are announced, and the ledger knows who is away.
    pub async fn begin(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        announce(self.part(), whole)?;
        ledger.goes(self.part());
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
        let others = warnings(self.part()).iter().flat_map(|(who, ..)| *who);
        let must_be_missed =
            matches!(self, Self::Stopped(..)) && others.into_iter().any(|part| Some(*part) != killed);
        ensure!(is_missed || !must_be_missed, "{self:?}, and nobody missed it");
        Ok(said)
    }

    /// Mends it. Other faults may begin and be mended meanwhile.
    pub async fn mend(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        bring_back(self.part(), whole).await.with_context(|| format!("{self:?} is mended"))?;
        ledger.is_back(self.part());
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
        }
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
const SERVICES: &[Part] = &[Part::Auditor, Part::Monitor, Part::Notifier];
const PUBLISHERS: &[Part] = &[Part::Auditor, Part::Monitor];

/// A warning that a fault brings: who says it, what is in the line, and why that is as it should be.
type Warning = (&'static [Part], &'static str, &'static str);

/// While Kafka is away. Each of these ends by itself when it is back.
const NO_KAFKA: &[Warning] = &[
    (&[Part::Broker], "kafka cannot be reached", "PUBACKs wait, and somebody should know why"),
    (&[Part::Broker], "kafka is away, its topics are checked later", "it starts without Kafka, too"),
    (SERVICES, "kafka cannot be reached", "nothing comes in, and somebody should know why"),
    (SERVICES, "reading waits", "a service without Kafka is not ready, and says why"),
    (PUBLISHERS, "publishing waits", "findings and alarms wait in the outbox"),
    (&[Part::Auditor], "checkpoints are not made", "a checkpoint that is not on the stream is made again"),
    (SERVICES, r#""kind":"SESSTMOUT""#, "the coordinator did not answer for a whole session"),
    (SERVICES, r#""kind":"COMMITFAIL""#, "offsets are in Postgres; Kafka's are for its tools"),
    (
        SERVICES,
        r#""kind":"FATAL""#,
        "a named member that joined anew is taken for another: it joins once more",
    ),
    (SERVICES, r#""kind":"FencedInstanceId""#, "the same"),
];

/// While Postgres is away. Each of these ends by itself when it is back.
const NO_POSTGRES: &[Warning] = &[
    (SERVICES, "deadpool.postgres", "the pool finds its connections closed"),
    (SERVICES, "reading waits", "nothing is read that cannot be stored"),
    (PUBLISHERS, "publishing waits", "the outbox cannot be read"),
    (&[Part::Auditor], "checkpoints are not made", "what shall be signed cannot be read"),
    (&[Part::Monitor], "alarms are not looked at", "the sweep waits"),
    (&[Part::Notifier], "the queue cannot be read", "messages wait"),
    (&[Part::Notifier], "notifications are not heard", "the connection that listens is gone"),
    (&[Part::Notifier], "digests are not made", "they wait"),
    (&[Part::Notifier], "delivery cannot be looked after", "leases wait"),
    (&[Part::Notifier], "the end of an attempt is not written yet", "it is when Postgres is back"),
];

/// While the mail server is away.
const NO_MAIL_SERVER: &[Warning] =
    &[(&[Part::Notifier], "a provider fails, and is left alone", "mails wait for the server")];

/// What a fault of this part brings. A process of ours that is killed brings nothing: nobody else may
/// complain, and it goes on where it was.
fn warnings(struck: Part) -> &'static [Warning] {
    match struck {
        Part::Kafka => NO_KAFKA,
        Part::Postgres => NO_POSTGRES,
        Part::Mail => NO_MAIL_SERVER,
        Part::Broker | Part::Auditor | Part::Monitor | Part::Notifier => &[],
    }
}

fn announce(struck: Part, whole: &mut Whole) -> anyhow::Result<()> {
    for (who, text, _) in warnings(struck) {
        for part in *who {
            program(*part, whole)?.expect_for_now(text);
        }
    }
    Ok(())
}

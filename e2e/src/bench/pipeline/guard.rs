//! Watches the processes of a run: when one ends that nobody has told to, the run fails at once and says
//! which, how it ended and what it wrote last, instead of waiting for what cannot come any more.
//!
//! Only those that are children of this process: the development Kafka is a part of it, and another's
//! Kafka is none of ours.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{sleep, timeout};

use super::scene::Scene;
use crate::process::Watch;
use crate::stack::postgres::Postgres;

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a process wrote last may still be on its way when it has ended.
const OUTPUT_ARRIVES_IN: Duration = Duration::from_millis(200);
/// Whoever loses a connection to a process that ends may know of it before its end can be seen.
const END_SHOWS_WITHIN: Duration = Duration::from_secs(1);
/// Of what it wrote.
const LINES_MAX: usize = 10;

/// Watches the processes of a scene.
pub(super) struct Guard {
    processes: Vec<Watch>,
    postgres: Postgres,
}

impl Guard {
    /// Over all that run.
    pub(super) fn over(scene: &Scene) -> anyhow::Result<Self> {
        let whole = &scene.whole;
        let programs =
            [&whole.stack.broker, &whole.audit.auditor, &whole.monitor.monitor, &whole.notifier.notifier];
        let mut processes: Vec<Watch> = whole.stack.kafka.watch().into_iter().collect();
        for program in programs {
            processes.push(program.process()?.watch());
        }
        Ok(Self { processes, postgres: whole.postgres.clone() })
    }

    /// Does the work as long as all of them run.
    pub(super) async fn during<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let failed = tokio::select! {
            outcome = work => match outcome {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            },
            end = self.end() => return Err(end),
        };
        match timeout(END_SHOWS_WITHIN, self.end()).await {
            Ok(end) => Err(failed.context(end)),
            Err(_) => Err(failed),
        }
    }

    /// The first end.
    async fn end(&self) -> anyhow::Error {
        while self.ended().is_none() {
            sleep(LOOK_EVERY).await;
        }
        sleep(OUTPUT_ARRIVES_IN).await;
        let Some((name, status, lines)) = self.ended() else { return anyhow!("a process has ended") };
        let last = lines[lines.len().saturating_sub(LINES_MAX)..].join("\n");
        anyhow!("{name} has ended ({status}); the last that it said:\n{last}")
    }

    fn ended(&self) -> Option<(&str, ExitStatus, Vec<String>)> {
        let postgres = || Some(("postgres", self.postgres.ended()?, self.postgres.lines()));
        let mut ended =
            self.processes.iter().filter_map(|watch| Some((watch.name(), watch.ended()?, watch.lines())));
        postgres().or_else(|| ended.next())
    }
}

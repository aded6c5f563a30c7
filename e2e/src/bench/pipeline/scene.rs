//! Everything that runs, and how it is set: as in production but for the broker, whose process also
//! holds the fleet.

use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio_postgres::Client;

use super::Plan;
use crate::bench::lock;
use crate::bench::metric::metric;
use crate::bench::scale::crowd::{ORDERS, Orders};
use crate::bench::scale::house::SESSIONS_MAX;
use crate::kafka::{Choice, Kafka};
use crate::stack::Stack;
use crate::stack::log;
use crate::stack::notifier::User;
use crate::stack::postgres::Postgres;
use crate::stack::program::{Name, Program};
use crate::stack::whole::{Whole, Wishes};

/// Signed as often as by default, which tests do more often.
const AUDITOR: (&str, &str) = ("checkpoint.interval_s", "600");
/// Those of the client library. The development Kafka needs what tests use.
const USUAL_PROPERTIES: (&str, &str) = ("consumer.kafka.properties", "{}");
/// What services count, by the ends of names.
const LOST: &str = "lost_records_total";
const LOST_OF_KAFKA: &str = "kafka_lost_records_total";
const POISON: &str = "kafka_poison_total";
const ASK_DEADLINE: Duration = Duration::from_secs(30);

/// What runs. It ends when it is dropped.
pub(super) struct Scene {
    pub(super) orders: Orders,
    pub(super) whole: Whole,
    /// Of the locks that are timed: first those that answer commands, then as many that jam.
    pub(super) probe_ids: Vec<String>,
    _folder: TempDir,
}

impl Scene {
    /// Starts all of it; nobody is connected yet.
    pub(super) async fn set(choice: Choice, plan: &Plan) -> anyhow::Result<Self> {
        let probe_ids: Vec<String> = (0..2 * plan.probe_locks).map(|n| lock::id(plan.locks + n)).collect();
        let user = |(number, id): (usize, &String)| User {
            id: format!("user-{number}"),
            phone: 9_000_000_000 + number as u64,
            locks: vec![id.clone()],
        };
        let users: Vec<User> = probe_ids.iter().enumerate().map(user).collect();
        let is_development = choice == Choice::Development;
        let kafka = Kafka::start(choice).await?;
        let folder = tempfile::Builder::new().prefix("latchline-pipeline-").tempdir()?;
        // A server that waits for its disk, as in production.
        let postgres = Postgres::start_in(folder.path().join("postgres")).await?;
        let broker = [
            ("listen.ws", ""),
            ("http.address", ""),
            ("http.token", ""),
            ("limits.sessions_max", &SESSIONS_MAX.to_string()),
        ];
        let stack = Stack::start_as(Name::Crowd, &["tcp", ORDERS], kafka, &broker).await?;
        let usual: &[_] = if is_development { &[] } else { &[USUAL_PROPERTIES] };
        let auditor = [usual, &[AUDITOR]].concat();
        let wishes =
            Wishes { users: &users, auditor: &auditor, monitor: usual, notifier: usual, ..Wishes::default() };
        let mut whole = Whole::start_beside(stack, postgres, wishes).await?;
        // Who is behind warns; that is told in the result.
        for program in programs(&mut whole) {
            program.expect("");
        }
        let orders = Orders::connect(whole.stack.broker.address(ORDERS)).await?;
        Ok(Self { orders, whole, probe_ids, _folder: folder })
    }

    /// A connection to Postgres.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        self.whole.postgres.connect().await
    }

    /// What services say that they did not apply, and locks that the monitor does not know.
    pub(super) async fn losses(&self, locks: u64) -> anyhow::Result<Vec<String>> {
        let mut losses = Vec::new();
        let services = [
            ("auditor", &*self.whole.audit),
            ("monitor", &*self.whole.monitor),
            ("notifier", &*self.whole.notifier),
        ];
        for (name, service) in services {
            let page = || format!("the {name}'s metrics");
            let metrics = async { anyhow::Ok(service.get("/metrics").await?.text().await?) };
            let metrics = tokio::time::timeout(ASK_DEADLINE, metrics).await.with_context(page)?;
            let metrics = metrics.with_context(page)?;
            let count = |what| metric(&metrics, what).with_context(page);
            // Every service has this one; some have another beside it.
            ensure!(count(LOST_OF_KAFKA)?.is_some(), "the {name} has no ..._{LOST_OF_KAFKA}");
            let lost = count(LOST)?.unwrap_or(0.0);
            // Of each stream one, once there is something to count.
            let poison = count(POISON)?.unwrap_or(0.0);
            for (what, count) in [(LOST, lost), (POISON, poison)] {
                if count > 0.0 {
                    losses.push(format!("{what} of the {name} is {count}"));
                }
            }
        }
        let known = async {
            let row =
                self.client().await?.query_one("select count(*) from monitor.lock_current", &[]).await?;
            anyhow::Ok(row.try_get::<_, i64>(0)?)
        };
        let known =
            tokio::time::timeout(ASK_DEADLINE, known).await.context("count the monitor's locks")??;
        if known.unsigned_abs() != locks {
            losses.push(format!("the monitor knows {known} of {locks} locks"));
        }
        Ok(losses)
    }

    /// Ends everything; the answer is what the programs warned of.
    pub(super) async fn finish(mut self) -> anyhow::Result<Vec<String>> {
        self.whole.notifier.notifier.stop().await?;
        self.whole.monitor.monitor.stop().await?;
        self.whole.audit.auditor.stop().await?;
        // A bench has no sessions to take leave of.
        self.whole.stack.broker.kill()?;
        let mut warnings = Vec::new();
        for (name, program) in
            ["broker", "auditor", "monitor", "notifier"].iter().zip(programs(&mut self.whole))
        {
            let lines = program.lines();
            let loud: Vec<&String> = lines.iter().filter(|line| log::is_loud(line)).collect();
            if let Some(first) = loud.first() {
                warnings.push(format!("{name}: {} warnings, the first: {first}", loud.len()));
            }
        }
        Ok(warnings)
    }
}

fn programs(whole: &mut Whole) -> [&mut Program; 4] {
    let Whole { stack, audit, monitor, notifier, .. } = whole;
    [&mut stack.broker, &mut audit.auditor, &mut monitor.monitor, &mut notifier.notifier]
}

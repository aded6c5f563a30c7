//! Looks what has arrived: alarms in their stream, rows in Postgres ten times a second.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;
use tokio_postgres::Client as Postgres;

use super::Chain;
use super::book::Book;
use crate::bench::pipeline::scene::Scene;
use crate::kafka::reader::{From, Reader};
use crate::load::tally::held;
use crate::stack::ALARMS;

const LOOK_EVERY: Duration = Duration::from_millis(100);

const HISTORY: &str = "select process_id from auditor.event
    where process_id = any($1) and kind = 'result' and occurred_at > now() - interval '1 day'";
const NOTICES: &str = "select process_id from notifier.notification where process_id = any($1)
    union all select alarm_id::text || '/' || alarm_no from notifier.notification
    where alarm_id = any(select split_part(name, '/', 1)::uuid from unnest($1) as name where name like '%/%')";

/// Looks what has arrived.
pub(in crate::bench::pipeline) struct Follow {
    book: Book,
    alarms: Mutex<Option<Reader>>,
    postgres: Postgres,
}

impl Follow {
    /// From now on.
    pub(in crate::bench::pipeline) async fn begin(scene: &Scene, book: &Book) -> anyhow::Result<Self> {
        let bootstrap = scene.whole.stack.kafka.bootstrap();
        let alarms = Mutex::new(Some(Reader::open(&bootstrap, &[ALARMS], From::End).await?));
        Ok(Self { book: book.clone(), alarms, postgres: scene.client().await? })
    }

    /// Until it fails.
    pub(in crate::bench::pipeline) async fn run(&self) -> anyhow::Error {
        let failed = tokio::select! {
            failed = self.follow_alarms() => failed,
            failed = self.follow_rows() => failed,
        };
        failed.err().unwrap_or_else(|| anyhow::anyhow!("nobody looks what has arrived"))
    }

    async fn follow_alarms(&self) -> anyhow::Result<()> {
        let mut alarms = held(&self.alarms).take().context("the alarms are followed already")?;
        loop {
            if let Some(record) = alarms.next(LOOK_EVERY).await? {
                let alarm = serde_json::from_slice(&record.value).context("a record of an alarm")?;
                self.book.alarmed(&alarm);
            }
        }
    }

    async fn follow_rows(&self) -> anyhow::Result<()> {
        loop {
            for (query, chains) in
                [(HISTORY, &[Chain::History][..]), (NOTICES, &[Chain::Notice, Chain::AlarmNotice])]
            {
                let wanted = self.book.wanted(chains);
                if !wanted.is_empty() {
                    let rows = self.postgres.query(query, &[&wanted]).await.context("look for rows")?;
                    self.book.seen(chains, rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?);
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

//! What Kafka stores while the demo runs: shown as it appears, and kept to be looked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::kafka::reader::{Reader, Record};

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The story is long over when so many have been stored.
const RECORDS_KEPT_MAX: usize = 10_000;

/// Follows some streams in a task of its own; ends when dropped.
pub struct Follower {
    records: Arc<Mutex<Vec<Record>>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Follows `reader` and hands each record to `show`.
    pub fn start(mut reader: Reader, show: fn(&Record)) -> Self {
        let records = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&records);
        let task = tokio::spawn(async move {
            // Runs until aborted; a Kafka that is away is waited for inside the reader.
            while let Ok(next) = reader.next(Duration::from_secs(60)).await {
                if let Some(record) = next {
                    show(&record);
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() < RECORDS_KEPT_MAX {
                        kept.push(record);
                    }
                }
            }
        });
        Self { records, task }
    }

    /// How many records there have been, to look only at those that follow.
    pub fn count(&self) -> usize {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for a record, from number `from` on, that `wanted` accepts.
    pub async fn find(
        &self,
        from: usize,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Record) -> bool,
    ) -> anyhow::Result<Record> {
        let until = Instant::now() + deadline;
        loop {
            let found = {
                let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
                records.iter().skip(from).find(|record| wanted(record)).cloned()
            };
            match found {
                Some(record) => return Ok(record),
                None if Instant::now() >= until => bail!("not in Kafka after {deadline:?}: {what}"),
                None => sleep(LOOK_EVERY).await,
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

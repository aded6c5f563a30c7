//! What Kafka stores, and which mails and SMS arrive while the demo runs: shown as it appears, and
//! kept to be looked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::bail;
use latchline_shared::kit::clock;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::kafka::reader::{Reader, Record};
use crate::sink::{Message, Messages};
use crate::site::Api;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at a sink: people do not see the difference, and the demo runs for hours.
const LOOK_AT_SINKS_EVERY: Duration = Duration::from_millis(250);
/// The story is long over when so many have been seen.
const KEPT_MAX: usize = 10_000;
/// Messages that are asked for at once; more do not come between two looks.
const MESSAGES_MAX: u64 = 1_000;

/// Something, and when it was seen in Unix milliseconds.
pub type At<T> = (T, u64);

/// What was seen by a task that looks; the task ends when this is dropped.
pub struct Seen<T> {
    all: Arc<Mutex<Vec<At<T>>>>,
    task: JoinHandle<()>,
}

impl Seen<Record> {
    /// Follows streams and hands each record to `show`.
    pub fn records(mut reader: Reader, show: fn(&Record)) -> Self {
        Self::look(async move |all| {
            // Runs until aborted; a Kafka that is away is waited for inside the reader.
            while let Ok(next) = reader.next(Duration::from_secs(60)).await {
                if let Some(record) = next {
                    show(&record);
                    keep(&all, record, clock::unix_ms());
                }
            }
        })
    }
}

impl Seen<Message> {
    /// Looks at a sink and hands each message to `show`.
    pub fn messages(sink: Api, show: fn(&Message)) -> Self {
        Self::look(async move |all| {
            let mut count = 0;
            // Runs until aborted.
            loop {
                if let Ok(answer) = newer(&sink, count).await {
                    for message in answer.messages.into_iter().rev() {
                        show(&message);
                        let at_ms = message.at_ms;
                        keep(&all, message, at_ms);
                    }
                    count = answer.count;
                }
                sleep(LOOK_AT_SINKS_EVERY).await;
            }
        })
    }
}

/// The messages that came after the first `known` ones.
async fn newer(sink: &Api, known: u64) -> anyhow::Result<Messages> {
    let path = format!("/api/messages?limit={MESSAGES_MAX}");
    let count = sink.json("/api/messages?limit=0").await?;
    if count["count"] == known {
        return Ok(Messages { count: known, messages: Vec::new() });
    }
    let mut answer: Messages = serde_json::from_value(sink.json(&path).await?)?;
    answer.messages.truncate(usize::try_from(answer.count.saturating_sub(known))?);
    Ok(answer)
}

impl<T: Clone + Send + 'static> Seen<T> {
    fn look<F>(looker: impl FnOnce(Arc<Mutex<Vec<At<T>>>>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let all = Arc::default();
        let task = tokio::spawn(looker(Arc::clone(&all)));
        Self { all, task }
    }

    /// How many there have been, to look only at those that follow.
    pub fn count(&self) -> usize {
        lock(&self.all).len()
    }

    /// How many of them are `wanted`.
    pub fn count_of(&self, wanted: impl Fn(&T) -> bool) -> usize {
        lock(&self.all).iter().filter(|(one, _)| wanted(one)).count()
    }

    /// Waits for one, from number `from` on, that is `wanted`.
    pub async fn find(
        &self,
        from: usize,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&T) -> bool,
    ) -> anyhow::Result<At<T>> {
        self.look_until(what, deadline, |all| all.iter().skip(from).find(|(one, _)| wanted(one)).cloned())
            .await
    }

    /// Waits until so many are `wanted`.
    pub async fn count_to(
        &self,
        count: usize,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&T) -> bool,
    ) -> anyhow::Result<()> {
        let enough =
            |all: &[At<T>]| (all.iter().filter(|(one, _)| wanted(one)).count() >= count).then_some(());
        self.look_until(what, deadline, enough).await
    }

    async fn look_until<R>(
        &self,
        what: &str,
        deadline: Duration,
        look: impl Fn(&[At<T>]) -> Option<R>,
    ) -> anyhow::Result<R> {
        let until = Instant::now() + deadline;
        loop {
            // The lock is not held across the wait.
            let found = look(&lock(&self.all));
            match found {
                Some(found) => return Ok(found),
                None if Instant::now() >= until => bail!("not seen after {deadline:?}: {what}"),
                None => sleep(LOOK_EVERY).await,
            }
        }
    }
}

impl<T> Drop for Seen<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn keep<T>(all: &Mutex<Vec<At<T>>>, one: T, at_ms: u64) {
    let mut all = lock(all);
    if all.len() < KEPT_MAX {
        all.push((one, at_ms));
    }
}

fn lock<T>(all: &Mutex<Vec<At<T>>>) -> MutexGuard<'_, Vec<At<T>>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One attempt: the row's words, the provider, the end.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use jiff::Timestamp;
use latchline_shared::fault::Fault;
use latchline_shared::kit::{clock, retry};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::desk::{Desk, Pass};
use super::ends::Ends;
use super::metrics::Metrics;
use super::policy::{Tried, verdict};
use super::provider::Provider;
use super::queue::settle::{End, Settled, put_back};
use super::queue::{Attempt, Leased, Told};
use super::settings::Settings;
use crate::address::masked;
use crate::channel::{Answer, Content, Message};
use crate::event::{Channel, Severity};
use crate::status::{Outcome, Status};

/// Fills templates.
pub type Render = Arc<dyn Fn(Channel, &Leased, &Told) -> Result<Content, String> + Send + Sync>;

/// What attempts of a channel have in common.
pub struct Bench<P> {
    /// The providers.
    pub desk: Arc<Desk<P>>,
    /// The tables.
    pub pool: Pool,
    /// Who we are in leases.
    pub owner: String,
    /// From one attempt to the next.
    pub settings: Settings,
    /// The longest that a provider takes.
    pub timeout: Duration,
    /// Fills templates.
    pub render: Render,
    /// Counts.
    pub metrics: Metrics,
    /// What is not yet written.
    pub ends: Ends,
}

impl<P: Provider> Bench<P> {
    /// From the lease to the end of it. The end is written as soon as Postgres takes it, however long
    /// that is: when nobody else has tried meanwhile, a message that was sent is known to be.
    pub async fn attempt(&self, row: Leased, pass: Pass) {
        let start = Instant::now();
        let answer = match self.message(&row) {
            Ok(message) => {
                let sending = self.desk.provider(&pass).send(&message);
                let late = || Answer::new(Outcome::Ambiguous, "timeout", "it did not end in time");
                let answer = timeout(self.timeout, sending).await.unwrap_or_else(|_| late());
                self.desk.end(&pass, Some(&answer), Instant::now());
                answer
            }
            Err(answer) => {
                let (notification, error) = (row.attempt.id, &answer.excerpt);
                error!(%notification, error, "a notification cannot be put into words");
                self.desk.end(&pass, None, Instant::now());
                answer
            }
        };
        let took = start.elapsed();
        let channel = self.desk.channel;
        self.metrics.attempt(channel, self.desk.provider(&pass).name(), answer.outcome, took);
        let tried = Tried {
            attempts: row.attempt.n,
            failures: row.failures,
            ambiguous: row.ambiguous,
            is_resent: row.is_critical || self.desk.provider(&pass).resends_ambiguous(),
            is_lost: false,
            severity: row.told.as_ref().map_or(Severity::Info, |told| told.severity),
            left: until(row.expires_at),
        };
        let verdict = verdict(&self.settings, tried, &answer, random());
        let (attempt, owner, provider) = (row.attempt, self.owner.clone(), self.desk.name(&pass));
        self.settle(&row, &End { attempt, owner, provider, took: Some(took), answer, verdict }).await;
    }

    fn message(&self, row: &Leased) -> Result<Message, Answer> {
        // Of a newer version, most likely: an instance of that one can read it.
        let told = row.told.as_ref();
        let told = told.map_err(|why| Answer::new(Outcome::Unavailable, "unreadable", why))?;
        let content = (self.render)(self.desk.channel, row, told);
        Ok(Message {
            id: row.attempt.id,
            address: row.address.clone(),
            event_type: told.event_type,
            severity: told.severity,
            at_ms: row.occurred_at.as_millisecond(),
            content: content.map_err(|why| Answer::new(Outcome::Permanent, "template", &why))?,
        })
    }

    /// Gives rows back whose attempts must not begin, each for a while. Until that is written they are
    /// attempts that may have taken place.
    pub async fn put_back(&self, refused: &[(Attempt, Duration)]) {
        let Some((first, _)) = refused.first() else { return };
        let written = written(first.id, || put_back(&self.pool, refused, &self.owner)).await;
        if written.is_some() {
            self.metrics.put_back(self.desk.channel, refused.len());
        }
    }

    async fn settle(&self, row: &Leased, end: &End) {
        let channel = self.desk.channel;
        match written(row.attempt.id, || self.ends.write(&self.pool, end)).await {
            Some(Settled::Done { status, bounced }) => {
                self.metrics.ended(channel, status, 1);
                if status == Status::Dead && self.desk.may_complain(Instant::now()) {
                    let (notification, Answer { code, excerpt, .. }) = (row.attempt.id, &end.answer);
                    warn!(%channel, %notification, provider = end.provider, code, excerpt, "messages are given up");
                }
                if end.answer.outcome == Outcome::Accepted {
                    self.metrics.accepted(channel, since(row.occurred_at), since(row.created_at));
                }
                if bounced {
                    self.metrics.bounced(channel);
                    let address = masked(channel, &row.address);
                    info!(%channel, address, code = end.answer.code, "an address is not used any more");
                }
            }
            Some(Settled::Lost) => {
                let notification = row.attempt.id;
                warn!(%notification, n = row.attempt.n, "an attempt ended after its lease");
            }
            None => {}
        }
    }
}

/// Writes as soon as Postgres takes it, however long that is. `None`: it never will.
async fn written<T, F>(notification: Uuid, mut write: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut attempt = 0;
    loop {
        match write().await {
            Ok(done) => return Some(done),
            Err(fault @ (Fault::Bug(_) | Fault::Permanent(_))) => {
                error!(%notification, error = %fault, "the end of an attempt cannot be written");
                return None;
            }
            Err(fault) => {
                if attempt == 0 {
                    warn!(%notification, error = %fault, "the end of an attempt is not written yet");
                }
                sleep(retry::pause(attempt, random())).await;
                attempt = attempt.saturating_add(1);
            }
        }
    }
}

pub(super) fn random() -> u64 {
    std::hash::RandomState::new().hash_one(0)
}

fn now() -> Timestamp {
    i64::try_from(clock::unix_ms())
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::MAX)
}

fn since(at: Timestamp) -> Duration {
    Duration::try_from(now().duration_since(at)).unwrap_or_default()
}

pub(super) fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now())).unwrap_or_default()
}

//! What a second connection to Postgres sees of the monitor's work.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use jiff::Timestamp;
use latchline_shared::kit::clock;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::bench::figures::{Delays, Spread, delays};
use crate::stack::STATES;

const BEHIND_EVERY: Duration = Duration::from_secs(1);
/// How far back alarms are looked for; nothing takes that long without failing the run.
const ALARMS_OF: &str = "60 s";

/// Reports whose effect is stored.
pub(super) async fn stored(client: &Client) -> anyhow::Result<u64> {
    let sum = "select coalesce(sum(next_offset), 0)::bigint from monitor.consumer_offset where stream = $1";
    Ok(u64::try_from(client.query_one(sum, &[&STATES]).await?.get::<_, i64>(0))?)
}

/// What was seen so far.
pub(super) struct Follow {
    seen: HashSet<uuid::Uuid>,
    alarms_us: Histogram<u64>,
    behind_s: Vec<f64>,
    looked_at: Instant,
}

impl Follow {
    /// From now on.
    pub(super) async fn begin(client: &Client) -> anyhow::Result<Self> {
        let mut follow = Self {
            seen: HashSet::new(),
            alarms_us: delays()?,
            behind_s: Vec::new(),
            looked_at: Instant::now(),
        };
        // What is there already is not measured.
        follow.look(client).await?;
        follow.alarms_us.reset();
        Ok(follow)
    }

    /// Looks for new alarms, and each second at the lanes.
    pub(super) async fn look(&mut self, client: &Client) -> anyhow::Result<()> {
        let query = format!(
            "select id, raised_at from monitor.alarm
             where type = 'lock_fault' and raised_at > now() - interval '{ALARMS_OF}'"
        );
        let rows = client.query(&query, &[]).await?;
        let now_ms = now_ms();
        for row in rows {
            if self.seen.insert(row.get(0)) {
                let raised_at: Timestamp = row.get(1);
                let after_ms = u64::try_from(now_ms - raised_at.as_millisecond()).unwrap_or_default();
                self.alarms_us.record(after_ms * 1_000)?;
            }
        }
        if self.looked_at.elapsed() >= BEHIND_EVERY {
            self.looked_at = Instant::now();
            // The newest report of each lane; the lane that is furthest behind counts.
            let query = "select min(newest) from (
                 select max(last_report_at) as newest from monitor.lane group by partition) as lanes";
            let newest: Option<Timestamp> = client.query_one(query, &[]).await?.get(0);
            let newest = newest.context("no lane has told how far it is")?;
            self.behind_s.push((now_ms - newest.as_millisecond()) as f64 / 1_000.0);
        }
        Ok(())
    }

    /// Median and worst, in seconds.
    pub(super) fn behind(&self) -> anyhow::Result<(f64, f64)> {
        let spread = Spread::of(self.behind_s.iter().copied()).context("too short to measure")?;
        Ok((spread.median, spread.high))
    }

    /// From reports of faults to their alarms.
    pub(super) fn alarms(&self) -> Delays {
        Delays::of(&self.alarms_us)
    }
}

fn now_ms() -> i64 {
    i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX)
}

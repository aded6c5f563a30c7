//! Load: many locks that publish QoS 1 and count their acknowledgements.
//!
//! Closed: every lock keeps a number of messages under way, and the rate is what comes of it. Open:
//! messages leave at a given rate whatever comes back, and a delay is counted from the moment when
//! a message should have left, so that a stall is not hidden by the messages that it held up.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use latchline_shared::message::Protocol;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::Client;
use crate::client::packet::{Ack, Packet};
use crate::stack::{Stack, state_topic};

/// Delays from 1 µs to 5 min, three digits.
const DELAY_US_MAX: u64 = 300_000_000;
/// How long after the end acknowledgements may still come.
const GRACE: Duration = Duration::from_secs(30);
const FIRST_ID: u64 = 10_083_618_796_833_171;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of locks.
    pub locks: u64,
    /// Messages of each lock under way at most.
    pub window: usize,
    /// Messages per second of all locks together; without one, as fast as acknowledgements come.
    pub rate: Option<f64>,
    /// How long.
    pub duration: Duration,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Protocol version.
    pub protocol: Protocol,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Messages that were acknowledged.
    pub acked: u64,
    /// From the first message to the last acknowledgement.
    pub elapsed: Duration,
    /// Microseconds from when a message left, or should have left, to its acknowledgement.
    pub delays_us: Histogram<u64>,
}

impl Outcome {
    /// Acknowledged messages per second.
    pub fn per_second(&self) -> f64 {
        self.acked as f64 / self.elapsed.as_secs_f64()
    }
}

/// Connects the locks of a plan.
pub async fn connect(stack: &Stack, plan: &Plan) -> anyhow::Result<Vec<(String, Client)>> {
    let mut clients = Vec::new();
    for n in 0..plan.locks {
        let id = (FIRST_ID + n).to_string();
        let (client, _) = stack.connect_lock(&id, plan.protocol).await?;
        clients.push((id, client));
    }
    Ok(clients)
}

/// Carries out a plan.
pub async fn run(clients: Vec<(String, Client)>, plan: Plan) -> anyhow::Result<Outcome> {
    let started_at = Instant::now();
    let mut locks = JoinSet::new();
    for (n, (id, client)) in (0u32..).zip(clients) {
        let every = plan.rate.map(|rate| Duration::from_secs_f64(plan.locks as f64 / rate));
        // Spread over the interval, so that the locks do not publish all at once.
        let first_at = started_at + every.unwrap_or_default() * n / u32::try_from(plan.locks)?;
        locks.spawn(lock(id, client, plan, every, first_at, started_at + plan.duration));
    }
    let mut outcome = Outcome { acked: 0, elapsed: Duration::ZERO, delays_us: histogram()? };
    while let Some(delays_us) = locks.join_next().await {
        let delays_us = delays_us.context("a lock's task ended")??;
        outcome.acked += delays_us.len();
        outcome.delays_us.add(delays_us)?;
    }
    outcome.elapsed = started_at.elapsed();
    Ok(outcome)
}

/// Publishes until the end and waits for the acknowledgements that are still to come.
async fn lock(
    id: String,
    mut client: Client,
    plan: Plan,
    every: Option<Duration>,
    mut next_at: Instant,
    end: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let (topic, payload) = (state_topic(&id), vec![b'.'; plan.payload_bytes]);
    let mut delays_us = histogram()?;
    let mut under_way: VecDeque<(u16, Instant)> = VecDeque::new();
    loop {
        let now = Instant::now();
        let due = now < end && under_way.len() < plan.window && next_at <= now;
        if due {
            let packet_id = client.publish(&topic, payload.clone()).await?;
            match every {
                Some(every) => {
                    under_way.push_back((packet_id, next_at));
                    next_at += every;
                }
                None => under_way.push_back((packet_id, now)),
            }
        } else if let Some((packet_id, from)) = under_way.front().copied() {
            // Until the next message is due, unless the window is full or the end has come.
            let waits = now < end && under_way.len() < plan.window;
            let until = if waits { next_at.min(end) } else { end.max(now) + GRACE };
            match timeout_at(until, client.receive()).await {
                Ok(Ok(Packet::Ack { kind: Ack::PubAck, id: acked, code: 0 | 0x10 }))
                    if acked == packet_id =>
                {
                    under_way.pop_front();
                    delays_us.record(u64::try_from(from.elapsed().as_micros())?.min(DELAY_US_MAX))?;
                }
                Ok(other) => bail!("{id}: PUBACK {packet_id} expected, not {other:?}"),
                Err(_) if waits => {}
                Err(_) => bail!("{id}: no PUBACK {packet_id} within {GRACE:?} of the end"),
            }
        } else if now < end {
            sleep_until(next_at.min(end)).await;
        } else {
            return Ok(delays_us);
        }
    }
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, DELAY_US_MAX, 3).context("a histogram")
}

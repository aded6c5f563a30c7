//! What the clients of a crowd report, and what came of it, second by second.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use latchline_shared::message::{Protocol, Qos};
use serde::{Deserialize, Serialize};

use super::line::Crowd;
use crate::bench::figures::{Delays, delays};
use crate::bench::publishers::payload;
use crate::client::packet::{self, Publish};
use crate::feed::Report;
use crate::stack::state_topic;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sixteen thousand wakings a second would take a tenth of a core from what is measured.
const NAP: Duration = Duration::from_millis(1);
/// What a lock says beside what the services read; with it, a report has some 300 bytes.
const MORE: &str = r#","firmware":"2.14.0-lts","hardware":"LL-200 rev C","rssi":-61,"temperature":21.5,"uptime_s":86400,"door_state":1,"network":"wifi","config_hash":"9f86d081884c7d65""#;

/// What clients report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Reports {
    /// The sample of the contract, all the same: for measurements of the broker alone.
    Sample,
    /// That all is well, which answers nothing.
    Heartbeat,
    /// The same, as the result of the last command once more: the services have to know that it is.
    Repeat,
}

impl Reports {
    /// The PUBLISH of the lock `id` in this round of all locks.
    pub(super) fn message(self, id: &str, round: u64, packet_id: u16) -> Bytes {
        let payload = match self {
            Self::Sample => payload(),
            Self::Heartbeat => alive(id, round, "heartbeat"),
            Self::Repeat => alive(id, round, "lock"),
        };
        let (topic, qos) = (state_topic(id), Qos::AtLeastOnce);
        let message = Publish { topic, payload, qos, dup: false, retain: false, id: packet_id };
        packet::publish(Protocol::V3, &message)
    }

    /// How long is slept at least, so that what is due meanwhile leaves together.
    pub(super) fn nap(self) -> Duration {
        if self == Self::Sample { Duration::ZERO } else { NAP }
    }
}

/// What a real lock reports.
fn alive(id: &str, round: u64, action: &str) -> Bytes {
    let number: u64 = id.parse().unwrap_or_default();
    // As batteries are: different, and hardly different from one round to the next.
    let battery = 30.0 + (number % 700) as f32 / 10.0 - (round % 100) as f32 / 100.0;
    let process_id = &id[1..];
    Report { battery, process_id, action, more: MORE, ..Report::of(id, 0) }.payload().into()
}

/// What came of reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// Of all messages, from when they were due to their acknowledgements.
    pub delays: Delays,
    /// The same, a second or so each.
    pub seconds: Vec<Second>,
}

/// What happened in a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// When it ended, in seconds since the reports began.
    pub at_s: f64,
    /// CPU time that the clients' thread has used since then.
    pub clients_cpu_s: f64,
    /// By how much that thread was late, at most, when nothing held it up: the load's own part of all
    /// delays.
    pub late_ms: f64,
    /// How long it was held up, because all packet ids of the lock whose turn it was were under way.
    pub held_up_ms: f64,
    /// Of the messages that were acknowledged in it.
    pub delays: Delays,
}

/// Writes it down.
pub(super) struct Log {
    begun_at: Instant,
    look_at: Instant,
    cpu_before_s: f64,
    late: Duration,
    held_up: Duration,
    /// For so long it has been held up since it was last in time.
    debt: Duration,
    all_us: Histogram<u64>,
    seconds: Vec<Second>,
}

impl Log {
    pub(super) fn begin(crowd: &Crowd) -> anyhow::Result<Self> {
        let begun_at = Instant::now();
        crowd.take_delays();
        let look_at = begun_at + LOOK_EVERY;
        Ok(Self {
            begun_at,
            look_at,
            cpu_before_s: super::thread_cpu_s()?,
            late: Duration::ZERO,
            held_up: Duration::ZERO,
            debt: Duration::ZERO,
            all_us: delays()?,
            seconds: Vec::new(),
        })
    }

    /// What was due then is sent now.
    pub(super) fn sends(&mut self, due: Instant, now: Instant) {
        let late = now.saturating_duration_since(due);
        // What it catches up is no debt any more.
        self.debt = self.debt.min(late);
        self.late = self.late.max(late - self.debt);
    }

    /// Nothing could be sent for so long, and as much of what is late from now on is due to it.
    pub(super) fn was_held_up(&mut self, held_up: Duration) {
        self.held_up += held_up;
        self.debt += held_up;
    }

    /// Looks, if it is time to.
    pub(super) fn look(&mut self, crowd: &Crowd, now: Instant) -> anyhow::Result<()> {
        if now < self.look_at {
            return Ok(());
        }
        self.look_at += LOOK_EVERY;
        self.note(crowd)
    }

    fn note(&mut self, crowd: &Crowd) -> anyhow::Result<()> {
        let taken_us = crowd.take_delays();
        self.all_us.add(&taken_us).context("add up delays")?;
        self.seconds.push(Second {
            at_s: self.begun_at.elapsed().as_secs_f64(),
            clients_cpu_s: super::thread_cpu_s()? - self.cpu_before_s,
            late_ms: std::mem::take(&mut self.late).as_secs_f64() * 1e3,
            held_up_ms: std::mem::take(&mut self.held_up).as_secs_f64() * 1e3,
            delays: Delays::of(&taken_us),
        });
        Ok(())
    }

    pub(super) fn finish(mut self, crowd: &Crowd) -> anyhow::Result<Reported> {
        self.note(crowd)?;
        Ok(Reported { delays: Delays::of(&self.all_us), seconds: self.seconds })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::bench::lock;
    use crate::client::packet::Packet;

    #[test]
    fn reports_are_of_their_lock_and_as_long_as_those_of_the_contract() {
        for number in [0, 999_999] {
            let id = lock::id(number);
            for (reports, answers) in [(Reports::Heartbeat, false), (Reports::Repeat, true)] {
                let mut message = BytesMut::from(&reports.message(&id, 7, 9)[..]);
                let Some(Packet::Publish(message)) = packet::decode(Protocol::V3, &mut message).unwrap()
                else {
                    panic!("a PUBLISH")
                };
                assert_eq!((message.topic, message.id), (state_topic(&id), 9));
                assert!((280..=320).contains(&message.payload.len()), "{} bytes", message.payload.len());
                let report = latchline_shared::report::Report::read(&message.payload).unwrap();
                assert_eq!((report.client_id, report.lock_state), (id.clone(), 0));
                assert!(report.flaws.is_empty() && report.battery.is_some());
                assert_eq!(
                    latchline_shared::report::Report::read(&message.payload).unwrap().answers().is_some(),
                    answers
                );
            }
        }
    }
}

//! Reports that are followed from the lock to what people see of them.
//!
//! Some locks ([`crew`]) come through sockets, and report when it is their turn, whatever became of what
//! they reported before; every delay counts from when its report was due. Half of them answer commands:
//! each answer becomes history and a notification. The others jam, and are freed half a round later:
//! each jam becomes an alarm in its stream, and the alarm a notification. [`follow`] looks what has
//! arrived, [`book`] knows what has not.

pub(super) mod book;
pub(super) mod crew;
pub(super) mod follow;

use serde::Serialize;

use crate::bench::figures::Delays;
use crate::bench::figures::delays;

/// Where a report ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// A jam, in the stream of alarms.
    Alarm,
    /// An answer, in the auditor's history.
    History,
    /// An answer, as a notification.
    Notice,
    /// A jam, as a notification of its alarm.
    AlarmNotice,
}

impl Chain {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alarm, Self::History, Self::Notice, Self::AlarmNotice];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alarm => "jam to alarm in its stream",
            Self::History => "result to history",
            Self::Notice => "result to notification",
            Self::AlarmNotice => "jam to notification",
        }
    }
}

/// A report that is followed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Probe {
    /// Where to.
    pub chain: Chain,
    /// When it was due, in seconds of the window.
    pub due_s: f64,
    /// How long it took; none if it has not arrived.
    pub after_s: Option<f64>,
}

/// How long it took.
#[derive(Debug, Clone, Serialize)]
pub struct Timed {
    /// Where to.
    pub chain: Chain,
    /// Of those that arrived.
    pub delays: Delays,
    /// How many did not.
    pub missing: usize,
}

impl Timed {
    /// Of all reports that were followed to there.
    pub(super) fn of(chain: Chain, probes: &[Probe]) -> anyhow::Result<Self> {
        let of_chain = || probes.iter().filter(move |probe| probe.chain == chain);
        let mut delays_us = delays()?;
        for after_s in of_chain().filter_map(|probe| probe.after_s) {
            delays_us.saturating_record((after_s * 1e6) as u64);
        }
        let missing = of_chain().filter(|probe| probe.after_s.is_none()).count();
        Ok(Self { chain, delays: Delays::of(&delays_us), missing })
    }
}

//! What is done to the system at once: one fault, or two of which one happens during the other.

use std::time::Duration;

use serde::Serialize;

use crate::chaos::schedule::Means;
use crate::checker::fault::Fault;
use crate::checker::ledger::{Ledger, Part};
use crate::stack::whole::Whole;

/// What the broker has in memory at any time, in commands and receipts, with room: up to 13 of this
/// traffic were lost when it was killed.
const IN_MEMORY_MAX: u64 = 40;
/// What gathers there while receipts wait for Kafka: up to 78 were lost after four seconds of that.
const WAITING_PER_SECOND_MAX: u64 = 30;

/// What is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Trial {
    /// One fault.
    Alone(Fault),
    /// The second happens, and is mended, during the first.
    While(Fault, Fault),
}

impl Trial {
    /// Lets it happen, and mends it.
    pub async fn run(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        match self {
            Self::Alone(fault) => fault.strike(whole, ledger).await,
            Self::While(outer, inner) => {
                outer.begin(whole, ledger).await?;
                // Mended whatever happens: who stands still cannot be ended in order.
                let struck = inner.strike(whole, ledger).await;
                if struck.is_ok() {
                    outer.wait().await;
                }
                struck.and(outer.mend(whole, ledger).await)
            }
        }
    }

    /// Ends what was announced for it; see [`Fault::is_over`].
    pub fn is_over(self, whole: &mut Whole) -> anyhow::Result<Vec<(Part, usize)>> {
        match self {
            Self::Alone(fault) => fault.is_over(None, whole),
            Self::While(outer, inner) => outer.is_over(Some(inner.part()), whole),
        }
    }

    /// Whether this machine permits it.
    pub fn is_possible(self, means: Means) -> bool {
        let (Self::Alone(fault) | Self::While(fault, _)) = self;
        match fault {
            Fault::Full(..) => means.disks,
            Fault::Stepped(..) => means.clocks,
            Fault::Killed(_) | Fault::Stopped(..) | Fault::Paused(..) => true,
        }
    }

    /// Most commands and receipts that may be lost by it.
    pub fn excused_max(self) -> u64 {
        let seconds = |duration: Duration| duration.as_secs() + 1;
        match self {
            Self::While(outer, inner) if inner.ends_broker() && outer.part() == Part::Kafka => {
                IN_MEMORY_MAX + WAITING_PER_SECOND_MAX * seconds(outer.lasts())
            }
            Self::Alone(fault) | Self::While(_, fault) if fault.ends_broker() => IN_MEMORY_MAX,
            Self::Alone(_) | Self::While(..) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broker_that_ends_may_lose_something() {
        let four = Duration::from_secs(4);
        let broker = Fault::Killed(Part::Broker);
        for (trial, most) in [
            (Trial::Alone(broker), 40),
            (Trial::Alone(Fault::Stopped(Part::Broker, four)), 40),
            (Trial::Alone(Fault::Paused(Part::Broker, four)), 0),
            (Trial::Alone(Fault::Killed(Part::Kafka)), 0),
            (Trial::While(Fault::Stopped(Part::Kafka, four), broker), 190),
            (Trial::While(Fault::Stopped(Part::Mail, four), broker), 40),
            (Trial::While(Fault::Stopped(Part::Kafka, four), Fault::Killed(Part::Auditor)), 0),
        ] {
            assert_eq!(trial.excused_max(), most, "{trial:?}");
        }
    }
}

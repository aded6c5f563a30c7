//! What is done to the system at once: one fault, or two of which one happens during the other.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use crate::chaos::schedule::Means;
use crate::checker::fault::Fault;
use crate::checker::ledger::Ledger;
use crate::stack::whole::Whole;

/// What is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Trial {
    /// One fault.
    Alone(Fault),
    /// The second happens, and is mended, when the first has lasted for so long.
    While(Fault, Duration, Fault),
}

impl Trial {
    /// Lets it happen, and mends it.
    pub async fn run(self, whole: &mut Whole, ledger: &Ledger) -> anyhow::Result<()> {
        match self {
            Self::Alone(fault) => fault.strike(whole, ledger).await,
            Self::While(outer, after, inner) => {
                let struck = match outer.begin(whole, ledger).await {
                    Ok(()) => during(outer, after, inner, whole, ledger).await,
                    error => error,
                };
                // Mended whatever happened: who stands still cannot be ended in order.
                struck.and(outer.mend(whole, ledger).await)
            }
        }
    }

    /// Whether this machine permits it.
    pub fn is_possible(self, means: Means) -> bool {
        let faults = match self {
            Self::Alone(fault) => [fault; 2],
            Self::While(outer, _, inner) => [outer, inner],
        };
        faults.iter().all(|fault| match fault {
            Fault::Full(..) => means.disks,
            Fault::Stepped(..) => means.clocks,
            Fault::Killed(_) | Fault::Stopped(..) | Fault::Paused(..) => true,
        })
    }
}

async fn during(
    outer: Fault,
    after: Duration,
    inner: Fault,
    whole: &mut Whole,
    ledger: &Ledger,
) -> anyhow::Result<()> {
    sleep(after).await;
    inner.strike(whole, ledger).await?;
    outer.endure(outer.lasts().saturating_sub(after), whole).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::ledger::Part;

    #[test]
    fn what_the_machine_does_not_permit_is_known() {
        let while_ = Duration::from_secs(4);
        let killed = Fault::Killed(Part::Broker);
        let full = Fault::Full(Part::Kafka, while_);
        for (trial, disks, clocks) in [
            (Trial::Alone(killed), false, false),
            (Trial::Alone(full), true, false),
            (Trial::While(full, while_, killed), true, false),
            (Trial::Alone(Fault::Stepped(Part::Auditor, 5, while_)), false, true),
            (Trial::While(Fault::Stopped(Part::Mail, while_), while_, killed), false, false),
        ] {
            assert!(trial.is_possible(Means { disks, clocks }), "{trial:?}");
            let is_possible = trial.is_possible(Means { disks: false, clocks: false });
            assert_eq!(is_possible, !disks && !clocks, "{trial:?}");
        }
    }
}

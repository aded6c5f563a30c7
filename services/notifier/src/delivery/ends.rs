//! Ends of attempts, written together: while one statement is on its way, the ends that come meanwhile
//! wait, and whoever is next writes them all. An end on its own is written at once; under load a
//! statement, its plan and its commit serve many.
//!
//! Invariant: an attempt waits until its end is written, so there are no more ends here than attempts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool_postgres::Pool;
use latchline_shared::fault::Fault;
use tokio::sync::oneshot::{self, Sender};

use super::queue::settle::{End, Settled, settle, settle_all};

/// Those that are not yet written.
#[derive(Debug, Default)]
pub struct Ends {
    waiting: Mutex<Vec<Waiting>>,
    /// Whoever has it writes.
    turn: tokio::sync::Mutex<()>,
}

type Waiting = (End, Sender<Result<Settled, Fault>>);

impl Ends {
    /// Writes an end, with whatever else waits.
    ///
    /// Cancel safety: an end whose attempt is not there any more is written all the same, by the next.
    pub async fn write(&self, pool: &Pool, end: &End) -> Result<Settled, Fault> {
        // What is bad of an address concerns other rows: alone.
        if end.verdict.bounce.is_some() {
            return settle(pool, end).await;
        }
        let (tell, mut told) = oneshot::channel();
        self.waiting().push((end.clone(), tell));
        let _turn = self.turn.lock().await;
        if let Ok(settled) = told.try_recv() {
            return settled;
        }
        let (ends, tells): (Vec<_>, Vec<_>) = std::mem::take(&mut *self.waiting()).into_iter().unzip();
        for (tell, settled) in tells.into_iter().zip(written(pool, &ends).await) {
            // Nobody hears it: the attempt was left alone.
            let _ = tell.send(settled);
        }
        told.try_recv().unwrap_or_else(|_| Err(Fault::transient("the end was not among those written")))
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that cannot be written does not keep the others from being so.
async fn written(pool: &Pool, ends: &[End]) -> Vec<Result<Settled, Fault>> {
    match settle_all(pool, ends).await {
        Ok(settled) => settled.into_iter().map(Ok).collect(),
        Err(Fault::Permanent(_) | Fault::Bug(_)) if ends.len() > 1 => {
            let mut settled = Vec::with_capacity(ends.len());
            for end in ends {
                settled.push(settle(pool, end).await);
            }
            settled
        }
        Err(fault) => vec![Err(fault); ends.len()],
    }
}

//! How late the load itself is: whoever measures delays says by how much he may have made them.
//!
//! Messages leave from a thread that does nothing else, and its lateness is that of each message
//! ([`crate::bench::publishers::Sent`]). Acknowledgements are read by tasks of the runtime; a task
//! beside them that wants to run every millisecond ([`Pulse`]) is as late as they are.
//!
//! Non-guarantee: the runtime's clock has steps of a millisecond, so up to that much is shown also
//! where nobody is late; and with several threads the pulse may find one that is free.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::bench::publishers::delays;

const EVERY: Duration = Duration::from_millis(1);

/// All but one in a hundred were no later.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Late {
    /// Messages, after they were due.
    pub sending_p99_ms: f64,
    /// Tasks that read acknowledgements, after they could have.
    pub reading_p99_ms: f64,
}

impl Late {
    /// Sums up histograms of microseconds.
    pub(super) fn of(sending_us: &Histogram<u64>, reading_us: &Histogram<u64>) -> Self {
        let p99_ms = |late_us: &Histogram<u64>| late_us.value_at_quantile(0.99) as f64 / 1000.0;
        Self { sending_p99_ms: p99_ms(sending_us), reading_p99_ms: p99_ms(reading_us) }
    }
}

/// A task that notes how late it is woken; it ends when dropped.
pub(super) struct Pulse {
    late_us: Arc<Mutex<Histogram<u64>>>,
    _task: JoinSet<()>,
}

impl Pulse {
    pub(super) fn start() -> anyhow::Result<Self> {
        let late_us = Arc::new(Mutex::new(delays()?));
        let (noted, mut task) = (Arc::clone(&late_us), JoinSet::new());
        task.spawn(async move {
            loop {
                let due = Instant::now() + EVERY;
                sleep_until(due).await;
                held(&noted).saturating_record(due.elapsed().as_micros() as u64);
            }
        });
        Ok(Self { late_us, _task: task })
    }

    /// By how much, so far.
    pub(super) fn late_us(&self) -> Histogram<u64> {
        held(&self.late_us).clone()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_runtime_that_is_held_up_is_late() {
        let pulse = Pulse::start().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while pulse.late_us().is_empty() {
            assert!(Instant::now() < until, "no pulse");
            tokio::task::yield_now().await;
        }
        // What nobody should do in a task.
        std::thread::sleep(Duration::from_millis(50));
        while pulse.late_us().max() < 40_000 {
            assert!(Instant::now() < until, "{} µs", pulse.late_us().max());
            tokio::task::yield_now().await;
        }
    }
}

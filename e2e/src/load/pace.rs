//! A thread that does what is due when it is due, and nothing else.
//!
//! If it is late, what is due follows each other until the time is made good: nothing is left out,
//! and the delays count from when it was due (no coordinated omission).
//!
//! The thread lives until it is dropped, so that its CPU time can be read when its work is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::task::yield_now;

use crate::load::connection::Connection;
use crate::load::run::Run;
use crate::load::schedule::{Span, even};
use crate::load::tally::Delay;

/// Longest sleep, so that a stop is heard.
const SLEEP_MAX: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Bytes that wait for a socket while more is put before it.
const FLOOD_BYTES: usize = 64 * 1024;
const FLOOD_PAUSE: Duration = Duration::from_micros(100);

/// A thread that paces; it stops when dropped.
pub struct Pace {
    stop: Arc<AtomicBool>,
    /// How often it has acted, when it has done everything.
    done: Arc<OnceLock<u64>>,
    thread: Option<JoinHandle<()>>,
}

impl Pace {
    /// Does what is due: `(when in microseconds of the run, what)`, in order of time.
    pub fn start<T>(
        run: &Arc<Run>,
        due: impl Iterator<Item = (u64, T)> + Send + 'static,
        mut act: impl FnMut(u64, T) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let run = Arc::clone(run);
        Self::spawn("pace", move |stop| {
            let mut count = 0;
            for (due_us, what) in due {
                if !sleep_until(run.tally.at(due_us), stop) {
                    break;
                }
                run.tally.took(Delay::Pace, due_us, run.tally.now_us());
                act(due_us, what);
                count += 1;
            }
            count
        })
    }

    /// Sends this many messages per second, all senders in turn.
    pub fn even(
        run: &Arc<Run>,
        senders: Vec<Arc<Connection>>,
        per_second: f64,
        span: Span,
    ) -> anyhow::Result<Self> {
        Self::start(run, even(per_second, span), move |due_us, number| {
            senders[number as usize % senders.len()].next(due_us);
        })
    }

    /// Sends messages of QoS 0, which nobody acknowledges, as fast as the sockets take them.
    pub fn flood(run: &Arc<Run>, members: Vec<Arc<Connection>>, to_us: u64) -> anyhow::Result<Self> {
        let run = Arc::clone(run);
        Self::spawn("flood", move |stop| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) && run.tally.now_us() < to_us {
                let mut is_idle = true;
                for member in members.iter().filter(|member| member.unsent_bytes() < FLOOD_BYTES) {
                    member.next(run.tally.now_us());
                    is_idle = false;
                    count += 1;
                }
                if is_idle {
                    thread::sleep(FLOOD_PAUSE);
                }
            }
            count
        })
    }

    /// A thread that works until it is done or told to stop, and says how often it has acted.
    pub(super) fn spawn(
        name: &str,
        work: impl FnOnce(&AtomicBool) -> u64 + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::new()));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            count.get_or_init(|| work(&stopped));
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(SLEEP_MAX);
            }
        })?;
        Ok(Self { stop, done, thread: Some(thread) })
    }

    /// Waits until everything that was due has been done, also what was done late; the answer is how
    /// much that was.
    pub async fn finish(self) -> anyhow::Result<u64> {
        loop {
            if let Some(count) = self.done.get() {
                return Ok(*count);
            }
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                // The panic hook has said why.
                bail!("the thread that paces has died");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Begins the closed loop: each sender has `window` messages under way, or as many as the broker
/// allows, and no more, since the others would wait in the load. It ends when the run is told so.
pub async fn closed_loop(run: &Run, senders: &[Arc<Connection>], window: u16) {
    run.set_closed(true);
    for sender in senders {
        (0..sender.room_for(window)).for_each(|_| sender.next(run.tally.now_us()));
        // Acknowledgements are read meanwhile.
        yield_now().await;
    }
}

/// Sleeps; false if it was told to stop.
pub(super) fn sleep_until(due: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return true;
        }
        thread::sleep(wait.min(SLEEP_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn(work: impl FnOnce(&AtomicBool) -> u64 + Send + 'static) -> Pace {
        Pace::spawn("test", work).unwrap()
    }

    #[tokio::test]
    async fn a_thread_that_dies_is_an_error() {
        assert_eq!(spawn(|_| 7).finish().await.unwrap(), 7);
        assert!(spawn(|_| panic!("as it should")).finish().await.is_err());
        let paced = spawn(|stop| u64::from(sleep_until(Instant::now() + Duration::from_secs(3600), stop)));
        // It does not sleep for an hour when it is dropped.
        drop(paced);
    }
}

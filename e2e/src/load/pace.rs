//! A thread that does what is due when it is due, and nothing else.
//!
//! If it is late, what is due follows each other until the time is made good: nothing is left out,
//! and the delays count from when it was due (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::load::connection::Connection;
use crate::load::run::Run;
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
        Self::spawn(move |stop| {
            for (due_us, what) in due {
                if !sleep_until(run.tally.at(due_us), stop) {
                    break;
                }
                run.tally.took(Delay::Pace, due_us, run.tally.now_us());
                act(due_us, what);
            }
        })
    }

    /// Sends messages of QoS 0, which nobody acknowledges, as fast as the sockets take them.
    pub fn flood(run: &Arc<Run>, members: Vec<Arc<Connection>>, to_us: u64) -> anyhow::Result<Self> {
        let run = Arc::clone(run);
        Self::spawn(move |stop| {
            while !stop.load(Ordering::Relaxed) && run.tally.now_us() < to_us {
                let mut is_idle = true;
                for member in members.iter().filter(|member| member.unsent_bytes() < FLOOD_BYTES) {
                    member.next(run.tally.now_us());
                    is_idle = false;
                }
                if is_idle {
                    thread::sleep(FLOOD_PAUSE);
                }
            }
        })
    }

    fn spawn(work: impl FnOnce(&AtomicBool) + Send + 'static) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("pace".to_owned()).spawn(move || work(&stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Waits until everything that was due has been done, also what was done late.
    pub async fn finish(self) {
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Sleeps; false if it was told to stop.
fn sleep_until(due: Instant, stop: &AtomicBool) -> bool {
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

//! How late the load reads what has come for it.
//!
//! A thread sends the time through a socket every millisecond, and a task reads it there as other
//! tasks read the acknowledgements of the connections, each in its turn. So what a delay owes to the
//! load's reading is measured the way the acknowledgement goes: a reader that is busy with thousands
//! of connections comes late to this one as well.
//!
//! Lateness counts from when the time was due to be sent, so a machine on which that thread does not
//! run in time is not hidden either.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::load::pace::{Pace, sleep_until};
use crate::load::run::Run;
use crate::load::schedule::{Span, even};
use crate::load::tally::Delay;

const PER_SECOND: f64 = 1000.0;

/// Measures until it is dropped.
pub struct Reading {
    _ticks: Pace,
    _reader: JoinSet<()>,
}

impl Reading {
    /// Begins to measure the reading of this run, whose connections are read on this runtime.
    pub fn start(run: &Arc<Run>) -> anyhow::Result<Self> {
        let (mut tell, heard) = Socket::pair().context("make a pair of sockets")?;
        tell.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        let mut heard = UnixStream::from_std(heard)?;

        let mut reader = JoinSet::new();
        let reading = Arc::clone(run);
        reader.spawn(async move {
            // Until the thread has ended.
            while let Ok(due_us) = heard.read_u64().await {
                reading.tally.took(Delay::Reading, due_us, reading.tally.now_us());
            }
        });
        let (run, from_us) = (Arc::clone(run), run.tally.now_us());
        let ticks = Pace::spawn("ticks", move |stop| {
            let mut count = 0;
            for (due_us, _) in even(PER_SECOND, Span { from_us, to_us: u64::MAX }) {
                if !sleep_until(run.tally.at(due_us), stop) {
                    break;
                }
                match tell.write_all(&due_us.to_be_bytes()) {
                    Ok(()) => count += 1,
                    // The reader is seconds late; what has found room says so.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
            count
        })?;
        Ok(Self { _ticks: ticks, _reader: reader })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use latchline_shared::kit::testing::eventually;

    use super::*;
    use crate::load::run::testing::run;

    #[tokio::test]
    async fn a_reader_that_is_busy_is_late() {
        const BUSY: Duration = Duration::from_millis(200);
        let run = run();
        let _reading = Reading::start(&run).unwrap();
        let delays_us = || run.tally.delays_us(Delay::Reading);
        eventually(Duration::from_secs(20), "it is measured", async || !delays_us().is_empty()).await;
        let before = delays_us().len();
        // On purpose: this blocks the only thread that reads.
        std::thread::sleep(BUSY);
        let enough = before + BUSY.as_millis() as u64 / 2;
        eventually(Duration::from_secs(20), "it goes on", async || delays_us().len() > enough).await;
        assert!(delays_us().max() >= BUSY.as_micros() as u64 * 9 / 10, "{}", delays_us().max());
    }
}

//! A client that only says PINGREQ, every few milliseconds and whatever comes back, and notes how
//! long PINGRESP takes: what a bystander feels of a storm.
//!
//! Two threads and a blocking socket, so that nothing else in this process delays it. A delay
//! counts from when the PINGREQ was due.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use hdrhistogram::Histogram;
use latchline_shared::keys::MasterKey;

use crate::bench::figures::delays;
use crate::bench::lock;
use crate::client::packet::PING_REQUEST;

const PING_RESPONSE: [u8; 2] = [0xd0, 0];
/// Longest silence of the broker.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// A running probe.
pub struct Probe {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<anyhow::Result<()>>,
    receiver: JoinHandle<anyhow::Result<Histogram<u64>>>,
}

impl Probe {
    /// Connects as lock number `number` and begins.
    pub async fn start(
        server: SocketAddr,
        master: &MasterKey,
        number: u32,
        every: Duration,
    ) -> anyhow::Result<Self> {
        let stream = lock::open(server, master, number, lock::Session::Clean).await?.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, awaited) = channel();
        let (writer, stopped) = (stream.try_clone()?, Arc::clone(&stop));
        Ok(Self {
            stop,
            sender: thread::Builder::new()
                .name("probe out".to_owned())
                .spawn(move || send(writer, every, &sent, &stopped))?,
            receiver: thread::Builder::new()
                .name("probe in".to_owned())
                .spawn(move || receive(stream, &awaited))?,
        })
    }

    /// Waits for the last answers; the delays in microseconds.
    pub async fn finish(self) -> anyhow::Result<Histogram<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let join = move || {
            self.sender.join().map_err(|_| anyhow!("the sender panicked"))??;
            self.receiver.join().map_err(|_| anyhow!("the receiver panicked"))?
        };
        tokio::task::spawn_blocking(join).await?.context("probe")
    }
}

fn send(
    mut stream: TcpStream,
    every: Duration,
    sent: &Sender<Instant>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // The receiver ends first only if it has failed, and says so itself.
        if sent.send(due).is_err() {
            return Ok(());
        }
        stream.write_all(&PING_REQUEST).context("PINGREQ")?;
        due += every;
    }
    Ok(())
}

/// Takes an answer for each request; ends when the sender has.
fn receive(mut stream: TcpStream, awaited: &Receiver<Instant>) -> anyhow::Result<Histogram<u64>> {
    let mut delays_us = delays()?;
    for due in awaited {
        let mut answer = [0; PING_RESPONSE.len()];
        stream.read_exact(&mut answer).context("PINGRESP")?;
        ensure!(answer == PING_RESPONSE, "{answer:02x?} is no PINGRESP");
        delays_us.saturating_record(due.elapsed().as_micros() as u64);
    }
    // The broker may have gone since.
    let _ = stream.shutdown(Shutdown::Both);
    Ok(delays_us)
}

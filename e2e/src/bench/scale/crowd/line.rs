//! The byte stream between the broker and one client in the same process, and all of the clients at
//! its other end.
//!
//! A client is no task and has no buffer: it is a [`Seat`], some sixty bytes, and acts only when it
//! is driven ([`Crowd::arrive`] and so on), or when the broker writes to it: then it reads the
//! answer in the broker's own call. So what a million sessions take is the broker's, but for the
//! seats, which are made, and measured, before the first one connects.
//!
//! Invariant: every answer is one that was asked for, each once; anything else fails the
//! measurement ([`Crowd::check`]).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;

use crate::bench::figures::delays;
use crate::bench::lock::{CONNACK, SUBACK, ask_for_commands};
use crate::load::tally::held;

/// Clients that connect at once, as those of a fleet on sockets do.
pub(super) const CONNECTING: u32 = 256;
/// Packet ids of a client, from 1, and so messages of it under way. More would be memory for nothing:
/// its next message is due in a minute.
pub(super) const IDS: u16 = 2;
const PUBACK_HEADER: [u8; 2] = [0x40, 2];

/// All clients.
pub(super) struct Crowd {
    /// Number of the first.
    pub(super) first: u32,
    seats: Box<[Mutex<Seat>]>,
    /// One for each client that may begin to connect.
    pub(super) turns: Semaphore,
    left: AtomicUsize,
    flights: Flights,
    failed: AtomicBool,
    failure: Mutex<Option<anyhow::Error>>,
}

/// The client's end.
#[derive(Default)]
struct Seat {
    /// What the broker has not read yet; nothing, most of the time.
    input: Bytes,
    reader: Option<Waker>,
    stage: Stage,
}

/// What is waited for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Connack,
    Suback,
    /// Acknowledgements of messages, if there are any.
    Connected,
    /// The broker lets go of the stream.
    Leaving,
}

/// Messages under way, of all clients.
struct Flights {
    begun_at: Instant,
    /// When each was due, in microseconds since then plus one; 0 where there is none. [`IDS`] for each
    /// client, one client after the other.
    due_us: Box<[AtomicU64]>,
    acked: AtomicU64,
    delays_us: Mutex<Histogram<u64>>,
}

impl Crowd {
    /// As many clients, none of them connected.
    pub(super) fn new(first: u32, count: u32) -> anyhow::Result<Self> {
        Ok(Self {
            first,
            seats: (0..count).map(|_| Mutex::default()).collect(),
            turns: Semaphore::new(CONNECTING as usize),
            left: AtomicUsize::new(0),
            flights: Flights {
                begun_at: Instant::now(),
                due_us: (0..count as usize * usize::from(IDS)).map(|_| AtomicU64::new(0)).collect(),
                acked: AtomicU64::new(0),
                delays_us: Mutex::new(delays()?),
            },
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        })
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// How many the broker has let go.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Acknowledged messages.
    pub(super) fn acked(&self) -> u64 {
        self.flights.acked.load(Ordering::Relaxed)
    }

    /// Delays of the acknowledgements since the last call, from when their messages were due.
    pub(super) fn take_delays(&self) -> Histogram<u64> {
        let mut delays_us = held(&self.flights.delays_us);
        let taken = delays_us.clone();
        delays_us.reset();
        taken
    }

    /// Fails if anything went wrong.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        // Asked for each message: a look that costs nothing comes first.
        if !self.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(held(&self.failure).take().unwrap_or_else(|| anyhow!("the crowd has failed before")))
    }

    /// Whether no message of this client with this packet id is under way.
    pub(super) fn is_free(&self, index: usize, id: u16) -> bool {
        self.flights.of(index, id).is_some_and(|due_us| due_us.load(Ordering::Relaxed) == 0)
    }

    /// The broker's end of a client's stream, on which `hello` has arrived.
    pub(super) fn arrive(self: &Arc<Self>, index: usize, hello: Bytes) -> Line {
        held(&self.seats[index]).input = hello;
        Line { crowd: Arc::clone(self), index }
    }

    /// Sends a message whose packet id is `id`.
    pub(super) fn publish(&self, index: usize, id: u16, message: &[u8], due: Instant) -> anyhow::Result<()> {
        let due_us = due.saturating_duration_since(self.flights.begun_at).as_micros() as u64 + 1;
        let before = self.flights.of(index, id).map(|place| place.swap(due_us, Ordering::Relaxed));
        ensure!(before == Some(0), "packet id {id} of client {index} is not free");
        let mut seat = held(&self.seats[index]);
        seat.input = [&seat.input[..], message].concat().into();
        seat.wake();
        Ok(())
    }

    /// The client ends its stream.
    pub(super) fn leave(&self, index: usize) {
        let mut seat = held(&self.seats[index]);
        seat.stage = Stage::Leaving;
        seat.wake();
    }

    fn read(&self, index: usize, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<()> {
        let mut seat = held(&self.seats[index]);
        if !seat.input.is_empty() {
            let length = seat.input.len().min(buf.remaining());
            buf.put_slice(&seat.input.split_to(length));
            if seat.input.is_empty() {
                // What is empty may still hold on to its buffer.
                seat.input = Bytes::new();
            }
        } else if seat.stage != Stage::Leaving {
            if !seat.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                seat.reader = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Reads what the broker says, which is always whole packets: nothing here takes only a part.
    fn answered(&self, index: usize, mut packets: &[u8]) -> anyhow::Result<()> {
        let mut seat = held(&self.seats[index]);
        while !packets.is_empty() {
            let length = packets.get(1).map_or(0, |&length| usize::from(length) + 2);
            let (packet, rest) = packets.split_at_checked(length.max(2)).unwrap_or((packets, &[]));
            packets = rest;
            match seat.stage {
                Stage::Connack if packet == CONNACK => {
                    seat.input = ask_for_commands(self.first + index as u32);
                    seat.stage = Stage::Suback;
                    seat.wake();
                }
                Stage::Suback if packet == SUBACK => {
                    seat.stage = Stage::Connected;
                    self.turns.add_permits(1);
                }
                Stage::Connected if packet.len() == 4 && packet.starts_with(&PUBACK_HEADER) => {
                    self.flights.land(index, u16::from_be_bytes([packet[2], packet[3]]))?;
                }
                _ => return Err(anyhow!("the broker says {packet:02x?} to client {index}")),
            }
        }
        Ok(())
    }

    fn fail(&self, error: anyhow::Error) {
        held(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
        // Whoever waits for a turn looks what has happened.
        self.turns.close();
    }
}

impl Seat {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Flights {
    fn of(&self, index: usize, id: u16) -> Option<&AtomicU64> {
        let place = index * usize::from(IDS) + usize::from(id);
        (1..=IDS).contains(&id).then(|| self.due_us.get(place - 1)).flatten()
    }

    fn land(&self, index: usize, id: u16) -> anyhow::Result<()> {
        let due_us = self.of(index, id).map_or(0, |due_us| due_us.swap(0, Ordering::Relaxed));
        ensure!(due_us > 0, "PUBACK {id} for client {index} without a message");
        let delay = self.begun_at.elapsed().saturating_sub(Duration::from_micros(due_us - 1));
        held(&self.delays_us).saturating_record(delay.as_micros() as u64);
        self.acked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The broker's end of one stream.
pub(super) struct Line {
    crowd: Arc<Crowd>,
    index: usize,
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.crowd.read(self.index, cx, buf).map(Ok)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Err(error) = self.crowd.answered(self.index, bytes) {
            self.crowd.fail(error);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut seat = held(&self.crowd.seats[self.index]);
        // It would keep the task's memory.
        seat.reader = None;
        let is_asked_for = seat.stage == Stage::Leaving;
        drop(seat);
        if !is_asked_for {
            self.crowd.fail(anyhow!("the broker has ended the connection of client {}", self.index));
        }
        self.crowd.left.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HELLO: &[u8] = b"hello";

    fn crowd() -> (Arc<Crowd>, Line) {
        let crowd = Arc::new(Crowd::new(0, 2).unwrap());
        let line = crowd.arrive(1, Bytes::from_static(HELLO));
        (crowd, line)
    }

    async fn connected() -> (Arc<Crowd>, Line) {
        let (crowd, mut line) = crowd();
        let mut hello = [0; HELLO.len()];
        line.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, HELLO);
        line.write_all(&CONNACK).await.unwrap();
        let mut subscribe = vec![0; ask_for_commands(1).len()];
        line.read_exact(&mut subscribe).await.unwrap();
        assert_eq!(subscribe, ask_for_commands(1));
        line.write_all(&SUBACK).await.unwrap();
        (crowd, line)
    }

    #[tokio::test]
    async fn a_client_sends_what_it_should_and_then_its_stream_ends() {
        let (crowd, mut line) = connected().await;
        crowd.publish(1, 1, b"a message", Instant::now()).unwrap();
        crowd.publish(1, 2, b" and one more", Instant::now()).unwrap();
        crowd.leave(1);
        let mut read = Vec::new();
        // In two parts, if there is no room for all of it.
        line.read_buf(&mut (&mut read).limit(4)).await.unwrap();
        line.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"a message and one more");
        assert_eq!(crowd.left(), 0);
        drop(line);
        assert_eq!(crowd.left(), 1);
        crowd.check().unwrap();
    }

    #[tokio::test]
    async fn each_message_is_acknowledged_once() {
        let (crowd, mut line) = connected().await;
        crowd.publish(1, 1, b"a", Instant::now()).unwrap();
        crowd.publish(1, 2, b"b", Instant::now()).unwrap();
        // Another client has ids of its own.
        assert!(crowd.is_free(0, 1) && !crowd.is_free(1, 1));
        line.write_all(&[0x40, 2, 0, 2, 0x40, 2, 0, 1]).await.unwrap();
        assert_eq!((crowd.acked(), crowd.take_delays().len()), (2, 2));
        crowd.check().unwrap();
        line.write_all(&[0x40, 2, 0, 1]).await.unwrap_err();
        assert!(crowd.check().unwrap_err().to_string().contains("PUBACK 1"));
        for (id, number) in [(0, "PUBACK 0"), (3, "PUBACK 3"), (0x0102, "PUBACK 258")] {
            let (crowd, mut line) = connected().await;
            let [high, low] = u16::to_be_bytes(id);
            line.write_all(&[0x40, 2, high, low]).await.unwrap_err();
            assert!(crowd.check().unwrap_err().to_string().contains(number));
        }
    }

    #[tokio::test]
    async fn what_nobody_asked_for_fails() {
        for answer in [&[0x20, 2, 0, 5][..], &SUBACK, &CONNACK[..3], &[0x20]] {
            let (crowd, mut line) = crowd();
            line.write_all(answer).await.unwrap_err();
            assert!(crowd.check().unwrap_err().to_string().contains("the broker says"), "{answer:02x?}");
        }
        let (crowd, line) = connected().await;
        drop(line);
        assert!(crowd.check().unwrap_err().to_string().contains("has ended the connection"));
        let (crowd, _line) = connected().await;
        crowd.publish(1, 1, b"a", Instant::now()).unwrap();
        crowd.publish(1, 1, b"b", Instant::now()).unwrap_err();
    }
}

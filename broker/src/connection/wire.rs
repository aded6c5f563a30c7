//! Bytes in and out of one connection: buffers that exist only while there is something in them.
//!
//! Reading goes through a scratch buffer that all connections of a thread share, so an idle
//! connection holds none. Writing appends to `output`, which is given back once it is flushed.
//!
//! Invariant: `input` holds at most one scratch buffer and one packet; the decoder refuses longer
//! packets from their header alone.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use latchline_shared::message::Protocol;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::transport::Transport;
use crate::packet::decode::{DecodeError, Decoder};
use crate::packet::encode::{TooLarge, encode};
use crate::packet::types::{Incoming, Outgoing};

/// How long the last bytes may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes read at once.
const SCRATCH_BYTES: usize = 32 * 1024;

/// Bytes waiting to be written above which nothing more is read or delivered.
pub(super) const OUTPUT_BYTES_HIGH: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// The socket with its codec.
pub(super) struct Wire {
    stream: Transport,
    decoder: Decoder,
    input: BytesMut,
    output: BytesMut,
    /// Maximum packet size of the client.
    packet_bytes_max: Option<u32>,
    /// Whether the stream keeps written bytes until it is flushed (TLS, WebSocket).
    unflushed: bool,
}

impl Wire {
    /// A new connection, on which CONNECT is awaited.
    pub(super) fn new(stream: Transport, packet_bytes_max: u32) -> Self {
        Self {
            stream,
            decoder: Decoder::new(packet_bytes_max),
            input: BytesMut::new(),
            output: BytesMut::new(),
            packet_bytes_max: None,
            unflushed: false,
        }
    }

    /// Sets the Maximum Packet Sizes: ours for what comes, the client's for what goes.
    pub(super) fn set_packet_bytes_max(&mut self, ours: u32, clients: Option<u32>) {
        self.decoder.set_packet_bytes_max(ours);
        self.packet_bytes_max = clients;
    }

    /// Protocol version, 3.1.1 before it is known: that is the version whose refusals everybody
    /// understands.
    pub(super) fn protocol(&self) -> Protocol {
        self.decoder.protocol().unwrap_or(Protocol::V3)
    }

    /// Whether the client has said which version it speaks, or something near enough.
    pub(super) fn is_protocol_known(&self) -> bool {
        self.decoder.protocol().is_some()
    }

    /// Whether part of a packet has arrived.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether so much waits to be written that nothing more should be produced.
    pub(super) fn is_output_high(&self) -> bool {
        self.output.len() >= OUTPUT_BYTES_HIGH
    }

    /// Whether something waits to be written.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.unflushed
    }

    /// The next whole packet among the bytes that have arrived.
    pub(super) fn next_packet(&mut self) -> Result<Option<Incoming>, DecodeError> {
        let packet = self.decoder.next(&mut self.input);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        packet
    }

    /// Reads what is there; ready with the number of bytes, 0 at the end of the stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            let filled = buf.filled();
            if self.input.is_empty() {
                self.input = BytesMut::from(filled);
            } else {
                self.input.extend_from_slice(filled);
            }
            Poll::Ready(Ok(filled.len()))
        })
    }

    /// Appends a packet to what is to be written.
    pub(super) fn send(&mut self, packet: Outgoing) -> Result<(), TooLarge> {
        encode(packet, self.protocol(), self.packet_bytes_max, &mut self.output)
    }

    /// Writes what it can; ready with whether anything was written, pending while the socket is
    /// full.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.unflushed = matches!(self.stream, Transport::Other(_));
        }
        self.output = BytesMut::new();
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Forgets what waits to be written: nobody reads it any more.
    pub(super) fn discard_output(&mut self) {
        self.output = BytesMut::new();
        self.unflushed = false;
    }

    /// Bytes that wait to be written.
    pub(super) fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Writes what is left and tells the other side that nothing more comes. Whether that arrives
    /// is the client's affair: it may be gone.
    pub(super) async fn finish(mut self) {
        let goodbye = async {
            poll_fn(|cx| self.poll_flush(cx)).await?;
            poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
        };
        let _outcome = timeout(GOODBYE_TIMEOUT, goodbye).await;
    }
}

//! One client's connection: a task that owns its socket and its session.
//!
//! [`serve`] does the handshake and then turns: signals and deliveries from the mailbox, settled
//! acknowledgements, stalled deliveries, the socket's output, the socket's input, the clock. Each
//! turn does what it can without waiting; when a turn does nothing, the task sleeps until one of
//! its sources wakes it.
//!
//! The connection stops reading (and so slows its publisher down through TCP) while any of these
//! hold: too many of its bytes wait for storage, too many of everybody's do, too many came behind a
//! message whose receiver has no room, its own output is not being read, or it is about to end since
//! a message of its was refused. It never stops for
//! anything else, so PINGREQ is answered while acknowledgements wait.
//!
//! Files in the order of a message: `handshake`, `wire` (bytes and packets), `inbound` (packets
//! from the client), `deferred` (those that must wait for their turn), `acks` (what waits for
//! storage), `outbound` (packets to the client), `close`.

mod acks;
mod alias;
mod close;
mod deferred;
mod end;
mod handshake;
mod inbound;
mod outbound;
mod subscribe;
pub mod transport;
mod wire;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use latchline_shared::budget::Place;
use latchline_shared::message::Client;
use tokio::time::Sleep;

use crate::broker::Broker;
use crate::packet::types::{Incoming, Will, reason};
use crate::session::Session;
use crate::session::mailbox::{self, Mail, Mailbox, Signal};
use acks::AckQueue;
use alias::Aliases;
use deferred::Deferred;
use end::End;
use transport::Transport;
use wire::Wire;

/// How long a connection that is never idle works before others have their turn. The runtime's own
/// measure counts reads, and what one read brings may be for ten thousand receivers.
const SLICE: Duration = Duration::from_millis(2);

/// What an event without a message counts for while it waits for storage.
const EVENT_BYTES: usize = 1024;

/// Serves one client from its first byte to its last.
///
/// `deadline` is the time by which CONNECT must have arrived, and `common_name` that of a verified
/// client certificate.
pub async fn serve(
    broker: Arc<Broker>,
    stream: Transport,
    peer: SocketAddr,
    common_name: Option<String>,
    deadline: Instant,
) {
    let connect_bytes_max = broker.limits.packet_bytes_max.min(handshake::CONNECT_BYTES_MAX);
    let wire = Wire::new(stream, connect_bytes_max);
    // The handshake's state is large and short-lived: boxed, it does not count for the connection.
    let handshake = Box::pin(handshake::run(broker, wire, peer, common_name, deadline));
    let Some(connection) = handshake.await else { return };
    let (broker, mailbox) = (Arc::clone(&connection.broker), Arc::clone(&connection.mailbox));
    if AssertUnwindSafe(connection.run()).catch_unwind().await.is_err() {
        // A bug of ours; the panic hook has logged it. Its client must be able to come back.
        broker.abandon(mailbox);
    }
}

/// A connected client.
struct Connection {
    broker: Arc<Broker>,
    wire: Wire,
    client: Arc<Client>,
    session: Session,
    mailbox: Arc<Mailbox>,
    acks: AckQueue,
    /// Records of what happened here, which nobody waits for.
    events: AckQueue,
    /// Where it waits for room in everybody's budget.
    place: Place,
    /// Topic aliases, once one is used.
    aliases: Option<Box<Aliases>>,
    /// The client's Topic Alias Maximum, capped by ours.
    alias_max_out: u16,
    /// Whether the client wants reason strings.
    wants_reasons: bool,
    will: Option<Box<Will>>,
    session_expiry_s: u32,
    /// One and a half keep-alive periods (MQTT 5, section 3.1.2.10).
    silence_max: Option<Duration>,
    last_packet_at: Instant,
    /// When the part of a packet that has arrived began to wait for the rest.
    partial_since: Option<Instant>,
    /// When the socket stopped taking output.
    stuck_since: Option<Instant>,
    /// Deliveries whose receivers have no room, and how long they are waited for.
    stalled: Vec<mailbox::Place>,
    stalled_until: Instant,
    /// What came meanwhile.
    deferred: Option<Box<Deferred>>,
    /// Set when the server stops: what is in flight is still acknowledged until then.
    draining_until: Option<Instant>,
    /// Whether reading is paused.
    paused: bool,
    /// Set when a refusal that ends the connection waits to be put on record.
    is_refused: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    async fn run(mut self) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        // Closing waits for the socket; its state is not worth space in every idle connection.
        Box::pin(self.close(end)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let slice_end = Instant::now() + SLICE;
        loop {
            match self.turn(cx, slice_end) {
                Ok(true) if Instant::now() < slice_end => {}
                Ok(true) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// Does what can be done now; whether anything was.
    fn turn(&mut self, cx: &mut Context<'_>, slice_end: Instant) -> Result<bool, End> {
        // Ordering: what is on its way out goes before new input, so that a client that floods us
        // cannot starve its own acknowledgements.
        let mut did = self.take_mail(cx)?;
        did |= self.look_at_stalled(cx);
        did |= self.send_acks(cx)?;
        did |= self.flush(cx)?;
        did |= self.read(cx, slice_end)?;
        self.check_clock(cx)?;
        Ok(did)
    }

    fn take_mail(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut did = false;
        loop {
            did |= self.send_again_and_replay(cx);
            let wants_deliveries = self.may_deliver(cx);
            match self.mailbox.poll_mail(cx, wants_deliveries) {
                Poll::Pending => return Ok(did),
                Poll::Ready(Mail::Signal(signal)) => self.obey(signal)?,
                Poll::Ready(Mail::Deliveries) => self.deliver_queued(cx),
            }
            did = true;
        }
    }

    fn obey(&mut self, signal: Signal) -> Result<(), End> {
        match signal {
            Signal::Takeover => Err(End::told(
                "takenover",
                reason::SESSION_TAKEN_OVER,
                "another connection has this client id",
            )),
            Signal::Kick => {
                Err(End::told("kicked", reason::ADMINISTRATIVE_ACTION, "disconnected by an administrator"))
            }
            Signal::Shutdown => {
                self.draining_until = Some(Instant::now() + self.broker.limits.shutdown_deadline);
                Ok(())
            }
        }
    }

    /// Looks whether deliveries whose receivers had no room still wait; whether one does not any more.
    fn look_at_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.stalled.len();
        // One after the other is enough: the others get in meanwhile all the same.
        while self.stalled.pop_if(|place| place.poll(cx).is_ready()).is_some() {}
        let did = self.stalled.len() < before;
        if did && self.stalled.is_empty() {
            self.stalled = Vec::new();
        }
        did
    }

    fn send_acks(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut did = false;
        while !self.wire.is_output_high() {
            let Poll::Ready((entry, result)) = self.events.poll_next(cx) else { break };
            self.send_ack(entry, result)?;
            did = true;
        }
        // The acknowledgement of a message that a receiver has no room for is the last, and waits
        // with it.
        while (self.stalled.is_empty() || self.acks.len() > 1) && !self.wire.is_output_high() {
            let Poll::Ready((entry, result)) = self.acks.poll_next(cx) else { break };
            self.send_ack(entry, result)?;
            did = true;
        }
        Ok(did)
    }

    /// Writes; whether that made room for more.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if !self.wire.has_output() {
            return Ok(false);
        }
        let (before, was_high) = (self.wire.output_len(), self.wire.is_output_high());
        match self.wire.poll_flush(cx) {
            Poll::Ready(Ok(())) => self.stuck_since = None,
            // It has said goodbye and gone; what it said before is still being done.
            Poll::Ready(Err(_)) if self.is_input_over() => {
                self.wire.discard_output();
                self.stuck_since = None;
            }
            Poll::Ready(Err(error)) => return Err(End::io(&error)),
            Poll::Pending if self.wire.output_len() < before => self.stuck_since = Some(Instant::now()),
            Poll::Pending => {
                self.stuck_since.get_or_insert_with(Instant::now);
            }
        }
        Ok(was_high && !self.wire.is_output_high())
    }

    /// Takes what the client has sent, first what had to wait; whether there was anything.
    fn read(&mut self, cx: &mut Context<'_>, slice_end: Instant) -> Result<bool, End> {
        if let Err(cause) = self.may_read(cx) {
            if !std::mem::replace(&mut self.paused, true) {
                self.broker.metrics.paused(cause);
            }
            return Ok(false);
        }
        if std::mem::take(&mut self.paused) {
            // The silence was ours.
            self.last_packet_at = Instant::now();
            self.partial_since = None;
        }
        if let Some(did) = self.take_deferred(cx, slice_end)? {
            return Ok(did);
        }
        loop {
            let mut did = false;
            while let Some(packet) = self.wire.next_packet()? {
                if !did {
                    self.last_packet_at = Instant::now();
                    did = true;
                }
                self.handle_or_defer(packet)?;
                if self.may_read(cx).is_err() || Instant::now() >= slice_end {
                    return Ok(true);
                }
            }
            if did || !self.wire.has_input() {
                self.partial_since = None;
            }
            if did {
                return Ok(true);
            }
            match self.wire.poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return self.end_input(End::closed()),
                Poll::Ready(Ok(bytes)) => {
                    self.deferred.iter_mut().for_each(|deferred| deferred.add_read(bytes));
                }
                Poll::Ready(Err(error)) => return self.end_input(End::io(&error)),
            }
        }
        if self.wire.has_input() {
            self.partial_since.get_or_insert_with(Instant::now);
        }
        Ok(false)
    }

    fn handle_or_defer(&mut self, packet: Incoming) -> Result<(), End> {
        // Ordering: also while earlier packets wait for their turn for any other reason.
        let is_its_turn = self.stalled.is_empty() && self.deferred.is_none();
        if is_its_turn || Deferred::is_urgent(&packet) {
            return self.handle(packet);
        }
        self.deferred.get_or_insert_default().push(packet);
        Ok(())
    }

    /// Takes the turn of what had to wait. Some: nothing more may be read now, and whether anything
    /// was done.
    fn take_deferred(&mut self, cx: &mut Context<'_>, slice_end: Instant) -> Result<Option<bool>, End> {
        let mut did = false;
        while self.stalled.is_empty()
            && (!did || Instant::now() < slice_end)
            && self.may_read(cx).is_ok()
            && let Some(packet) = self.deferred.as_mut().and_then(|deferred| deferred.pop())
        {
            self.handle(packet)?;
            did = true;
        }
        let Some(deferred) = self.deferred.take_if(|deferred| deferred.is_empty()) else {
            return Ok((did || self.is_input_over()).then_some(did));
        };
        deferred.into_end().map_or(Ok(Some(true)), Err)
    }

    /// Nothing more comes from the client. What it has said before still holds, its goodbye above
    /// all.
    fn end_input(&mut self, end: End) -> Result<bool, End> {
        let Some(deferred) = &mut self.deferred else { return Err(end) };
        deferred.set_end(end);
        Ok(false)
    }

    fn is_input_over(&self) -> bool {
        self.deferred.as_ref().is_some_and(|deferred| deferred.is_over())
    }

    /// What waits for storage on account of this connection.
    fn bytes_in_flight(&self) -> usize {
        self.acks.bytes() + self.events.bytes()
    }

    /// Whether the next packet may be taken; if not, the cause, and a wake-up is on its way.
    fn may_read(&mut self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        let bytes_max = self.broker.limits.inflight_bytes_per_connection;
        if self.bytes_in_flight() >= bytes_max {
            Err("connection_bytes")
        } else if !self.stalled.is_empty()
            && self.deferred.as_ref().is_some_and(|deferred| deferred.bytes() >= bytes_max)
        {
            Err("deferred_bytes")
        } else if self.is_refused {
            Err("refused")
        } else if self.wire.is_output_high() {
            Err("output")
        } else if self.draining_until.is_some() {
            Err("shutdown")
        } else if self.place.poll_room(cx).is_pending() {
            Err("total_bytes")
        } else {
            Ok(())
        }
    }

    fn check_clock(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if self.draining_until.is_some() && self.is_drained() {
            return Err(End::told("server_shutdown", reason::SERVER_SHUTTING_DOWN, "server shutting down"));
        }
        while let Some(due) = self.next_due() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
            if due < timer.deadline().into_std() {
                timer.as_mut().reset(due.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            // The timer is only moved back lazily: it may be early.
            let now = Instant::now();
            self.check_deadlines(now)?;
            let next = self.next_due().unwrap_or(now + Duration::from_secs(3600));
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(next.max(now + Duration::from_millis(1)).into());
            }
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.acks.is_empty() && self.events.is_empty() && !self.wire.has_output()
    }

    fn deadlines(&self) -> [Option<Instant>; 5] {
        let limits = &self.broker.limits;
        let is_listening = !self.paused && !self.is_input_over();
        [
            self.silence_max.filter(|_| is_listening).map(|max| self.last_packet_at + max),
            self.partial_since.filter(|_| is_listening).map(|since| since + limits.packet_timeout),
            self.stuck_since.map(|since| since + limits.write_timeout),
            (!self.stalled.is_empty()).then_some(self.stalled_until),
            self.draining_until,
        ]
    }

    fn next_due(&self) -> Option<Instant> {
        self.deadlines().into_iter().flatten().min()
    }

    fn check_deadlines(&mut self, now: Instant) -> Result<(), End> {
        let [silence, partial, stuck, stalled, draining] =
            self.deadlines().map(|deadline| deadline.is_some_and(|deadline| deadline <= now));
        if silence {
            return Err(End::told("keepalive_timeout", reason::KEEP_ALIVE_TIMEOUT, "keep alive timeout"));
        }
        if partial {
            return Err(End::told("packet_timeout", reason::UNSPECIFIED, "packet did not end in time"));
        }
        if stuck {
            return Err(End {
                tell: None,
                ..End::told("write_timeout", reason::UNSPECIFIED, "client does not read")
            });
        }
        if stalled {
            let lost = self.stalled.iter().map(mailbox::Place::give_up).sum::<usize>();
            self.broker.metrics.dropped_many("slow_receiver", lost as u64);
            // None of them waits any more, and whose turn it is has been woken.
            self.stalled.clear();
        }
        if draining {
            return Err(End::told("server_shutdown", reason::SERVER_SHUTTING_DOWN, "server shutting down"));
        }
        Ok(())
    }
}

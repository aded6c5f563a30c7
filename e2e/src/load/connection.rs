//! A connection of the load: a lock, an operator or a subscriber.
//!
//! Whoever sends (the thread that paces, or the task that has just read an acknowledgement) takes
//! the sending half for a moment, puts the message in, and gives the socket what it takes now. The
//! reading task waits for the socket, also for its being writable again when it was not. Nobody
//! waits for anybody else, so a broker that stalls delays no message but its own.
//!
//! Ordering: sequence numbers are given out under the lock of the sending half, so messages of a
//! stream leave in their order.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, ensure};
use bytes::BytesMut;
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::client::ANSWER_DEADLINE;
use crate::client::packet;
use crate::load::hello::{Role, is_granted, welcome};
use crate::load::inbox::Inbox;
use crate::load::outbox::{Letter, Outbox};
use crate::load::run::{ID, Run, Settings};
use crate::load::stamp::{STREAMS_MAX, Stamp};
use crate::load::tally::{Cause, Count, Delay, KINDS, Kind, held};
use crate::load::wire::{Taken, Wire};

/// Streams from here on are of answers.
pub const ANSWERS_FROM: u32 = STREAMS_MAX / 2;

/// A connection that has been welcomed.
pub struct Connection {
    pub(super) run: Arc<Run>,
    pub(super) role: Role,
    number: u32,
    id: String,
    state_topic: Arc<str>,
    command_topic: Option<Arc<str>>,
    stream: TcpStream,
    pub(super) sender: Mutex<Sender>,
    /// The reading task is told that the socket has not taken everything.
    wake: Notify,
    /// It is meant to end.
    leaving: AtomicBool,
    /// Numbers of the next messages from this lock, or to it, by kind.
    sequences: [AtomicU32; KINDS.len()],
    /// The locks of an operator, and whose turn it is.
    addressees: OnceLock<Vec<Arc<Connection>>>,
    turn: AtomicU32,
    /// Answers to PINGREQ.
    pub(super) pongs: AtomicU32,
}

/// How many PINGREQ a connection had sent with one of them.
#[derive(Debug, Clone, Copy)]
pub struct Ping(u32);

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    pub(super) outbox: Outbox,
    wire: Wire,
    /// The socket has not taken everything.
    is_blocked: bool,
    /// The connection has ended.
    is_gone: bool,
    /// PINGREQ so far.
    pings: u32,
}

/// The reading half.
pub struct Reader {
    pub(super) connection: Arc<Connection>,
    pub(super) buffer: BytesMut,
    pub(super) inbox: Inbox,
}

/// Why a connection has not come about.
pub type Refusal = (Cause, anyhow::Error);

impl Connection {
    /// Connects and subscribes.
    pub async fn open(run: Arc<Run>, role: Role, number: u32) -> Result<Reader, Refusal> {
        let opening = Self::greet(run, role, number);
        let outcome = timeout(ANSWER_DEADLINE, opening).await.context("no answer in time");
        outcome.map_err(|error| (Cause::Silent, error)).flatten()
    }

    async fn greet(run: Arc<Run>, role: Role, number: u32) -> Result<Reader, Refusal> {
        let unreachable = |error| (Cause::Unreachable, error);
        let stream = dial(run.settings.target, run.source(number)).await.map_err(unreachable)?;
        let mut reader = Self::reader(run, role, number, stream).map_err(unreachable)?;
        reader.secure().await.map_err(unreachable)?;
        let connection = Arc::clone(&reader.connection);
        let (run, id) = (&connection.run, &connection.id);

        let closed = |error| (Cause::Closed, error);
        connection.put(&role.connect(run, id)).map_err(closed)?;
        let welcome = loop {
            let welcome = welcome(run.settings.protocol, &mut reader.buffer);
            if let Some(welcome) = welcome.map_err(|error| (Cause::Protocol, error))? {
                break welcome;
            }
            reader.fill().await.map_err(closed)?;
        };
        if welcome.code != 0 {
            return Err((Cause::Refused, anyhow::anyhow!("CONNACK {:#04x}", welcome.code)));
        }
        held(&connection.sender).outbox.window = welcome.receive_max.max(1);
        if let Some(subscribe) = role.subscribe(run, id) {
            reader.subscribe(&subscribe).await?;
        }
        Ok(reader)
    }

    fn reader(run: Arc<Run>, role: Role, number: u32, stream: TcpStream) -> anyhow::Result<Reader> {
        let settings = &run.settings;
        let wire = settings.security.as_ref().map_or(Ok(Wire::default()), Wire::secure)?;
        let outbox = Outbox::new(settings.protocol);
        let id = role.client_id(&run, number);
        let connection = Self {
            state_topic: settings.state_topic.replace(ID, &id).into(),
            command_topic: settings.command_topic.as_ref().map(|topic| topic.replace(ID, &id).into()),
            role,
            number,
            id,
            stream,
            sender: Mutex::new(Sender { outbox, wire, is_blocked: false, is_gone: false, pings: 0 }),
            wake: Notify::new(),
            leaving: AtomicBool::new(false),
            sequences: Default::default(),
            addressees: OnceLock::new(),
            turn: AtomicU32::new(0),
            pongs: AtomicU32::new(0),
            run,
        };
        Ok(Reader { connection: Arc::new(connection), buffer: BytesMut::new(), inbox: Inbox::default() })
    }

    /// Number among those of its role.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The locks that this operator commands.
    pub fn set_addressees(&self, locks: Vec<Arc<Connection>>) {
        self.addressees.get_or_init(|| locks);
    }

    /// How many of `window` messages the broker lets be under way.
    pub fn room_for(&self, window: u16) -> u16 {
        held(&self.sender).outbox.window.min(window.max(1))
    }

    /// Sends a report, or an answer, that is due.
    pub fn report(&self, kind: Kind, due_us: u64) {
        let mut sender = held(&self.sender);
        self.report_with(&mut sender, kind, due_us);
        self.flush(&mut sender);
    }

    /// Sends the next message of this connection's role, which is due.
    pub fn next(&self, due_us: u64) {
        let mut sender = held(&self.sender);
        self.next_with(&mut sender, due_us);
        self.flush(&mut sender);
    }

    /// Sends a command that is due to a lock; a lock is commanded by one operator.
    pub fn command_to(&self, lock: &Connection, due_us: u64) {
        let mut sender = held(&self.sender);
        self.command_lock_with(&mut sender, lock, due_us);
        self.flush(&mut sender);
    }

    /// Puts the next message of this connection's role into the outbox.
    pub(super) fn next_with(&self, sender: &mut Sender, due_us: u64) {
        match self.role {
            Role::Lock => self.report_with(sender, Kind::Report, due_us),
            Role::Operator => self.command_with(sender, due_us),
            Role::Subscriber => {}
        }
    }

    pub(super) fn report_with(&self, sender: &mut Sender, kind: Kind, due_us: u64) {
        let stream = self.number + if kind == Kind::Answer { ANSWERS_FROM } else { 0 };
        let payload = self.run.report(&self.id, self.stamp(stream, kind, due_us));
        let (topic, qos) = (Arc::clone(&self.state_topic), self.run.settings.qos);
        self.post(sender, Letter { topic, payload, qos, kind, lock: self.number, due_us });
    }

    fn command_with(&self, sender: &mut Sender, due_us: u64) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        if let Some(locks) = self.addressees.get()
            && let Some(lock) = turn.checked_rem(locks.len()).and_then(|at| locks.get(at))
        {
            self.command_lock_with(sender, lock, due_us);
        }
    }

    fn command_lock_with(&self, sender: &mut Sender, lock: &Connection, due_us: u64) {
        let Some(topic) = lock.command_topic.as_ref().map(Arc::clone) else { return };
        let (kind, qos) = (Kind::Command, self.run.settings.qos);
        match self.run.command(&lock.id, lock.stamp(lock.number, kind, due_us)) {
            Ok(payload) => self.post(sender, Letter { topic, payload, qos, kind, lock: lock.number, due_us }),
            Err(error) => {
                self.run.tally.count(kind, Count::Due);
                self.run.tally.wrong(Cause::NotSent, || format!("{}: {error:#}", self.id));
            }
        }
    }

    fn stamp(&self, stream: u32, kind: Kind, due_us: u64) -> Stamp {
        let sequence = self.sequences[kind as usize].fetch_add(1, Ordering::Relaxed);
        Stamp { run: self.run.id, stream, sequence, due_us }
    }

    fn post(&self, sender: &mut Sender, letter: Letter) {
        let tally = &self.run.tally;
        tally.count(letter.kind, Count::Due);
        if sender.is_gone || sender.outbox.push(letter).is_err() {
            let what = if sender.is_gone { "its connection is gone" } else { "too many wait" };
            tally.wrong(Cause::NotSent, || format!("{}: {what}", self.id));
        }
    }

    /// Says PINGREQ.
    pub fn ping(&self) -> Ping {
        let mut sender = held(&self.sender);
        if !sender.is_gone {
            sender.pings = sender.pings.wrapping_add(1);
            sender.outbox.put(&packet::PING_REQUEST);
            self.flush(&mut sender);
        }
        Ping(sender.pings)
    }

    /// Whether the broker has answered this PINGREQ, and with it read everything before it.
    pub fn has_answered(&self, Ping(ping): Ping) -> bool {
        ping.wrapping_sub(self.pongs.load(Ordering::Relaxed)).cast_signed() <= 0
    }

    /// Sends bytes as they are.
    pub fn put(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut sender = held(&self.sender);
        sender.outbox.put(bytes);
        self.try_flush(&mut sender)
    }

    /// Bytes that wait for the socket.
    pub fn unsent_bytes(&self) -> usize {
        held(&self.sender).outbox.unsent.len()
    }

    /// Messages that are due and not acknowledged; at QoS 0, not sent.
    pub fn outstanding(&self) -> usize {
        held(&self.sender).outbox.outstanding()
    }

    /// Gives up what has not been sent, and says how many messages that were.
    pub(super) fn give_up(&self) -> u64 {
        held(&self.sender).outbox.give_up()
    }

    /// Gives the socket what it takes. What goes wrong is the reading task's to say, which sees it too.
    pub(super) fn flush(&self, sender: &mut Sender) {
        if self.try_flush(sender).is_err() {
            self.wake.notify_one();
        }
    }

    fn try_flush(&self, sender: &mut Sender) -> anyhow::Result<()> {
        let Sender { outbox, wire, is_blocked, .. } = sender;
        let is_out = loop {
            let is_out = wire.flush(&self.stream, &mut outbox.unsent);
            while let Some((kind, lock)) = outbox.departed(wire.out_bytes()) {
                self.run.tally.acked(kind, lock);
            }
            // Messages may have waited for the socket; it is asked until it takes no more, since
            // nobody else asks again.
            let is_out = is_out?;
            if !is_out || !outbox.advance() {
                break is_out;
            }
        };
        if !is_out && !*is_blocked {
            self.wake.notify_one();
        }
        *is_blocked = !is_out;
        Ok(())
    }

    /// From now on its end is no fault.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Says DISCONNECT; the connection ends when it is dropped.
    pub fn say_goodbye(&self) {
        self.leave();
        // It may have ended already.
        let _ = self.put(&packet::DISCONNECT);
    }

    /// When it is dropped, it ends abruptly, by RST.
    pub fn end_abruptly(&self) -> anyhow::Result<()> {
        self.stream.set_zero_linger().context("set linger")
    }

    pub(super) fn is_open(&self) -> bool {
        !held(&self.sender).is_gone
    }

    /// Whether a message of this lock, or to it, is for this connection on this topic.
    pub(super) fn awaits(&self, lock: u32, topic: &str) -> bool {
        match self.role {
            Role::Lock => lock == self.number && self.command_topic.as_deref() == Some(topic),
            Role::Operator | Role::Subscriber => topic == self.run.state_topic(lock),
        }
    }

    /// Its client id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Notes how long a lock took to come about.
    pub(super) fn note_open(&self, due_us: u64) {
        let tally = &self.run.tally;
        if self.role == Role::Lock {
            tally.took(Delay::Connect, due_us, tally.now_us());
        }
    }
}

impl Reader {
    async fn secure(&mut self) -> anyhow::Result<()> {
        self.connection.put(&[])?;
        while held(&self.connection.sender).wire.is_opening() {
            self.fill().await.context("TLS handshake")?;
            self.connection.put(&[])?;
        }
        Ok(())
    }

    async fn subscribe(&mut self, subscribe: &[u8]) -> Result<(), Refusal> {
        let closed = |error| (Cause::Closed, error);
        self.connection.put(subscribe).map_err(closed)?;
        while !self.take_grant().map_err(|error| (Cause::NotGranted, error))? {
            self.fill().await.map_err(closed)?;
        }
        Ok(())
    }

    /// Reads up to SUBACK; false if it has not come yet.
    fn take_grant(&mut self) -> anyhow::Result<bool> {
        let Settings { protocol, qos, .. } = self.connection.run.settings;
        while let Some(packet) = packet::decode(protocol, &mut self.buffer)? {
            if is_granted(&packet, qos) {
                return Ok(true);
            }
            // Messages may come before SUBACK.
            let is_message = matches!(packet, packet::Packet::Publish(_));
            ensure!(is_message, "{packet:?} instead of a grant");
            self.take(packet)?;
        }
        Ok(false)
    }

    /// Waits until something has come.
    pub(super) async fn fill(&mut self) -> anyhow::Result<()> {
        let connection = &*self.connection;
        loop {
            let is_blocked = {
                let mut sender = held(&connection.sender);
                match sender.wire.take(&connection.stream, &mut self.buffer)? {
                    Taken::Some => return Ok(()),
                    Taken::Nothing => {}
                    Taken::End => anyhow::bail!("the broker has closed the connection"),
                }
                sender.is_blocked
            };
            if self.buffer.is_empty() {
                // Thousands of silent connections hold no buffer.
                self.buffer = BytesMut::new();
            }
            let interest =
                if is_blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            // Cancel safety: neither takes anything.
            let ready = tokio::select! {
                ready = connection.stream.ready(interest) => ready.context("wait")?,
                () = connection.wake.notified() => continue,
            };
            if is_blocked && ready.is_writable() {
                connection.try_flush(&mut held(&connection.sender))?;
            }
        }
    }

    /// Reads until the connection ends, and says if it should not have.
    pub async fn run(mut self) {
        let ended = self.read().await;
        let connection = &*self.connection;
        held(&connection.sender).is_gone = true;
        if let Err(error) = ended
            && !connection.leaving.load(Ordering::Relaxed)
        {
            let cause = if error.is::<Misfit>() { Cause::Protocol } else { Cause::Disconnected };
            connection.run.tally.wrong(cause, || format!("{}: {error:#}", connection.id));
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let protocol = self.connection.run.settings.protocol;
        loop {
            while let Some(packet) = packet::decode(protocol, &mut self.buffer).context(Misfit)? {
                self.take(packet)?;
            }
            self.connection.flush(&mut held(&self.connection.sender));
            self.fill().await?;
        }
    }
}

/// Something came that does not belong there.
#[derive(Debug)]
pub struct Misfit;

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the broker breaks the protocol")
    }
}

async fn dial(target: SocketAddr, source: Option<IpAddr>) -> anyhow::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0)).with_context(|| format!("bind to {source}"))?;
    }
    let stream = socket.connect(target).await.with_context(|| format!("connect to {target}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

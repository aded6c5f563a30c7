//! One connection over an in-process stream, byte by byte: what needs a receipt or a stream that
//! behaves as no socket does on demand.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use latchline_shared::budget::Budget;
use latchline_shared::fault::Fault;
use latchline_shared::hook::{
    Access, Answer, Authentication, Authorisation, Call, Connect, Hook, PublishAnswer,
};
use latchline_shared::kit::config::load;
use latchline_shared::message::{Client, Message};
use latchline_shared::receipt::{Receipt, Slot};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::serve;
use super::transport::Transport;
use crate::broker::Broker;
use crate::config::{self, Config};
use crate::hooks::chain::Chain;
use crate::hooks::link::{Link, OnFault};
use crate::metrics::Metrics;

const SOON: Duration = Duration::from_secs(10);

const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];

/// Stores everything at once, except the packet ids that a test keeps open.
#[derive(Default)]
struct Storage {
    broker: OnceLock<Weak<Broker>>,
    kept_open: Vec<u16>,
    seen: Mutex<Vec<Seen>>,
    slots: Mutex<BTreeMap<u16, Arc<Slot>>>,
}

/// A message as the hook saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    packet_id: Option<u16>,
    dup: bool,
    /// Whether its client had its session at that moment.
    is_online: bool,
}

impl Hook for Storage {
    fn name(&self) -> &'static str {
        "storage"
    }

    fn calls(&self) -> &'static [Call] {
        &[Call::ClientAuthenticate, Call::ClientAuthorise, Call::MessagePublish]
    }

    fn client_authenticate(&self, _connect: &Arc<Connect>) -> Answer<Authentication> {
        Answer::Now(Authentication::Allow { role: "any".into() })
    }

    fn client_authorise(&self, _client: &Client, _access: &Access<'_>) -> Authorisation {
        Authorisation::Allow
    }

    fn message_publish(&self, client: &Client, message: &Message) -> PublishAnswer {
        let broker = self.broker.get().and_then(Weak::upgrade).unwrap();
        let is_online = broker.registry.status(&client.id).is_some_and(|status| status.online);
        let (packet_id, dup) = (message.packet_id, message.dup);
        self.seen.lock().unwrap().push(Seen { packet_id, dup, is_online });
        match packet_id.filter(|id| self.kept_open.contains(id)) {
            None => PublishAnswer::Accept(Receipt::settled()),
            Some(id) => {
                let (receipt, slot) = Receipt::open(1);
                self.slots.lock().unwrap().insert(id, slot);
                PublishAnswer::Accept(receipt)
            }
        }
    }
}

impl Storage {
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn settle(&self, packet_id: u16, result: Result<(), Fault>) {
        self.slots.lock().unwrap().remove(&packet_id).unwrap().settle(result);
    }
}

fn broker(kept_open: &[u16], adjust: impl FnOnce(&mut Config)) -> (Arc<Broker>, Arc<Storage>) {
    let mut config: Config = load(config::DEFAULT_TOML, None, "NONE", std::iter::empty()).unwrap();
    adjust(&mut config);
    let storage = Arc::new(Storage { kept_open: kept_open.to_vec(), ..Storage::default() });
    let link = Link { hook: storage.clone(), deadline: None, on_fault: OnFault::Closed };
    let budget = Budget::new(config.limits.inflight_bytes_total);
    let metrics = Metrics::new(&mut Registry::default(), &budget);
    let broker = Broker::new(&config, Chain::new(vec![link]), metrics, budget);
    storage.broker.set(Arc::downgrade(&broker)).unwrap();
    (broker, storage)
}

fn spawn(broker: &Arc<Broker>, stream: Transport) -> JoinHandle<()> {
    let deadline = Instant::now() + SOON;
    tokio::spawn(serve(Arc::clone(broker), stream, ([127, 0, 0, 1], 1).into(), None, deadline))
}

/// The client's side.
struct Peer {
    stream: DuplexStream,
    task: JoinHandle<()>,
}

impl Peer {
    /// Connects with client id `c`; the session lives on for a minute (MQTT 5) or long (3.1.1).
    async fn connect(broker: &Arc<Broker>, level: u8) -> Self {
        let properties: &[u8] = if level == 5 { &[5, 0x11, 0, 0, 0, 60] } else { &[] };
        Self::connect_with(broker, &[&[0, 4], b"MQTT", &[level, 0, 0, 0], properties, &[0, 1, b'c']]).await
    }

    async fn connect_with(broker: &Arc<Broker>, parts: &[&[u8]]) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut peer = Self { stream: near, task: spawn(broker, Transport::other(far)) };
        let body = parts.concat();
        peer.send(&[&[0x10, body.len() as u8], &*body].concat()).await;
        let connack = peer.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
        peer
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn packet(&mut self) -> Vec<u8> {
        let read = async {
            let mut packet = vec![0; 2];
            self.stream.read_exact(&mut packet).await.unwrap();
            assert!(packet[1] < 0x80, "tests have short packets");
            packet.resize(2 + usize::from(packet[1]), 0);
            self.stream.read_exact(&mut packet[2..]).await.unwrap();
            packet
        };
        timeout(SOON, read).await.expect("a packet in time")
    }

    /// Closes without a word, and waits until the broker has let go.
    async fn break_off(self) {
        drop(self.stream);
        timeout(SOON, self.task).await.expect("the connection ends").unwrap();
    }
}

fn publish(level: u8, first_byte: u8, packet_id: u8) -> Vec<u8> {
    let mut packet = vec![first_byte, 5, 0, 1, b't', 0, packet_id];
    if level == 5 {
        packet[1] += 1;
        packet.push(0);
    }
    packet
}

#[tokio::test]
async fn a_message_that_was_taken_stays_taken_when_its_second_pubrec_is_lost() {
    let (broker, storage) = broker(&[9], |_| {});
    let mut first = Peer::connect(&broker, 4).await;
    first.send(&publish(4, 0x34, 5)).await;
    assert_eq!(first.packet().await, [0x50, 2, 0, 5]);
    first.break_off().await;

    // The repetition's PUBREC waits behind an acknowledgement that does not come.
    let mut second = Peer::connect(&broker, 4).await;
    second.send(&publish(4, 0x32, 9)).await;
    second.send(&publish(4, 0x3c, 5)).await;
    second.send(&PINGREQ).await;
    assert_eq!(second.packet().await, PINGRESP);
    second.break_off().await;

    let mut third = Peer::connect(&broker, 4).await;
    third.send(&publish(4, 0x3c, 5)).await;
    assert_eq!(third.packet().await, [0x50, 2, 0, 5]);
    let times = storage.seen().iter().filter(|seen| seen.packet_id == Some(5)).count();
    assert_eq!(times, 1, "published again");
}

#[tokio::test]
async fn a_message_whose_pubrec_never_left_is_published_again() {
    let (broker, storage) = broker(&[5], |_| {});
    let mut first = Peer::connect(&broker, 4).await;
    first.send(&publish(4, 0x34, 5)).await;
    first.send(&PINGREQ).await;
    assert_eq!(first.packet().await, PINGRESP);
    first.break_off().await;

    let mut second = Peer::connect(&broker, 4).await;
    second.send(&publish(4, 0x3c, 5)).await;
    second.send(&PINGREQ).await;
    assert_eq!(second.packet().await, PINGRESP);
    storage.settle(5, Ok(()));
    assert_eq!(second.packet().await, [0x50, 2, 0, 5]);
    let dups: Vec<_> = storage.seen().iter().map(|seen| seen.dup).collect();
    assert_eq!(dups, [false, true]);
}

#[tokio::test]
async fn a_repetition_does_not_say_success_after_a_refusal() {
    let (broker, storage) = broker(&[5], |_| {});
    let mut peer = Peer::connect(&broker, 5).await;
    peer.send(&publish(5, 0x34, 5)).await;
    peer.send(&publish(5, 0x3c, 5)).await;
    peer.send(&PINGREQ).await;
    assert_eq!(peer.packet().await, PINGRESP);
    storage.settle(5, Err(Fault::Permanent("too large".into())));
    let pubrec = peer.packet().await;
    assert_eq!((pubrec[0], pubrec[4]), (0x50, 0x83), "{pubrec:?}");
    peer.send(&PINGREQ).await;
    assert_eq!(peer.packet().await, PINGRESP);
}

#[tokio::test]
async fn a_will_is_published_before_the_session_ends() {
    let (broker, storage) = broker(&[], |_| {});
    let will = [&[0, 1][..], b"w", &[0, 1], b"x"].concat();
    let parts: &[&[u8]] = &[&[0, 4], b"MQTT", &[4, 0b0000_0110, 0, 0], &[0, 1, b'c'], &will];
    Peer::connect_with(&broker, parts).await.break_off().await;
    assert_eq!(storage.seen(), [Seen { packet_id: None, dup: false, is_online: true }]);
    assert!(broker.registry.is_empty());
}

#[tokio::test]
async fn one_subscribe_does_not_ask_for_the_same_again_and_again() {
    let (broker, _) = broker(&[], |config| config.limits.subscriptions_max = 1);
    let mut peer = Peer::connect(&broker, 4).await;
    peer.send(&[0x82, 14, 0, 1, 0, 1, b'#', 0, 0, 1, b'#', 0, 0, 1, b'#', 0]).await;
    assert_eq!(peer.packet().await, [0x90, 5, 0, 1, 0, 0, 0x80]);
}

/// A client that never stops asking, and a socket that is never in want of data or room.
struct Endless {
    connect: Vec<u8>,
}

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connect = std::mem::take(&mut self.get_mut().connect);
        if connect.is_empty() {
            buf.put_slice(&PINGREQ.repeat(buf.remaining() / PINGREQ.len()));
        } else {
            buf.put_slice(&connect);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_client_that_never_stops_does_not_stop_others() {
    let (broker, _) = broker(&[], |_| {});
    let connect = [&[0x10, 13, 0, 4][..], b"MQTT", &[4, 2, 0, 0, 0, 1, b'e']].concat();
    let endless = spawn(&broker, Transport::other(Endless { connect }));
    // Both on this one thread.
    let mut peer = Peer::connect(&broker, 4).await;
    for _ in 0..10 {
        peer.send(&PINGREQ).await;
        assert_eq!(peer.packet().await, PINGRESP);
    }
    assert!(!endless.is_finished());
    endless.abort();
}

#[tokio::test]
async fn nobody_gets_much_memory_before_it_is_known_who_it_is() {
    let (broker, _) = broker(&[], |_| {});
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let deadline = Instant::now() + Duration::from_secs(10);
    let served = serve(broker, Transport::other(ours), ([127, 0, 0, 1], 1).into(), None, deadline);
    let served = tokio::spawn(served);
    // A CONNECT of 20,000 bytes: refused when its header is read.
    theirs.write_all(&[0x10, 0xa0, 0x9c, 0x01, 0, 4, b'M', b'Q', b'T', b'T', 4]).await.unwrap();
    timeout(Duration::from_secs(5), served).await.expect("it is not waited for").unwrap();
}

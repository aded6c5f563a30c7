//! A broker that does wrong in one way, so that it is seen that the load generator sees it.
//!
//! It speaks MQTT 5, welcomes everybody, and delivers messages at QoS 0 to who subscribes to their
//! topic.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use latchline_e2e::client::packet::{Publish, publish};
use latchline_shared::message::{Protocol, Qos};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What a broker does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wrong {
    ForgetsEveryThirdAck,
    SwapsAcks,
    RefusesMessages,
    HangsUpAfterFive,
    DeliversNothing,
    DeliversTwice,
    SaysNonsense,
    /// It reads no more when the first message comes.
    StopsReading,
    /// It stops for a while when the first message comes, and then reads everything.
    ReadsLate,
    /// It allows two messages under way, and acknowledges none.
    AcksNothing,
    /// It grants QoS 0 to who asks for more.
    GrantsLess,
    /// The messages of one lock go to another.
    Misroutes,
    /// It delivers the messages of the first lock and does not acknowledge them; with those of others
    /// it is the other way round.
    TradesLosses,
    /// The third connection is refused and the fourth is closed without an answer.
    HasNoRoomAtFirst,
}

/// A listening broker.
pub(super) struct Broker {
    listener: TcpListener,
    hub: Arc<Hub>,
}

type Out = tokio::sync::Mutex<OwnedWriteHalf>;

struct Hub {
    wrong: Wrong,
    connections: AtomicU32,
    messages: AtomicU64,
    /// While their connections last.
    subscribers: Mutex<Vec<(String, Weak<Out>)>>,
}

impl Broker {
    pub(super) async fn bind(wrong: Wrong) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (connections, messages) = (AtomicU32::new(0), AtomicU64::new(0));
        let hub = Hub { wrong, connections, messages, subscribers: Mutex::default() };
        Self { listener, hub: Arc::new(hub) }
    }

    pub(super) fn target(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Messages that have come so far.
    pub(super) fn messages(&self) -> u64 {
        self.hub.messages.load(Ordering::Relaxed)
    }

    /// Serves until it is dropped.
    pub(super) async fn serve(&self) {
        let mut connections = JoinSet::new();
        loop {
            let stream = self.listener.accept().await.unwrap().0;
            connections.spawn(Arc::clone(&self.hub).serve(stream));
        }
    }
}

impl Hub {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let number = 1 + self.connections.fetch_add(1, Ordering::Relaxed);
        let (mut stream, out) = stream.into_split();
        let out = Arc::new(Out::new(out));
        let (mut count, mut kept) = (0, Vec::new());
        while let Some((first, body)) = frame(&mut stream).await {
            let answer = match first >> 4 {
                1 if self.wrong == Wrong::HasNoRoomAtFirst && number == 3 => vec![0x20, 3, 0, 0x97, 0],
                1 if self.wrong == Wrong::HasNoRoomAtFirst && number == 4 => return,
                1 if self.wrong == Wrong::AcksNothing => vec![0x20, 6, 0, 0, 3, 0x21, 0, 2],
                1 => vec![0x20, 3, 0, 0, 0],
                8 => {
                    let filter = String::from_utf8(body[5..body.len() - 1].to_vec()).unwrap();
                    self.subscribers.lock().unwrap().push((filter, Arc::downgrade(&out)));
                    vec![0x90, 4, body[0], body[1], 0, u8::from(self.wrong != Wrong::GrantsLess)]
                }
                3 => {
                    count += 1;
                    self.messages.fetch_add(1, Ordering::Relaxed);
                    match self.wrong {
                        Wrong::StopsReading => std::future::pending().await,
                        Wrong::ReadsLate if count == 1 => sleep(Duration::from_secs(2)).await,
                        Wrong::HangsUpAfterFive if count == 5 => return,
                        _ => {}
                    }
                    let ack = self.deliver(first, &body).await;
                    self.acknowledge(ack, count, &mut kept)
                }
                12 => vec![0xd0, 0],
                _ => return,
            };
            if out.lock().await.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    /// Delivers a message, and says what acknowledges it.
    async fn deliver(&self, first: u8, body: &[u8]) -> Vec<u8> {
        let at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = std::str::from_utf8(&body[2..at]).unwrap();
        let is_acknowledged = first & 6 != 0;
        // After the id come no properties.
        let payload = body[at + if is_acknowledged { 3 } else { 1 }..].to_vec();
        let ack = if is_acknowledged { vec![0x40, 2, body[at], body[at + 1]] } else { Vec::new() };
        let is_first = topic.contains(LOCKS[0]);
        match self.wrong {
            Wrong::Misroutes => {
                let (own, other) = if is_first { (LOCKS[0], LOCKS[1]) } else { (LOCKS[1], LOCKS[0]) };
                self.send(topic.replace(own, other), payload).await;
            }
            Wrong::TradesLosses if is_first => {
                self.send(topic.to_owned(), payload).await;
                return Vec::new();
            }
            Wrong::DeliversNothing | Wrong::TradesLosses => {}
            Wrong::DeliversTwice => {
                self.send(topic.to_owned(), payload.clone()).await;
                self.send(topic.to_owned(), payload).await;
            }
            _ => self.send(topic.to_owned(), payload).await,
        }
        ack
    }

    async fn send(&self, topic: String, payload: Vec<u8>) {
        let is_for = |filter: &str| {
            let words = filter.split('/').zip(topic.split('/'));
            words.into_iter().all(|(filter, word)| filter == "+" || filter == word)
        };
        let subscribers = self.subscribers.lock().unwrap().clone();
        let message = Publish {
            topic: topic.clone(),
            payload: payload.into(),
            qos: Qos::AtMostOnce,
            dup: false,
            retain: false,
            id: 0,
        };
        let message = publish(Protocol::V5, &message);
        for (_, out) in subscribers.iter().filter(|(filter, _)| is_for(filter)) {
            // It may have left.
            if let Some(out) = out.upgrade() {
                let _ = out.lock().await.write_all(&message).await;
            }
        }
    }

    fn acknowledge(&self, ack: Vec<u8>, count: u32, kept: &mut Vec<u8>) -> Vec<u8> {
        match self.wrong {
            Wrong::ForgetsEveryThirdAck if count.is_multiple_of(3) => Vec::new(),
            Wrong::SwapsAcks if kept.is_empty() => {
                *kept = ack;
                Vec::new()
            }
            Wrong::SwapsAcks => [ack, std::mem::take(kept)].concat(),
            Wrong::RefusesMessages => vec![0x40, 3, ack[2], ack[3], 0x97],
            Wrong::SaysNonsense => vec![0xf0, 0],
            Wrong::AcksNothing => Vec::new(),
            _ => ack,
        }
    }
}

/// Ids of the first two locks of a run.
const LOCKS: [&str; 2] = ["10083618796833171", "10083618796833172"];

/// First byte and body of the next packet.
async fn frame(stream: &mut OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, body))
}

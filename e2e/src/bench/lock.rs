//! A lock as the benchmarks connect it: MQTT 3.1.1, its derived password, a keep alive, and a
//! subscription of its own to `devices/{id}/command`.
//!
//! Locks connect from many addresses of the loopback network, since one address has only some
//! 28,000 ports towards a broker, and a port rests for a minute after its connection was closed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use latchline_shared::keys::MasterKey;
use latchline_shared::message::{Protocol, Qos};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::ANSWER_DEADLINE;
use crate::client::packet::{Connect, connect, subscribe};
use crate::stack::command_topic;

/// A broker holds a timer for each connection with a keep alive, as it does for real locks; long
/// enough that the idle ones need not say a word during a benchmark.
pub const KEEP_ALIVE_S: u16 = 1200;

/// Locks that connect from one address.
pub const LOCKS_PER_ADDRESS: u32 = 4_000;

const FIRST_ID: u64 = 10_083_618_796_833_171;
/// Packet id of a first SUBSCRIBE.
pub(super) const SUBSCRIBE_ID: u16 = 1;
/// The answer to CONNECT.
pub(super) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// The answer to SUBSCRIBE.
pub(super) const SUBACK: [u8; 5] = [0x90, 3, 0, SUBSCRIBE_ID as u8, 1];

/// What the broker keeps of a lock that has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Session {
    /// Nothing.
    Clean,
    /// The session, until it expires.
    Kept,
}

/// Id of lock number `number`.
pub fn id(number: u32) -> String {
    (FIRST_ID + u64::from(number)).to_string()
}

/// Connects lock number `number` and subscribes to its commands.
pub async fn open(
    server: SocketAddr,
    master: &MasterKey,
    number: u32,
    session: Session,
) -> anyhow::Result<TcpStream> {
    let opening = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source(number), 0))?;
        let mut stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        ask(&mut stream, &hello(master, number, session), CONNACK).await.context("connect")?;
        ask(&mut stream, &ask_for_commands(number), SUBACK).await.context("subscribe")?;
        anyhow::Ok(stream)
    };
    let opened = timeout(ANSWER_DEADLINE, opening).await;
    opened.context("no answer").flatten().with_context(|| format!("lock {} at {server}", id(number)))
}

/// CONNECT of lock number `number`.
pub(super) fn hello(master: &MasterKey, number: u32, session: Session) -> Bytes {
    let id = id(number);
    let password = master.mqtt_password(&id);
    connect(&Connect {
        protocol: Protocol::V3,
        client_id: &id,
        login: Some((&id, &password)),
        clean: session == Session::Clean,
        session_expiry_s: 0,
        keep_alive_s: KEEP_ALIVE_S,
    })
}

/// SUBSCRIBE of lock number `number` to its commands.
pub(super) fn ask_for_commands(number: u32) -> Bytes {
    let filter = command_topic(&id(number));
    subscribe(Protocol::V3, SUBSCRIBE_ID, &[(&filter, Qos::AtLeastOnce)])
}

/// Sends a packet and expects this answer.
pub(super) async fn ask<const N: usize>(
    stream: &mut TcpStream,
    question: &[u8],
    expected: [u8; N],
) -> anyhow::Result<()> {
    stream.write_all(question).await?;
    let mut answer = [0; N];
    stream.read_exact(&mut answer).await?;
    ensure!(answer == expected, "the answer is {answer:02x?}, not {expected:02x?}");
    Ok(())
}

/// Address that a lock connects from. Processes that connect locks of the same numbers differ in
/// theirs.
pub fn source(number: u32) -> IpAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let last = 1 + (number / LOCKS_PER_ADDRESS) % 200;
    IpAddr::V4(Ipv4Addr::new(127, high, low, last as u8))
}

//! The limit of the runtime: answers CONNECT, SUBSCRIBE and PUBLISH with QoS 1, and does nothing
//! else. No sessions, no topics, no subscribers, nothing is checked. One argument, the address to
//! listen on; one task per connection, which holds no buffer while it is idle: those that it reads and
//! writes with are the thread's, so that a turn allocates nothing. The allocator is our broker's.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As long an accept queue as our broker's.
const BACKLOG: u32 = 4096;
const READ_BYTES: usize = 16 * 1024;

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// What a thread reads into and answers from.
struct Buffers {
    input: Vec<u8>,
    answers: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { input: vec![0; READ_BYTES], answers: Vec::new() });
}

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: echo IP:PORT")?;
    let address: SocketAddr = address.parse().with_context(|| format!("{address} is not IP:PORT"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address).with_context(|| format!("listen on {address}"))?;
        let listener = socket.listen(BACKLOG)?;
        // Runs until it is killed.
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            stream.set_nodelay(true)?;
            // Whoever goes has gone: there is nobody to tell.
            tokio::spawn(async move { serve(stream).await.ok() });
        }
    })
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut partial = Vec::new();
    loop {
        stream.readable().await?;
        match BUFFERS.with_borrow_mut(|buffers| turn(&stream, &mut partial, buffers))? {
            Turn::Answered => {}
            Turn::Unsent(rest) => stream.write_all(&rest).await?,
            Turn::Closed => return Ok(()),
        }
    }
}

enum Turn {
    Answered,
    /// The socket has not taken these.
    Unsent(Vec<u8>),
    Closed,
}

/// Reads once and answers all that is complete. Not async, so that the thread's buffers are not
/// held while it waits.
fn turn(stream: &TcpStream, partial: &mut Vec<u8>, buffers: &mut Buffers) -> io::Result<Turn> {
    let Buffers { input, answers } = buffers;
    let read = match stream.try_read(input) {
        Ok(0) => return Ok(Turn::Closed),
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Answered),
        Err(error) => return Err(error),
    };
    answers.clear();
    if partial.is_empty() {
        let taken = answer(&input[..read], answers)?;
        partial.extend_from_slice(&input[taken..read]);
    } else {
        partial.extend_from_slice(&input[..read]);
        let taken = answer(partial, answers)?;
        // Not with the room that it had.
        *partial = partial[taken..].to_vec();
    }
    if answers.is_empty() {
        return Ok(Turn::Answered);
    }
    let sent = match stream.try_write(answers) {
        Ok(sent) => sent,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    Ok(if sent == answers.len() { Turn::Answered } else { Turn::Unsent(answers[sent..].to_vec()) })
}

/// Answers each whole packet; how many bytes these were.
fn answer(input: &[u8], answers: &mut Vec<u8>) -> io::Result<usize> {
    let mut taken = 0;
    while let Some((header, length)) = frame(&input[taken..])? {
        let packet = &input[taken..taken + header + length];
        let body = &packet[header..];
        let id = |at: usize| body.get(at..at + 2).ok_or(ErrorKind::InvalidData);
        match packet[0] >> 4 {
            CONNECT => answers.extend_from_slice(&CONNACK),
            SUBSCRIBE => {
                answers.extend_from_slice(&[0x90, 3]);
                answers.extend_from_slice(id(0)?);
                answers.push(1);
            }
            PUBLISH => {
                let topic = id(0)?;
                answers.extend_from_slice(&[0x40, 2]);
                answers.extend_from_slice(id(2 + usize::from(u16::from_be_bytes([topic[0], topic[1]])))?);
            }
            _ => {}
        }
        taken += header + length;
    }
    Ok(taken)
}

/// Bytes of the first packet's header and body, once all of it is there.
fn frame(input: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut length = 0;
    for at in 1..=4 {
        let Some(&byte) = input.get(at) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte < 0x80 {
            let header = at + 1;
            return Ok((input.len() >= header + length).then_some((header, length)));
        }
    }
    Err(ErrorKind::InvalidData.into())
}

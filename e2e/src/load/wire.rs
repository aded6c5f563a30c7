//! A socket that nobody waits for: bytes go out as far as the kernel takes them, in the clear or
//! through TLS, and the rest waits in the outbox.
//!
//! TLS is a state machine between the outbox and the socket, so that the thread that paces messages
//! encrypts them itself and blocks no more than without. Sealed bytes are bounded, since nothing is
//! sealed while some of them wait.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, BytesMut};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

/// How much is read at once.
const READ_BYTES: usize = 4096;
/// A TLS record and some.
const SEALED_READ_BYTES: usize = 20 * 1024;

/// What a connection by TLS needs.
#[derive(Debug, Clone)]
pub struct Security {
    /// Whom to trust.
    pub config: Arc<ClientConfig>,
    /// Whose certificate it must be.
    pub name: ServerName<'static>,
}

/// The state of TLS on one connection; without, bytes go out as they are.
#[derive(Debug, Default)]
pub struct Wire {
    tls: Option<Box<Tls>>,
    out_bytes: u64,
}

#[derive(Debug)]
struct Tls {
    state: ClientConnection,
    /// What the socket has not taken yet.
    sealed: BytesMut,
    /// Bytes that were sealed so far.
    taken_bytes: u64,
}

/// What a socket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Something.
    Some,
    /// Nothing for now.
    Nothing,
    /// The end.
    End,
}

impl Wire {
    /// A wire with TLS, whose handshake begins with the first flush.
    pub fn secure(security: &Security) -> anyhow::Result<Self> {
        let state = ClientConnection::new(Arc::clone(&security.config), security.name.clone())
            .context("prepare TLS")?;
        let tls = Tls { state, sealed: BytesMut::new(), taken_bytes: 0 };
        Ok(Self { tls: Some(Box::new(tls)), out_bytes: 0 })
    }

    /// Whether the handshake goes on.
    pub fn is_opening(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.state.is_handshaking())
    }

    /// How many of the bytes that it was given the socket has taken so far.
    pub fn out_bytes(&self) -> u64 {
        self.out_bytes
    }

    /// Gives the socket what it takes of `unsent`; true if all of it is out.
    pub fn flush(&mut self, stream: &TcpStream, unsent: &mut BytesMut) -> anyhow::Result<bool> {
        let Some(tls) = &mut self.tls else {
            let before = unsent.len();
            let is_out = write_out(stream, unsent);
            self.out_bytes += (before - unsent.len()) as u64;
            return is_out;
        };
        loop {
            if !write_out(stream, &mut tls.sealed)? {
                return Ok(false);
            }
            // Everything that was sealed before has gone.
            self.out_bytes = tls.taken_bytes;
            if !unsent.is_empty() && !tls.state.is_handshaking() {
                let taken = tls.state.writer().write(unsent).context("seal")?;
                tls.taken_bytes += taken as u64;
                unsent.advance(taken);
            }
            if !tls.state.wants_write() {
                return Ok(unsent.is_empty() || tls.state.is_handshaking());
            }
            while tls.state.wants_write() {
                tls.state.write_tls(&mut (&mut tls.sealed).writer()).context("seal")?;
            }
        }
    }

    /// Takes what the socket has, once, and adds it to `buffer`.
    pub fn take(&mut self, stream: &TcpStream, buffer: &mut BytesMut) -> anyhow::Result<Taken> {
        let Some(tls) = &mut self.tls else { return read_in(stream, buffer, READ_BYTES) };
        let mut sealed = BytesMut::new();
        let taken = read_in(stream, &mut sealed, SEALED_READ_BYTES)?;
        let mut sealed = sealed.reader();
        while !sealed.get_ref().is_empty() {
            tls.state.read_tls(&mut sealed).context("read")?;
            let opened = tls.state.process_new_packets().context("TLS")?.plaintext_bytes_to_read();
            let from = buffer.len();
            buffer.resize(from + opened, 0);
            tls.state.reader().read_exact(&mut buffer[from..]).context("open what was sealed")?;
        }
        Ok(taken)
    }
}

fn read_in(stream: &TcpStream, buffer: &mut BytesMut, room: usize) -> anyhow::Result<Taken> {
    buffer.reserve(room);
    match stream.try_read_buf(buffer) {
        Ok(0) => Ok(Taken::End),
        Ok(_) => Ok(Taken::Some),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Taken::Nothing),
        Err(error) => Err(error).context("read"),
    }
}

fn write_out(stream: &TcpStream, bytes: &mut BytesMut) -> anyhow::Result<bool> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(0) => bail!("the socket takes nothing"),
            Ok(written) => bytes.advance(written),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("write"),
        }
    }
    Ok(true)
}

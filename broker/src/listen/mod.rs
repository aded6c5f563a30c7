//! Listeners: plain TCP, TLS, WebSocket, and WebSocket over TLS.
//!
//! An accept loop only accepts: TLS and WebSocket handshakes happen in the connection's own task,
//! under a permit and a deadline, so that a client that dawdles holds back nobody.

pub mod tls;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use latchline_shared::kit::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout_at};

use crate::broker::Broker;
use crate::config::Listen;
use crate::connection::serve;
use crate::connection::transport::Transport;
use tls::Tls;

/// Connections that the kernel completes before we accept them. A fleet that comes back after an
/// outage connects all at once.
const BACKLOG: u32 = 4096;

/// Longest pause after the system refused to accept.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is spoken below MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Plain TCP.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Kind {
    /// The word in configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// A bound listener.
pub struct Listener {
    /// What is spoken on it.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    socket: TcpListener,
}

/// What every accept loop needs.
#[derive(Clone)]
pub struct Acceptor {
    /// The broker.
    pub broker: Arc<Broker>,
    /// One permit per connection.
    pub permits: Arc<Semaphore>,
    /// Certificates, where there is a TLS listener.
    pub tls: Option<Arc<Tls>>,
    /// Path of WebSocket requests.
    pub ws_path: Arc<str>,
}

/// Binds all configured listeners.
pub fn bind(config: &Listen) -> anyhow::Result<Vec<Listener>> {
    let wanted =
        [(Kind::Tcp, config.tcp), (Kind::Tls, config.tls), (Kind::Ws, config.ws), (Kind::Wss, config.wss)];
    wanted.into_iter().filter_map(|(kind, address)| Some(bind_one(kind, address?))).collect()
}

fn bind_one(kind: Kind, address: SocketAddr) -> anyhow::Result<Listener> {
    let listen = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let socket = listen().with_context(|| format!("cannot listen on listen.{} = {address}", kind.name()))?;
    Ok(Listener { kind, address: socket.local_addr()?, socket })
}

/// Accepts until the shutdown is requested.
pub async fn accept(listener: Listener, acceptor: Acceptor, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        // Cancel safety: an accept that is dropped has accepted nothing.
        let accepted = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = Duration::from_millis(1);
                admit(listener.kind, stream, peer, &acceptor, &shutdown);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                acceptor.broker.metrics.refused("accept_failed");
                tracing::warn!(listener = listener.kind.name(), %error, "cannot accept, pausing");
                sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// Whether only the connection that was to be accepted is gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

fn admit(kind: Kind, stream: TcpStream, peer: SocketAddr, acceptor: &Acceptor, shutdown: &Shutdown) {
    let Ok(permit) = Arc::clone(&acceptor.permits).try_acquire_owned() else {
        // Closing says it all; an answer would cost what there is too little of.
        acceptor.broker.metrics.refused("connections_max");
        return;
    };
    acceptor.broker.metrics.accepted(kind.name());
    // Acknowledgements are small and urgent. A socket that is already gone shows itself when read.
    let _gone = stream.set_nodelay(true);
    let deadline = Instant::now() + acceptor.broker.limits.connect_timeout;
    if kind == Kind::Tcp {
        let broker = Arc::clone(&acceptor.broker);
        shutdown.track(serve_tcp(broker, stream, peer, deadline, permit));
    } else {
        shutdown.track(serve_wrapped(kind, acceptor.clone(), stream, peer, deadline, permit));
    }
}

async fn serve_tcp(
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: SocketAddr,
    deadline: Instant,
    _permit: OwnedSemaphorePermit,
) {
    serve(broker, Transport::Tcp(stream), peer, None, deadline).await;
}

async fn serve_wrapped(
    kind: Kind,
    acceptor: Acceptor,
    stream: TcpStream,
    peer: SocketAddr,
    deadline: Instant,
    _permit: OwnedSemaphorePermit,
) {
    let wrapping = Box::pin(wrap(kind, &acceptor, stream));
    let in_time = timeout_at(deadline.into(), wrapping);
    let (cause, error) = match acceptor.broker.stopping.run_until_cancelled(in_time).await {
        Some(Ok(Ok((stream, common_name)))) => {
            serve(acceptor.broker, stream, peer, common_name, deadline).await;
            return;
        }
        Some(Ok(Err(error))) => ("handshake_failed", error),
        Some(Err(_elapsed)) => ("connect_timeout", anyhow::anyhow!("handshake did not end in time")),
        None => ("server_shutdown", anyhow::anyhow!("the server stops")),
    };
    tracing::debug!(listener = kind.name(), %peer, error = format!("{error:#}"), "handshake failed");
    acceptor.broker.metrics.refused(cause);
}

async fn wrap(
    kind: Kind,
    acceptor: &Acceptor,
    stream: TcpStream,
) -> anyhow::Result<(Transport, Option<String>)> {
    let packet_bytes_max = acceptor.broker.limits.packet_bytes_max as usize;
    if !kind.is_tls() {
        let stream = websocket::accept(stream, &acceptor.ws_path, packet_bytes_max).await?;
        return Ok((Transport::other(stream), None));
    }
    let tls = acceptor.tls.as_ref().context("a TLS listener without certificates")?;
    let (stream, common_name) = tls.accept(stream).await?;
    if kind == Kind::Wss {
        let stream = websocket::accept(stream, &acceptor.ws_path, packet_bytes_max).await?;
        return Ok((Transport::other(stream), common_name));
    }
    Ok((Transport::other(stream), common_name))
}

//! rumqttd as its authors made it, with room for the connections of `bench peers`: one argument, the
//! address to listen on. Open to everybody, MQTT 3.1.1, no console, no metrics, no log.
//!
//! What differs from its own `rumqttd.toml`: how many may connect, and that nobody waits for his
//! turn to connect. What it does not have is left as it is: no TCP_NODELAY, for which there is no
//! setting, while our broker, mosquitto and the echo have it here.
//!
//! But for one thing: its accept queue is made as long as our broker's. rumqttd has no setting for that
//! either, and takes the 128 of its runtime. It accepts and registers connections in one thread, some
//! hundred to a thousand a second; with 256 that connect at once the queue ran over, the kernel forgot
//! connections that the clients thought they had, and reset them: 19,500 never stood. [`widen`] calls
//! `listen` once more on the socket that rumqttd has opened, which Linux takes as a new length.
//!
//! How fast it is depends on whether anybody listens. In 0.20.0 a PUBLISH to a topic that a filter
//! matches is looked up in a cache; one to a topic without subscribers is compared with every filter
//! of the broker, each time anew (`DataLog::matches`, `src/router/logs.rs`). Locks that all subscribe
//! to a topic of their own, and publish to one that nobody has subscribed to, are its slowest case:
//! linear in the number of filters, not of connections. So `bench peers` measures it also while one
//! subscriber takes everything, which is its best.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use rustix::io::Errno;
use rustix::net::{listen, sockopt::socket_acceptconn};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// More than one process may have open files for here.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Connections that the kernel completes before they are accepted: as many as for our broker, the echo
/// and the kernel's own default (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
const LISTEN_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(1);

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: rumqttd IP:PORT")?;
    let listen = address.parse().with_context(|| format!("{address} is not IP:PORT"))?;
    thread::spawn(|| {
        // With its own short queue it would be measured for what the kernel refuses.
        if let Err(error) = widen() {
            eprintln!("rumqttd: {error:#}");
            exit(1);
        }
    });
    // Returns when its listener ends.
    Broker::new(config(listen)).start().context("rumqttd")
}

/// Lengthens the accept queue of the listener, once it is there.
fn widen() -> anyhow::Result<()> {
    let until = Instant::now() + LISTEN_DEADLINE;
    loop {
        if let Some(listener) = listener()? {
            return listen(&listener, BACKLOG).context("lengthen the accept queue");
        }
        ensure!(Instant::now() < until, "no listener after {LISTEN_DEADLINE:?}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Another handle of the socket that rumqttd listens on; it does not hand it out.
fn listener() -> anyhow::Result<Option<OwnedFd>> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).context("this process")?;
    for entry in std::fs::read_dir("/proc/self/fd").context("open files")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number else { continue };
        match pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) {
            // What is no socket has no such answer.
            Ok(file) if socket_acceptconn(&file).unwrap_or(false) => return Ok(Some(file)),
            Ok(_) => {}
            // It has been closed meanwhile.
            Err(Errno::BADF) => {}
            Err(error) => return Err(error).context("a handle of rumqttd's listener"),
        }
    }
    Ok(None)
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: 20_480,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        // As in its own configuration. Without effect here: `DataLog::matches` never says that there
        // is no filter, so none is made for a topic that nobody has subscribed to, with or without.
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "v4".to_owned(), listen, tls: None, next_connection_delay_ms: 0, connections };
    let router = RouterConfig {
        max_connections: CONNECTIONS_MAX,
        max_outgoing_packet_count: 200,
        max_segment_size: 104_857_600,
        max_segment_count: 10,
        ..RouterConfig::default()
    };
    Config { router, v4: Some(HashMap::from([("v4".to_owned(), server)])), ..Config::default() }
}

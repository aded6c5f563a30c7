//! rumqttd as its authors made it, with room for the connections of `bench peers`: one argument, the
//! address to listen on. Open to everybody, MQTT 3.1.1, no console, no metrics, no log.
//!
//! What differs from its own `rumqttd.toml`: how many may connect, and that nobody waits for his
//! turn to connect. What it does not have is left as it is: no TCP_NODELAY, for which there is no
//! setting, while our broker, mosquitto and the echo have it here.
//!
//! How fast it is depends on whether anybody listens. In 0.20.0 a PUBLISH to a topic that a filter
//! matches is looked up in a cache; one to a topic without subscribers is compared with every filter
//! of the broker, each time anew (`DataLog::matches`, `src/router/logs.rs`). Locks that all subscribe
//! to a topic of their own, and publish to one that nobody has subscribed to, are its slowest case:
//! linear in the number of filters, not of connections. So `bench peers` measures it also while one
//! subscriber takes everything, which is its best.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::Context;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// More than one process may have open files for here.
const CONNECTIONS_MAX: usize = 1_000_000;

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: rumqttd IP:PORT")?;
    let listen = address.parse().with_context(|| format!("{address} is not IP:PORT"))?;
    // Returns when its listener ends.
    Broker::new(config(listen)).start().context("rumqttd")
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

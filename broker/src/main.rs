//! The broker's process: configuration, wiring, run. The only place that knows that a hook stores
//! messages in Kafka.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use latchline_bridge::{Bridge, config::Config as BridgeConfig};
use latchline_broker::assembly::assemble;
use latchline_broker::config::DEFAULT_TOML;
use latchline_broker::hooks::access::AccessControl;
use latchline_broker::settings::Settings;
use latchline_broker::{admin, reload};
use latchline_shared::hook::Hook;
use latchline_shared::kit::http::auth::{Token, protect};
use latchline_shared::kit::http::{self, readiness::Readiness};
use latchline_shared::kit::run::{Program, run};
use latchline_shared::kit::shutdown::Shutdown;
use prometheus_client::registry::Registry;

/// glibc's allocator scatters messages over what 20,000 connections leave behind, so that a message
/// costs more the more locks are connected (docs/benchmarks.md); this one keeps sizes together.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROGRAM: Program = Program {
    name: "latchline-broker",
    about: "MQTT broker whose acknowledgement means: stored in Kafka",
    version: env!("CARGO_PKG_VERSION"),
    default_toml: DEFAULT_TOML,
    env_prefix: "LATCHLINE_BROKER",
};

fn main() -> ExitCode {
    run(&PROGRAM, serve)
}

async fn serve(settings: Settings<BridgeConfig>, shutdown: Shutdown) -> anyhow::Result<()> {
    let Settings { broker: config, bridge } = settings;
    let mut registry = Registry::default();
    let readiness = Readiness::new();
    let access = Arc::new(AccessControl::open(&config)?);
    let bridge = match bridge.enabled {
        true => Some(Bridge::start(&bridge, &config.node, &mut registry).await.context("bridge")?),
        false => None,
    };

    if let Some(bridge) = bridge.clone() {
        readiness.check("kafka", move || bridge.ready());
    }
    let storing = bridge.clone().map(|bridge| bridge as Arc<dyn Hook>);
    let server = Arc::new(assemble(&config, access.clone(), storing, &mut registry, &shutdown)?);
    if let Some(address) = config.http.server.address {
        let token = Token::new(config.http.token.read()?.as_ref());
        let routes = http::admin::routes(Arc::new(registry), readiness)
            .merge(protect(admin::routes(server.broker.clone()), token));
        let listener = http::server::bind(address).await?;
        shutdown.spawn(
            "http",
            http::server::serve(listener, routes, config.http.server, shutdown.token().clone()),
        );
    }
    shutdown.spawn("reload", reload::on_hangup(server.clone(), access, shutdown.clone()));
    shutdown.requested().await;
    server.stop().await;
    if let Some(bridge) = bridge {
        let unstored = bridge.flush(config.limits.shutdown_deadline).await;
        if unstored > 0 {
            tracing::warn!(records = unstored, "records were not stored, nor their messages acknowledged");
        }
    }
    Ok(())
}

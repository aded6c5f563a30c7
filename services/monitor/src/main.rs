//! The monitor's process: configuration, wiring, run; and what it can be told to do beside.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use deadpool_postgres::Pool;
use latchline_monitor::alarm::sweep::{self, task::Sweeper};
use latchline_monitor::commands::Command;
use latchline_monitor::http::{self, SCOPES};
use latchline_monitor::migrations::{ROLE, SCHEMA};
use latchline_monitor::rule::live::LiveRules;
use latchline_monitor::service::{self, Config, Monitor};
use latchline_monitor::settings::{DEFAULT_TOML, OUTBOX, Settings};
use latchline_monitor::webhook;
use latchline_shared::kit::http::readiness::Readiness;
use latchline_shared::kit::http::tokens::Tokens;
use latchline_shared::kit::http::{admin, server};
use latchline_shared::kit::kafka::consumer::metrics::Metrics;
use latchline_shared::kit::kafka::consumer::reader::Reader;
use latchline_shared::kit::kafka::publisher::Publisher;
use latchline_shared::kit::kafka::publisher::stream::Stream;
use latchline_shared::kit::outbox::{self, publish::Outbox};
use latchline_shared::kit::reload::{self, Reloads};
use latchline_shared::kit::run::{Program, run_with};
use latchline_shared::kit::shutdown::Shutdown;
use prometheus_client::registry::Registry;

const PROGRAM: Program = Program {
    name: "latchline-monitor",
    about: "knows the present state of every lock, and raises alarms that people can trust",
    version: env!("CARGO_PKG_VERSION"),
    default_toml: DEFAULT_TOML,
    env_prefix: "LATCHLINE_MONITOR",
};

fn main() -> ExitCode {
    run_with::<Command, Settings, _>(&PROGRAM, serve)
}

async fn serve(settings: Settings, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let readiness = Readiness::new();
    let prepared = readiness.condition("schema", "postgres: not yet looked at");
    let rules = Arc::new(LiveRules::open(settings.rules.file.clone()).context("rules.file")?);
    let metrics = registry.sub_registry_with_prefix("monitor");
    let config = Config {
        streams: settings.streams.clone(),
        profiles: settings.profiles.clone(),
        grace: settings.alarms.grace,
        alarms: settings.context(),
        rules: Arc::clone(&rules),
    };
    let counted = Arc::new(sweep::metrics::Metrics::new(metrics));
    let monitor =
        Arc::new(Monitor::new(config, service::metrics::Metrics::new(metrics, Arc::clone(&counted))));
    let waiting = outbox::metrics::Metrics::new(metrics);
    let sent = webhook::metrics::Metrics::new(metrics);
    let metrics = Metrics::new(metrics);

    let tokens = Arc::new(settings.http.tokens(SCOPES)?);
    if let Some(address) = settings.http.server.address {
        let api = http::Api {
            pool: pool(&settings, "http")?,
            tokens: Arc::clone(&tokens),
            context: Arc::new(settings.context()),
            rules: Arc::clone(&rules),
            commits: monitor.commits().subscribe(),
            shutdown: shutdown.token().clone(),
            limits: settings.api.clone(),
        };
        let routes = admin::routes(Arc::new(registry), readiness.clone()).merge(http::routes(api));
        let listener = server::bind(address).await?;
        shutdown.spawn(
            "http",
            server::serve(listener, routes, settings.http.server.clone(), shutdown.token().clone()),
        );
    }
    shutdown.spawn("reload", reload::on_hangup(reloads(tokens, Arc::clone(&rules)), shutdown.clone()));

    if !SCHEMA.prepare(&settings.postgres, &prepared, shutdown.token()).await? {
        return Ok(());
    }
    if let Some(outbox) = outbox(&settings, &monitor, &readiness, waiting)? {
        shutdown.spawn("alarms", outbox.run(shutdown.token().clone()));
    }
    let commits = monitor.commits().subscribe();
    let told = webhook::Worker::new(settings.webhook.clone(), pool(&settings, "webhook")?, sent, commits)?;
    if let Some(worker) = told {
        shutdown.spawn("webhook", worker.run(shutdown.token().clone()));
    }
    let fleet = move || rules.current().fleet().clone();
    let sweeper = Sweeper::new(pool(&settings, "sweep")?, settings.context(), fleet, counted);
    let swept = readiness.condition("sweep", "postgres: alarms are not yet looked at");
    shutdown.spawn("sweep", sweeper.run(shutdown.token().clone(), swept));
    let reader = Reader {
        settings: settings.consumer.clone(),
        name: "monitor",
        schema: SCHEMA.name,
        streams: settings.streams.read(),
        service: monitor,
        pool: pool(&settings, "lanes")?,
        metrics,
        readiness: readiness.clone(),
    };
    // From here on the reader says whether all is well.
    let reading = reader.run(shutdown.token().clone());
    prepared.ready();
    shutdown.spawn("reader", reading);
    shutdown.requested().await;
    Ok(())
}

/// Connections that see the monitor's tables, and act as it.
fn pool(settings: &Settings, of: &str) -> anyhow::Result<Pool> {
    settings.postgres.server.pool_in(&format!("{} {of}", PROGRAM.name), Some(ROLE), SCHEMA.name)
}

/// What SIGHUP reads anew.
fn reloads(tokens: Arc<Tokens>, rules: Arc<LiveRules>) -> Reloads {
    vec![
        ("tokens", Box::new(move || Ok(tokens.reload().map(drop)?))),
        ("rules", Box::new(move || Ok(rules.reload()?))),
    ]
}

/// What publishes changes of alarms, if somebody is to be told.
fn outbox(
    settings: &Settings,
    monitor: &Monitor,
    readiness: &Readiness,
    metrics: outbox::metrics::Metrics,
) -> anyhow::Result<Option<Outbox>> {
    let Some(stream) = &settings.streams.alarms else { return Ok(None) };
    let config = settings.consumer.kafka.client_config(PROGRAM.name)?;
    Ok(Some(Outbox {
        pool: pool(settings, "alarms")?,
        table: OUTBOX.to_owned(),
        publisher: Publisher::new("alarms", config, Stream::like(stream, &settings.streams.states))?,
        condition: readiness.condition("alarms", "postgres: not yet looked at"),
        metrics,
        commits: monitor.commits().subscribe(),
    }))
}

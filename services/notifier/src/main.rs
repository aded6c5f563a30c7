//! The notifier's process: configuration, wiring, run; and what it can be told to do beside.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use deadpool_postgres::Pool;
use latchline_notifier::channel::email::Relay;
use latchline_notifier::channel::sms::Gateway;
use latchline_notifier::channel::sms::report::Reports;
use latchline_notifier::channel::webhook::Receiver;
use latchline_notifier::commands::Command;
use latchline_notifier::delivery::{self, Delivery, Limits, NEWS, Providers, desk::Seen};
use latchline_notifier::digest;
use latchline_notifier::directory::Choices;
use latchline_notifier::http::{self, SCOPES, providers, report};
use latchline_notifier::intake::{self, Config, Intake};
use latchline_notifier::migrations::{ROLE, SCHEMA};
use latchline_notifier::prune::Prune;
use latchline_notifier::seed::Seed;
use latchline_notifier::settings::{DEFAULT_TOML, Settings};
use latchline_notifier::template::Templates;
use latchline_shared::kit::http::readiness::Readiness;
use latchline_shared::kit::http::{admin, server};
use latchline_shared::kit::kafka::consumer::metrics::Metrics;
use latchline_shared::kit::kafka::consumer::reader::Reader;
use latchline_shared::kit::postgres::listen::Listener;
use latchline_shared::kit::reload::{self, Reloads};
use latchline_shared::kit::run::{Program, run_with};
use latchline_shared::kit::shutdown::Shutdown;
use prometheus_client::registry::Registry;

const PROGRAM: Program = Program {
    name: "latchline-notifier",
    about: "tells the users of a lock what happened to it: once, on the channel of their choice",
    version: env!("CARGO_PKG_VERSION"),
    default_toml: DEFAULT_TOML,
    env_prefix: "LATCHLINE_NOTIFIER",
};

/// Connections for delivery reports.
const REPORTS_AT_ONCE: usize = 4;

fn main() -> ExitCode {
    run_with::<Command, Settings, _>(&PROGRAM, serve)
}

async fn serve(settings: Settings, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let readiness = Readiness::new();
    let prepared = readiness.condition("schema", "postgres: not yet looked at");
    let metrics = registry.sub_registry_with_prefix("notifier");
    let config = Config {
        streams: settings.streams.clone(),
        profiles: settings.profiles.clone(),
        rules: settings.rules(),
    };
    let intake = Intake::new(config, intake::metrics::Metrics::new(metrics));
    let digested = digest::metrics::Metrics::new(metrics);
    let reported = report::Metrics::new(metrics);
    let sent = delivery::metrics::Metrics::new(metrics);
    let read = Metrics::new(metrics);
    let templates = Arc::new(Templates::load(settings.templates.folder.as_deref())?);
    let choices = Arc::new(Choices::new(&templates, &settings.webhook.allowed_networks)?);
    let news = Listener::new(&settings.postgres.server, &format!("{} news", PROGRAM.name), NEWS);
    let Settings { email, sms, webhook, .. } = &settings;
    let delivery = Delivery::new(
        &settings.retry,
        Limits::new(email, sms, webhook, settings.shutdown_deadline),
        pool(&settings, "delivery")?,
        takers(&settings)?,
        Arc::clone(&templates),
        sent,
        news.wakes(),
    );

    let tokens = Arc::new(settings.http.tokens(SCOPES)?);
    let reload: Reloads = {
        let tokens = Arc::clone(&tokens);
        vec![("tokens", Box::new(move || Ok(tokens.reload().map(drop)?)))]
    };
    if let Some(address) = settings.http.server.address {
        let api = http::Api {
            pool: pool(&settings, "http")?,
            tokens,
            templates,
            choices: Arc::clone(&choices),
            providers: watch(&delivery),
            rate: settings.limits.contact(),
            limits: settings.api.clone(),
        };
        let routes = admin::routes(Arc::new(registry), readiness.clone())
            .merge(reports(&settings, reported)?)
            .merge(http::routes(api));
        let listener = server::bind(address).await?;
        shutdown.spawn(
            "http",
            server::serve(listener, routes, settings.http.server.clone(), shutdown.token().clone()),
        );
    }
    shutdown.spawn("reload", reload::on_hangup(reload, shutdown.clone()));

    if !SCHEMA.prepare(&settings.postgres, &prepared, shutdown.token()).await? {
        return Ok(());
    }
    let clock = pool(&settings, "clock")?;
    if let Some(file) = &settings.seed.file {
        Seed::read(file, &choices)?.apply(&clock).await?;
    }
    let digests = readiness.condition("digests", "postgres: digests are not yet made");
    let token = shutdown.token().clone();
    shutdown.spawn("news", news.run(token.clone()));
    shutdown.spawn("delivery", delivery.run(token.clone()));
    shutdown.spawn("digests", digest::task::run(clock.clone(), digested, token.clone(), digests));
    shutdown.spawn("prune", Prune::new(settings.retention.notifications()).run(clock, token.clone()));
    let reader = Reader {
        settings: settings.consumer.clone(),
        name: "notifier",
        schema: SCHEMA.name,
        streams: settings.streams.read(),
        service: Arc::new(intake),
        pool: pool(&settings, "lanes")?,
        metrics: read,
        readiness: readiness.clone(),
    };
    // From here on the reader says whether all is well.
    let reading = reader.run(token);
    prepared.ready();
    shutdown.spawn("reader", reading);
    shutdown.requested().await;
    Ok(())
}

/// Connections that see the notifier's tables, and act as it.
fn pool(settings: &Settings, of: &str) -> anyhow::Result<Pool> {
    settings.postgres.server.pool_in(&format!("{} {of}", PROGRAM.name), Some(ROLE), SCHEMA.name)
}

/// Who takes messages.
fn takers(settings: &Settings) -> anyhow::Result<Providers> {
    let Settings { email, sms, webhook, .. } = settings;
    let gateway = |gateway| Gateway::new(gateway, sms).context("sms.gateways");
    Ok(Providers {
        email: Relay::all(email).context("email.relays")?,
        sms: sms.gateways.iter().map(gateway).collect::<Result<_, _>>()?,
        webhook: webhook.enabled.then(|| Receiver::new(webhook)).transpose().context("webhook")?,
    })
}

/// How those are doing.
fn watch(delivery: &Delivery) -> providers::Watch {
    let seen = delivery.watch();
    let one = |Seen { channel, name, condition }| providers::Provider { channel, name, condition };
    Arc::new(move || seen().into_iter().map(one).collect())
}

/// Where gateways report what became of messages.
fn reports(settings: &Settings, metrics: report::Metrics) -> anyhow::Result<Router> {
    // Of their own: gateways do not wait for what people ask.
    let mut server = settings.postgres.server.clone();
    server.connections_max = server.connections_max.min(REPORTS_AT_ONCE);
    let pool = server.pool_in(&format!("{} reports", PROGRAM.name), Some(ROLE), SCHEMA.name)?;
    Ok(report::routes(Reports::new(&settings.sms)?, pool, metrics))
}

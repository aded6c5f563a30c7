//! The auditor's process: configuration, wiring, run; and what it can be told to do beside.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use latchline_auditor::commands::Command;
use latchline_auditor::http::{self, Api, SCOPES};
use latchline_auditor::keys::{Keys, KeysConfig};
use latchline_auditor::record::Streams;
use latchline_auditor::service::Auditor;
use latchline_auditor::settings::{DEFAULT_TOML, Settings};
use latchline_auditor::{checkpoint, findings, migrations, service};
use latchline_shared::kit::http::readiness::Readiness;
use latchline_shared::kit::http::tokens::Tokens;
use latchline_shared::kit::http::{admin, server};
use latchline_shared::kit::kafka::consumer::metrics::Metrics;
use latchline_shared::kit::kafka::consumer::reader::Reader;
use latchline_shared::kit::kafka::publisher::Publisher;
use latchline_shared::kit::kafka::publisher::stream::Stream;
use latchline_shared::kit::outbox;
use latchline_shared::kit::outbox::publish::Outbox;
use latchline_shared::kit::reload::{self, Reloads};
use latchline_shared::kit::run::{Program, run_with};
use latchline_shared::kit::shutdown::Shutdown;
use prometheus_client::registry::Registry;

const PROGRAM: Program = Program {
    name: "latchline-auditor",
    about: "judges every command that a lock got, and keeps the history that proves it",
    version: env!("CARGO_PKG_VERSION"),
    default_toml: DEFAULT_TOML,
    env_prefix: "LATCHLINE_AUDITOR",
};

fn main() -> ExitCode {
    run_with::<Command, Settings, _>(&PROGRAM, serve)
}

async fn serve(settings: Settings, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let readiness = Readiness::new();
    let prepared = readiness.condition("schema", "postgres: not yet looked at");
    let keys = Keys::load(&settings.keys).context("keys")?;
    let metrics = registry.sub_registry_with_prefix("auditor");
    let counted = service::metrics::Metrics::new(metrics);
    let auditor = Auditor::new(settings.judge.clone(), settings.streams.clone(), keys, counted);
    let auditor = Arc::new(if settings.findings.stream.is_some() { auditor.announcing() } else { auditor });
    let waiting = outbox::metrics::Metrics::new(metrics);
    let metrics = Metrics::new(metrics);
    let signer = settings.checkpoint.signer()?;
    let signed = checkpoint::Metrics::new(&mut registry);
    let postgres = &settings.postgres.server;
    let role = Some(migrations::ROLE);

    let tokens = Arc::new(settings.http.tokens(SCOPES)?);
    if let Some(address) = settings.http.server.address {
        let api = Api {
            pool: postgres.pool("latchline-auditor http", role)?,
            tokens: Arc::clone(&tokens),
            commits: auditor.commits(),
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
    let reloads = reloads(tokens, Arc::clone(&auditor), settings.keys.clone());
    shutdown.spawn("reload", reload::on_hangup(reloads, shutdown.clone()));

    if !migrations::SCHEMA.prepare(&settings.postgres, &prepared, shutdown.token()).await? {
        return Ok(());
    }
    if let Some(outbox) = outbox(&settings, &auditor, &readiness, waiting)? {
        shutdown.spawn("findings", outbox.run(shutdown.token().clone()));
    }
    let Streams { states, commands, rejected } = settings.streams.clone();
    let reader = Reader {
        settings: settings.consumer.clone(),
        name: "auditor",
        schema: migrations::SCHEMA.name,
        streams: vec![states, commands, rejected],
        service: auditor,
        pool: postgres.pool("latchline-auditor", role)?,
        metrics,
        readiness: readiness.clone(),
    };
    // From here on the reader says whether all is well.
    let reading = reader.run(shutdown.token().clone());
    prepared.ready();
    shutdown.spawn("reader", reading);
    if let Some(signer) = signer {
        let condition = readiness.condition("checkpoints", "");
        condition.ready();
        let maker = checkpoint::Maker {
            publisher: publisher(&settings)?,
            settings: settings.checkpoint.clone(),
            signer,
            pool: postgres.pool("latchline-auditor checkpoints", role)?,
            condition,
            metrics: signed,
            refused: None,
        };
        shutdown.spawn("checkpoints", maker.run(shutdown.clone()));
    }
    shutdown.requested().await;
    Ok(())
}

/// What SIGHUP reads anew.
fn reloads(tokens: Arc<Tokens>, auditor: Arc<Auditor>, keys: KeysConfig) -> Reloads {
    let set_keys = move || Keys::load(&keys).map(|keys| auditor.set_keys(keys)).context("keys");
    vec![("tokens", Box::new(move || Ok(tokens.reload().map(drop)?))), ("keys", Box::new(set_keys))]
}

/// To the stream of checkpoints, if there is one.
fn publisher(settings: &Settings) -> anyhow::Result<Option<Publisher>> {
    let Some(stream) = &settings.checkpoint.stream else { return Ok(None) };
    let config = settings.consumer.kafka.client_config(PROGRAM.name)?;
    Publisher::new("checkpoints", config, Stream::compacted(stream)).map(Some)
}

/// What publishes findings, if somebody is to be told.
fn outbox(
    settings: &Settings,
    auditor: &Auditor,
    readiness: &Readiness,
    metrics: outbox::metrics::Metrics,
) -> anyhow::Result<Option<Outbox>> {
    let Some((stream, commits)) = settings.findings.stream.as_ref().zip(auditor.announced()) else {
        return Ok(None);
    };
    let config = settings.consumer.kafka.client_config(PROGRAM.name)?;
    Ok(Some(Outbox {
        pool: settings.postgres.server.pool("latchline-auditor findings", Some(migrations::ROLE))?,
        table: findings::TABLE.to_owned(),
        publisher: Publisher::new("findings", config, Stream::like(stream, &settings.streams.states))?,
        condition: readiness.condition("findings", "postgres: not yet looked at"),
        metrics,
        commits,
    }))
}

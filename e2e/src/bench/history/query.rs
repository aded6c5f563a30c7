//! How quickly the auditor answers when its history is long.
//!
//! The rows are written by SQL, without hashes that fit: what is measured reads them, and does not
//! prove them. They are spread over 60 days and the plan's locks; one in a thousand commands is
//! suspicious.

use std::fmt;

use anyhow::Context;
use hdrhistogram::Histogram;
use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use serde::Serialize;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::Plan;
use crate::kafka::Kafka;
use crate::stack::PARTITIONS;
use crate::stack::audit::Audit;
use crate::stack::secrets::Secrets;

/// What was asked, and how long the answers took.
#[derive(Debug, Clone, Serialize)]
pub struct Query {
    name: &'static str,
    p50_ms: f64,
    p95_ms: f64,
    max_ms: f64,
    /// Of the median answer.
    rows: usize,
    bound_ms: Option<f64>,
}

/// A question: what it is, how it is asked for lock `n`, and how long an answer may take (p95).
type Question = (&'static str, fn(u64) -> String, Option<f64>);

const QUESTIONS: [Question; 6] = [
    (
        "time line of one lock",
        |n| format!("/v1/audit/locks/{n:017}/timeline?since=2000-01-01T00:00:00Z"),
        Some(100.0),
    ),
    ("verdict replay, 7 days", |_| "/v1/audit/events?verdict=replay".to_owned(), Some(300.0)),
    ("verdict ok, 7 days", |_| "/v1/audit/events?verdict=ok".to_owned(), Some(300.0)),
    ("critical, 7 days", |_| "/v1/audit/events?min_severity=critical".to_owned(), None),
    ("one process", |n| format!("/v1/audit/events?process_id={n:016}&since=2000-01-01T00:00:00Z"), None),
    ("all, 7 days, oldest first", |_| "/v1/audit/events?order=asc".to_owned(), None),
];

/// Fills a history and asks.
pub async fn measure(
    kafka: &Kafka,
    postgres: DevelopmentPostgres,
    plan: &Plan,
) -> anyhow::Result<Vec<Query>> {
    // Rows that are not linked are not signed; and nothing comes while they are filled in.
    let mut settings = vec![("checkpoint.key_file", "")];
    for (key, stream) in
        [("streams.states", "quiet_1"), ("streams.commands", "quiet_2"), ("streams.rejected", "quiet_3")]
    {
        kafka.create_stream(stream, PARTITIONS).await?;
        settings.push((key, stream));
    }
    let mut audit = Audit::start_on(postgres, kafka, &Secrets::random()?, &settings).await?;
    // It warns of what is done to its tables.
    audit.auditor.expect("");
    let client = audit.connect().await?;
    fill(&client, plan).await.context("fill the history")?;
    let mut queries = Vec::new();
    for (name, question, bound_ms) in QUESTIONS {
        let mut delays = Histogram::<u64>::new(3)?;
        let mut rows = Vec::new();
        for n in 0..plan.questions {
            let path = question(u64::from(n) * 7919 % plan.locks);
            let asked_at = Instant::now();
            let answer = audit.json(&path).await?;
            delays.record(asked_at.elapsed().as_micros().try_into()?)?;
            rows.push(answer["events"].as_array().map_or(0, Vec::len));
        }
        rows.sort_unstable();
        let ms = |quantile| delays.value_at_quantile(quantile) as f64 / 1000.0;
        let rows = rows[rows.len() / 2];
        queries.push(Query { name, p50_ms: ms(0.5), p95_ms: ms(0.95), max_ms: ms(1.0), rows, bound_ms });
    }
    Ok(queries)
}

/// Month by month, each filled before it has indexes, which is many times quicker.
async fn fill(client: &Client, plan: &Plan) -> anyhow::Result<()> {
    let (rows, locks) = (i64::try_from(plan.rows)?, i64::try_from(plan.locks)?);
    client
        .batch_execute(
            "set synchronous_commit = off; set maintenance_work_mem = '512MB'; set statement_timeout = 0",
        )
        .await?;
    client.batch_execute(include_str!("fill.sql")).await?;
    client.execute("select pg_temp.fill($1, $2)", &[&rows, &locks]).await?;
    client.batch_execute("analyze auditor.event; checkpoint").await?;
    Ok(())
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, p50_ms, p95_ms, max_ms, rows, bound_ms } = self;
        write!(f, "  {name:38} {p50_ms:8.1} {p95_ms:8.1} {max_ms:8.1} {rows:8}")?;
        match bound_ms {
            Some(bound) if p95_ms <= bound => write!(f, "   bound {bound}: held"),
            Some(bound) => write!(f, "   bound {bound}: NOT HELD"),
            None => Ok(()),
        }
    }
}

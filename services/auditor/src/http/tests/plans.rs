//! The plans of the main questions: none reads a month of rows from end to end.

use super::*;
use crate::query::cursor::Key;
use crate::query::filter::{Filter, Order};
use crate::query::page::{Request, statement};

const ROWS: i64 = 50_000;

/// Two weeks of 500 locks, one replay among a thousand commands.
async fn fill(app: &App) {
    let insert = format!(
        "select auditor.ensure_month('2026-03-01Z');
         insert into auditor.event (chain_id, seq, occurred_at, ingested_at, xid, direction, kind, client_id, \
             process_id, action, publisher, verdict, findings, severity, raw, raw_sha256, k_topic, k_partition, \
             k_offset, leaf_hash, chain_hash, detail_hash) \
         select n % 8, n / 8, timestamptz '2026-03-01Z' + n * interval '24 seconds', now(), \
             (n / 100 + 1)::text::xid8, 'downlink', case n % 3 when 0 then 'result' else 'command' end, \
             'lock-' || n % 500, 'process-' || n / 2, 'unlock', 'app', \
             case when n % 1000 = 0 then 'replay' else 'ok' end, \
             case when n % 1000 = 0 then array['unexpected_receiver'] else '{{}}' end, \
             case when n % 1000 = 0 then 3 else 0 end, repeat('x', 300)::bytea, sha256('x'), 'message_command', \
             n % 8, n, sha256('x'), sha256('x'), sha256('x') from generate_series(8, {ROWS}) n;
         analyze auditor.event"
    );
    app.owner.get().await.unwrap().batch_execute(&insert).await.unwrap();
}

#[tokio::test]
async fn no_question_reads_a_month_from_end_to_end() {
    let app = App::start().await;
    fill(&app).await;
    let text = |value: &str| Some(value.to_owned());
    let lock = || Filter { client_id: text("lock-7"), ..Filter::default() };
    let middle = Key { first: 1_772_900_000_000, chain_id: 3, seq: 9 };
    let questions = [
        ("all", Filter::default(), None),
        ("time line", lock(), None),
        ("time line, next page", lock(), Some(middle)),
        ("time line, oldest first", Filter { order: Order::Ascending, ..lock() }, Some(middle)),
        ("process", Filter { process_id: text("process-77"), ..Filter::default() }, None),
        ("verdict", Filter { verdict: text("replay"), ..Filter::default() }, None),
        ("severity", Filter { min_severity: Some(Severity::Major), ..Filter::default() }, None),
        ("finding", Filter { finding: text("unexpected_receiver"), ..Filter::default() }, None),
        ("lock and verdict", Filter { verdict: text("replay"), ..lock() }, None),
        ("next page", Filter::default(), Some(middle)),
        ("polling", Filter { order: Order::Ingest, ..Filter::default() }, Some(Key { first: 400, ..middle })),
        ("polling, one lock", Filter { order: Order::Ingest, ..lock() }, Some(Key { first: 400, ..middle })),
    ];
    let client = app.pool.get().await.unwrap();
    for (name, filter, after) in questions {
        let since = match filter.order {
            Order::Ingest => None,
            _ => Some("2026-03-04T00:00:00Z".parse().unwrap()),
        };
        let horizon = (filter.order == Order::Ingest).then_some(450);
        let statement = statement(&Request { filter: &filter, since, after, limit: 100 }, horizon);
        let plan = testing::plan(&**client, &statement).await.unwrap();
        assert!(!plan.contains("Seq Scan on event_2026_03"), "{name}:\n{plan}");
        assert!(plan.contains("event_2026_03"), "{name} does not look at the rows:\n{plan}");
    }
}

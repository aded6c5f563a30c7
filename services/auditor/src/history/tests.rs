//! Against a real server.

use latchline_shared::kit::postgres::{Postgres, migrate, testing};
use tokio_postgres::{Client, NoTls};

use super::{COLUMNS, Position, append, page, row};
use crate::chain::tests::full;
use crate::chain::{Head, intact};
use crate::event::{Event, Row};
use crate::migrations::SCHEMA;

/// A connection of the owner's, a superuser.
pub(crate) async fn connect(postgres: &Postgres) -> Client {
    let (client, connection) = postgres.client_config("tests").unwrap().connect(NoTls).await.unwrap();
    // Ends with the client.
    tokio::spawn(connection);
    client
}

/// A database with our schema, and a connection of its owner's.
pub(crate) async fn database() -> (Postgres, Client) {
    let postgres = testing::database().await.unwrap();
    let mut client = connect(&postgres).await;
    migrate::migrate(&mut client, SCHEMA.name, SCHEMA.migrations).await.unwrap();
    (postgres, client)
}

/// Appends in a transaction of its own.
pub(crate) async fn add(client: &mut Client, chain_id: i16, events: Vec<Event>) {
    let transaction = client.transaction().await.unwrap();
    append(&transaction, chain_id, events).await.unwrap();
    transaction.commit().await.unwrap();
}

/// All rows of a chain.
pub(crate) async fn rows(client: &Client, chain_id: i16) -> Vec<Row> {
    let (mut rows, mut position) = (Vec::new(), Position::START);
    loop {
        let page = page(client, chain_id, &mut position, 7).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page.into_iter().map(Result::unwrap));
    }
}

#[tokio::test]
async fn what_is_appended_is_read_back_and_linked() {
    let (_, mut client) = database().await;
    let sparse = Event { occurred_at_ms: -1, verdict: "ok".to_owned(), ..Event::default() };
    let mut events: Vec<Event> = (0..20).map(full).collect();
    events.push(sparse);
    add(&mut client, 3, events[..10].to_vec()).await;
    add(&mut client, 4, events[..2].to_vec()).await;
    add(&mut client, 3, events[10..].to_vec()).await;
    let rows = rows(&client, 3).await;
    assert_eq!(rows.iter().map(|row| row.event.clone()).collect::<Vec<_>>(), events);
    let mut head = Head::genesis(3);
    for row in &rows {
        assert_eq!(head.follows(row), Ok(()), "row {}", row.seq);
        head = Head::at(row);
    }
    assert!(rows[9].xid < rows[10].xid && rows[10].ingested_at_us > 1_600_000_000_000_000);
    let stored = client.query_one("select seq, chain_hash from auditor.chain_head where chain_id = 3", &[]);
    let stored = stored.await.unwrap();
    assert_eq!((stored.get::<_, i64>(0), stored.get::<_, &[u8]>(1)), (21, head.chain_hash.as_slice()));
}

#[tokio::test]
async fn what_a_column_cannot_keep_is_null_before_it_is_hashed() {
    let (_, mut client) = database().await;
    let odd = Event { cmd_ts: Some(i64::MAX), battery: Some(f32::NAN), ..full(1) };
    add(&mut client, 0, vec![odd]).await;
    let rows = rows(&client, 0).await;
    assert_eq!((rows[0].event.cmd_ts, rows[0].event.battery), (None, None));
    assert_eq!(Head::genesis(0).follows(&rows[0]), Ok(()));
    let transaction = client.transaction().await.unwrap();
    let never = Event { occurred_at_ms: i64::MAX, ..full(1) };
    let error = append(&transaction, 0, vec![never]).await.unwrap_err();
    assert_eq!(error.to_string(), "permanent: 9223372036854775807 ms is no time");
}

#[tokio::test]
async fn eight_writers_leave_no_gap() {
    let (postgres, client) = database().await;
    let writers = (0..8).map(|writer| {
        let postgres = postgres.clone();
        tokio::spawn(async move {
            let mut client = connect(&postgres).await;
            for batch in 0..10 {
                // Also months that nobody has made yet.
                let at = |n: i64| Event { occurred_at_ms: n * 2_000_000_000, ..full(n) };
                add(&mut client, 5, (0..5).map(|n| at(writer + batch + n)).collect()).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let rows = rows(&client, 5).await;
    assert_eq!(rows.len(), 400);
    let mut head = Head::genesis(5);
    for row in &rows {
        head.follows(row).unwrap();
        head = Head::at(row);
    }
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_leaves_no_gap() {
    let (_, mut client) = database().await;
    let transaction = client.transaction().await.unwrap();
    append(&transaction, 0, vec![full(1)]).await.unwrap();
    drop(transaction);
    add(&mut client, 0, vec![full(2)]).await;
    let rows = rows(&client, 0).await;
    assert_eq!((rows.len(), rows[0].seq), (1, 1));
    intact(&rows[0]).unwrap();
}

#[tokio::test]
async fn the_service_may_add_and_not_change() {
    let (_, mut client) = database().await;
    client.batch_execute("set role latchline_auditor").await.unwrap();
    add(&mut client, 0, (0..3).map(full).collect()).await;
    assert_eq!(rows(&client, 0).await.len(), 3);
    for statement in [
        "update auditor.event set verdict = 'ok'",
        "delete from auditor.event",
        "truncate auditor.event",
        "update auditor.event_2026_01 set verdict = 'ok'",
        "delete from auditor.event_2026_01",
        "truncate auditor.event_2026_01",
        "drop table auditor.event_2026_01",
        "alter table auditor.event detach partition auditor.event_2026_01",
        "delete from auditor.chain_head",
        "delete from auditor.checkpoint",
        "update auditor.checkpoint set note = ''",
        "insert into auditor.archived_run values ('2026-01-01', 0, 1, 1, '', '', '', '')",
        "create table auditor.mine ()",
    ] {
        let error = client.batch_execute(statement).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{statement}: {error}");
    }
}

#[tokio::test]
async fn rows_that_hold_what_was_never_written_are_named() {
    let (_, mut client) = database().await;
    add(&mut client, 2, vec![full(1)]).await;
    for (change, expected) in [
        ("direction = 'sideways'", "direction is \"sideways\""),
        ("severity = 9", "severity is none of ours"),
        ("occurred_at = occurred_at + interval '1 microsecond'", "occurred_at is too precise"),
        ("cmd_ts = 'infinity'", "cmd_ts is too precise"),
        ("leaf_hash = '\\x00'", "1 bytes are no hash"),
    ] {
        let transaction = client.transaction().await.unwrap();
        transaction.batch_execute(&format!("update auditor.event set {change}")).await.unwrap();
        let columns = transaction.query_one(&format!("select {COLUMNS} from auditor.event"), &[]).await;
        let error = row(&columns.unwrap()).unwrap_err().to_string();
        assert!(
            error.starts_with("row 1 of chain 2 cannot be read: ") && error.contains(expected),
            "{error}"
        );
    }
}

/// With `RUN_SLOW` set it says how many rows a second one chain takes.
#[tokio::test]
#[expect(clippy::disallowed_macros, reason = "a measurement talks to whoever reads its output")]
async fn batches_of_500_rows_go_in_at_speed() {
    let (_, mut client) = database().await;
    let batches = if std::env::var_os("RUN_SLOW").is_some() { 100 } else { 2 };
    let begin = std::time::Instant::now();
    for batch in 0..batches {
        add(&mut client, 0, (0..500).map(|n| full(batch * 500 + n)).collect()).await;
    }
    let rows_per_s = (batches * 500) as f64 / begin.elapsed().as_secs_f64();
    eprintln!("{} rows, {rows_per_s:.0} rows/s", batches * 500);
    let head = client.query_one("select seq from auditor.chain_head where chain_id = 0", &[]).await.unwrap();
    assert_eq!(head.get::<_, i64>(0), batches * 500);
}

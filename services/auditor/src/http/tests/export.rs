//! Files: whole or broken off, in little memory, and harmless to spreadsheets.

use latchline_shared::kit::testing::eventually;

use super::*;
use crate::ndjson;

#[tokio::test]
async fn ndjson_holds_the_rows_as_they_are_in_the_chain() {
    let app = App::start().await;
    let start = now_ms() - 3_600_000;
    app.append(0, (0..1200).map(|n| command("1", start + n / 7)).collect()).await;
    app.append(1, vec![command("2", start)]).await;
    let answer = app.get("/v1/audit/export?client_id=1").await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    assert_eq!(answer.headers["content-disposition"], "attachment; filename=\"history.ndjson\"");
    let mut rows: Vec<_> = answer.body.lines().map(|line| ndjson::read(line.as_bytes()).unwrap()).collect();
    // The export itself is the last event of this lock.
    assert_eq!(rows.pop().unwrap().event.kind, Kind::Read);
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=1200).collect::<Vec<_>>());
    let query = "format=ndjson&client_id=1&order=asc";
    let text = str::to_owned;
    assert_eq!(app.reads().await, [(text("tester"), text("export"), text("1"), text(query))]);

    let newest_first = app.get("/v1/audit/export?verdict=ok&client_id=1&order=desc").await;
    let last = newest_first.body.lines().last().unwrap();
    assert_eq!(ndjson::read(last.as_bytes()).unwrap(), rows[0]);
}

#[tokio::test]
async fn csv_is_for_spreadsheets() {
    let app = App::start().await;
    let evil = Event {
        client_id: "=1+1".to_owned(),
        publisher: Some("@sum(a1:a9)".to_owned()),
        username: Some("a,\"b\"\r\nc".to_owned()),
        skew_ms: Some(-7),
        ..command("", now_ms() - 60_000)
    };
    app.append(0, vec![evil]).await;
    let answer = app.get("/v1/audit/export?format=csv&kind=command").await;
    assert_eq!(answer.headers["content-type"], "text/csv; charset=utf-8; header=present");
    let mut lines = answer.body.split("\r\n");
    assert!(lines.next().unwrap().starts_with("chain_id,seq,occurred_at,"));
    let row = lines.next().unwrap();
    assert!(
        row.contains(",'=1+1,") && row.contains(",'@sum(a1:a9),") && row.contains("\"a,\"\"b\"\""),
        "{row}"
    );
    assert!(answer.body.contains(",-7,") && answer.body.ends_with("\r\n"));
    let with_all = app.get("/v1/audit/export?format=csv&kind=command&bom=true&raw=true").await;
    assert!(with_all.body.starts_with("\u{feff}chain_id,") && with_all.body.ends_with(",e30=\r\n"));
    for query in ["format=xlsx", "order=ingest", "limit=1", "after=x", "bom=1"] {
        let answer = app.ask(&format!("/v1/audit/export?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
    }
}

/// Rows of about 64 KiB each, 40 MiB in all: more than the sockets hold.
async fn fill(app: &App) {
    for _ in 0..10 {
        let event = |n| Event { raw: vec![b'x'; 48 * 1024], ..command("1", now_ms() - 3_600_000 + n) };
        app.append(0, (0..64).map(event).collect()).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_reading_and_a_failure_breaks_off() {
    let app = App::start().await;
    fill(&app).await;
    let mut response = app.request(Method::GET, "/v1/audit/export?kind=command").send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.chunk().await.unwrap().unwrap();
    // The snapshot is held and not asked any more: nobody takes what was read.
    let owner = app.owner.get().await.unwrap();
    let idle = "select pid from pg_stat_activity where datname = current_database() \
         and state = 'idle in transaction' and query like 'select chain_id%'";
    eventually(SOON, "the export waits for its client", async || {
        owner.query_opt(idle, &[]).await.unwrap().is_some()
    })
    .await;
    let terminated =
        owner.query(&format!("select pg_terminate_backend(pid) from ({idle}) export"), &[]).await;
    assert_eq!(terminated.unwrap().len(), 1);
    let mut bytes = 0;
    let end = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes += chunk.len(),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(end.is_err() && bytes < 40 * 1024 * 1024, "{bytes} bytes look like a whole export");
}

#[tokio::test]
async fn exports_are_counted_and_end_with_the_server() {
    let app = App::start_within(Limits { exports_max: 1, ..limits() }).await;
    fill(&app).await;
    let mut running = app.request(Method::GET, "/v1/audit/export?kind=command").send().await.unwrap();
    running.chunk().await.unwrap().unwrap();
    let refused = app.ask("/v1/audit/export").await;
    assert_eq!(refused.status, 429);
    assert!(refused.detail().contains("exports"));
    app.stop.cancel();
    let mut end = Ok(Some(Default::default()));
    while let Ok(Some(_)) = end {
        end = running.chunk().await;
    }
    assert!(end.is_err(), "an export that the end of the server cuts off looks whole");
}

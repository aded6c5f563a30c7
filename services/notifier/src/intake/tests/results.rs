use std::time::{Duration, Instant};

use super::*;

#[tokio::test]
async fn the_reference_result_is_told_once_on_each_channel() {
    let app = App::start().await;
    app.store(&[app.report(LOCK, "7802441525528958", 1, 1)]).await;
    let told =
        ["unlocked info taro email taro@example.com pending", "unlocked info taro sms +819012341234 pending"];
    assert_eq!(app.told().await, told);
    let row = app.owner.query_one("select * from notification where channel = 'sms'", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>("process_id"), "7802441525528958");
    assert_eq!((row.get::<_, &str>("locale"), row.get::<_, &str>("time_zone")), ("ja", "Asia/Tokyo"));
    assert_eq!((row.get::<_, i16>("priority"), row.get::<_, Option<&str>>("digest")), (0, None));
    let facts: Value = row.get("facts");
    assert_eq!(
        (&facts["lock_name"], &facts["battery"], &facts["outcome"]),
        (&json!("玄関"), &json!(83.4_f32), &json!("ok"))
    );
    let (occurred_at, expires_at): (Timestamp, Timestamp) = (row.get("occurred_at"), row.get("expires_at"));
    assert_eq!(expires_at.as_second() - occurred_at.as_second(), 1_800);

    // Heartbeats that repeat it: one by one, all at once, and after a restart.
    for _ in 0..30 {
        app.store(&[app.report(LOCK, "7802441525528958", 1, 0)]).await;
    }
    let heartbeats: Vec<_> = (0..30).map(|_| app.report(LOCK, "7802441525528958", 1, 0)).collect();
    app.store(&heartbeats).await;
    app.assert_metrics(&[
        "intake_records_total{kind=\"result\"} 1",
        "intake_records_total{kind=\"repeated\"} 60",
        "intake_notifications_total{channel=\"sms\",how=\"now\"} 1",
        "intake_skipped_total{cause=\"tier\"} 1",
        "intake_seconds_count 2",
        "intake_remembered_processes{partition=\"3\"} 1",
    ]);
    let mut app = app;
    app.restart();
    app.store(&heartbeats).await;
    app.assert_metrics(&[
        "intake_records_total{kind=\"known\"} 1",
        "intake_records_total{kind=\"repeated\"} 29",
    ]);
    assert_eq!(app.told().await, told);
}

#[tokio::test]
async fn a_heartbeat_costs_no_statement() {
    let app = App::start().await;
    app.store(&[app.report(LOCK, "7", 1, 1)]).await;
    // In a transaction that has failed no statement can be done any more.
    let mut client = app.database.pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("select 1 / 0").await.unwrap_err();
    let mut nothing = app.report(LOCK, "7", 1, 0);
    nothing.item = Item::Nothing(record::Nothing::Heartbeat);
    app.intake.store(&transaction, LANE, &[app.report(LOCK, "7", 1, 0), nothing]).await.unwrap();
    let news = app.intake.store(&transaction, LANE, &[app.report(LOCK, "8", 1, 0)]).await;
    assert!(news.is_err(), "news do cost one");
}

#[tokio::test]
async fn failures_are_told_as_what_they_are() {
    let app = App::start().await;
    let mut denied = app.report(LOCK, "2", 1, 1);
    let Item::Result(answered) = &mut denied.item else { panic!("a result") };
    answered.outcome = latchline_shared::report::Said::Denied;
    answered.action = latchline_shared::command::Action::Lock;
    app.store(&[app.report(LOCK, "1", 0, 1), denied]).await;
    assert_eq!(
        app.told().await,
        [
            "lock_failed major taro email taro@example.com pending",
            "lock_failed major taro sms +819012341234 pending",
            "unlock_failed major taro email taro@example.com pending",
            "unlock_failed major taro sms +819012341234 pending",
        ]
    );
}

#[tokio::test]
async fn a_replay_tells_nobody_again() {
    let mut app = App::start().await;
    let records = [
        app.report(LOCK, "1", 1, 1),
        app.report(LOCK, "2", 0, 1),
        app.alarm(|_| ()),
        // Not critical: it takes from buckets.
        app.alarm(|alarm| (alarm["no"], alarm["severity"]) = (2.into(), "major".into())),
    ];
    app.store(&records).await;
    let told = app.told().await;
    assert_eq!(told.len(), 8);
    let rates = async |app: &App| -> Vec<(String, Timestamp)> {
        let rows = app.owner.query("select key, full_at from rate order by key", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let taken = rates(&app).await;
    assert_eq!(taken.len(), 8, "{taken:?}");
    app.restart();
    app.store(&records).await;
    assert_eq!(rates(&app).await, taken);
    // Also if what was seen is not known any more.
    app.owner.batch_execute("delete from process").await.unwrap();
    app.restart();
    app.store(&records).await;
    assert_eq!(app.told().await, told);
}

#[tokio::test]
async fn what_was_rolled_back_is_not_remembered() {
    let app = App::start().await;
    let report = [app.report(LOCK, "7", 1, 1)];
    for is_refused in [false, true] {
        let mut client = app.database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        if is_refused {
            transaction
                .batch_execute("set local statement_timeout = '1ms'; select pg_sleep(1)")
                .await
                .unwrap_err();
            app.intake.store(&transaction, LANE, &report).await.unwrap_err();
        } else {
            app.intake.store(&transaction, LANE, &report).await.unwrap();
        }
        transaction.rollback().await.unwrap();
        // Time passes, and the kit says that this was committed.
        let transaction = client.transaction().await.unwrap();
        app.intake.idle(&transaction, LANE, 0).await.unwrap();
        transaction.commit().await.unwrap();
        app.intake.committed(LANE);
        assert_eq!(app.told().await, [""; 0]);
    }
    app.store(&report).await;
    assert_eq!(app.told().await.len(), 2);
    app.assert_metrics(&["intake_records_total{kind=\"result\"} 1"]);
}

#[tokio::test]
async fn what_is_too_late_is_written_down_and_what_is_ancient_is_not() {
    let app = App::start().await;
    let day = 86_400;
    app.store(&[
        app.report(LOCK, "1", 1, 2_000),
        app.report(LOCK, "2", 1, day),
        app.report(LOCK, "3", 1, 91 * day),
        // A clock that is ahead.
        app.report(LOCK, "4", 1, -300),
    ])
    .await;
    let of = |process_id: &str| {
        format!(
            "notification where process_id = '{process_id}' and status = 'expired' and reason = 'late'
                and settled_at is not null and due_at <= now()"
        )
    };
    for (process_id, expired) in [("1", 1), ("2", 2), ("3", 0), ("4", 0)] {
        assert_eq!(app.count(&of(process_id)).await, expired, "{process_id}");
    }
    assert_eq!(app.count("notification where process_id = '3'").await, 0);
    assert_eq!(app.count("process").await, 4, "it is seen nevertheless");
    let ahead = "notification where process_id = '4' and occurred_at <= now() and status = 'pending'";
    assert_eq!(app.count(ahead).await, 2);
    app.assert_metrics(&["intake_skipped_total{cause=\"too_old\"} 2"]);
}

#[tokio::test]
async fn who_has_gone_is_not_told() {
    let app = App::start().await;
    let mut client = app.database.pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    app.intake.store(&transaction, LANE, &[app.report(LOCK, "1", 1, 1)]).await.unwrap();
    // Whoever deletes the user waits, and finds what was to be told.
    let deleted = async {
        app.owner.execute("delete from users where id = 'taro'", &[]).await.unwrap();
        app.count("notification").await
    };
    let committed = async {
        latchline_shared::kit::testing::eventually(
            Duration::from_secs(10),
            "the deletion waits",
            async || {
                let waiting =
                    "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
                let other = app.database.owner.get().await.unwrap();
                let sql = format!("select count(*) from {waiting}");
                other.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) == 1
            },
        )
        .await;
        transaction.commit().await.unwrap();
    };
    let (count, ()) = tokio::join!(deleted, committed);
    assert_eq!(count, 2);
    app.store(&[app.report(LOCK, "2", 1, 1)]).await;
    assert_eq!(app.count("notification").await, 2);
}

#[tokio::test]
async fn many_results_cost_as_many_statements_as_one() {
    let app = App::start().await;
    app.owner
        .batch_execute(
            "insert into users (id, name, locale, time_zone) select 'u' || n, '', 'en', 'UTC' from generate_series(0, 1999) n;
             insert into lock_member (client_id, user_id, lock_name) select n::text, 'u' || n, '' from generate_series(0, 1999) n;
             insert into contact (id, user_id, channel, address, status)
                 select gen_random_uuid(), 'u' || n, 'email', n || '@example.com', 'active' from generate_series(0, 1999) n;",
        )
        .await
        .unwrap();
    let batch: Vec<_> = (0..2_000).map(|n| app.report(&n.to_string(), "7", 1, 1)).collect();
    let statements = async |batch: &[Decoded<Item>]| {
        let mut client = app.database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        let began_at = Instant::now();
        app.intake.store(&transaction, LANE, batch).await.unwrap();
        let took = began_at.elapsed();
        // Each statement that wrote something was of another command.
        let sql = "select count(*) from (select distinct cmin::text::bigint from notification where xmin::text::bigint = txid_current()
            union select distinct cmin::text::bigint from rate where xmin::text::bigint = txid_current()
            union select distinct cmin::text::bigint from process where xmin::text::bigint = txid_current()) as written";
        let count: i64 = transaction.query_one(sql, &[]).await.unwrap().get(0);
        transaction.commit().await.unwrap();
        app.intake.committed(LANE);
        (count, took)
    };
    let (one, _) = statements(&[app.report(LOCK, "7", 1, 1)]).await;
    let (many, took) = statements(&batch).await;
    assert_eq!(one, many);
    assert_eq!(app.count("notification where status = 'pending' and digest is null").await, 2_002);
    assert!(took.as_secs() < 10, "{took:?}");
    // All of them again, with an empty memory: one statement, and nothing is written.
    app.intake.closed(LANE);
    let (none, _) = statements(&batch).await;
    assert_eq!(none, 0);
}

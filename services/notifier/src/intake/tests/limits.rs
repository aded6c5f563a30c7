use super::*;

/// How many notifications of an address wait for what.
async fn waiting(app: &App, channel: &str) -> Vec<(String, i64, i64)> {
    let sql =
        "select coalesce(split_part(digest, '|', 2), ''), count(*), count(distinct due_at) from notification
        where channel = $1 group by 1 order by 1";
    let rows = app.owner.query(sql, &[&channel]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn too_much_of_one_lock_is_told_together() {
    let app = App::start().await;
    let reports: Vec<_> = (0..9).map(|n| app.report(LOCK, &n.to_string(), 1, 1)).collect();
    app.store(&reports[..8]).await;
    app.store(&reports[8..]).await;
    // Six at once; the others wait for one time, though they came in two batches.
    for channel in ["email", "sms"] {
        assert_eq!(waiting(&app, channel).await, [(String::new(), 6, 1), ("overflow".to_owned(), 3, 1)]);
    }
    // Another event of the same lock, and what is critical, is told.
    let criticals: Vec<_> = (1..30).map(|no| app.alarm(|alarm| alarm["no"] = no.into())).collect();
    app.store(&criticals).await;
    app.store(&[app.report(LOCK, "failed", 0, 1)]).await;
    assert_eq!(waiting(&app, "sms").await[0].1, 6 + 29 + 1);
    let due = "notification where digest like '%overflow'
        and due_at between now() + interval '290 s' and now() + interval '301 s'";
    assert_eq!(app.count(due).await, 6);
}

#[tokio::test]
async fn too_much_for_one_address_is_told_together() {
    let app = App::start().await;
    app.owner
        .batch_execute("update lock_member set client_id = '*', tier = 0 where user_id = 'taro'")
        .await
        .unwrap();
    let reports: Vec<_> = (0..30).map(|n| app.report(&n.to_string(), "7", 1, 1)).collect();
    app.store(&reports).await;
    assert_eq!(waiting(&app, "email").await, [(String::new(), 20, 1), ("overflow".to_owned(), 10, 1)]);
    app.assert_metrics(&["intake_notifications_total{channel=\"email\",how=\"overflow\"} 10"]);
    // A minute later there are ten more.
    app.owner.batch_execute("update rate set full_at = full_at - interval '60 s'").await.unwrap();
    let reports: Vec<_> = (30..45).map(|n| app.report(&n.to_string(), "7", 1, 1)).collect();
    app.store(&reports).await;
    let now = waiting(&app, "email").await[0].1;
    assert!((30..=31).contains(&now), "{now}");
}

#[tokio::test]
async fn a_digest_has_one_window() {
    let app = App::start().await;
    app.owner.batch_execute("update preference set digest_s = 3600").await.unwrap();
    app.store(&[app.report(LOCK, "1", 1, 1)]).await;
    app.owner.batch_execute("update notification set due_at = due_at - interval '10 min'").await.unwrap();
    app.store(&[app.report(LOCK, "2", 1, 1), app.report(LOCK, "3", 0, 1)]).await;
    let mut expected = vec![("digest".to_owned(), 3, 2)];
    assert_eq!(waiting(&app, "sms").await, expected, "what failed has a window of its own");
    app.owner.batch_execute("update notification set status = 'digested'").await.unwrap();
    app.store(&[app.report(LOCK, "4", 1, 1)]).await;
    expected[0] = ("digest".to_owned(), 4, 3);
    assert_eq!(waiting(&app, "sms").await, expected, "the next one begins when the last one was told");
    assert_eq!(app.count("notification where channel = 'email' and digest is not null").await, 0);
}

#[tokio::test]
async fn nobody_joins_a_window_that_is_over() {
    let app = App::start().await;
    app.owner.batch_execute("update preference set digest_s = 3600").await.unwrap();
    app.store(&[app.report(LOCK, "1", 1, 1)]).await;
    // Due, and perhaps being told just now.
    app.owner.batch_execute("update notification set due_at = now() where channel = 'sms'").await.unwrap();
    app.store(&[app.report(LOCK, "2", 1, 1)]).await;
    let next =
        "notification where channel = 'sms' and process_id = '2' and due_at > now() + interval '59 min'";
    assert_eq!(app.count(next).await, 1);
    // Those who come after it wait with it.
    app.store(&[app.report(LOCK, "3", 1, 1)]).await;
    assert_eq!(waiting(&app, "sms").await, [("digest".to_owned(), 3, 2)]);
}

#[tokio::test]
async fn a_batch_that_is_told_to_thousands_ends() {
    let app = App::start().await;
    app.owner
        .batch_execute(
            "insert into users (id, name, locale, time_zone) select 'u' || n, '', 'en', 'UTC' from generate_series(1, 500) n;
             insert into lock_member (client_id, user_id, lock_name) select '*', 'u' || n, '' from generate_series(1, 500) n;
             insert into contact (id, user_id, channel, address, status)
                 select gen_random_uuid(), 'u' || n, 'email', n || '@example.com', 'active' from generate_series(1, 500) n;",
        )
        .await
        .unwrap();
    let reports: Vec<_> = (0..10).map(|n| app.report(&n.to_string(), "7", 1, 1)).collect();
    app.store(&reports).await;
    assert_eq!(app.count("notification where status = 'pending' and digest is null").await, 5_000);
    // Of each contact, and of each for each lock.
    assert_eq!(app.count("rate where full_at > now()").await, 500 + 5_000);
}

#[tokio::test]
async fn lanes_do_not_block_each_other_for_good() {
    let app = App::start().await;
    app.owner.batch_execute("update lock_member set client_id = '*', tier = 0").await.unwrap();
    let lane = async |lane: i32| {
        for round in 0..10 {
            // In another order each time.
            let mut batch: Vec<_> =
                (0..20).map(|n| app.report(&format!("{lane}-{n}"), &round.to_string(), 1, 1)).collect();
            batch.rotate_left(usize::try_from(lane * 3 + round).unwrap() % 20);
            let mut client = app.database.pool.get().await.unwrap();
            let transaction = client.transaction().await.unwrap();
            app.intake.store(&transaction, lane, &batch).await.unwrap();
            transaction.commit().await.unwrap();
            app.intake.committed(lane);
        }
    };
    tokio::join!(lane(0), lane(1), lane(2), lane(3));
    assert_eq!(app.count("notification").await, 4 * 10 * 20 * 3);
    // 20 at once, and a few more while the others were stored.
    let now = waiting(&app, "email").await[0].1;
    assert!((40..50).contains(&now), "two addresses: {now}");
}

use uuid::Uuid;

use super::*;

#[tokio::test]
async fn an_alarm_is_told_and_escalates() {
    let app = App::start().await;
    app.store(&[app.alarm(|_| ())]).await;
    let first = [
        "tamper critical taro email taro@example.com pending",
        "tamper critical taro sms +819012341234 pending",
    ];
    assert_eq!(app.told().await, first);
    let row = app.owner.query_one("select * from notification where channel = 'sms'", &[]).await.unwrap();
    assert_eq!((row.get::<_, i16>("priority"), row.get::<_, i32>("alarm_no")), (1, 1));
    assert_eq!(row.get::<_, Uuid>("alarm_id").to_string(), "830f383c-1f2b-548e-bcdf-4964a31da4d2");
    assert_eq!(row.get::<_, Value>("facts")["change"], json!("raised"));

    // The same record twice, in one batch and in two.
    app.store(&[app.alarm(|_| ()), app.alarm(|_| ())]).await;
    assert_eq!(app.told().await, first);

    app.store(&[app.alarm(|alarm| {
        alarm["no"] = 2.into();
        alarm["change"] = "escalated".into();
        alarm["level"] = 1.into();
    })])
    .await;
    let told = app.told().await;
    assert_eq!(told.len(), 5);
    assert_eq!(told[0], "tamper critical ops email ops@example.com pending");
}

#[tokio::test]
async fn what_concerns_no_lock_is_told_to_members_of_all() {
    let app = App::start().await;
    app.owner.batch_execute("update lock_member set tier = 0").await.unwrap();
    app.store(&[app.alarm(|alarm| {
        alarm["client_id"] = "".into();
        alarm["type"] = "fleet_connectivity".into();
    })])
    .await;
    assert_eq!(app.told().await, ["fleet_connectivity critical ops email ops@example.com pending"]);
}

#[tokio::test]
async fn a_failed_unlock_is_told_by_its_result() {
    let app = App::start().await;
    let of = |change: &str, no: i32| {
        app.alarm(|alarm| {
            alarm["type"] = "unlock_failed".into();
            alarm["severity"] = "major".into();
            alarm["change"] = change.into();
            alarm["no"] = no.into();
        })
    };
    app.store(&[app.report(LOCK, "1", 0, 1), of("raised", 1), of("repeated", 2)]).await;
    assert_eq!(app.count("notification where process_id = '1'").await, 2);
    assert_eq!(app.count("notification where alarm_id is not null").await, 0);
    app.store(&[
        of("escalated", 3),
        of("returned_to_normal", 4),
        app.alarm(|alarm| alarm["notify"] = false.into()),
    ])
    .await;
    assert_eq!(app.count("notification where alarm_no = 3").await, 2);
    assert_eq!(app.count("notification where alarm_no = 4").await, 2);
    app.assert_metrics(&[
        "intake_records_total{kind=\"told_by_result\"} 2",
        "intake_records_total{kind=\"not_to_be_told\"} 1",
        "intake_records_total{kind=\"alarm\"} 2",
    ]);
}

#[tokio::test]
async fn what_nobody_hears_of_is_counted() {
    let app = App::start().await;
    app.owner
        .batch_execute("delete from lock_member where client_id = '*'; delete from contact")
        .await
        .unwrap();
    app.store(&[app.alarm(|_| ()), app.report("2", "1", 1, 1)]).await;
    assert_eq!(app.told().await, [""; 0]);
    app.assert_metrics(&[
        "intake_skipped_total{cause=\"no_contact\"} 1",
        "intake_skipped_total{cause=\"nobody\"} 1",
    ]);
}

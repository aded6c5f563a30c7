use latchline_shared::kit::postgres::testing::Database;
use serde_json::{Value, json};

use super::*;
use crate::migrations::tests::database;

const PEOPLE: &str = "
    insert into users (id, name, locale, time_zone) values ('taro', 'Taro', 'ja', 'Asia/Tokyo');
    insert into contact (id, user_id, channel, address, status) values
        ('00000000-0000-0000-0000-000000000001', 'taro', 'email', 'taro@example.com', 'active'),
        ('00000000-0000-0000-0000-000000000002', 'taro', 'sms', '+819012341234', 'active');";

struct App {
    database: Database,
    owner: Client,
}

impl App {
    async fn start() -> Self {
        let database = database().await;
        let owner = database.owner.get().await.unwrap();
        owner.batch_execute(PEOPLE).await.unwrap();
        Self { database, owner }
    }

    /// So many notifications of a contact that wait for a digest, one a second; more than `due_s` ago.
    async fn waiting(&self, contact: i32, digest: &str, count: i32, due_s: i32, more: &str) {
        let sql = format!(
            "insert into notification (id, event_type, severity, priority, client_id, user_id, contact_id, channel,
                address, locale, time_zone, facts, status, due_at, digest, occurred_at, expires_at)
            select gen_random_uuid(), 'unlocked', 'info', 0, '1', 'taro', c.id, channel, address, 'ja', 'Asia/Tokyo',
                jsonb_build_object('client_id', '1', 'lock_name', '玄関', 'at_ms', n), 'pending',
                now() - {due_s} * interval '1 s' + n * interval '1 ms', '{digest}', now() + n * interval '1 s', now() + interval '1 h'
            from generate_series(1, {count}) n, contact c
            where c.id = ('00000000-0000-0000-0000-00000000000' || {contact})::uuid; {more}"
        );
        self.owner.batch_execute(&sql).await.unwrap();
    }

    async fn step(&self) -> Made {
        step(&self.database.pool).await.unwrap()
    }

    async fn count(&self, sql: &str) -> i64 {
        let sql = format!("select count(*) from notification where {sql}");
        self.owner.query_one(&sql, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn parts_become_one_message() {
    let app = App::start().await;
    let worse =
        "update notification set severity = 'major', event_type = 'lock_failed' where facts->>'at_ms' = '3'";
    app.waiting(1, "a", 27, 10, worse).await;
    // Not due yet, but told with the first that is.
    app.owner
        .batch_execute("update notification set due_at = now() + interval '1 h' where facts->>'at_ms' = '27'")
        .await
        .unwrap();
    assert_eq!(app.step().await, Made { digests: 1, parts: 27, ..Made::default() });
    assert_eq!(app.count("status = 'digested' and settled_at is not null").await, 27);
    let row =
        app.owner.query_one("select * from notification where event_type = 'digest'", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>("severity"), row.get::<_, i16>("priority")), ("major", 0));
    assert_eq!((row.get::<_, &str>("address"), row.get::<_, &str>("client_id")), ("taro@example.com", "1"));
    assert_eq!((row.get::<_, &str>("status"), row.get::<_, Option<&str>>("digest")), ("pending", None));
    let facts: crate::event::Facts = serde_json::from_value(row.get::<_, Value>("facts")).unwrap();
    assert_eq!((facts.items.len(), facts.more, facts.at_ms), (20, 7, 27));
    let at: Vec<i64> = facts.items.iter().map(|item| item.facts.at_ms).collect();
    assert_eq!(at, (8..=27).collect::<Vec<i64>>());
    assert_eq!((facts.client_id.as_str(), facts.lock_name.as_str()), ("1", "玄関"));
    let id: Uuid = row.get("id");
    assert_eq!(app.count(&format!("digest_id = '{id}' and due_at is not null")).await, 27);
    assert_eq!(app.count("id = digest_id").await, 0);
    assert_eq!(app.step().await, Made::default());
}

#[tokio::test]
async fn who_waits_alone_is_told_as_what_it_is_and_who_is_not_due_waits() {
    let app = App::start().await;
    app.waiting(1, "alone", 1, 10, "").await;
    app.waiting(2, "later", 3, -60, "").await;
    assert_eq!(app.step().await, Made { released: 1, ..Made::default() });
    assert_eq!(app.count("digest is null and due_at <= now() and status = 'pending'").await, 1);
    assert_eq!(app.count("digest = 'later' and status = 'pending'").await, 3);
    assert_eq!(app.step().await, Made::default());
}

#[tokio::test]
async fn each_name_has_its_own_message() {
    let app = App::start().await;
    for n in 0..30 {
        app.waiting(1 + n % 2, &format!("name {n}"), 2, 10, "").await;
    }
    let other = "update notification set client_id = '2' where digest = 'name 7' and facts->>'at_ms' = '2'";
    app.owner.batch_execute(other).await.unwrap();
    let made = app.step().await;
    assert_eq!((made.digests, made.parts), (30, 60));
    assert_eq!(app.count("event_type = 'digest' and client_id = '' and facts->>'lock_name' = ''").await, 1);
    assert_eq!(app.count("event_type = 'digest' and client_id = '1'").await, 29);
    let items = "event_type = 'digest' and jsonb_array_length(facts->'items') = 2 and not facts ? 'more'";
    assert_eq!(app.count(items).await, 30);
}

#[tokio::test]
async fn instances_that_are_faster_than_each_other_make_one_message() {
    let app = App::start().await;
    for n in 0..20 {
        app.waiting(1, &format!("name {n}"), 3, 10, "").await;
    }
    let pool = &app.database.pool;
    let steps = tokio::join!(step(pool), step(pool), step(pool));
    let made = [steps.0.unwrap(), steps.1.unwrap(), steps.2.unwrap()];
    assert_eq!(made.iter().map(|made| made.parts).sum::<u64>(), 60);
    assert_eq!(app.count("event_type = 'digest'").await, 20);
}

#[tokio::test]
async fn nobody_is_told_too_late_or_when_gone() {
    let app = App::start().await;
    app.waiting(1, "late", 3, 10, "update notification set expires_at = now() where digest = 'late'").await;
    app.waiting(2, "gone", 2, 10, "delete from contact where channel = 'sms'").await;
    assert_eq!(app.step().await, Made { ended: 5, ..Made::default() });
    assert_eq!(app.count("status = 'expired' and reason = 'expired' and settled_at is not null").await, 3);
    assert_eq!(
        app.count("status = 'suppressed' and reason = 'no_contact' and settled_at is not null").await,
        2
    );
    assert_eq!(app.count("event_type = 'digest'").await, 0);
}

#[tokio::test]
async fn a_crowd_is_told_in_some_messages() {
    let app = App::start().await;
    app.waiting(1, "crowd", 5_003, 10, "").await;
    assert_eq!(app.step().await, Made { digests: 1, parts: 5_000, ..Made::default() });
    assert_eq!(app.step().await, Made { digests: 1, parts: 3, ..Made::default() });
    let more = app
        .owner
        .query("select facts->'more' from notification where event_type = 'digest' order by 1", &[])
        .await
        .unwrap();
    let more: Vec<Option<Value>> = more.iter().map(|row| row.get(0)).collect();
    assert_eq!(more, [Some(json!(4_980)), None]);
}

#[tokio::test]
async fn who_is_alone_behind_a_crowd_is_told_as_what_it_is() {
    let app = App::start().await;
    app.waiting(1, "crowd", 1_001, 60, "").await;
    app.waiting(2, "alone", 1, 10, "").await;
    assert_eq!(app.step().await, Made { digests: 1, parts: 1_001, released: 1, ..Made::default() });
    assert_eq!(app.count("event_type = 'digest'").await, 1);
    let alone = "channel = 'sms' and event_type = 'unlocked' and digest is null and due_at <= now()";
    assert_eq!(app.count(&format!("{alone} and status = 'pending'")).await, 1);
}

#[tokio::test]
async fn a_name_that_fails_keeps_nobody_else_waiting() {
    let app = App::start().await;
    let refuse =
        "alter table notification add constraint refused check (event_type <> 'digest' or channel <> 'sms')";
    app.waiting(2, "fails", 3, 60, refuse).await;
    for n in 0..9 {
        app.waiting(1, &format!("name {n}"), 2, 10, "").await;
    }
    let made = app.step().await;
    assert_eq!((made.digests, made.parts, made.failed, made.is_more), (9, 18, 1, false));
    assert!(made.error.unwrap().contains("digest fails: "));
    assert_eq!(app.count("digest = 'fails' and status = 'pending'").await, 3);
    app.owner.batch_execute("alter table notification drop constraint refused").await.unwrap();
    assert_eq!(app.step().await, Made { digests: 1, parts: 3, ..Made::default() });
}

#[tokio::test]
async fn what_cannot_be_read_is_told_alone_by_whoever_can() {
    let app = App::start().await;
    let newer = r#"update notification set facts = '{"change": "of a newer version"}' where digest = 'a' and facts->>'at_ms' = '3';
        update notification set event_type = 'of a newer version' where digest = 'a' and facts->>'at_ms' = '4';
        update notification set facts = '{"items": 7}' where digest = 'two' and facts->>'at_ms' = '2'"#;
    app.waiting(1, "two", 2, 10, "").await;
    app.waiting(1, "a", 5, 10, newer).await;
    assert_eq!(app.step().await, Made { digests: 1, parts: 3, released: 4, ..Made::default() });
    assert_eq!(app.count("status = 'pending' and digest is null and event_type <> 'digest'").await, 4);
    let told = "event_type = 'digest' and jsonb_array_length(facts->'items') = 3 and not facts ? 'more'";
    assert_eq!(app.count(told).await, 1);
}

//! The plans of what is done all the time: none reads the history, or all that waits.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::registry::Registry;

use super::*;
use crate::delivery::keeper::Keeper;
use crate::delivery::metrics::Metrics;
use crate::delivery::queue::backlog::backlog;
use crate::delivery::queue::recover;
use crate::delivery::settings::tests::settings;

/// So many messages that were sent, and so many that wait.
async fn fill(lab: &Lab, history: i32, due: i32) {
    let contact = lab.contact(Channel::Email, "active").await;
    let insert = "insert into notification (id, event_type, severity, priority, client_id, user_id, contact_id,
            channel, address, locale, time_zone, facts, status, due_at, occurred_at, expires_at)
        select gen_random_uuid(), 'unlocked', 'info', (n % 100 = 0)::int, 'lock-' || n % 20000, 'u', $1, 'email',
            'a@b', 'en', 'UTC', '{\"at_ms\": 1}', case when n <= $2::int then 'sent' else 'pending' end,
            now() - n * interval '1 millisecond', now(), now() + interval '1 day'
        from generate_series($4::int + 1, least($4::int + 25000, $2::int + $3::int)) n";
    // In portions: a statement may not take long.
    for from in (0..history + due).step_by(25_000) {
        lab.execute(insert, &[&contact, &history, &due, &from]).await;
    }
    lab.execute("analyze notification", &[]).await;
}

/// How often the table was read from end to end.
async fn scans(lab: &Lab) -> i64 {
    let owner = lab.database.owner.get().await.unwrap();
    for client in [&owner, &lab.database.pool.get().await.unwrap()] {
        client.query("select pg_stat_force_next_flush()", &[]).await.unwrap();
    }
    let select = "select seq_scan from pg_stat_user_tables where relname = 'notification'";
    owner.query_one(select, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_lease_costs_the_same_however_much_there_is() {
    let lab = Lab::start().await;
    fill(&lab, 200_000, 100_000).await;
    let before = scans(&lab).await;
    let start = Instant::now();
    for _ in 0..20 {
        let leased = lab.lease("a", 10, 8).await.leased;
        assert_eq!(leased.len(), 10);
        for row in leased {
            lab.settle(row.attempt, "a", &answer(Outcome::Accepted), verdict(Status::Sent)).await;
        }
    }
    let took = start.elapsed();
    recover::leases(&lab.database.pool, |_, _| verdict(Status::Dead)).await.unwrap();
    recover::expired(&lab.database.pool).await.unwrap();
    let email = &backlog(&lab.database.pool).await.unwrap()[0];
    assert_eq!((email.channel.as_str(), email.due, email.later, email.sending), ("email", 99_800, 0, 0));
    assert!(email.due_age_s > 100.0, "{email:?}");
    assert_eq!(scans(&lab).await, before);
    let used = "select idx_scan::text from pg_stat_user_indexes where indexrelname = 'notification_expires'";
    assert_ne!(lab.text(used, &[]).await, "0");
    // Reading all that waits takes longer than this for each lease alone.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn what_an_outage_has_left_expires_in_portions() {
    let lab = Lab::start().await;
    fill(&lab, 0, 10_500).await;
    lab.execute("update notification set expires_at = now() - interval '1 second'", &[]).await;
    let keeper = Keeper {
        pool: lab.database.pool.clone(),
        settings: settings(),
        metrics: Metrics::new(&mut Registry::default()),
        resends: Arc::new(|_, _| true),
        watch: Arc::new(Vec::new),
    };
    let left = "select count(*)::text from notification where status = 'pending'";
    for (is_more, expected) in [(true, "500"), (false, "0")] {
        assert_eq!(keeper.expire().await.unwrap(), is_more);
        assert_eq!(lab.text(left, &[]).await, expected);
    }
}

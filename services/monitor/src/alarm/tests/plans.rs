//! The plans of what is done all the time: none reads all alarms.

use super::*;

const ROWS: i64 = 100_000;

/// A hundred thousand alarms, most of them closed; many locks with open ones.
async fn fill(lab: &Lab) {
    lab.execute(&format!(
        "insert into monitor.alarm (id, client_id, type, severity, state, condition, raised_at, last_at, count,
                value, level, announced_at, changed_at, look_at, closed_at, no, told)
            select gen_random_uuid(), 'lock-' || n % 20000, case when n % 2 = 0 then 'lock_fault' else 'tamper' end,
                'critical', case when n < 20000 then 'active' else 'closed' end, n < 20000,
                timestamptz '2026-02-01Z' + n * interval '1 second', timestamptz '2026-02-01Z', 1, '{{}}', 0,
                timestamptz '2026-03-01Z', timestamptz '2026-02-01Z',
                case when n < 20000 then timestamptz '2026-03-01Z' + n * interval '1 minute' end,
                case when n >= 20000 then timestamptz '2026-02-01Z' + n * interval '1 second' end, 1, true
            from generate_series(0, {ROWS} - 1) n;
         analyze monitor.alarm"
    ))
    .await;
}

/// How often tables were read from end to end, of those that are large.
async fn scans(lab: &Lab) -> i64 {
    let owner = lab.owner.get().await.unwrap();
    let seen = "select pg_stat_force_next_flush()";
    for client in [&owner, &lab.client().await] {
        client.query(seen, &[]).await.unwrap();
    }
    let select =
        "select seq_scan from pg_stat_user_tables where schemaname = 'monitor' and relname = 'alarm'";
    owner.query_one(select, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn neither_lanes_nor_people_nor_the_clock_read_all_alarms() {
    let lab = Lab::start().await;
    fill(&lab).await;
    let before = scans(&lab).await;
    let signals = |what| {
        (0..500)
            .map(|n| signal(&format!("lock-{}", n * 37), AlarmType::DoorForced, what, START_MS))
            .collect::<Vec<_>>()
    };
    lab.apply(signals(What::Begin(Severity::Critical))).await;
    lab.apply(signals(What::End)).await;
    let id = lab.client().await.query_one("select id from alarm limit 1", &[]).await.unwrap().get(0);
    let between = scans(&lab).await;
    lab.act(id, Act::Comment, START_MS).await.unwrap();
    let swept = lab.sweep(START_MS + 2 * DAY_MS).await;
    assert_eq!((swept.is_ours, swept.looked_at), (true, 1_000));
    assert_eq!(lab.prune(START_MS + 400 * DAY_MS).await.alarms, 500);
    let after = scans(&lab).await;
    // The only one is the test's own question for some alarm.
    assert_eq!((between - before, after - between), (1, 0));
}

#[tokio::test]
async fn open_alarms_are_counted_from_an_index() {
    let lab = Lab::start().await;
    fill(&lab).await;
    let metrics = super::super::sweep::metrics::Metrics::default();
    let before = scans(&lab).await;
    metrics.look(&**lab.client().await).await.unwrap();
    assert_eq!(scans(&lab).await, before);
}

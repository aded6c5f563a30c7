//! The plans of the lists: none reads all alarms, or all locks, from end to end.

use jiff::Timestamp;
use latchline_shared::alarm::{Severity, State};
use latchline_shared::kit::api::cursor::{Id, Text, Time};
use latchline_shared::kit::postgres::statement::Statement;
use latchline_shared::kit::postgres::testing;
use latchline_shared::lock_state::LockState;

use super::*;
use crate::query::alarms::{self, Filter, Order};
use crate::query::{changes, locks};

/// Panics if the statement of a page reads a table as a whole.
async fn assert_plan(app: &App, name: &str, mut statement: Statement) {
    statement.push(" limit 101");
    let client = app.pool.get().await.unwrap();
    let plan = testing::plan(&**client, &statement).await.unwrap();
    assert!(!plan.contains("Seq Scan") && plan.contains("Index"), "{name}:\n{plan}");
}

#[tokio::test]
async fn no_list_reads_a_table_from_end_to_end() {
    let app = App::start().await;
    app.fill(0, 200_000).await;
    app.execute(
        "insert into alarm_event (alarm_id, no, at, change, to_state, severity, origin, actor, cause, value, notify, xid) \
             select id, 1, raised_at, 'raised', 'active', severity, 'report', 'monitor', '{}', '{}', true, \
                 (row_number() over () / 100 + 1)::text::xid8 from alarm;
         insert into lock_current (client_id, partition, lock_state, since, battery, last_report_at, last_offset, \
             online, online_since, pending_at, memory) \
         select 'lock-' || n, 0, case when n % 100 = 0 then 'fault' else 'locked' end, now(), 90, now(), n, \
             n % 200 <> 0, now(), case when n % 150 = 0 then now() end, '{}' from generate_series(1, 150000) n;
         analyze alarm; analyze alarm_event; analyze lock_current",
    )
    .await;
    let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let middle = (Time("2026-01-02T00:00:00Z".parse().unwrap()), Id(uuid::Uuid::from_u128(1 << 127)));
    let lock = || Filter { client_id: Some("lock-7".to_owned()), ..Filter::default() };
    let kind = |alarm_type| Filter { alarm_type: Some(alarm_type), ..Filter::default() };
    for (name, filter, after) in [
        ("all", Filter::default(), None),
        ("next page", Filter::default(), Some(middle)),
        ("oldest first", Filter { order: Order::Ascending, ..Filter::default() }, Some(middle)),
        ("one lock", lock(), None),
        ("one lock, next page", lock(), Some(middle)),
        ("open", Filter { is_open: Some(true), ..Filter::default() }, None),
        ("closed", Filter { is_open: Some(false), ..Filter::default() }, None),
        ("active", Filter { state: Some(State::Active), ..Filter::default() }, Some(middle)),
        ("acknowledged", Filter { state: Some(State::Acknowledged), ..Filter::default() }, None),
        (
            "open and critical",
            Filter { is_open: Some(true), severity: Some(Severity::Critical), ..Filter::default() },
            None,
        ),
        ("critical", Filter { min_severity: Some(Severity::Critical), ..Filter::default() }, None),
        ("a type", kind(AlarmType::LockFault), None),
        ("a type that there is not", kind(AlarmType::Tamper), None),
        ("open of a type", Filter { is_open: Some(true), ..kind(AlarmType::LeftUnlocked) }, None),
        (
            "a time",
            Filter {
                since: time("2026-01-02T00:00:00Z"),
                until: time("2026-01-02T01:00:00Z"),
                ..Filter::default()
            },
            None,
        ),
    ] {
        assert_plan(&app, name, alarms::statement(&filter, after)).await;
    }
    let after = Text("lock-3".to_owned());
    for (name, filter) in [
        ("all locks", locks::Filter::default()),
        ("faults", locks::Filter { state: Some(LockState::Fault), ..locks::Filter::default() }),
        ("silent", locks::Filter { is_online: Some(false), ..locks::Filter::default() }),
        ("low", locks::Filter { battery_below: Some(10.0), ..locks::Filter::default() }),
        ("waiting", locks::Filter { is_pending: Some(true), ..locks::Filter::default() }),
    ] {
        assert_plan(&app, name, locks::statement(&filter, Some(&after))).await;
    }
    assert_plan(&app, "pending", locks::pending_statement(None, None)).await;
    let place = Some(changes::Key { xid: 1900, seq: 0 });
    for filter in [
        changes::Filter::default(),
        changes::Filter { client_id: Some("x".to_owned()), ..changes::Filter::default() },
    ] {
        assert_plan(&app, "stream", changes::statement(&filter, place, None, 1_000_000)).await;
    }
}

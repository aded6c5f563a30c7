//! The plans of the lists: none reads a table from end to end.

use latchline_shared::kit::api::cursor::{Id, Text, Time};
use latchline_shared::kit::postgres::statement::Statement;
use latchline_shared::kit::postgres::testing;

use super::*;
use crate::event::Severity;
use crate::query::locks::{self, Side};
use crate::query::notifications::{self, Filter};
use crate::query::users;
use crate::status::Status;

/// Panics if the statement of a page reads a table as a whole.
async fn assert_plan(app: &App, name: &str, mut statement: Statement) {
    statement.push(" limit 101");
    let client = app.pool.get().await.unwrap();
    let plan = testing::plan(&**client, &statement).await.unwrap();
    assert!(!plan.contains("Seq Scan") && plan.contains("Index"), "{name}:\n{plan}");
    // Whatever does not fit is looked at and thrown away: there may not be much of it.
    let removed = plan.lines().filter_map(|line| line.trim().strip_prefix("Rows Removed by Filter: "));
    let removed: u64 = removed.map(|count| count.parse::<u64>().unwrap()).sum();
    assert!(removed < 5_000, "{name}: {removed} rows removed\n{plan}");
}

#[tokio::test]
async fn no_list_reads_a_table_from_end_to_end() {
    let app = App::start().await;
    app.fill(0, 200_000).await;
    app.execute(
        "insert into users (id, name, locale, time_zone) \
             select 'user-' || n, 'x', 'ja', 'Asia/Tokyo' from generate_series(0, 99999) n;
         insert into lock_member (client_id, user_id, lock_name) \
             select 'lock-' || n % 20000, 'user-' || n, '' from generate_series(0, 99999) n;
         insert into lock_member (client_id, user_id, lock_name) \
             select 'lock-' || n, 'user-7', '' from generate_series(0, 19999) n on conflict do nothing;
         analyze notification; analyze users; analyze lock_member",
    )
    .await;
    let middle = (Time("2026-01-02T00:00:00Z".parse().unwrap()), Id(uuid::Uuid::from_u128(1 << 127)));
    let text = |text: &str| Some(text.to_owned());
    let time = |text: &str| Some(text.parse().unwrap());
    let of = Filter::default;
    for (name, filter) in [
        ("all", of()),
        ("a user", Filter { user_id: text("user-7"), ..of() }),
        ("a user that there is not", Filter { user_id: text("x"), ..of() }),
        ("a lock", Filter { client_id: text("lock-7"), ..of() }),
        ("a process", Filter { process_id: text("process-9"), ..of() }),
        ("an alarm", Filter { alarm_id: Some(uuid::Uuid::from_u128(3)), ..of() }),
        ("dead", Filter { status: Some(Status::Dead), ..of() }),
        ("pending", Filter { status: Some(Status::Pending), ..of() }),
        ("a status that there is not", Filter { status: Some(Status::Ambiguous), ..of() }),
        ("dead of a user", Filter { status: Some(Status::Dead), user_id: text("user-7"), ..of() }),
        ("a channel", Filter { channel: Some(Channel::Sms), ..of() }),
        ("critical", Filter { severity: Some(Severity::Critical), ..of() }),
        ("a time", Filter { from: time("2026-01-01T00:00:00Z"), to: time("2026-01-01T01:00:00Z"), ..of() }),
    ] {
        for after in [None, Some(middle)] {
            assert_plan(&app, &format!("{name} {after:?}"), notifications::statement(&filter, after)).await;
        }
    }
    for after in [None, Some(Text("lock-3".to_owned())), Some(Text("user-3".to_owned()))] {
        assert_plan(&app, "users", users::statement(after.clone())).await;
        for side in [Side::User("user-7".to_owned()), Side::Lock("lock-7".to_owned())] {
            assert_plan(&app, &format!("{side:?}"), locks::statement(&side, after.clone())).await;
        }
    }
}

//! The whole system, from the lock's report to the owner's telephone.

use latchline_e2e::stack::notifier::User;
use latchline_e2e::stack::whole::{Whole, Wishes};

use crate::support;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_starts_and_says_where_it_is() {
    let owner = User { id: "owner".to_owned(), phone: 9_012_345_678, locks: vec!["*".to_owned()] };
    let wishes = Wishes { users: &[owner], ..Wishes::default() };
    let whole = Whole::start(support::development().await, wishes).await.unwrap();
    let site = whole.site().unwrap();
    for api in [&site.broker, &site.auditor, &site.monitor, &site.notifier] {
        assert!(api.is_ready().await, "{}", api.url);
    }
    assert_eq!(site.notifier.json("/v1/users").await.unwrap()["users"][0]["id"], "owner");
    for page in [&site.mail, &site.sms] {
        assert_eq!(page.json("/api/messages").await.unwrap()["count"], 0);
    }
    whole.finish().await.unwrap();
}

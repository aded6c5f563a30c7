//! The whole system, from the lock's report to the owner's telephone.

use latchline_e2e::feed::{Feed, Report, Scene};
use latchline_e2e::site::ask::DEADLINE;
use latchline_e2e::stack::notifier::User;
use latchline_e2e::stack::whole::{Whole, Wishes};
use latchline_e2e::stack::{COMMANDS, STATES};
use latchline_shared::kit::clock;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_can_be_asked_and_comes_by_itself() {
    let owner = User { id: "owner".to_owned(), phone: 9_012_345_678, locks: vec!["*".to_owned()] };
    let wishes = Wishes { users: &[owner], ..Wishes::default() };
    let whole = Whole::start(support::development().await, wishes).await.unwrap();
    let site = whole.site().unwrap();
    site.ready(DEADLINE).await.unwrap();
    let (lock, process) = ("asked", "0000000000000001");
    let mut audit = site.auditor.events(&format!("/v1/audit/stream?client_id={lock}")).await.unwrap();
    let mut alarms = site.monitor.events(&format!("/v1/alarms/stream?client_id={lock}")).await.unwrap();
    assert_eq!(site.present(lock).await.unwrap(), None);
    assert_eq!(site.process(lock, process).await.unwrap(), None);

    let feed = Feed::open(&whole.stack.kafka.bootstrap()).unwrap();
    let scene = Scene { lock, n: 1, ts_ms: clock::unix_ms() };
    feed.send(COMMANDS, &scene.command(&whole.stack.secrets.master).unwrap()).unwrap();
    feed.send(STATES, &scene.result()).unwrap();
    let jammed = Report { lock_state: 2, ..Report::of(lock, scene.ts_ms + 50) };
    feed.send(STATES, &jammed.record()).unwrap();
    feed.flush().unwrap();

    let command = site.judged(lock, process, "command", "ok").await.unwrap();
    assert_eq!((command.severity.as_str(), command.publisher.as_deref()), ("info", Some("operator")));
    site.judged(lock, process, "result", "ok").await.unwrap();
    let history = site.history(lock).await.unwrap();
    assert!(site.verify(&history).await.unwrap() as usize >= history.len());
    assert_eq!(site.process(lock, process).await.unwrap().unwrap()["outcome"], "ok");
    let alarm = site.alarm(lock, "lock_fault", "active").await.unwrap();
    assert_eq!((alarm.severity.as_str(), alarm.count), ("critical", 1));
    assert_eq!(site.presents(lock, |lock| lock.lock_state == "fault").await.unwrap().battery, Some(90.0));
    let unlocked = site.told_by_all(lock, "unlocking", |one| one.event_type == "unlocked").await.unwrap();
    assert!(unlocked.is_once(), "{unlocked:?}");
    let told = site.told_by_all(lock, "the alarm", |one| one.alarm_id.as_deref() == Some(alarm.id.as_str()));
    assert!(told.await.unwrap().is_once());

    let found = audit.find("the command", DEADLINE, |event| event["kind"] == "command").await.unwrap();
    assert_eq!((found.name.as_str(), found.data["verdict"].as_str()), ("event", Some("ok")));
    let raised = alarms.find("the alarm", DEADLINE, |event| event["type"] == "lock_fault").await.unwrap();
    assert_eq!((raised.name.as_str(), raised.data["alarm_id"].as_str()), ("change", Some(alarm.id.as_str())));
    drop((audit, alarms));
    whole.finish().await.unwrap();
}

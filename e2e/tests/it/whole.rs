//! The whole system, from the lock's report to the owner's telephone.

use std::time::Duration;

use latchline_e2e::feed::{Feed, Report, Scene};
use latchline_e2e::journey::{path, traffic};
use latchline_e2e::kafka::Kafka;
use latchline_e2e::site::ask::DEADLINE;
use latchline_e2e::stack::notifier::User;
use latchline_e2e::stack::whole::{Whole, Wishes};
use latchline_e2e::stack::{COMMANDS, LISTENERS, STATES, service};
use latchline_shared::kit::clock;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support;

/// Longest wait until everything is accounted for.
const LONG: Duration = Duration::from_secs(180);

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_way_on_the_development_kafka() {
    the_whole_way(support::development().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_way_on_the_chosen_kafka() {
    let Some(kafka) = support::chosen().await else { return };
    the_whole_way(kafka).await;
}

/// What is done to containers, done to processes: the way once, then each restarted under traffic.
#[expect(clippy::disallowed_macros, reason = "what was seen is worth reading")]
async fn the_whole_way(kafka: Kafka) {
    let owner = User { id: "owner".to_owned(), phone: 9_012_345_678, locks: vec!["*".to_owned()] };
    let wishes = Wishes { users: &[owner], ..Wishes::default() };
    let mut whole = Whole::start(kafka, wishes).await.unwrap();
    let site = whole.site().unwrap();
    let account = path::run(&site, &mut |line| println!("{line}")).await.unwrap();
    assert_eq!((account.judged.len(), account.alarms.len()), (4, 4));

    let (stop, stopped) = oneshot::channel::<()>();
    let (begun, begins) = oneshot::channel::<()>();
    let mut begun = Some(begun);
    let mut say = |_: &str| {
        if let Some(begun) = begun.take() {
            begun.send(()).unwrap();
        }
    };
    let (auditor, monitor) = (&mut whole.audit.auditor, &mut whole.monitor.monitor);
    let (notifier, broker) = (&mut whole.notifier.notifier, &mut whole.stack.broker);
    let restarts = async {
        // If it does not begin, the traffic says why.
        if !matches!(timeout(LONG, begins).await, Ok(Ok(()))) {
            return;
        }
        for (program, listeners) in [
            (auditor, &service::LISTENERS[..]),
            (monitor, &service::LISTENERS),
            (notifier, &service::LISTENERS),
            (broker, &LISTENERS),
        ] {
            program.stop().await.unwrap();
            program.start(listeners).await.unwrap();
            site.ready(DEADLINE).await.unwrap();
        }
        drop(stop);
    };
    let (lines, ()) =
        tokio::join!(traffic::run(&site, &mut say, async { drop(stopped.await) }, LONG), restarts);
    for line in lines.unwrap() {
        println!("{line}");
    }
    account.check(&site).await.unwrap();
    whole.finish().await.unwrap();
}

//! Dispatchers with providers that do as they are told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use latchline_shared::kit::postgres::listen::Listener;
use latchline_shared::kit::testing::eventually;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::channel::{Content, Message};
use crate::delivery::attempt::Bench;
use crate::delivery::breaker::Condition;
use crate::delivery::desk::Desk;
use crate::delivery::dispatch::{Dispatcher, Slots};
use crate::delivery::ends::Ends;
use crate::delivery::keeper::Keeper;
use crate::delivery::metrics::Metrics;
use crate::delivery::provider::Provider;
use crate::delivery::settings::Settings;

pub(super) const SOON: Duration = Duration::from_secs(20);

type Script = Arc<dyn Fn(&Message) -> Option<Outcome> + Send + Sync>;

/// Answers as the script says; without an answer it hangs.
#[derive(Clone)]
pub(super) struct Scripted {
    name: &'static str,
    resends: bool,
    has_hosts: bool,
    script: Script,
    /// How often each was sent.
    pub(super) sent: Arc<Mutex<HashMap<Uuid, usize>>>,
}

impl Scripted {
    pub(super) fn new(
        name: &'static str,
        script: impl Fn(&Message) -> Option<Outcome> + Send + Sync + 'static,
    ) -> Self {
        Self { name, resends: true, has_hosts: false, script: Arc::new(script), sent: Arc::default() }
    }

    pub(super) fn sent(&self) -> HashMap<Uuid, usize> {
        self.sent.lock().unwrap().clone()
    }
}

impl Provider for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn resends_ambiguous(&self) -> bool {
        self.resends
    }

    fn rps(&self) -> u32 {
        0
    }

    fn host(&self, address: &str) -> Option<String> {
        self.has_hosts.then(|| address.to_owned())
    }

    async fn send(&self, message: &Message) -> Answer {
        *self.sent.lock().unwrap().entry(message.id).or_default() += 1;
        match (self.script)(message) {
            Some(outcome) => {
                tokio::task::yield_now().await;
                answer(outcome)
            }
            None => std::future::pending().await,
        }
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        base: Duration::from_millis(20),
        cap: Duration::from_millis(100),
        attempts_max: 4,
        ambiguous_max: 3,
        breaker_failures: 3,
        breaker_within: Duration::from_secs(60),
        breaker_open: Duration::from_secs(60),
    }
}

pub(super) fn slots(timeout: Duration) -> Slots {
    Slots { ordinary: 3, critical: 1, timeout }
}

/// A dispatcher at work.
struct Work {
    desk: Arc<Desk<Scripted>>,
    token: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

pub(super) fn bench(
    pool: &deadpool_postgres::Pool,
    owner: &str,
    providers: &[Scripted],
    timeout: Duration,
) -> Bench<Scripted> {
    Bench {
        desk: Arc::new(Desk::new(Channel::Email, providers.to_vec(), &settings())),
        pool: pool.clone(),
        owner: owner.to_owned(),
        settings: settings(),
        timeout,
        render: Arc::new(|_, _, told| match told.facts.lock_name.as_str() {
            "nonsense" => Err("no words".to_owned()),
            name => Ok(Content::Sms { text: name.to_owned() }),
        }),
        metrics: Metrics::new(&mut Registry::default()),
        ends: Ends::default(),
    }
}

impl Work {
    fn start(lab: &Lab, owner: &str, providers: &[Scripted], timeout: Duration) -> Self {
        let bench = bench(&lab.database.pool, owner, providers, timeout);
        let listener = Listener::new(&lab.database.postgres, "tests", "latchline_notifier");
        let (desk, token) = (Arc::clone(&bench.desk), CancellationToken::new());
        let dispatcher = Dispatcher::new(bench, slots(timeout), Duration::from_millis(500), listener.wakes());
        let running = token.clone();
        let task = tokio::spawn(async move {
            // Who listens as long as somebody works.
            let heard = CancellationToken::new();
            let listening = tokio::spawn(listener.run(heard.clone()));
            let done = dispatcher.run(running).await;
            heard.cancel();
            listening.await??;
            done
        });
        Self { desk, token, task }
    }

    async fn end(self) {
        self.token.cancel();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }
}

impl Lab {
    pub(super) async fn count(&self, status: &str) -> i64 {
        let select = "select count(*) from notification where status = $1";
        self.database.owner.get().await.unwrap().query_one(select, &[&status]).await.unwrap().get(0)
    }

    pub(super) async fn emails(&self, count: usize) {
        let contact = self.contact(Channel::Email, "active").await;
        for _ in 0..count {
            self.insert(&row(contact)).await;
        }
    }
}

#[tokio::test]
async fn a_critical_message_goes_out_though_all_others_hang() {
    let lab = Lab::start().await;
    lab.emails(10).await;
    let relay = Scripted::new("relay", |message| {
        (message.severity == crate::event::Severity::Critical).then_some(Outcome::Accepted)
    });
    let work = Work::start(&lab, "a", std::slice::from_ref(&relay), SOON);
    eventually(SOON, "all slots hang", async || relay.sent().len() == 3).await;
    for _ in 0..3 {
        let critical = lab.email("critical").await;
        lab.execute("select pg_notify('latchline_notifier', 'email')", &[]).await;
        eventually(SOON, "it is sent", async || lab.status(critical).await == "sent").await;
    }
    assert_eq!((lab.count("sending").await, lab.count("pending").await), (3, 7));
    // The end does not wait for what hangs.
    work.end().await;
}

#[tokio::test]
async fn each_end_is_followed_by_what_it_asks_for() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    let mut rows = Vec::new();
    for (word, status, attempts) in [
        ("accepted", "sent", "1 accepted 250"),
        ("permanent", "dead", "1 permanent 250"),
        ("transient", "dead", "1 transient 250, 2 transient 250, 3 transient 250, 4 transient 250"),
        ("ambiguous", "ambiguous", "1 ambiguous 250, 2 ambiguous 250, 3 ambiguous 250"),
        ("nonsense", "dead", "1 permanent template"),
        ("hangs", "ambiguous", "1 ambiguous timeout, 2 ambiguous timeout, 3 ambiguous timeout"),
    ] {
        let facts = json!({ "client_id": "lock-1", "at_ms": 1, "lock_name": word });
        rows.push((lab.insert(&Row { facts, ..row(contact) }).await, status, attempts));
    }
    let relay = Scripted::new("relay", |message| match &message.content {
        Content::Sms { text } => Outcome::from_name(text),
        _ => panic!("no text"),
    });
    // A breaker that is not the matter here.
    let mut bench = bench(&lab.database.pool, "a", &[relay], Duration::from_millis(50));
    let patient = Settings { breaker_failures: 100, ..settings() };
    bench.desk = Arc::new(Desk::new(Channel::Email, vec![bench_relay(&bench)], &patient));
    let listener = Listener::new(&lab.database.postgres, "tests", "latchline_notifier");
    let token = CancellationToken::new();
    let dispatcher = Dispatcher::new(bench, slots(SOON), SOON, listener.wakes());
    let task = tokio::spawn(dispatcher.run(token.clone()));
    for (id, status, attempts) in rows {
        eventually(SOON, status, async || lab.status(id).await == status).await;
        assert_eq!(lab.attempts(id).await, attempts);
    }
    token.cancel();
    task.await.unwrap().unwrap();
}

fn bench_relay(bench: &Bench<Scripted>) -> Scripted {
    let pass = bench.desk.begin(0, "", 1, tokio::time::Instant::now()).unwrap();
    bench.desk.provider(&pass).clone()
}

#[tokio::test]
async fn the_next_relay_stands_in_and_without_one_nothing_is_leased() {
    let lab = Lab::start().await;
    lab.emails(30).await;
    let broken = Scripted::new("first", |_| Some(Outcome::Unavailable));
    let good = Scripted::new("second", |_| Some(Outcome::Accepted));
    let work = Work::start(&lab, "a", &[broken.clone(), good.clone()], SOON);
    eventually(SOON, "all are sent", async || lab.count("sent").await == 30).await;
    // At most those under way when the third failed.
    assert!((3..=6).contains(&broken.sent().values().sum::<usize>()), "{:?}", broken.sent());
    assert_eq!(good.sent().len(), 30);
    assert!(matches!(work.desk.seen()[0].condition, Condition::Open(_)));
    work.end().await;

    lab.emails(10).await;
    let broken = Scripted::new("only", |_| Some(Outcome::Unavailable));
    let work = Work::start(&lab, "b", std::slice::from_ref(&broken), SOON);
    eventually(SOON, "it opens", async || matches!(work.desk.seen()[0].condition, Condition::Open(_))).await;
    eventually(SOON, "all are put down", async || lab.count("pending").await == 10).await;
    let tried: usize = broken.sent().values().sum();
    assert!((3..=6).contains(&tried), "{tried}");
    lab.emails(10).await;
    // Nobody to ask for: the queue is not looked at.
    assert!(work.desk.next(tokio::time::Instant::now()).is_err());
    assert_eq!((broken.sent().values().sum::<usize>(), lab.count("pending").await), (tried, 20));
    work.end().await;
}

#[tokio::test]
async fn a_host_that_fails_is_left_alone_and_no_other() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    for n in 0..40 {
        let address = if n % 2 == 0 { "https://bad" } else { "https://good" };
        lab.insert(&Row { address: address.to_owned(), ..row(contact) }).await;
    }
    let mut receivers = Scripted::new("webhook", |message| {
        Some(if message.address == "https://bad" { Outcome::Unavailable } else { Outcome::Accepted })
    });
    receivers.has_hosts = true;
    let work = Work::start(&lab, "a", std::slice::from_ref(&receivers), SOON);
    eventually(SOON, "the good are sent", async || lab.count("sent").await == 20).await;
    eventually(SOON, "all of the bad wait", async || {
        let select = "select count(*)::text from notification where status = 'pending' and due_at > now() + interval '30 s'";
        lab.text(select, &[]).await.parse::<i32>().unwrap() == 20
    })
    .await;
    let select = "select count(*)::text from notification where address = 'https://bad' and attempts = 0
        and not exists (select from attempt where notification_id = id)";
    assert!(lab.text(select, &[]).await.parse::<i32>().unwrap() >= 14);
    let seen = work.desk.seen();
    assert_eq!((seen.len(), seen[0].condition, seen[1].name.as_str()), (2, Condition::Closed, "https://bad"));
    let select = "select string_agg(distinct provider, ' ' order by provider) from attempt";
    assert_eq!(lab.text(select, &[]).await, "https://bad https://good");
    work.end().await;
}

#[tokio::test]
async fn a_host_that_takes_its_time_leaves_places_for_others() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    for host in std::iter::repeat_n("https://slow", 20).chain(std::iter::repeat_n("https://good", 20)) {
        lab.insert(&Row { address: host.to_owned(), ..row(contact) }).await;
    }
    let mut receivers =
        Scripted::new("webhook", |message| (message.address != "https://slow").then_some(Outcome::Accepted));
    receivers.has_hosts = true;
    let work = Work::start(&lab, "a", std::slice::from_ref(&receivers), SOON * 2);
    eventually(SOON, "the others are sent", async || lab.count("sent").await == 20).await;
    // Of four places, two.
    assert_eq!((receivers.sent().len(), receivers.sent().values().max()), (22, Some(&1)));
    work.end().await;
}

#[tokio::test]
async fn two_instances_never_send_a_row_twice() {
    let lab = Lab::start().await;
    lab.emails(300).await;
    let relay = Scripted::new("relay", |_| Some(Outcome::Accepted));
    let works = ["a", "b"].map(|owner| Work::start(&lab, owner, std::slice::from_ref(&relay), SOON));
    eventually(SOON, "all are sent", async || lab.count("sent").await == 300).await;
    let sent = relay.sent();
    assert_eq!((sent.len(), sent.values().max()), (300, Some(&1)));
    for work in works {
        work.end().await;
    }
}

#[tokio::test]
async fn what_a_dead_owner_had_is_settled_as_it_may_be() {
    let lab = Lab::start().await;
    for (resends, status) in [(true, "sent"), (false, "ambiguous")] {
        let id = lab.email("info").await;
        let mut relay = Scripted::new("relay", |_| None);
        relay.resends = resends;
        let work = Work::start(&lab, "dead", std::slice::from_ref(&relay), SOON);
        eventually(SOON, "it is sent", async || relay.sent().len() == 1).await;
        work.task.abort();
        let _ = work.task.await;
        lab.execute(
            "update notification set lease_until = now() - interval '1 second' where id = $1",
            &[&id],
        )
        .await;
        let keeper = Keeper {
            pool: lab.database.pool.clone(),
            settings: settings(),
            metrics: Metrics::new(&mut Registry::default()),
            resends: Arc::new(move |_, _| resends),
            watch: Arc::new(Vec::new),
        };
        keeper.recover().await.unwrap();
        let relay = Scripted::new("relay", |_| Some(Outcome::Accepted));
        let work = Work::start(&lab, "next", std::slice::from_ref(&relay), SOON);
        eventually(SOON, status, async || lab.status(id).await == status).await;
        assert!(lab.attempts(id).await.starts_with("1 ambiguous lost"));
        work.end().await;
        assert_eq!(relay.sent().len(), usize::from(resends));
    }
}

#[tokio::test]
async fn what_a_newer_version_has_written_waits_for_it() {
    let lab = Lab::start().await;
    let contact = lab.contact(Channel::Email, "active").await;
    let id = lab.insert(&Row { event_type: "newer", ..row(contact) }).await;
    let relay = Scripted::new("relay", |_| Some(Outcome::Accepted));
    let work = Work::start(&lab, "a", std::slice::from_ref(&relay), SOON);
    eventually(SOON, "it was tried", async || {
        lab.attempts(id).await.contains("2 unavailable unreadable") && lab.status(id).await == "pending"
    })
    .await;
    lab.execute("update notification set event_type = 'unlocked' where id = $1", &[&id]).await;
    eventually(SOON, "it is sent", async || lab.status(id).await == "sent").await;
    assert_eq!(relay.sent(), HashMap::from([(id, 1)]));
    work.end().await;
}

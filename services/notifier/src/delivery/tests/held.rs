//! Dispatchers whose provider is held: what is under way together, at an end, without Postgres.

use std::sync::{Arc, Mutex};

use latchline_shared::kit::postgres::development::DevelopmentPostgres;
use latchline_shared::kit::postgres::listen::Listener;
use latchline_shared::kit::testing::eventually;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::dispatch::{SOON, Scripted, bench, settings, slots};
use super::*;
use crate::channel::{Content, Message};
use crate::delivery::attempt::Bench;
use crate::delivery::desk::Desk;
use crate::delivery::dispatch::{Dispatcher, Slots};
use crate::delivery::ends::Ends;
use crate::delivery::metrics::Metrics;
use crate::delivery::provider::Provider;
use crate::migrations::{ROLE, SCHEMA};

/// A provider that waits for a gate.
struct Held {
    inner: Scripted,
    gate: watch::Receiver<bool>,
}

impl Provider for Held {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn resends_ambiguous(&self) -> bool {
        true
    }

    fn rps(&self) -> u32 {
        0
    }

    async fn send(&self, message: &Message) -> Answer {
        self.inner.sent.lock().unwrap().entry(message.id).or_default();
        self.gate.clone().wait_for(|open| *open).await.unwrap();
        self.inner.send(message).await
    }
}

/// A dispatcher whose provider waits for a gate.
fn held(
    lab: &Lab,
    relay: &Scripted,
    gate: watch::Receiver<bool>,
    slots: Slots,
) -> (JoinHandle<anyhow::Result<()>>, CancellationToken) {
    let held = Held { inner: relay.clone(), gate };
    let bench = Bench {
        desk: Arc::new(Desk::new(Channel::Email, vec![held], &settings())),
        pool: lab.database.pool.clone(),
        owner: "a".to_owned(),
        settings: settings(),
        timeout: SOON,
        render: Arc::new(|_, _, _| Ok(Content::Sms { text: String::new() })),
        metrics: Metrics::new(&mut Registry::default()),
        ends: Ends::default(),
    };
    let listener = Listener::new(&lab.database.postgres, "tests", "latchline_notifier");
    let token = CancellationToken::new();
    let dispatcher = Dispatcher::new(bench, slots, SOON, listener.wakes());
    (tokio::spawn(dispatcher.run(token.clone())), token)
}

async fn lab_that_can_stop() -> (DevelopmentPostgres, Lab) {
    let server = DevelopmentPostgres::start().unwrap();
    let postgres = server.settings("postgres");
    SCHEMA.migrate(&postgres).await.unwrap();
    let pool = postgres.pool_in("tests", Some(ROLE), SCHEMA.name).unwrap();
    let owner = postgres.pool_in("tests", None, SCHEMA.name).unwrap();
    let lab = Lab { database: Database { postgres, pool, owner } };
    lab.execute("insert into users (id, name, locale, time_zone) values ('u', 'U', 'en', 'UTC')", &[]).await;
    (server, lab)
}

#[tokio::test]
async fn what_ends_together_is_written_together() {
    const TOGETHER: usize = 20;
    let lab = Lab::start().await;
    lab.emails(TOGETHER).await;
    let (open, gate) = watch::channel(false);
    let relay = Scripted::new("relay", |_| Some(Outcome::Accepted));
    let (task, token) = held(&lab, &relay, gate, Slots { ordinary: TOGETHER, ..slots(SOON) });
    eventually(SOON, "all are under way", async || relay.sent().len() == TOGETHER).await;
    open.send(true).unwrap();
    eventually(SOON, "all are sent", async || lab.count("sent").await == TOGETHER as i64).await;
    token.cancel();
    task.await.unwrap().unwrap();
    // The first on its own, and while that was on its way, all others.
    let statements = lab.text("select count(distinct xmin::text)::text from notification", &[]).await;
    assert!(statements.parse::<usize>().unwrap() <= TOGETHER / 2, "{statements}");
}

#[tokio::test]
async fn an_end_waits_for_what_is_under_way_and_begins_nothing() {
    let lab = Lab::start().await;
    lab.emails(10).await;
    let (open, gate) = watch::channel(false);
    let relay = Scripted::new("relay", |_| Some(Outcome::Accepted));
    let (task, token) = held(&lab, &relay, gate, slots(SOON));
    eventually(SOON, "slots are busy", async || relay.sent().len() == 3).await;
    token.cancel();
    open.send(true).unwrap();
    tokio::time::timeout(SOON, task).await.unwrap().unwrap().unwrap();
    assert_eq!((lab.count("sent").await, lab.count("pending").await, relay.sent().len()), (3, 7, 3));
}

#[tokio::test]
async fn what_must_not_begin_is_given_back_whenever_postgres_takes_it() {
    let (mut server, lab) = lab_that_can_stop().await;
    lab.emails(3).await;
    let relay = Scripted::new("relay", |_| Some(Outcome::Accepted));
    let bench = bench(&lab.database.pool, "a", &[relay], SOON);
    let refused: Vec<_> =
        lab.lease("a", 3, 3).await.leased.iter().map(|row| (row.attempt, Duration::ZERO)).collect();
    server.stop();
    let task = tokio::spawn(async move { bench.put_back(&refused).await });
    server.resume().unwrap();
    tokio::time::timeout(SOON * 2, task).await.unwrap().unwrap();
    eventually(SOON, "they are as they were", async || match lab.database.owner.get().await {
        Ok(client) => {
            let select = "select count(*) from notification where status = 'pending' and attempts = 0
                and not exists (select from attempt)";
            client.query_one(select, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 3)
        }
        Err(_) => false,
    })
    .await;
}

#[tokio::test]
async fn postgres_goes_away_and_comes_back() {
    let (mut server, lab) = lab_that_can_stop().await;
    lab.emails(40).await;
    let (open, gate) = watch::channel(false);
    let seen = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&seen);
    let relay = Scripted::new("relay", move |_| {
        *counted.lock().unwrap() += 1;
        Some(Outcome::Accepted)
    });
    let (task, token) = held(&lab, &relay, gate, slots(SOON));
    eventually(SOON, "slots are busy", async || relay.sent().len() == 3).await;
    server.stop();
    // Accepted while there is no Postgres: the ends are written when it is back.
    open.send(true).unwrap();
    eventually(SOON, "they are accepted", async || *seen.lock().unwrap() == 3).await;
    server.resume().unwrap();
    eventually(SOON * 2, "all are sent", async || match lab.database.owner.get().await {
        Ok(client) => {
            let select = "select count(*) from notification where status = 'sent'";
            client.query_one(select, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 40)
        }
        Err(_) => false,
    })
    .await;
    let sent = relay.sent();
    assert_eq!((sent.len(), sent.values().max()), (40, Some(&1)));
    token.cancel();
    task.await.unwrap().unwrap();
}

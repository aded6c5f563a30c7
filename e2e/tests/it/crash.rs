//! Processes die without a word, under load, and nothing that was acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use latchline_e2e::kafka::Kafka;
use latchline_e2e::stack::{LISTENERS, STATES, Stack};
use latchline_shared::kit::testing::eventually;

use crate::sender::{self, Outages, Plan};
use crate::support::{self, DEADLINE};

const PLAN: Plan = Plan { locks: 100, messages: 500, breaks_per_mille: 2, outages: Outages::Expected };
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_killed_on_the_development_kafka() {
    the_broker_is_killed(support::development().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_killed_on_the_chosen_kafka() {
    let Some(kafka) = support::chosen().await else { return };
    the_broker_is_killed(kafka).await;
}

async fn the_broker_is_killed(kafka: Kafka) {
    let mut stack = Stack::start(kafka).await.unwrap();
    let progress = Arc::new(AtomicUsize::new(0));
    let reading =
        tokio::spawn(sender::read_all(stack.reader(&[STATES]).await.unwrap(), PLAN, progress.clone()));
    let fleet = sender::start(&stack, PLAN, "crash");
    for kill in 1..=KILLS {
        until(&progress, PLAN.total() * kill / (KILLS + 1)).await;
        stack.broker.kill().unwrap();
        stack.broker.start(&LISTENERS).await.unwrap();
    }
    let breaks: u64 = fleet.join_all().await.iter().sum();
    assert!(breaks >= PLAN.locks, "the kills broke {breaks} connections");
    sender::check_order(&reading.await.unwrap(), PLAN);
    stack.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_killed() {
    // Only a node of our own is killed.
    let Some(kafka @ Kafka::Apache(_)) = support::chosen().await else { return };
    let mut stack = Stack::start(kafka).await.unwrap();
    stack.broker.expect("kafka cannot be reached");
    let progress = Arc::new(AtomicUsize::new(0));
    let reading =
        tokio::spawn(sender::read_all(stack.reader(&[STATES]).await.unwrap(), PLAN, progress.clone()));
    let fleet = sender::start(&stack, PLAN, "kafka_is_killed");
    let Kafka::Apache(apache) = &mut stack.kafka else { unreachable!() };
    until(&progress, PLAN.total() / 2).await;
    apache.kill().unwrap();
    apache.start().await.unwrap();
    fleet.join_all().await;
    sender::check_order(&reading.await.unwrap(), PLAN);
    stack.finish().await.unwrap();
}

/// Waits until so many records have been read: the locks are in the middle of their work.
async fn until(progress: &AtomicUsize, count: usize) {
    let reached = async || progress.load(Ordering::Relaxed) >= count;
    eventually(DEADLINE, &format!("{count} records are stored"), reached).await;
}

//! The order of one lock's messages survives reconnects: nothing is missing, nothing overtakes, and
//! nothing is stored twice that does not say so.

use latchline_e2e::kafka::Kafka;
use latchline_e2e::stack::{STATES, Stack};

use crate::sender::{self, Outages, Plan};
use crate::support;

const PLAN: Plan = Plan { locks: 200, messages: 500, breaks_per_mille: 8, outages: Outages::Unexpected };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_development_kafka() {
    check(support::development().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_chosen_kafka() {
    let Some(kafka) = support::chosen().await else { return };
    check(kafka).await;
}

async fn check(kafka: Kafka) {
    let stack = Stack::start(kafka).await.unwrap();
    // Read meanwhile: the development Kafka keeps 5 MiB of each partition.
    let reading =
        tokio::spawn(sender::read_all(stack.reader(&[STATES]).await.unwrap(), PLAN, Default::default()));
    let breaks: u64 = sender::start(&stack, PLAN, "order").join_all().await.iter().sum();
    assert!(breaks > PLAN.locks, "too few breaks to prove anything: {breaks}");
    sender::check_order(&reading.await.unwrap(), PLAN);
    stack.finish().await.unwrap();
}

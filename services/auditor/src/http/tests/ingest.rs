//! The polling order under writers that commit late.

use std::collections::BTreeMap;

use latchline_shared::kit::testing::{Seed, eventually};

use super::*;

const WRITERS: i16 = 4;
const TRANSACTIONS: usize = 25;

/// Writers hold their transactions open for different times, so rows become visible in another
/// order than their transactions began. Numbers of a chain tell what a poller must have seen.
#[tokio::test]
async fn a_poller_sees_each_row_once_however_late_it_is_committed() {
    let app = App::start().await;
    let mut random = Seed::of_this_run().random("a_poller_sees_each_row_once");
    let mut writers = Vec::new();
    let mut total = 0;
    for chain_id in 0..WRITERS {
        let sizes: Vec<_> = (0..TRANSACTIONS).map(|_| 1 + random.index(4)).collect();
        let pauses: Vec<_> = (0..TRANSACTIONS).map(|_| Duration::from_millis(random.below(40))).collect();
        let aborts: Vec<_> = (0..TRANSACTIONS).map(|_| random.chance(10)).collect();
        total += sizes.iter().zip(&aborts).filter(|(_, aborted)| !**aborted).map(|(n, _)| n).sum::<usize>();
        let pool = app.pool.clone();
        writers.push(tokio::spawn(async move {
            for ((size, pause), aborted) in sizes.into_iter().zip(pauses).zip(aborts) {
                let mut client = pool.get().await.unwrap();
                let transaction = client.transaction().await.unwrap();
                let events = (0..size).map(|_| command("1", now_ms())).collect();
                history::append(&transaction, chain_id, events).await.unwrap();
                tokio::time::sleep(pause).await;
                if !aborted {
                    transaction.commit().await.unwrap();
                }
            }
        }));
    }
    let mut seen: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    let mut after = String::new();
    eventually(SOON, "the poller has seen all rows", async || {
        let path = format!("/v1/audit/events?order=ingest&kind=command&limit=7{after}");
        let page = app.get(&path).await;
        places(&page).into_iter().for_each(|place| *seen.entry(place).or_default() += 1);
        after = format!("&after={}", page.json()["next"].as_str().expect("there always is a next"));
        seen.len() == total && writers.iter().all(|writer| writer.is_finished())
    })
    .await;
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    let last = app.get(&format!("/v1/audit/events?order=ingest&kind=command{after}")).await;
    assert!(places(&last).is_empty());
    let reads = app.reads().await;
    assert_eq!(reads.len(), 1, "a poller that goes on is one read: {reads:?}");
}

#[tokio::test]
async fn rows_of_a_transaction_that_is_older_than_one_that_runs_wait() {
    let app = App::start().await;
    let mut slow = app.owner.get().await.unwrap();
    let open = slow.transaction().await.unwrap();
    history::append(&open, 1, vec![command("slow", now_ms())]).await.unwrap();
    app.append(0, vec![command("fast", now_ms())]).await;

    let path = "/v1/audit/events?order=ingest&kind=command";
    let page = app.get(path).await;
    assert!(places(&page).is_empty(), "the fast row would be shown before the slow one");
    let after = page.json()["next"].as_str().unwrap().to_owned();
    open.commit().await.unwrap();
    // Other tests of this server write too, and their transactions hold ours back.
    eventually(SOON, "both rows are shown", async || {
        let page = app.get(&format!("{path}&after={after}")).await;
        places(&page) == [(1, 1), (0, 1)]
    })
    .await;
}

//! Each record has its effect once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_stored_once_over_rebalances() {
    let lab = Lab::new().await;
    let first = lab.member();
    first.until_ready().await;
    let (mut second, mut third) = (None, None);
    for round in 0..20 {
        for partition in 0..PARTITIONS {
            lab.produce_many("a", partition, 40).await;
            lab.produce_many("b", partition, 20).await;
        }
        match round {
            3 => second = Some(lab.member()),
            10 => third = Some(lab.member()),
            _ => {}
        }
        if let (6, Some(second)) = (round, &second) {
            second.until_ready().await;
        }
        if let (12, Some(third)) = (round, &third) {
            third.until_ready().await;
        }
        if round == 14 {
            second.take().unwrap().end().await;
        }
    }
    lab.until_effects(20 * 3 * 60).await;
    for partition in 0..PARTITIONS {
        assert_eq!(lab.effects("a", partition).await, (0..800).collect::<Vec<_>>(), "a {partition}");
        assert_eq!(lab.effects("b", partition).await, (0..400).collect::<Vec<_>>(), "b {partition}");
    }
    assert!(first.metrics.rebalances.get() >= 3, "{}", first.metrics.rebalances.get());
    first.end().await;
    third.unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_whose_effect_is_stored_are_dropped() {
    let lab = Lab::new().await;
    let member = lab.member();
    member.until_ready().await;
    // As a member does that had the partition before and was still committing.
    lab.execute("update lab.consumer_offset set next_offset = 5 where stream = 'a' and partition = 1").await;
    lab.produce_many("a", 1, 10).await;
    lab.until_effects(5).await;
    assert_eq!(lab.effects("a", 1).await, [5, 6, 7, 8, 9]);
    assert_eq!(member.metrics.redelivered.get(), 5);
    assert_eq!(member.metrics.fenced.get(), 0);
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_offset_was_moved_is_fenced() {
    let lab = Lab::new().await;
    let member = lab.member();
    lab.produce_many("a", 1, 3).await;
    lab.until_effects(3).await;
    lab.execute("update lab.consumer_offset set next_offset = 5 where stream = 'a' and partition = 1").await;
    lab.produce_many("a", 1, 4).await;
    lab.until_effects(5).await;
    assert_eq!(lab.effects("a", 1).await, [0, 1, 2, 5, 6]);
    assert_eq!(member.metrics.fenced.get(), 1);
    eventually(SOON, "ready again", async || member.reason().is_empty()).await;
    member.end().await;
}

/// Two groups share one table of offsets: each member believes in its assignment, and so they fence
/// each other again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_that_have_the_same_partitions_store_nothing_twice() {
    let lab = Lab::new().await;
    let rival = Consumer { group: "rival".to_owned(), ..lab.settings() };
    let members = [lab.member(), lab.member_with(rival, lab.pool.clone(), Semaphore::MAX_PERMITS)];
    for member in &members {
        member.until_ready().await;
    }
    for round in 1..=10 {
        for partition in 0..PARTITIONS {
            lab.produce_many("a", partition, 50).await;
            lab.produce_many("b", partition, 50).await;
        }
        lab.until_effects(round * 300).await;
    }
    for (stream, partition) in ["a", "b"].into_iter().flat_map(|s| (0..PARTITIONS).map(move |p| (s, p))) {
        let effects = lab.effects(stream, partition).await;
        assert_eq!(effects, (0..500).collect::<Vec<_>>(), "{stream} {partition}");
    }
    let fenced: u64 = members.iter().map(|member| member.metrics.fenced.get()).sum();
    assert!(fenced > 0, "they did not meet");
    for member in members {
        member.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_is_seen_here_and_in_kafka() {
    let lab = Lab::new().await;
    let member = lab.member_with(lab.settings(), lab.pool.clone(), 0);
    member.until_ready().await;
    lab.produce_many("a", 1, 10).await;
    member.until_metric("kafka_lag_records{stream=\"a\",partition=\"1\"} 10").await;
    member.service.permits[1].add_permits(1);
    member.until_metric("kafka_lag_records{stream=\"a\",partition=\"1\"} 0").await;
    member.until_metric("kafka_records_total{stream=\"a\"} 10").await;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", lab.kafka.bootstrap())
        .set("group.id", "lab")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition("a", 1);
    let committed = async || {
        let offsets = consumer.committed_offsets(partitions.clone(), SOON).unwrap();
        offsets.elements()[0].offset() == Offset::Offset(10)
    };
    eventually(SOON, "kafka knows the offset", committed).await;
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_present_transaction_ends_before_the_member_does() {
    let lab = Lab::new().await;
    lab.produce_many("a", 1, 10).await;
    let member = lab.member_with(lab.settings(), lab.pool.clone(), 0);
    eventually(SOON, "a transaction", async || member.service.is_entered.load(Ordering::SeqCst)).await;
    let service = Arc::clone(&member.service);
    let token = member.token.clone();
    let end = tokio::spawn(member.end());
    token.cancelled().await;
    service.permits[1].add_permits(1);
    end.await.unwrap();
    assert_eq!(lab.effects("a", 1).await, (0..10).collect::<Vec<_>>());
    assert_eq!(
        lab.number("select next_offset from lab.consumer_offset where stream = 'a' and partition = 1").await,
        10
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_takes_too_long_is_rolled_back() {
    let lab = Lab::new().await;
    lab.produce_many("a", 1, 10).await;
    let settings = Consumer { drain_timeout: Duration::from_millis(200), ..lab.settings() };
    let member = lab.member_with(settings, lab.pool.clone(), 0);
    eventually(SOON, "a transaction", async || member.service.is_entered.load(Ordering::SeqCst)).await;
    member.end().await;
    assert_eq!(lab.number("select count(*) from lab.effect").await, 0);
    let next = lab.member();
    lab.until_effects(10).await;
    assert_eq!(lab.effects("a", 1).await, (0..10).collect::<Vec<_>>());
    next.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_member_gets_what_the_first_gives_up() {
    let lab = Lab::new().await;
    let first = lab.member();
    first.until_ready().await;
    let second = lab.member();
    second.until_ready().await;
    lab.produce_many("a", 0, 5).await;
    lab.produce_many("a", 2, 5).await;
    lab.until_effects(10).await;
    let shares = [&first, &second].map(|member| member.metrics.batch_seconds.clone());
    assert!(first.service.commits.load(Ordering::SeqCst) > 0, "{shares:?}");
    assert!(second.service.commits.load(Ordering::SeqCst) > 0, "{shares:?}");
    first.end().await;
    lab.produce_many("a", 0, 5).await;
    lab.produce_many("a", 2, 5).await;
    lab.until_effects(20).await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_comes_back_is_opened_again() {
    let lab = Lab::new().await;
    let first = lab.member();
    first.until_ready().await;
    let opened = |member: &Member| -> Vec<usize> {
        member.service.opened.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    };
    eventually(SOON, "all lanes are open", async || opened(&first) == [1; PARTITIONS as usize]).await;
    let second = lab.member();
    second.until_ready().await;
    let is_open = async || opened(&second).iter().sum::<usize>() > 0;
    eventually(SOON, "the second has a lane", is_open).await;
    let before = opened(&first);
    second.end().await;
    // What the second had comes back, and with it effects that the first has not seen.
    let is_back = async || opened(&first).iter().zip(&before).all(|(now, before)| now > before);
    eventually(SOON, "all lanes are open again", is_back).await;
    first.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_passes_where_nothing_comes() {
    let lab = Lab::new().await;
    lab.produce_many("a", 1, 5).await;
    let member = lab.member();
    lab.until("select count(distinct lane) from lab.idle", i64::from(PARTITIONS)).await;
    // It goes on, and never before the records are stored.
    let before = lab.number("select max(at_ms) from lab.idle where lane = 1").await;
    assert_eq!(lab.effects("a", 1).await.len(), 5);
    let later = format!("select count(*) from lab.idle where lane = 1 and at_ms > {before}");
    eventually(SOON, "more idle", async || lab.number(&later).await > 0).await;
    member.end().await;
}

//! Where reading goes on when Kafka has less, or something else, than was read.

use super::*;

/// The development Kafka keeps 5 MiB of a partition.
async fn produce_megabytes(lab: &Lab, stream: &str, partition: i32, count: usize) {
    let value = "x".repeat(100_000);
    for _ in 0..count {
        lab.produce(stream, partition, std::iter::repeat_n(&value, 10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_were_deleted_unread_are_reported() {
    let lab = Lab::new().await;
    lab.execute("insert into lab.consumer_offset values ('a', 1, 0)").await;
    produce_megabytes(&lab, "a", 1, 8).await;
    let member = lab.member();
    lab.until("select next_offset from lab.consumer_offset where stream = 'a' and partition = 1", 80).await;
    let low = lab.number("select next from lab.gap where stream = 'a' and partition = 1 and first = 0").await;
    assert!(low > 0 && low < 80, "{low}");
    assert_eq!(lab.effects("a", 1).await, (low..80).collect::<Vec<_>>());
    assert_eq!(member.metrics.lost.get(), low as u64);
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_before_it_was_deleted_is_not_lost() {
    let lab = Lab::new().await;
    let settings =
        Consumer { batch_records_max: 2, lane_records_max: 5, prefetch_bytes_max: 200_000, ..lab.settings() };
    let member = lab.member_with(settings, lab.pool.clone(), 0);
    member.until_ready().await;
    for partition in [1, 2] {
        produce_megabytes(&lab, "a", partition, 2).await;
    }
    eventually(SOON, "two lanes are full", async || member.metrics.paused_lanes.get() == 2).await;
    for partition in [1, 2] {
        produce_megabytes(&lab, "a", partition, 10).await;
    }
    // Lane 2 goes on, and finds that what comes next was deleted; lane 1 has still to store.
    member.service.permits[2].add_permits(1_000);
    eventually(SOON, "the membership ends", async || member.metrics.paused_lanes.get() == 0).await;
    member.service.permits[1].add_permits(1_000);
    lab.until("select next_offset from lab.consumer_offset where stream = 'a' and partition = 1", 120).await;
    let first = lab.number("select first from lab.gap where partition = 1").await;
    let next = lab.number("select next from lab.gap where partition = 1").await;
    // One in the transaction, or two if the second came in time; five in the queue, one held.
    assert!(first >= 7 && next > first, "what was read is stored: {first} to {next}");
    let expected: Vec<_> = (0..first).chain(next..120).collect();
    assert_eq!(lab.effects("a", 1).await, expected);
    member.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_too_early_is_not_read() {
    let lab = Lab::new().await;
    lab.execute("insert into lab.consumer_offset values ('a', 1, 100)").await;
    lab.produce_many("a", 1, 3).await;
    lab.produce_many("b", 1, 3).await;
    lab.produce_many("a", 2, 3).await;
    let member = lab.member();
    member.until_reason("stream a partition 1 ends at 3, before the stored offset 100").await;
    lab.until_effects(6).await;
    assert!(lab.effects("a", 1).await.is_empty());
    // Time passes elsewhere, and not in the lane of which something may be hidden.
    lab.until("select count(distinct lane) from lab.idle", 2).await;
    assert_eq!(lab.number("select count(*) from lab.idle where lane = 1").await, 0);
    assert!(member.reason().contains("delete its row in lab.consumer_offset"));
    member.end().await;
    let stored = "select next_offset from lab.consumer_offset where stream = 'a' and partition = 1";
    assert_eq!(lab.number(stored).await, 100);
}

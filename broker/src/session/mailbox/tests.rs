use std::sync::atomic::AtomicU32;
use std::task::Wake;
use std::time::Instant;

use bytes::Bytes;
use latchline_shared::message::{Message, MessageId};
use smallvec::SmallVec;

use super::*;

/// Who waits, and how often it was woken.
#[derive(Debug, Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One whose delivery waits.
struct Publisher {
    place: Place,
    count: Arc<Count>,
}

impl Publisher {
    fn at(mailbox: &Arc<Mailbox>) -> Self {
        match mailbox.push(delivery(Qos::AtLeastOnce)) {
            Pushed::Waits(place) => Self { place, count: Arc::default() },
            other => panic!("{other:?}"),
        }
    }

    fn waits(&self) -> bool {
        let waker = Waker::from(Arc::clone(&self.count));
        self.place.poll(&mut Context::from_waker(&waker)).is_pending()
    }

    fn woken(&self) -> u32 {
        self.count.0.load(Ordering::Relaxed)
    }
}

fn delivery(qos: Qos) -> Delivery {
    let message = Message {
        mid: MessageId(1),
        from: "publisher".into(),
        topic: "t".into(),
        payload: Bytes::new(),
        qos,
        retain: false,
        dup: false,
        packet_id: None,
        properties: None,
        received_at: Instant::now(),
        expiry: None,
    };
    Delivery { message: Arc::new(message), qos, retain: false, subscription_ids: SmallVec::new() }
}

/// A connected receiver's, with so much room, and full. Rooms are given away at half only.
fn full(messages_max: usize) -> Arc<Mailbox> {
    full_with(messages_max, Duration::MAX)
}

fn full_with(messages_max: usize, patience: Duration) -> Arc<Mailbox> {
    let limits = QueueLimits { messages_max, bytes_max: 1 << 20 };
    let mailbox = Mailbox::new(SessionKey(1), "receiver".into(), limits);
    let mailbox = Arc::new(Mailbox { patience, ..mailbox });
    mailbox.set_online();
    for _ in 0..messages_max {
        assert_eq!(push(&mailbox), "queued");
    }
    mailbox
}

/// What is pushed to wait is taken back.
fn push(mailbox: &Arc<Mailbox>) -> &'static str {
    match mailbox.push(delivery(Qos::AtLeastOnce)) {
        Pushed::Queued => "queued",
        Pushed::Waits(_) => "waits",
        Pushed::Dropped(cause) => cause,
    }
}

fn drain(mailbox: &Mailbox, count: usize) {
    for _ in 0..count {
        mailbox.pop().unwrap();
    }
}

#[test]
fn what_waits_gets_in_in_its_order_and_nothing_before_it() {
    let mailbox = full(4);
    let [one, two, three] = [0; 3].map(|_| Publisher::at(&mailbox));
    assert!(one.waits() && two.waits() && three.waits());
    drain(&mailbox, 1);
    // There is room, but not for all: neither who is awake by chance nor anybody else gets it.
    assert!(one.waits() && two.waits());
    assert_eq!(push(&mailbox), "waits");
    assert!(matches!(mailbox.push(delivery(Qos::AtMostOnce)), Pushed::Dropped("slow_receiver_qos0")));
    drain(&mailbox, 1);
    assert_eq!((one.woken(), two.woken(), three.woken()), (1, 1, 0), "there was room for two");
    assert!(!one.waits() && !two.waits() && three.waits() && mailbox.len() == 4);
    drain(&mailbox, 2);
    assert!(!three.waits() && three.woken() == 1 && mailbox.len() == 3);
    assert_eq!((push(&mailbox), push(&mailbox)), ("queued", "waits"), "nobody waits any more");
}

#[test]
fn a_receiver_that_never_drains_half_in_time_is_served_one_by_one() {
    let mailbox = full_with(100, Duration::ZERO);
    let waiting = [0; 3].map(|_| Publisher::at(&mailbox));
    for number in 0..3 {
        drain(&mailbox, 1);
        assert_eq!(waiting.iter().filter(|publisher| !publisher.waits()).count(), number + 1);
        assert_eq!(mailbox.len(), 100);
    }
}

#[test]
fn room_for_one_serves_everybody_in_turn() {
    let mailbox = full(1);
    let [one, gone, three] = [0; 3].map(|_| Publisher::at(&mailbox));
    assert!(gone.waits());
    let Publisher { place, count } = gone;
    assert!(place.withdraw(), "it still waited");
    assert_eq!(Arc::strong_count(&count), 1, "its waker is left behind");
    drain(&mailbox, 1);
    assert!(!one.waits() && three.waits());
    drop(one);
    drain(&mailbox, 1);
    assert!(!three.waits() && mailbox.len() == 1);
    assert!(!three.place.withdraw(), "it is in the queue");
}

#[test]
fn who_cannot_wait_takes_what_room_there_is() {
    let mailbox = full(4);
    assert!(!Publisher::at(&mailbox).place.push_ahead(), "there is none");
    let waiting = Publisher::at(&mailbox);
    drain(&mailbox, 1);
    assert!(Publisher::at(&mailbox).place.push_ahead());
    assert!(waiting.waits() && mailbox.len() == 4);
}

#[test]
fn who_lags_gets_nothing_until_half_is_drained_and_then_everything() {
    let mailbox = full(4);
    let [one, two] = [0; 2].map(|_| Publisher::at(&mailbox));
    assert!(two.waits());
    assert_eq!(one.place.give_up(), 2, "both are dropped");
    assert!(two.woken() == 1 && !two.waits() && two.place.give_up() == 0, "once");
    drain(&mailbox, 1);
    // Else whoever publishes takes each room, half is never drained, and it lags for ever.
    assert_eq!(push(&mailbox), "slow_receiver");
    drain(&mailbox, 1);
    assert_eq!((push(&mailbox), push(&mailbox), push(&mailbox)), ("queued", "queued", "waits"));
}

#[test]
fn who_has_made_room_does_not_lag() {
    let mailbox = full(4);
    let waiting = Publisher::at(&mailbox);
    // Room for one, which is not given away yet: it is too early, and half is not drained.
    drain(&mailbox, 1);
    assert!(waiting.waits());
    assert_eq!(waiting.place.give_up(), 0);
    assert!(!waiting.waits() && mailbox.len() == 4);
    drain(&mailbox, 4);
    assert_eq!(push(&mailbox), "queued");
}

#[test]
fn what_waits_for_who_is_gone_is_kept_as_far_as_there_is_room() {
    let mailbox = full(4);
    let waiting = [0; 3].map(|_| Publisher::at(&mailbox));
    drain(&mailbox, 1);
    assert_eq!(mailbox.set_offline(), Left { qos0: 0, queue_full: 2 });
    assert!(waiting.iter().all(|publisher| !publisher.waits()));
    assert_eq!((mailbox.len(), push(&mailbox)), (4, "offline_queue_full"));
    drain(&mailbox, 1);
    assert_eq!(push(&mailbox), "queued");
}

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

struct Publisher {
    place: Place,
    count: Arc<Count>,
}

impl Publisher {
    fn at(mailbox: &Arc<Mailbox>) -> Self {
        Self { place: mailbox.place(), count: Arc::default() }
    }

    fn waits(&self) -> bool {
        let waker = Waker::from(Arc::clone(&self.count));
        self.place.poll_turn(&mut Context::from_waker(&waker)).is_pending()
    }

    fn woken(&self) -> u32 {
        self.count.0.load(Ordering::Relaxed)
    }

    fn push(&self) -> &'static str {
        name(self.place.push(delivery(Qos::AtLeastOnce)))
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

/// A connected receiver's, with room for four, and full.
fn full() -> Arc<Mailbox> {
    let limits = QueueLimits { messages_max: 4, bytes_max: 1 << 20 };
    let mailbox = Arc::new(Mailbox::new(SessionKey(1), "receiver".into(), limits));
    mailbox.set_online();
    for _ in 0..4 {
        assert_eq!(push(&mailbox), "queued");
    }
    assert_eq!(push(&mailbox), "full");
    mailbox
}

fn push(mailbox: &Mailbox) -> &'static str {
    name(mailbox.push(delivery(Qos::AtLeastOnce)))
}

fn name(pushed: Pushed) -> &'static str {
    match pushed {
        Pushed::Queued => "queued",
        Pushed::Full(_) => "full",
        Pushed::Dropped(cause) => cause,
    }
}

fn drain(mailbox: &Mailbox, count: usize) {
    for _ in 0..count {
        mailbox.pop().unwrap();
    }
}

#[test]
fn those_who_wait_are_let_in_in_their_order_and_nobody_before_them() {
    let mailbox = full();
    let [one, two, three] = [0; 3].map(|_| Publisher::at(&mailbox));
    assert!(one.waits() && two.waits() && three.waits());
    drain(&mailbox, 1);
    // There is room, but not for all: neither who is awake by chance nor anybody else gets it.
    assert_eq!((push(&mailbox), one.push()), ("full", "full"));
    assert!(one.waits() && one.woken() == 0);
    assert!(matches!(mailbox.push(delivery(Qos::AtMostOnce)), Pushed::Dropped("slow_receiver_qos0")));
    drain(&mailbox, 1);
    assert_eq!((one.woken(), two.woken(), three.woken()), (1, 1, 0), "there is room for two");
    assert!(!one.waits() && !two.waits() && three.waits());
    assert_eq!((three.push(), two.push(), push(&mailbox), one.push()), ("full", "queued", "full", "queued"));
    drain(&mailbox, 2);
    assert_eq!((three.woken(), three.push()), (1, "queued"));
    assert_eq!((push(&mailbox), push(&mailbox)), ("queued", "full"), "nobody waits any more");
}

#[test]
fn who_comes_too_late_to_be_woken_does_not_wait() {
    let mailbox = full();
    drain(&mailbox, 4);
    let late = Publisher::at(&mailbox);
    assert!(!late.waits());
    assert_eq!(late.push(), "queued");
}

#[test]
fn who_is_gone_keeps_nobody_waiting() {
    let mailbox = full();
    let gone = Publisher::at(&mailbox);
    assert!(gone.waits());
    drain(&mailbox, 2);
    assert_eq!(push(&mailbox), "full", "it is the other's turn");
    let count = Arc::clone(&gone.count);
    drop(gone);
    assert_eq!((push(&mailbox), Arc::strong_count(&count)), ("queued", 1));
}

#[test]
fn who_cannot_wait_takes_what_room_there_is() {
    let mailbox = full();
    assert!(!mailbox.push_ahead(delivery(Qos::AtLeastOnce)), "there is none");
    let waiting = Publisher::at(&mailbox);
    assert!(waiting.waits());
    drain(&mailbox, 1);
    assert!(mailbox.push_ahead(delivery(Qos::AtLeastOnce)));
    mailbox.set_lagging();
    drain(&mailbox, 1);
    assert!(!mailbox.push_ahead(delivery(Qos::AtLeastOnce)), "it lags");
}

#[test]
fn who_lags_gets_nothing_until_half_is_drained_and_then_everything() {
    let mailbox = full();
    let waiting = Publisher::at(&mailbox);
    assert!(waiting.waits());
    mailbox.set_lagging();
    assert!(waiting.woken() > 0 && !waiting.waits(), "waiting is over");
    assert_eq!(waiting.push(), "slow_receiver");
    drain(&mailbox, 1);
    // Else whoever publishes takes each room, half is never drained, and it lags for ever.
    assert_eq!(push(&mailbox), "slow_receiver");
    drain(&mailbox, 1);
    assert_eq!((push(&mailbox), push(&mailbox), push(&mailbox)), ("queued", "queued", "full"));
    assert!(Publisher::at(&mailbox).waits(), "it is waited for again");
}

#[test]
fn nobody_waits_for_who_is_gone() {
    let mailbox = full();
    let waiting = Publisher::at(&mailbox);
    assert!(waiting.waits());
    mailbox.set_offline();
    assert!(waiting.woken() > 0 && !waiting.waits());
    assert_eq!(waiting.push(), "offline_queue_full");
}

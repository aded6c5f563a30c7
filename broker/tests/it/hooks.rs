//! Hooks for tests: one that lets everybody in, one whose receipts the test settles, one that
//! rejects by topic, one that writes everything down, one that panics.

use std::sync::{Arc, Mutex, MutexGuard};

use latchline_shared::fault::Fault;
use latchline_shared::hook::{
    Access, Answer, Authentication, Authorisation, Call, Connect, Delivered, Hook, PublishAnswer, Refusal,
};
use latchline_shared::kit::testing::eventually;
use latchline_shared::message::{Client, Message, MessageId, Qos};
use latchline_shared::receipt::{Receipt, Slot};

use crate::raw::SOON;

/// Lets everybody do everything, except on topics below `forbidden/`. Each role is the user name.
pub(crate) struct Open;

impl Hook for Open {
    fn name(&self) -> &'static str {
        "open"
    }

    fn calls(&self) -> &'static [Call] {
        &[Call::ClientAuthenticate, Call::ClientAuthorise]
    }

    fn client_authenticate(&self, _connect: &Arc<Connect>) -> Answer<Authentication> {
        Answer::Now(Authentication::Allow { role: "any".into() })
    }

    fn client_authorise(&self, _client: &Client, access: &Access<'_>) -> Authorisation {
        let (Access::Publish { topic: name, .. } | Access::Subscribe { filter: name }) = access;
        if name.starts_with("forbidden/") {
            return Authorisation::Deny(Refusal::not_authorized("forbidden"));
        }
        Authorisation::Allow
    }
}

/// The events.
pub(crate) const EVENTS: &[Call] = &[
    Call::ClientConnected,
    Call::ClientDisconnected,
    Call::SessionSubscribed,
    Call::SessionUnsubscribed,
    Call::MessagePublish,
    Call::MessageRejected,
    Call::MessageDeliver,
    Call::MessageAcked,
];

/// What a hook was told.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub call: Call,
    pub client: String,
    /// Number of the client's connection.
    pub session: u64,
    /// Of message events.
    pub mid: Option<MessageId>,
    /// The whole event in words, the call's name first.
    pub line: String,
}

impl Event {
    fn new(call: Call, client: &Client, mid: Option<MessageId>, rest: &str) -> Self {
        let line = format!("{} {}{rest}", call.name(), client.id);
        Self { call, client: client.id.to_string(), session: client.session, mid, line }
    }

    fn message(call: Call, client: &Client, message: &Message, rest: &str) -> Self {
        let payload = String::from_utf8_lossy(&message.payload);
        let rest = format!(" {} {payload}{rest}", message.topic);
        Self::new(call, client, Some(message.mid), &rest)
    }

    fn delivered(call: Call, client: &Client, delivery: &Delivered<'_>) -> Self {
        let dup = if delivery.dup { " dup" } else { "" };
        let retain = if delivery.retain { " retain" } else { "" };
        let rest = format!(" from {} at {}{dup}{retain}", delivery.message.from, delivery.qos.level());
        Self::message(call, client, delivery.message, &rest)
    }
}

/// Writes everything down, and holds back the receipts of some calls until the test settles them.
pub(crate) struct Held {
    holds: &'static [Call],
    events: Mutex<Vec<Event>>,
    open: Mutex<Vec<(String, Arc<Slot>)>>,
}

impl Held {
    /// Holds back the receipts of these calls.
    pub(crate) fn new(holds: &'static [Call]) -> Arc<Self> {
        Arc::new(Self { holds, events: Mutex::default(), open: Mutex::default() })
    }

    /// Settles everything at once, and only writes down.
    pub(crate) fn recorder() -> Arc<Self> {
        Self::new(&[])
    }

    fn note(&self, event: Event) -> Receipt {
        let (call, line) = (event.call, event.line.clone());
        lock(&self.events).push(event);
        if !self.holds.contains(&call) {
            return Receipt::settled();
        }
        let (receipt, slot) = Receipt::open(1);
        lock(&self.open).push((line, slot));
        receipt
    }

    /// Everything so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// Everything so far, in words.
    pub(crate) fn lines(&self) -> Vec<String> {
        lock(&self.events).iter().map(|event| event.line.clone()).collect()
    }

    /// Events of one kind so far, in words without the kind.
    pub(crate) fn of(&self, call: Call) -> Vec<String> {
        let name = format!("{} ", call.name());
        self.lines().iter().filter_map(|line| line.strip_prefix(&name).map(str::to_owned)).collect()
    }

    /// Receipts that are open.
    pub(crate) fn open(&self) -> usize {
        lock(&self.open).len()
    }

    /// Waits until so many receipts are open.
    pub(crate) async fn waits_for(&self, count: usize) {
        eventually(SOON, &format!("{count} receipts are open"), async || self.open() == count).await;
    }

    /// Takes the open receipt at this place in the order of arrival.
    pub(crate) fn take(&self, index: usize) -> Arc<Slot> {
        self.take_with_event(index).1
    }

    /// Takes the open receipt at this place, and the event in words that it is for.
    pub(crate) fn take_with_event(&self, index: usize) -> (String, Arc<Slot>) {
        lock(&self.open).remove(index)
    }

    /// Settles the open receipt at this place.
    pub(crate) fn settle(&self, index: usize) {
        self.take(index).settle(Ok(()));
    }

    /// Lets the open receipt at this place fail.
    pub(crate) fn fail(&self, index: usize, fault: Fault) {
        self.take(index).settle(Err(fault));
    }

    /// Settles all open receipts; how many there were.
    pub(crate) fn settle_all(&self) -> usize {
        let open = std::mem::take(&mut *lock(&self.open));
        open.iter().for_each(|(_, slot)| slot.settle(Ok(())));
        open.len()
    }
}

impl Hook for Held {
    fn name(&self) -> &'static str {
        "held"
    }

    fn calls(&self) -> &'static [Call] {
        EVENTS
    }

    fn client_connected(&self, client: &Client) -> Receipt {
        self.note(Event::new(Call::ClientConnected, client, None, ""))
    }

    fn client_disconnected(&self, client: &Client, reason: &'static str) -> Receipt {
        self.note(Event::new(Call::ClientDisconnected, client, None, &format!(" {reason}")))
    }

    fn session_subscribed(&self, client: &Client, filter: &str, qos: Qos) -> Receipt {
        let rest = format!(" {filter} at {}", qos.level());
        self.note(Event::new(Call::SessionSubscribed, client, None, &rest))
    }

    fn session_unsubscribed(&self, client: &Client, filter: &str, qos: Qos) -> Receipt {
        let rest = format!(" {filter} at {}", qos.level());
        self.note(Event::new(Call::SessionUnsubscribed, client, None, &rest))
    }

    fn message_publish(&self, client: &Client, message: &Message) -> PublishAnswer {
        let dup = if message.dup { " dup" } else { "" };
        let rest = format!(" at {}{dup}", message.qos.level());
        PublishAnswer::Accept(self.note(Event::message(Call::MessagePublish, client, message, &rest)))
    }

    fn message_deliver(&self, receiver: &Client, delivery: &Delivered<'_>) -> Receipt {
        self.note(Event::delivered(Call::MessageDeliver, receiver, delivery))
    }

    fn message_rejected(&self, client: &Client, message: &Message, refusal: &Refusal) -> Receipt {
        let rest = format!(" {}", refusal.cause);
        self.note(Event::message(Call::MessageRejected, client, message, &rest))
    }

    fn message_acked(&self, receiver: &Client, delivery: &Delivered<'_>) -> Receipt {
        self.note(Event::delivered(Call::MessageAcked, receiver, delivery))
    }
}

/// Rejects messages below `rejected/` with 0x97.
pub(crate) struct Rejects;

impl Hook for Rejects {
    fn name(&self) -> &'static str {
        "rejects"
    }

    fn calls(&self) -> &'static [Call] {
        &[Call::MessagePublish]
    }

    fn message_publish(&self, _client: &Client, message: &Message) -> PublishAnswer {
        if message.topic.starts_with("rejected/") {
            let refusal = Refusal { reason_code: 0x97, cause: "rejected" };
            return PublishAnswer::Reject(refusal, Receipt::settled());
        }
        PublishAnswer::Accept(Receipt::settled())
    }
}

/// Panics at every event, but at messages only on topics below `panic/`.
pub(crate) struct Panics;

impl Hook for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn calls(&self) -> &'static [Call] {
        EVENTS
    }

    fn client_connected(&self, _client: &Client) -> Receipt {
        panic!("connected, on purpose")
    }

    fn client_disconnected(&self, _client: &Client, _reason: &'static str) -> Receipt {
        panic!("disconnected, on purpose")
    }

    fn session_subscribed(&self, _client: &Client, _filter: &str, _qos: Qos) -> Receipt {
        panic!("subscribed, on purpose")
    }

    fn session_unsubscribed(&self, _client: &Client, _filter: &str, _qos: Qos) -> Receipt {
        panic!("unsubscribed, on purpose")
    }

    fn message_publish(&self, _client: &Client, message: &Message) -> PublishAnswer {
        assert!(!message.topic.starts_with("panic/"), "publish, on purpose");
        PublishAnswer::Accept(Receipt::settled())
    }

    fn message_deliver(&self, _receiver: &Client, _delivery: &Delivered<'_>) -> Receipt {
        panic!("deliver, on purpose")
    }

    fn message_acked(&self, _receiver: &Client, _delivery: &Delivered<'_>) -> Receipt {
        panic!("acked, on purpose")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds this")
}

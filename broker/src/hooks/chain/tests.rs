//! Scripted hooks against the chain: who is asked, what a fault means, what is waited for.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use latchline_shared::fault::Fault;
use latchline_shared::hook::Answer;
use latchline_shared::message::{MessageId, Protocol, Sequence};
use latchline_shared::receipt::Slot;

use super::*;
use crate::hooks::link::OnFault;

const SOON: Option<Duration> = Some(Duration::from_millis(20));
const REFUSED: Refusal = Refusal::not_authorized("test");

/// What a scripted hook does at every call.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    Ignore,
    Allow,
    Deny,
    Panic,
    LaterAllow,
    LaterFault,
    LaterPanic,
    Never,
    /// Promises something; the test settles it.
    Promise,
    /// Takes a message for the repetition of another.
    Absorb,
}

struct Scripted {
    name: &'static str,
    script: Script,
    called: Mutex<Vec<Call>>,
    slots: Mutex<Vec<Arc<Slot>>>,
}

impl Scripted {
    fn new(name: &'static str, script: Script) -> Arc<Self> {
        Arc::new(Self { name, script, called: Mutex::default(), slots: Mutex::default() })
    }

    fn event(&self, call: Call) -> Receipt {
        self.called.lock().unwrap().push(call);
        match self.script {
            Script::Panic => panic!("as scripted"),
            Script::LaterFault => Receipt::failed(Fault::transient("as scripted")),
            Script::Promise => {
                let (receipt, slot) = Receipt::open(1);
                self.slots.lock().unwrap().push(slot);
                receipt
            }
            _ => Receipt::settled(),
        }
    }

    fn settle(&self, result: Result<(), Fault>) {
        self.slots.lock().unwrap().remove(0).settle(result);
    }
}

impl Hook for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn calls(&self) -> &'static [Call] {
        &[
            Call::ClientAuthenticate,
            Call::ClientAuthorise,
            Call::ClientConnected,
            Call::ClientDisconnected,
            Call::SessionSubscribed,
            Call::SessionUnsubscribed,
            Call::MessagePublish,
            Call::MessageRejected,
            Call::MessageDeliver,
            Call::MessageAcked,
        ]
    }

    fn client_authenticate(&self, _: &Arc<Connect>) -> Answer<Authentication> {
        let role = ByteString::from_static(self.name);
        match self.script {
            Script::Allow => Answer::Now(Authentication::Allow { role }),
            Script::Deny => Answer::Now(Authentication::Deny(REFUSED)),
            Script::Panic => panic!("as scripted"),
            Script::LaterAllow => Answer::Later(Box::pin(async { Ok(Authentication::Allow { role }) })),
            Script::LaterFault => Answer::Later(Box::pin(async { Err(Fault::transient("scripted")) })),
            Script::LaterPanic => Answer::Later(Box::pin(async { panic!("as scripted") })),
            Script::Never => Answer::Later(Box::pin(pending())),
            Script::Ignore | Script::Promise | Script::Absorb => Answer::Now(Authentication::Ignore),
        }
    }

    fn client_authorise(&self, _: &Client, _: &Access<'_>) -> Authorisation {
        match self.script {
            Script::Allow => Authorisation::Allow,
            Script::Deny => Authorisation::Deny(REFUSED),
            Script::Panic => panic!("as scripted"),
            _ => Authorisation::Ignore,
        }
    }

    fn message_publish(&self, _: &Client, _: &Message) -> PublishAnswer {
        let receipt = self.event(Call::MessagePublish);
        match self.script {
            Script::Deny => PublishAnswer::Reject(REFUSED, receipt),
            Script::Absorb => PublishAnswer::Absorb(receipt),
            _ => PublishAnswer::Accept(receipt),
        }
    }

    fn message_rejected(&self, _: &Client, _: &Message, refusal: &Refusal) -> Receipt {
        assert!([REFUSED, ABSORBED].contains(refusal), "{refusal:?}");
        self.event(Call::MessageRejected)
    }

    fn message_deliver(&self, _: &Client, _: &Delivered<'_>) -> Receipt {
        self.event(Call::MessageDeliver)
    }

    fn message_acked(&self, _: &Client, _: &Delivered<'_>) -> Receipt {
        self.event(Call::MessageAcked)
    }

    fn client_connected(&self, _: &Client) -> Receipt {
        self.event(Call::ClientConnected)
    }

    fn client_disconnected(&self, _: &Client, _: &'static str) -> Receipt {
        self.event(Call::ClientDisconnected)
    }

    fn session_subscribed(&self, _: &Client, _: &str, _: Qos) -> Receipt {
        self.event(Call::SessionSubscribed)
    }

    fn session_unsubscribed(&self, _: &Client, _: &str, _: Qos) -> Receipt {
        self.event(Call::SessionUnsubscribed)
    }
}

fn chain(links: &[(Arc<Scripted>, Option<Duration>, OnFault)]) -> Chain {
    let link = |(hook, deadline, on_fault): &(Arc<Scripted>, Option<Duration>, OnFault)| Link {
        hook: Arc::<Scripted>::clone(hook),
        deadline: *deadline,
        on_fault: *on_fault,
    };
    Chain::new(links.iter().map(link).collect())
}

fn client() -> Client {
    Client {
        id: "1".into(),
        username: ByteString::new(),
        role: "lock".into(),
        protocol: Protocol::V5,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        session: 1,
        sequence: Sequence::default(),
    }
}

fn connect() -> Arc<Connect> {
    Arc::new(Connect {
        client_id: "1".into(),
        username: None,
        password: None,
        common_name: None,
        protocol: Protocol::V5,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
    })
}

fn message() -> Message {
    Message {
        mid: MessageId(1),
        from: "1".into(),
        topic: "devices/1/state".into(),
        payload: Bytes::new(),
        qos: Qos::AtLeastOnce,
        retain: false,
        dup: false,
        packet_id: Some(1),
        properties: None,
        received_at: Instant::now(),
        expiry: None,
    }
}

fn poll(receipt: &mut Receipt) -> Poll<Result<(), Fault>> {
    Pin::new(receipt).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn the_first_hook_with_an_opinion_authenticates() {
    use OnFault::{Closed, Open};
    use Script::{Allow, Deny, Ignore, LaterAllow, LaterFault, LaterPanic, Never, Panic};
    let fault = Err(CONNECT_FAULT);
    for (n, (first, on_fault, second, expected)) in [
        (Ignore, Closed, Ignore, Err(UNKNOWN_CLIENT)),
        (Ignore, Closed, Allow, Ok("second")),
        (Allow, Closed, Deny, Ok("first")),
        (Deny, Closed, Allow, Err(REFUSED)),
        (Ignore, Closed, Deny, Err(REFUSED)),
        (LaterAllow, Closed, Deny, Ok("first")),
        (Panic, Closed, Allow, fault),
        (Panic, Open, Allow, Ok("second")),
        (Panic, Open, Ignore, Err(UNKNOWN_CLIENT)),
        (LaterFault, Closed, Allow, fault),
        (LaterFault, Open, Allow, Ok("second")),
        (LaterPanic, Closed, Allow, fault),
        (LaterPanic, Open, Allow, Ok("second")),
        (Never, Closed, Allow, fault),
        (Never, Open, Allow, Ok("second")),
    ]
    .into_iter()
    .enumerate()
    {
        let first_hook = Scripted::new("first", first);
        let chain = chain(&[(first_hook, SOON, on_fault), (Scripted::new("second", second), None, Closed)]);
        let role = chain.authenticate(&connect()).await;
        assert_eq!(role.as_deref().map_err(|refusal| *refusal), expected, "row {n}");
        let faulty = [Panic, LaterFault, LaterPanic, Never].contains(&first);
        let counted = chain.metrics().faults("first", Call::ClientAuthenticate);
        assert_eq!(counted, u64::from(faulty), "row {n}");
    }
}

#[test]
fn the_first_hook_with_an_opinion_authorises() {
    use OnFault::{Closed, Open};
    use Script::{Allow, Deny, Ignore, Panic};
    let access = Access::Publish { topic: "a", qos: Qos::AtMostOnce, retain: false };
    for (n, (first, on_fault, second, expected)) in [
        (Ignore, Closed, Ignore, Err(Refusal::not_authorized("no_rule"))),
        (Ignore, Closed, Allow, Ok(())),
        (Allow, Closed, Deny, Ok(())),
        (Deny, Closed, Allow, Err(REFUSED)),
        (Panic, Closed, Allow, Err(ACCESS_FAULT)),
        (Panic, Open, Allow, Ok(())),
    ]
    .into_iter()
    .enumerate()
    {
        let first = Scripted::new("first", first);
        let chain = chain(&[(first, None, on_fault), (Scripted::new("second", second), None, Closed)]);
        assert_eq!(chain.authorise(&client(), &access), expected, "row {n}");
    }
    assert!(chain(&[]).authorise(&client(), &access).is_err());
}

#[test]
fn a_rejection_ends_the_chain_and_keeps_earlier_promises() {
    let (store, guard) = (Scripted::new("store", Script::Promise), Scripted::new("guard", Script::Deny));
    let last = Scripted::new("last", Script::Ignore);
    let closed = |hook: &Arc<Scripted>| (Arc::clone(hook), None, OnFault::Closed);
    let chain = chain(&[closed(&store), closed(&guard), closed(&last)]);
    let PublishAnswer::Reject(refusal, mut receipt) = chain.message_publish(&client(), &message()) else {
        panic!("the message went on")
    };
    assert_eq!(refusal, REFUSED);
    // All are told of the rejection, and the answer waits for who puts it on record.
    assert_eq!(*last.called.lock().unwrap(), [Call::MessageRejected]);
    assert_eq!(*store.called.lock().unwrap(), [Call::MessagePublish, Call::MessageRejected]);
    assert!(poll(&mut receipt).is_pending());
    store.settle(Ok(()));
    assert!(poll(&mut receipt).is_pending());
    store.settle(Ok(()));
    assert_eq!(poll(&mut receipt), Poll::Ready(Ok(())));
}

#[test]
fn what_is_absorbed_goes_on_and_its_acknowledgement_waits_for_all() {
    let (guard, store) = (Scripted::new("guard", Script::Absorb), Scripted::new("store", Script::Promise));
    let closed = |hook: &Arc<Scripted>| (Arc::clone(hook), None, OnFault::Closed);
    let PublishAnswer::Absorb(mut receipt) =
        chain(&[closed(&guard), closed(&store)]).message_publish(&client(), &message())
    else {
        panic!("it would be delivered")
    };
    // It is told that something was absorbed, and then it sees it.
    assert_eq!(*store.called.lock().unwrap(), [Call::MessageRejected, Call::MessagePublish]);
    for _ in 0..2 {
        assert!(poll(&mut receipt).is_pending());
        store.settle(Ok(()));
    }
    assert_eq!(poll(&mut receipt), Poll::Ready(Ok(())));
    let refused = chain(&[closed(&guard), closed(&Scripted::new("no", Script::Deny))]);
    assert!(matches!(refused.message_publish(&client(), &message()), PublishAnswer::Reject(REFUSED, _)));
}

#[test]
fn a_panic_while_publishing_is_neither_delivered_nor_acknowledged_unless_open() {
    let last = Scripted::new("last", Script::Ignore);
    for on_fault in [OnFault::Closed, OnFault::Open] {
        let panicking = Scripted::new("panicking", Script::Panic);
        let chain = chain(&[(panicking, None, on_fault), (Arc::clone(&last), None, OnFault::Closed)]);
        match (chain.message_publish(&client(), &message()), on_fault) {
            (PublishAnswer::Reject(ACCESS_FAULT, mut receipt), OnFault::Closed) => {
                assert!(matches!(poll(&mut receipt), Poll::Ready(Err(Fault::Bug(_)))));
                assert!(last.called.lock().unwrap().is_empty());
            }
            (PublishAnswer::Accept(receipt), OnFault::Open) => {
                assert!(receipt.is_settled());
                assert_eq!(*last.called.lock().unwrap(), [Call::MessagePublish]);
            }
            (answer, _) => panic!("{on_fault:?}: {answer:?}"),
        }
        assert_eq!(chain.metrics().faults("panicking", Call::MessagePublish), 1);
    }
}

fn tell_all(chain: &Chain) -> Vec<(Call, Receipt)> {
    let (client, message) = (client(), Arc::new(message()));
    let qos = Qos::AtLeastOnce;
    let delivery = Delivered { message: &message, qos, dup: false, retain: false, packet_id: Some(1) };
    vec![
        (Call::ClientConnected, chain.client_connected(&client)),
        (Call::SessionSubscribed, chain.session_subscribed(&client, "a", qos)),
        (Call::MessageDeliver, chain.message_deliver(&client, &delivery)),
        (Call::MessageAcked, chain.message_acked(&client, &delivery)),
        (Call::SessionUnsubscribed, chain.session_unsubscribed(&client, "a", qos)),
        (Call::ClientDisconnected, chain.client_disconnected(&client, "test")),
    ]
}

#[test]
fn events_reach_every_hook_that_wants_them() {
    let (panicking, last) = (Scripted::new("first", Script::Panic), Scripted::new("last", Script::Ignore));
    for on_fault in [OnFault::Open, OnFault::Closed] {
        last.called.lock().unwrap().clear();
        let links = [(Arc::clone(&panicking), None, on_fault), (Arc::clone(&last), None, OnFault::Closed)];
        let chain = chain(&links);
        let mut calls = Vec::new();
        for (call, mut receipt) in tell_all(&chain) {
            let result = poll(&mut receipt);
            match on_fault {
                OnFault::Open => assert_eq!(result, Poll::Ready(Ok(())), "{call:?}"),
                OnFault::Closed => assert!(matches!(result, Poll::Ready(Err(_))), "{call:?}"),
            }
            assert_eq!(chain.metrics().faults("first", call), 1, "{call:?}");
            calls.push(call);
        }
        assert_eq!(*last.called.lock().unwrap(), calls);
    }
}

#[test]
fn nobody_wants_anything_of_an_empty_chain() {
    let empty = chain(&[]);
    let full = chain(&[(Scripted::new("all", Script::Ignore), None, OnFault::Open)]);
    for (call, receipt) in tell_all(&empty) {
        assert!(!empty.wants(call) && full.wants(call), "{call:?}");
        assert!(receipt.is_settled());
    }
}

#[tokio::test]
async fn the_bridge_is_not_wrapped() {
    let bridge = Scripted::new("bridge", Script::Promise);
    let chain = chain(&[(Arc::clone(&bridge), None, OnFault::Closed)]);
    let mut receipt = chain.client_connected(&client());
    assert_eq!(chain.tasks.len(), 0, "a task watches the bridge's receipt");
    bridge.settle(Err(Fault::transient("as scripted")));
    assert_eq!(poll(&mut receipt), Poll::Ready(Err(Fault::transient("as scripted"))));
}

#[tokio::test]
async fn promises_are_held_to_their_deadline() {
    for (deadline, on_fault, settled, expected, faults) in [
        (SOON, OnFault::Closed, None, Err(()), 1),
        (SOON, OnFault::Open, None, Ok(()), 1),
        (SOON, OnFault::Closed, Some(Ok(())), Ok(()), 0),
        (None, OnFault::Open, Some(Ok(())), Ok(()), 0),
        (None, OnFault::Open, Some(Err(Fault::transient("as scripted"))), Ok(()), 1),
        (SOON, OnFault::Closed, Some(Err(Fault::transient("as scripted"))), Err(()), 1),
    ] {
        let hook = Scripted::new("slow", Script::Promise);
        let chain = chain(&[(Arc::clone(&hook), deadline, on_fault)]);
        let mut receipt = chain.client_connected(&client());
        assert!(poll(&mut receipt).is_pending());
        if let Some(result) = settled {
            hook.settle(result);
        }
        assert_eq!(receipt.await.map_err(drop), expected);
        chain.drained().await;
        assert_eq!(chain.metrics().faults("slow", Call::ClientConnected), faults);
    }
}

#[tokio::test]
async fn a_fault_at_once_follows_the_policy_without_a_task() {
    for (on_fault, expected) in [(OnFault::Open, Ok(())), (OnFault::Closed, Err(()))] {
        let chain = chain(&[(Scripted::new("down", Script::LaterFault), SOON, on_fault)]);
        let receipt = chain.client_connected(&client());
        assert_eq!(chain.tasks.len(), 0);
        assert_eq!(receipt.await.map_err(drop), expected);
    }
}

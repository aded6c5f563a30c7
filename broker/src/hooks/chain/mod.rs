//! The hooks in their order, as the connections call them.
//!
//! For each call the links that want it are chosen beforehand, so that an event nobody wants costs
//! one branch. A question is put to the links until one has an opinion; an event goes to all that
//! want it, and their receipts are joined.
//!
//! Invariant: whatever a hook does, a method here returns; `message_publish` returns at once.
//! An access that no hook grants is refused.

use std::sync::Arc;

use bytestring::ByteString;
use latchline_shared::hook::{
    Access, Authentication, Authorisation, Call, Connect, Delivered, Hook, PublishAnswer, Refusal,
};
use latchline_shared::message::{Client, Message, Qos};
use latchline_shared::receipt::Receipt;
use tokio_util::task::TaskTracker;

use super::link::{Guarded, Link};
use super::metrics::HookMetrics;
use crate::packet::types::reason;

const CALLS: usize = Call::MessageAcked as usize + 1;

/// What is told of a message that was absorbed; its publisher is told that all is well.
const ABSORBED: Refusal = Refusal { reason_code: 0x00, cause: "retransmit" };

/// No hook knows the client.
pub(super) const UNKNOWN_CLIENT: Refusal =
    Refusal { reason_code: reason::BAD_CREDENTIALS, cause: "unknown_client" };
/// A hook that must agree before a client may connect could not answer.
const CONNECT_FAULT: Refusal = Refusal { reason_code: reason::SERVER_UNAVAILABLE, cause: "hook_fault" };
/// A hook that must agree to an access could not answer. SUBACK and PUBACK have no 0x88.
const ACCESS_FAULT: Refusal = Refusal { reason_code: reason::IMPLEMENTATION_SPECIFIC, cause: "hook_fault" };

/// The hooks in their order.
pub struct Chain {
    by_call: [Box<[Arc<Guarded>]>; CALLS],
    tasks: TaskTracker,
    metrics: HookMetrics,
}

impl Chain {
    /// The chain of these links, called in this order.
    pub fn new(links: Vec<Link>) -> Self {
        let (tasks, metrics) = (TaskTracker::new(), HookMetrics::default());
        let mut by_call: [Vec<Arc<Guarded>>; CALLS] = Default::default();
        for link in links {
            let link = Arc::new(Guarded::new(link, tasks.clone(), metrics.clone()));
            for call in link.hook().calls() {
                let wanting = &mut by_call[*call as usize];
                // A hook that names a call twice is still asked once.
                if !wanting.last().is_some_and(|last| Arc::ptr_eq(last, &link)) {
                    wanting.push(Arc::clone(&link));
                }
            }
        }
        Self { by_call: by_call.map(Vec::into_boxed_slice), tasks, metrics }
    }

    /// What is counted about the hooks.
    pub fn metrics(&self) -> &HookMetrics {
        &self.metrics
    }

    /// Whether any hook wants this call.
    pub fn wants(&self, call: Call) -> bool {
        !self.wanting(call).is_empty()
    }

    /// Waits until no receipt is watched any more. For the end of the process, under its deadline.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The role of a client that may connect. Cancel safety: nothing is lost but the question.
    pub async fn authenticate(&self, connect: &Arc<Connect>) -> Result<ByteString, Refusal> {
        for link in self.wanting(Call::ClientAuthenticate) {
            match link.authenticate(connect).await {
                Ok(Authentication::Ignore) => {}
                Ok(Authentication::Allow { role }) => return Ok(role),
                Ok(Authentication::Deny(refusal)) => return Err(refusal),
                Err(_) if link.is_open() => {}
                Err(_) => return Err(CONNECT_FAULT),
            }
        }
        Err(UNKNOWN_CLIENT)
    }

    /// Whether the client may publish or subscribe.
    pub fn authorise(&self, client: &Client, access: &Access<'_>) -> Result<(), Refusal> {
        for link in self.wanting(Call::ClientAuthorise) {
            match link.call(Call::ClientAuthorise, |hook| hook.client_authorise(client, access)) {
                Ok(Authorisation::Ignore) => {}
                Ok(Authorisation::Allow) => return Ok(()),
                Ok(Authorisation::Deny(refusal)) => return Err(refusal),
                Err(_) if link.is_open() => {}
                Err(_) => return Err(ACCESS_FAULT),
            }
        }
        Err(Refusal::not_authorized("no_rule"))
    }

    /// Whether a message may go on, and what its acknowledgement waits for. A rejection ends the
    /// chain: later hooks do not see the message as one that was published, but whoever wants to know
    /// of rejections is told. One that a hook absorbs goes on through the chain like any other, and
    /// is told of as well: it reaches nobody, so nothing else would put it on record.
    ///
    /// A `Closed` hook that panics rejects the message with a receipt that has failed: it is
    /// neither delivered (the hook may be the one that would have refused it) nor acknowledged (it
    /// may be the one that would have stored it), so the publisher sends it again. Nobody has refused
    /// it, so nobody is told that.
    pub fn message_publish(&self, client: &Client, message: &Message) -> PublishAnswer {
        let call = Call::MessagePublish;
        let mut receipts = Receipt::settled();
        let mut is_absorbed = false;
        for link in self.wanting(call) {
            match link.call(call, |hook| hook.message_publish(client, message)) {
                Ok(PublishAnswer::Accept(receipt)) => receipts = receipts.and(link.watch(call, receipt)),
                Ok(PublishAnswer::Absorb(receipt)) => {
                    let told = self.message_rejected(client, message, &ABSORBED);
                    receipts = receipts.and(link.watch(call, receipt)).and(told);
                    is_absorbed = true;
                }
                Ok(PublishAnswer::Reject(refusal, receipt)) => {
                    let receipts = receipts.and(link.watch(call, receipt));
                    return PublishAnswer::Reject(
                        refusal,
                        receipts.and(self.message_rejected(client, message, &refusal)),
                    );
                }
                Err(_) if link.is_open() => {}
                Err(fault) => {
                    return PublishAnswer::Reject(ACCESS_FAULT, receipts.and(Receipt::failed(fault)));
                }
            }
        }
        if is_absorbed { PublishAnswer::Absorb(receipts) } else { PublishAnswer::Accept(receipts) }
    }

    /// A message was refused, by the access rules or by a hook.
    pub fn message_rejected(&self, client: &Client, message: &Message, refusal: &Refusal) -> Receipt {
        self.tell(Call::MessageRejected, |hook| hook.message_rejected(client, message, refusal))
    }

    /// A message is sent to a subscriber.
    pub fn message_deliver(&self, receiver: &Client, delivery: &Delivered<'_>) -> Receipt {
        self.tell(Call::MessageDeliver, |hook| hook.message_deliver(receiver, delivery))
    }

    /// A receiver acknowledged.
    pub fn message_acked(&self, receiver: &Client, delivery: &Delivered<'_>) -> Receipt {
        self.tell(Call::MessageAcked, |hook| hook.message_acked(receiver, delivery))
    }

    /// A client has connected.
    pub fn client_connected(&self, client: &Client) -> Receipt {
        self.tell(Call::ClientConnected, |hook| hook.client_connected(client))
    }

    /// A connection has ended.
    pub fn client_disconnected(&self, client: &Client, reason: &'static str) -> Receipt {
        self.tell(Call::ClientDisconnected, |hook| hook.client_disconnected(client, reason))
    }

    /// A filter was granted.
    pub fn session_subscribed(&self, client: &Client, filter: &str, qos: Qos) -> Receipt {
        self.tell(Call::SessionSubscribed, |hook| hook.session_subscribed(client, filter, qos))
    }

    /// A filter was removed.
    pub fn session_unsubscribed(&self, client: &Client, filter: &str, qos: Qos) -> Receipt {
        self.tell(Call::SessionUnsubscribed, |hook| hook.session_unsubscribed(client, filter, qos))
    }

    fn tell(&self, call: Call, event: impl Fn(&dyn Hook) -> Receipt) -> Receipt {
        let mut receipts = Receipt::settled();
        for link in self.wanting(call) {
            let receipt = match link.call(call, &event) {
                Ok(receipt) => link.watch(call, receipt),
                Err(fault) => link.receipt_of(fault),
            };
            receipts = receipts.and(receipt);
        }
        receipts
    }

    fn wanting(&self, call: Call) -> &[Arc<Guarded>] {
        &self.by_call[call as usize]
    }
}

#[cfg(test)]
mod tests;

//! What all connections share, and the way of one published message: hooks, retained, receivers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use latchline_shared::budget::Budget;
use latchline_shared::hook::{PublishAnswer, Refusal};
use latchline_shared::kit::clock;
use latchline_shared::message::{Client, Message, MessageId, Properties};
use latchline_shared::receipt::Receipt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Limits, Unanswerable};
use crate::hooks::chain::Chain;
use crate::metrics::Metrics;
use crate::packet::types::Will;
use crate::registry::{Ended, Registry};
use crate::router::Router;
use crate::router::retained::Retained;
use crate::session::Session;
use crate::session::delivery::Delivery;
use crate::session::mailbox::{Mailbox, Place, Pushed, QueueLimits, SessionKey};

/// What a record in flight takes beside topic and payload: its JSON frame, its headers, and the
/// producer's bookkeeping.
const RECORD_OVERHEAD_BYTES: usize = 1024;

/// Payloads above this size share the network's buffer instead of being copied out of it.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// Connections that clean up after themselves at the same time.
const ENDS_AT_ONCE: usize = 8;

/// The state that all connections share.
pub struct Broker {
    /// Node name (`name@host`).
    pub node: String,
    /// Bounds.
    pub limits: Limits,
    /// Whether a client certificate's common name must equal the client id.
    pub common_name_is_client_id: bool,
    /// What becomes of a client whose publish was refused and that cannot be told.
    pub unanswerable: Unanswerable,
    /// Hooks.
    pub chain: Chain,
    /// Subscriptions and retained messages.
    pub router: Router,
    /// Sessions.
    pub registry: Registry,
    /// Bytes that wait for storage, over all connections.
    pub budget: Arc<Budget>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Turns for connections that end.
    pub ends: Arc<Semaphore>,
    /// Cancelled when the server stops: connections that come up now are told at once.
    pub stopping: CancellationToken,
    boot: u64,
    messages: AtomicU64,
}

/// What came of a message.
pub enum Published {
    /// It goes on; the receipt says when it is stored.
    Accepted {
        /// Settles when every hook has stored it.
        receipt: Receipt,
        /// Where deliveries to connected receivers wait whose queues are full.
        places: Vec<Place>,
    },
    /// A hook refused it; the receipt says when that is on record.
    Rejected(Refusal, Receipt),
}

impl Broker {
    /// A broker with nobody connected.
    pub fn new(config: &Config, chain: Chain, metrics: Arc<Metrics>, budget: Arc<Budget>) -> Arc<Self> {
        let limits = config.limits.clone();
        let queue =
            QueueLimits { messages_max: limits.queue_messages_max, bytes_max: limits.queue_bytes_max };
        Arc::new(Self {
            node: config.node.clone(),
            common_name_is_client_id: config.listen.common_name_is_client_id,
            unanswerable: config.access.unanswerable_refusal,
            chain,
            router: Router::with_retained(Retained::new(
                limits.retained_messages_max,
                limits.retained_bytes_max,
            )),
            registry: Registry::new(limits.sessions_max, queue),
            budget,
            metrics,
            ends: Arc::new(Semaphore::new(ENDS_AT_ONCE)),
            stopping: CancellationToken::new(),
            boot: boot_id(),
            messages: AtomicU64::new(0),
            limits,
        })
    }

    /// A message id that no other message has, on any node, before or after a restart.
    pub fn next_message_id(&self) -> MessageId {
        let count = self.messages.fetch_add(1, Ordering::Relaxed);
        MessageId(u128::from(self.boot) << 64 | u128::from(count))
    }

    /// Bytes that a message counts for while it waits for storage.
    pub fn bytes_in_flight(message: &Message) -> usize {
        // Base64 makes four bytes of three.
        message.topic.len() + message.payload.len() * 4 / 3 + RECORD_OVERHEAD_BYTES
    }

    /// Sends a message on its way. `publisher` is the session that no-local leaves out.
    pub fn publish(&self, client: &Client, publisher: Option<SessionKey>, message: Message) -> Published {
        let (receipt, is_absorbed) = match self.chain.message_publish(client, &message) {
            PublishAnswer::Accept(receipt) => (receipt, false),
            PublishAnswer::Absorb(receipt) => (receipt, true),
            PublishAnswer::Reject(refusal, receipt) => {
                self.count_refusal(&refusal);
                return Published::Rejected(refusal, self.counted(receipt, &message));
            }
        };
        self.metrics.publish_accepted.inc();
        let receipt = self.counted(receipt, &message);
        let places = if is_absorbed { Vec::new() } else { self.route(publisher, message) };
        Published::Accepted { receipt, places }
    }

    /// What the answer waits for when the access rules have refused a message.
    pub fn rejected(&self, client: &Client, message: &Message, refusal: &Refusal) -> Receipt {
        self.count_refusal(refusal);
        self.counted(self.chain.message_rejected(client, message, refusal), message)
    }

    fn count_refusal(&self, refusal: &Refusal) {
        self.metrics.publish_rejected.inc();
        self.metrics.refused(refusal.cause);
    }

    /// Keeps the bytes of a message counted until its receipt has settled.
    fn counted(&self, mut receipt: Receipt, message: &Message) -> Receipt {
        if !receipt.is_settled() {
            receipt.hold(self.budget.take(Self::bytes_in_flight(message)));
        }
        receipt
    }

    fn route(&self, publisher: Option<SessionKey>, message: Message) -> Vec<Place> {
        let mut matches = Vec::new();
        if !message.retain {
            self.router.matches(&message.topic, publisher, &mut matches);
            if matches.is_empty() {
                return Vec::new();
            }
        }
        let message = Arc::new(detached(message));
        if message.retain {
            // Ordering: kept first, so that who subscribes at this moment may get the message twice,
            // but never not at all.
            if let Err(cause) = self.router.retained.set(Arc::clone(&message)) {
                self.metrics.dropped(cause);
            }
            self.router.matches(&message.topic, publisher, &mut matches);
        }
        let mut places = Vec::new();
        for receiver in matches {
            let delivery = Delivery {
                qos: message.qos.min(receiver.qos),
                retain: message.retain && receiver.retain_as_published,
                subscription_ids: receiver.ids,
                message: Arc::clone(&message),
            };
            match receiver.mailbox.push(delivery) {
                Pushed::Queued => {}
                Pushed::Dropped(cause) => self.metrics.dropped(cause),
                Pushed::Waits(place) => places.push(place),
            }
        }
        places
    }

    /// Publishes a will or an administrator's message: nobody waits for its acknowledgement, and
    /// nobody can be held back.
    pub fn publish_unattended(&self, client: &Client, message: Message) -> Published {
        let mut published = self.publish(client, None, message);
        if let Published::Accepted { places, .. } = &mut published {
            let lost = places.drain(..).filter_map(|place| (!place.push_ahead()).then_some(())).count();
            self.metrics.dropped_many("slow_receiver", lost as u64);
        }
        published
    }

    /// Publishes the will of a client that is gone.
    pub fn publish_will(&self, client: &Client, will: Will) {
        let message = Message {
            mid: self.next_message_id(),
            from: client.id.clone(),
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            dup: false,
            packet_id: None,
            properties: will.properties,
            received_at: Instant::now(),
            expiry: will.expiry_s.map(|seconds| Duration::from_secs(seconds.into())),
        };
        match self.publish_unattended(client, message) {
            Published::Accepted { receipt, .. } => self.settle_unattended(receipt, "will_not_stored"),
            Published::Rejected(_, receipt) => self.settle_unattended(receipt, "rejection_not_stored"),
        }
    }

    /// Waits in the background for a receipt that no connection waits for any more, so that a fault
    /// is counted.
    pub fn settle_unattended(&self, receipt: Receipt, cause: &'static str) {
        if receipt.is_settled() {
            return;
        }
        let metrics = Arc::clone(&self.metrics);
        tokio::spawn(async move {
            if let Err(fault) = receipt.await {
                metrics.dropped(cause);
                tracing::warn!(cause, error = %fault, "a record was not stored");
            }
        });
    }

    /// Forgets a session whose connection died of a bug.
    pub fn abandon(&self, mailbox: Arc<Mailbox>) {
        self.metrics.connections.dec();
        self.metrics.dropped("connection_panic");
        self.registry.end(&mailbox);
        self.clean_up(Ended { session: Session::new(0), mailbox, will: None });
    }

    /// Brings the gauge up to date after sessions came or went.
    pub fn count_sessions(&self) {
        self.metrics.sessions.set(i64::try_from(self.registry.len()).unwrap_or(i64::MAX));
    }

    /// Removes what an ended session left behind, and publishes its will.
    pub fn clean_up(&self, ended: Ended) {
        self.count_sessions();
        for granted in ended.mailbox.subscriptions().all() {
            self.router.unsubscribe(&granted.filter, ended.mailbox.key());
        }
        let left = ended.mailbox.set_offline();
        let lost = left.qos0 + left.queue_full + ended.mailbox.len() + ended.session.undelivered();
        self.metrics.dropped_many("session_ended", lost as u64);
        if let Some((client, will)) = ended.will {
            self.publish_will(&client, *will);
        }
    }
}

/// A copy that shares no buffer with the network: a message that is kept must not keep a whole read
/// buffer alive.
fn detached(mut message: Message) -> Message {
    message.topic = ByteString::from(&*message.topic);
    if message.payload.len() <= COPY_BYTES_MAX {
        message.payload = Bytes::copy_from_slice(&message.payload);
    }
    if let Some(properties) = &mut message.properties {
        detach_properties(properties);
    }
    message
}

/// Copies of texts and data, for the same reason.
pub(crate) fn detach_properties(properties: &mut Properties) {
    let texts = [&mut properties.content_type, &mut properties.response_topic].into_iter().flatten();
    let pairs = properties.user.iter_mut().flat_map(|(name, value)| [name, value]);
    for text in texts.chain(pairs) {
        *text = ByteString::from(&**text);
    }
    if let Some(data) = &mut properties.correlation_data {
        *data = Bytes::copy_from_slice(data);
    }
}

/// Milliseconds since 1970 and 22 random bits: two starts, even on two nodes at once, differ.
fn boot_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    clock::unix_ms() << 22 | random >> 42
}

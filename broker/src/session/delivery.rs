//! One message on its way to one receiver.

use std::sync::Arc;

use latchline_shared::message::{Message, Qos};
use smallvec::SmallVec;

/// A message for one receiver, as its subscriptions ask for it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message, shared by all its receivers.
    pub message: Arc<Message>,
    /// The lower of the QoS published and the highest QoS subscribed.
    pub qos: Qos,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Subscription identifiers of all matching subscriptions.
    pub subscription_ids: SmallVec<[u32; 1]>,
}

impl Delivery {
    /// Bytes that the delivery counts for in queue bounds.
    pub fn bytes(&self) -> usize {
        self.message.topic.len() + self.message.payload.len() + Self::OVERHEAD_BYTES
    }

    /// What a queued delivery takes beside its topic and payload.
    pub const OVERHEAD_BYTES: usize = 160;
}

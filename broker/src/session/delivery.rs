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
        self.message.bytes() + Self::OVERHEAD_BYTES
    }

    /// What a queued delivery takes beside its message's bytes.
    pub const OVERHEAD_BYTES: usize = 160;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use latchline_shared::message::{MessageId, Properties};

    use super::*;

    #[test]
    fn user_properties_count() {
        let user = vec![("a".into(), "b".into()); 1_000];
        let message = Message {
            mid: MessageId(1),
            from: "publisher".into(),
            topic: "t".into(),
            payload: Bytes::new(),
            qos: Qos::AtLeastOnce,
            retain: false,
            dup: false,
            packet_id: None,
            properties: Some(Box::new(Properties { user, ..Properties::default() })),
            received_at: Instant::now(),
            expiry: None,
        };
        let delivery = Delivery {
            message: Arc::new(message),
            qos: Qos::AtLeastOnce,
            retain: false,
            subscription_ids: SmallVec::new(),
        };
        assert!(delivery.bytes() > 1_000 * 64, "{}", delivery.bytes());
    }
}

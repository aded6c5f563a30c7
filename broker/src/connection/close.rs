//! The end of a connection: the session is let go first, so that nobody waits for a slow socket;
//! then the client is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use latchline_shared::message::Protocol;
use tokio::task::yield_now;

use super::end::{End, WillFate};
use super::wire::Wire;
use super::{Connection, EVENT_BYTES};
use crate::packet::types::{Disconnect, Outgoing, Will};
use crate::registry::{Ended, Parked};

impl Connection {
    pub(super) async fn close(mut self, end: End) {
        // A fleet that goes all at once must not hold back those who stay: ends take turns, a few at
        // a time, and each lets what is ready and what has arrived go first. To end costs ten times
        // as much as to learn that the client has gone, so those who stay wait for the news of all
        // departures at most, but not for the work.
        let ends = Arc::clone(&self.broker.ends);
        // They were not acknowledged: the client sends them again if it cares.
        let stalled = std::mem::take(&mut self.stalled);
        let lost = stalled.into_iter().filter_map(|place| place.withdraw().then_some(())).count();
        self.broker.metrics.dropped_many("slow_receiver", lost as u64);
        let turn = ends.acquire().await;
        yield_now().await;
        tracing::debug!(client = &*self.client.id, peer = %self.client.peer, reason = end.reason, detail = %end.detail, "disconnected");
        if let Some((reason_code, text)) = end.tell {
            self.broker.metrics.disconnected(reason_code);
            if self.client.protocol == Protocol::V5 {
                let reason_string = text.filter(|_| self.wants_reasons);
                let packet =
                    Outgoing::Disconnect(Disconnect { reason_code, reason_string, session_expiry_s: None });
                // Too large for the client: then it learns it from the closed socket.
                let _too_large = self.wire.send(packet);
            }
        }
        let mut receipt = self.broker.chain.client_disconnected(&self.client, end.reason);
        receipt.hold(self.broker.budget.take(EVENT_BYTES));
        self.broker.settle_unattended(receipt, "disconnected_not_stored");
        self.broker.metrics.connections.dec();
        let will = self.will.take().filter(|_| end.will == WillFate::Publish);
        let wire = self.let_go(will);
        if end.tell.is_some() {
            // Waiting for a socket is nobody's turn.
            drop(turn);
            wire.finish().await;
        }
    }

    /// Parks or ends the session; gives back the socket.
    fn let_go(mut self, will: Option<Box<Will>>) -> Wire {
        let broker = self.broker;
        // Their PUBRECs never left: the client will send these messages again, and they must then be
        // published, since nobody knows whether they were stored.
        for packet_id in self.acks.pubrecs() {
            self.session.release(packet_id);
        }
        let left = self.mailbox.set_offline();
        broker.metrics.dropped_many("offline_qos0", (self.session.park() + left.qos0) as u64);
        broker.metrics.dropped_many("offline_queue_full", left.queue_full as u64);
        if self.session_expiry_s == 0 {
            // Ordering: before the client's next connection can say that it is back.
            if let Some(will) = will {
                broker.publish_will(&self.client, *will);
            }
            broker.registry.end(&self.mailbox);
            broker.clean_up(Ended { session: self.session, mailbox: self.mailbox, will: None });
            return self.wire;
        }
        let now = Instant::now();
        let mut parked = Parked {
            session: self.session,
            mailbox: self.mailbox,
            client: self.client,
            expires_at: Some(now + Duration::from_secs(self.session_expiry_s.into())),
            will: None,
        };
        match will {
            Some(will) if will.delay_s > 0 => {
                let due = now + Duration::from_secs(will.delay_s.min(broker.limits.will_delay_s_max).into());
                parked.will = Some((due, will));
            }
            Some(will) => broker.publish_will(&parked.client, *will),
            None => {}
        }
        broker.registry.park(parked);
        self.wire
    }
}

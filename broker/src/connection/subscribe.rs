//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5, sections 3.8 to 3.11).

use std::sync::Arc;
use std::time::Instant;

use latchline_shared::hook::{Access, Call};
use latchline_shared::topic;
use smallvec::SmallVec;

use super::end::End;
use super::{Connection, EVENT_BYTES};
use crate::packet::types::{
    Outgoing, RetainHandling, Suback, Subscribe, SubscribeFilter, Unsubscribe, reason,
};
use crate::router::{LEVELS_MAX, Subscription, levels};
use crate::session::delivery::Delivery;

impl Connection {
    pub(super) fn handle_subscribe(&mut self, subscribe: Subscribe) -> Result<(), End> {
        let mut reason_codes = Vec::with_capacity(subscribe.filters.len());
        let mut replay = Vec::new();
        // The same filter again and again takes no subscription, but makes work each time. Nobody needs
        // more than all of them, and all of them anew.
        let mut left = self.broker.limits.subscriptions_max.saturating_mul(2);
        for filter in &subscribe.filters {
            let outcome = if left > 0 {
                self.subscribe_one(filter, subscribe.subscription_id, &mut replay)
            } else {
                Err((reason::QUOTA_EXCEEDED, "subscriptions_max"))
            };
            let code = match outcome {
                Ok(()) => {
                    left -= 1;
                    filter.qos.level()
                }
                Err((code, cause)) => {
                    tracing::debug!(
                        client = &*self.client.id,
                        filter = &*filter.filter,
                        cause,
                        "subscribe refused"
                    );
                    self.broker.metrics.refused(cause);
                    code
                }
            };
            reason_codes.push(code);
        }
        self.send(Outgoing::Suback(Suback { packet_id: subscribe.packet_id, reason_codes }))?;
        // Behind the SUBACK.
        self.session.replay.extend(replay);
        Ok(())
    }

    fn subscribe_one(
        &mut self,
        wanted: &SubscribeFilter,
        id: Option<u32>,
        replay: &mut Vec<Delivery>,
    ) -> Result<(), (u8, &'static str)> {
        let filter = &*wanted.filter;
        let (is_shared, inner) = match topic::split_share(filter) {
            None => (false, filter),
            Some(Ok((_, inner))) => (true, inner),
            Some(Err(())) => return Err((reason::TOPIC_FILTER_INVALID, "filter_invalid")),
        };
        if levels(filter) > LEVELS_MAX {
            return Err((reason::TOPIC_FILTER_INVALID, "filter_levels"));
        }
        let access = Access::Subscribe { filter: inner };
        self.broker
            .chain
            .authorise(&self.client, &access)
            .map_err(|refusal| (refusal.reason_code, refusal.cause))?;
        let is_known = {
            let mut subscriptions = self.mailbox.subscriptions();
            let is_known = subscriptions.contains(filter);
            if !is_known && subscriptions.all().len() >= self.broker.limits.subscriptions_max {
                return Err((reason::QUOTA_EXCEEDED, "subscriptions_max"));
            }
            subscriptions.granted(filter, wanted.qos);
            is_known
        };
        let subscription = Subscription {
            mailbox: Arc::clone(&self.mailbox),
            qos: wanted.qos,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
            id,
        };
        self.broker.router.subscribe(filter, subscription);
        if self.broker.chain.wants(Call::SessionSubscribed) {
            let receipt = self.broker.chain.session_subscribed(&self.client, filter, wanted.qos);
            self.push_event(receipt, EVENT_BYTES + filter.len());
        }
        let wants_retained = match wanted.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => !is_known,
            RetainHandling::Never => false,
        };
        // Shared subscriptions get no retained messages (MQTT 5, section 4.8.2).
        if wants_retained && !is_shared {
            self.collect_retained(inner, wanted, id, replay);
        }
        Ok(())
    }

    /// Retained messages have a queue of their own: there may be more of them than the mailbox has
    /// room for, and nobody else pushes into it. It is bounded before they are looked for, so that a
    /// client that asks for them over and over does not make work.
    fn collect_retained(
        &self,
        filter: &str,
        wanted: &SubscribeFilter,
        id: Option<u32>,
        replay: &mut Vec<Delivery>,
    ) {
        let queued = self.session.replay.len() + replay.len();
        let room = self.broker.limits.retained_messages_max.saturating_sub(queued);
        if room == 0 {
            self.broker.metrics.dropped("retained_replay_full");
            return;
        }
        let mut matching = self.broker.router.retained.matching(filter, Instant::now());
        matching.retain(|message| !wanted.no_local || message.from != self.client.id);
        let dropped = matching.len().saturating_sub(room);
        self.broker.metrics.dropped_many("retained_replay_full", dropped as u64);
        for message in matching.into_iter().take(room) {
            replay.push(Delivery {
                qos: message.qos.min(wanted.qos),
                retain: true,
                subscription_ids: id.into_iter().collect::<SmallVec<[u32; 1]>>(),
                message,
            });
        }
    }

    pub(super) fn handle_unsubscribe(&mut self, unsubscribe: Unsubscribe) -> Result<(), End> {
        let mut reason_codes = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            self.broker.router.unsubscribe(filter, self.mailbox.key());
            let Some(qos) = self.mailbox.subscriptions().revoked(filter) else {
                reason_codes.push(reason::NO_SUBSCRIPTION_EXISTED);
                continue;
            };
            reason_codes.push(reason::SUCCESS);
            if self.broker.chain.wants(Call::SessionUnsubscribed) {
                let receipt = self.broker.chain.session_unsubscribed(&self.client, filter, qos);
                self.push_event(receipt, EVENT_BYTES + filter.len());
            }
        }
        self.send(Outgoing::Unsuback(Suback { packet_id: unsubscribe.packet_id, reason_codes }))
    }
}

//! What a publisher has sent at QoS 1 and not heard of: sent again in order and with DUP when its
//! connection has broken, as MQTT asks.
//!
//! Invariant: whoever wants to know how often a message was sent hears of it before it is.

use std::collections::VecDeque;

use anyhow::bail;
use bytes::Bytes;
use latchline_shared::message::Qos;

use crate::client::Client;
use crate::client::packet::Publish;

/// Messages on their way, each with what its sender calls it.
#[derive(Debug)]
pub(super) struct Window<T> {
    unacked: VecDeque<(Publish, T)>,
    last_id: u16,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { unacked: VecDeque::new(), last_id: 0 }
    }
}

impl<T> Window<T> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.unacked.len()
    }

    /// A packet id that nothing under way has.
    pub(super) fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.unacked.iter().all(|(message, _)| message.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Takes a message that is about to be sent. It counts as sent even if that fails: it may have
    /// arrived.
    pub(super) fn push(&mut self, topic: String, payload: Bytes, name: T) {
        let id = self.next_id();
        let message = Publish { topic, payload, qos: Qos::AtLeastOnce, dup: false, retain: false, id };
        self.unacked.push_back((message, name));
    }

    /// Sends the message that was taken last, when it was noted.
    pub(super) async fn send_last(&self, client: &mut Client, note: impl Fn(&T)) -> anyhow::Result<()> {
        let Some((message, name)) = self.unacked.back() else { return Ok(()) };
        note(name);
        client.send_publish(message).await
    }

    /// Sends everything again on another connection, each message when it was noted.
    pub(super) async fn send_again(&mut self, client: &mut Client, note: impl Fn(&T)) -> anyhow::Result<()> {
        for (message, name) in &mut self.unacked {
            message.dup = true;
            note(name);
            client.send_publish(message).await?;
        }
        Ok(())
    }

    /// Takes an acknowledgement; they come in the order of the messages.
    pub(super) fn acked(&mut self, id: u16) -> anyhow::Result<T> {
        match self.unacked.pop_front() {
            Some((message, name)) if message.id == id => Ok(name),
            Some(other) => {
                let expected = other.0.id;
                self.unacked.push_front(other);
                bail!("PUBACK {id}, and {expected} was to be acknowledged before")
            }
            None => bail!("PUBACK {id}, and nothing is under way"),
        }
    }
}

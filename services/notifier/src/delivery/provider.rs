//! What delivery needs to know of whoever takes messages.

use std::future::Future;

use crate::channel::sms::Gateway;
use crate::channel::webhook::{self, Receiver};
use crate::channel::{Answer, Message};

/// A mail relay, an SMS gateway, or the receivers of webhooks.
pub trait Provider: Send + Sync + 'static {
    /// Its name in attempts, metrics and answers.
    fn name(&self) -> &str;

    /// Whether a message that may have arrived is sent again: a second copy is recognised.
    fn resends_ambiguous(&self) -> bool;

    /// Messages a second; 0: any number.
    fn rps(&self) -> u32;

    /// Who stands behind it for this address, if that is somebody else for another: who fails is left
    /// alone, not the others.
    fn host(&self, _address: &str) -> Option<String> {
        None
    }

    /// Makes one attempt. Ends by itself within the time that its settings give it.
    fn send(&self, message: &Message) -> impl Future<Output = Answer> + Send;
}

impl Provider for Gateway {
    fn name(&self) -> &str {
        Gateway::name(self)
    }

    fn resends_ambiguous(&self) -> bool {
        Gateway::resends_ambiguous(self)
    }

    fn rps(&self) -> u32 {
        Gateway::rps(self)
    }

    async fn send(&self, message: &Message) -> Answer {
        Gateway::send(self, message).await
    }
}

impl Provider for Receiver {
    fn name(&self) -> &str {
        Receiver::name(self)
    }

    fn resends_ambiguous(&self) -> bool {
        Receiver::resends_ambiguous(self)
    }

    fn rps(&self) -> u32 {
        Receiver::rps(self)
    }

    fn host(&self, address: &str) -> Option<String> {
        Some(webhook::host(address))
    }

    async fn send(&self, message: &Message) -> Answer {
        Receiver::send(self, message).await
    }
}

//! What delivery needs to know of whoever takes messages.

use std::future::Future;

use crate::channel::{Answer, Message};

/// A mail relay, an SMS gateway, or the receivers of webhooks.
pub trait Provider: Send + Sync + 'static {
    /// Its name in attempts, metrics and answers.
    fn name(&self) -> &str;

    /// Whether a message that may have arrived is sent again: a second copy is recognised.
    fn resends_ambiguous(&self) -> bool;

    /// Messages a second; 0: any number.
    fn rps(&self) -> u32;

    /// Makes one attempt. Ends by itself within the time that its settings give it.
    fn send(&self, message: &Message) -> impl Future<Output = Answer> + Send;
}

//! The filters of one session.

use latchline_shared::message::Qos;

/// The subscriptions of a session, in no order. Few clients have more than one.
#[derive(Debug, Default)]
pub struct Subscriptions(Vec<Granted>);

/// A subscription as the session remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The filter as the client wrote it.
    pub filter: Box<str>,
    /// QoS granted.
    pub qos: Qos,
}

impl Subscriptions {
    /// All of them.
    pub fn all(&self) -> &[Granted] {
        &self.0
    }

    /// Whether this filter is among them.
    pub fn contains(&self, filter: &str) -> bool {
        self.0.iter().any(|known| &*known.filter == filter)
    }

    /// Notes a granted filter, or the new QoS of one that was there.
    pub fn granted(&mut self, filter: &str, qos: Qos) {
        if let Some(known) = self.0.iter_mut().find(|known| &*known.filter == filter) {
            known.qos = qos;
            return;
        }
        // Most clients have one subscription; do not let the vector reserve four.
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.0.push(Granted { filter: filter.into(), qos });
    }

    /// Forgets a filter; the QoS that it had, if it was there.
    pub fn revoked(&mut self, filter: &str) -> Option<Qos> {
        let position = self.0.iter().position(|known| &*known.filter == filter)?;
        Some(self.0.swap_remove(position).qos)
    }
}

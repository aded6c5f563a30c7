//! When parked sessions need attention: delayed wills and expiries.
//!
//! A timer is a reminder, not a decision: whoever comes at its time asks the registry what is due.
//! Timers are taken back when a client returns, not to be right but to be bounded: a client that
//! comes and goes would leave a reminder each time until its session could have expired.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use bytestring::ByteString;
use tokio::sync::Notify;

use crate::session::mailbox::SessionKey;

/// Reminders in the order of their time.
#[derive(Debug, Default)]
pub struct Timers {
    reminders: Mutex<BTreeMap<(Instant, SessionKey), ByteString>>,
    earlier: Notify,
}

impl Timers {
    /// Sets a reminder.
    pub fn set(&self, due: Instant, key: SessionKey, client_id: ByteString) {
        let is_first = {
            let mut reminders = self.lock();
            reminders.insert((due, key), client_id);
            reminders.first_key_value().is_some_and(|(first, _)| *first == (due, key))
        };
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Takes a reminder back, if it is still there.
    pub fn take_back(&self, due: Instant, key: SessionKey) {
        self.lock().remove(&(due, key));
    }

    /// Number of reminders.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next reminder, at its time.
    ///
    /// Cancel safety: a reminder is taken only in the poll that returns it.
    pub async fn next(&self) -> (SessionKey, ByteString) {
        loop {
            let first = self.lock().first_key_value().map(|((due, _), _)| *due);
            let Some(due) = first else {
                self.earlier.notified().await;
                continue;
            };
            if due <= Instant::now() {
                if let Some(((_, key), client_id)) = self.lock().pop_first() {
                    return (key, client_id);
                }
                continue;
            }
            // Either arm only leads to another look, so nothing is lost when one is dropped.
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = self.earlier.notified() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Instant, SessionKey), ByteString>> {
        self.reminders.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn reminders_come_in_the_order_of_their_time() {
        let timers = Timers::default();
        let now = Instant::now();
        timers.set(now + Duration::from_millis(20), SessionKey(1), "later".into());
        timers.set(now, SessionKey(2), "now".into());
        assert_eq!(timers.next().await.0, SessionKey(2));
        assert_eq!(timers.next().await.0, SessionKey(1));
        assert!(now.elapsed() >= Duration::from_millis(20));
    }
}

//! The guard: a hook that lets a command through to its lock only if it is signed, in time, and
//! comes for the first time (contract, section 4).
//!
//! The lock checks all of this itself; the guard is there so that a lock whose memory or clock is
//! poor never sees a bad command, and so that the attempt is on record under its publisher's name.
//! [`verdict`] says whether a command is signed with one of the lock's [`keys`], [`nonces`] whether
//! it is the first and in time.
//!
//! Guarantee: with `guard.mode = "enforce"` a command that was delivered is not delivered again, nor
//! is one that does not verify, whoever publishes it, will or not, and through restarts: the memory
//! is empty then, so commands signed before the start are stale.
//! Non-guarantee: over a restart, a command whose signer's clock was ahead can pass again for as
//! long as it was ahead (30 s at most), and a command is lost if a hook behind the guard fails on
//! it and its publisher repeats it: for the guard, it was let through. The lock's own memory is what
//! stands behind the first; the missing report says the second.
//!
//! Only messages on `devices/+/command` cost anything: for others it is a comparison of a prefix.

pub mod keys;
pub mod nonces;
pub mod verdict;

use std::sync::{Mutex, MutexGuard, PoisonError};

use latchline_shared::hook::{Call, Hook, PublishAnswer};
use latchline_shared::keys::KeyRing;
use latchline_shared::kit::clock;
use latchline_shared::message::{Client, Message};
use latchline_shared::receipt::Receipt;

use super::metrics::GuardMetrics;
use crate::config::{Config, GuardMode};
use nonces::{Nonces, Verified};
use verdict::Verdict;

/// The hook.
pub struct Guard {
    enforces: bool,
    keys: KeyRing,
    nonces: Mutex<Nonces>,
    metrics: GuardMetrics,
}

impl Guard {
    /// The guard of the configuration, unless it is off. Blocks on the disk.
    pub fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        let enforces = match config.guard.mode {
            GuardMode::Off => return Ok(None),
            GuardMode::Report => false,
            GuardMode::Enforce => true,
        };
        let (total_max, per_lock_max) = (config.guard.nonces_max, config.guard.nonces_per_lock_max);
        Ok(Some(Self {
            enforces,
            keys: keys::ring(&config.guard, &config.access)?,
            nonces: Mutex::new(Nonces::new(total_max, per_lock_max, now_ms())),
            metrics: GuardMetrics::default(),
        }))
    }

    /// What is counted about commands.
    pub fn metrics(&self) -> &GuardMetrics {
        &self.metrics
    }

    fn judge(&self, lock: &str, message: &Message, now_ms: i64) -> Verdict {
        let command = match verdict::examine(message, lock, &self.keys) {
            Ok(command) => command,
            Err(verdict) => return verdict,
        };
        let Message { payload, from: publisher, dup, .. } = message;
        let mut nonces = self.nonces();
        let verdict =
            nonces.admit(Verified { lock, command: &command, payload, publisher, dup: *dup }, now_ms);
        self.metrics.set_nonces(nonces.count());
        verdict
    }

    fn nonces(&self) -> MutexGuard<'_, Nonces> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hook for Guard {
    fn name(&self) -> &'static str {
        "guard"
    }

    fn calls(&self) -> &'static [Call] {
        &[Call::MessagePublish]
    }

    fn message_publish(&self, client: &Client, message: &Message) -> PublishAnswer {
        let Some(lock) = verdict::target(&message.topic) else {
            return PublishAnswer::Accept(Receipt::settled());
        };
        let verdict = self.judge(lock, message, now_ms());
        self.metrics.count(verdict);
        match verdict {
            Verdict::Ok => PublishAnswer::Accept(Receipt::settled()),
            _ if !self.enforces => {
                let verdict = verdict.word();
                tracing::debug!(client = &*client.id, lock, verdict, "a command that would be refused");
                PublishAnswer::Accept(Receipt::settled())
            }
            Verdict::Retransmit => PublishAnswer::Absorb(Receipt::settled()),
            _ => PublishAnswer::Reject(verdict.refusal(), Receipt::settled()),
        }
    }
}

fn now_ms() -> i64 {
    i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX)
}

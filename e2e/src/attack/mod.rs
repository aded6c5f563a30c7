//! Attacks on a lock, by a client of their own: what somebody does who has listened in, or has a
//! password, but not the key.
//!
//! [`all`] is the table: what each does, what the broker's guard says to it, and what the auditor
//! says if the guard is off and the attack reaches the lock. [`run`] does one. Most begin with a
//! genuine command, which the attacker is taken to have heard; that is the only one of the two on
//! which the lock may act.
//!
//! Invariant: each attack has a payload of its own, so that its records can be told from all others.

mod deed;
mod table;

use std::net::SocketAddr;
use std::time::Duration;

use latchline_shared::keys::MasterKey;
use latchline_shared::message::Protocol;

use crate::attack::deed::Deed;

/// Where, and with what, is attacked.
#[derive(Clone)]
pub struct Arena {
    /// The broker.
    pub broker: SocketAddr,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Signs the genuine commands. The attacks do not use it, except those of an insider.
    pub master: MasterKey,
    /// The operator's password.
    pub operator: String,
    /// The administrator's password.
    pub administrator: String,
    /// The lock that is attacked.
    pub lock: String,
    /// Another lock of the fleet; an attack connects under its name.
    pub other_lock: String,
    /// How long after a genuine command a replay that waits comes. After a minute the guard has
    /// forgotten the command, and says `stale` to it.
    pub later: Duration,
}

/// An attack, and what must come of it.
pub struct Attack {
    /// Its name, unique.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What comes of it when the guard enforces.
    pub guard: Guarded,
    /// What the auditor says when the guard is off.
    pub auditor: Audited,
    deed: Deed,
}

/// What comes of an attack when the guard enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    /// It is refused, and recorded with this reason.
    Refused(&'static str),
    /// It is acknowledged, since an honest sender may do the same, and goes no further.
    Absorbed,
    /// The guard has no say in it.
    Passed,
}

/// What the auditor says of an attack when the guard is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audited {
    /// The command's record has this verdict.
    Verdict(&'static str),
    /// There is this finding.
    Finding(&'static str),
    /// The access rules refuse it all the same: an attempt with this reason.
    Attempt(&'static str),
}

/// An attack that was made.
#[derive(Debug)]
pub struct Attempt {
    /// Client id of the attacker.
    pub publisher: String,
    /// Topic that it published on.
    pub topic: String,
    /// What it published.
    pub payload: String,
    /// What the broker said.
    pub answer: Answer,
    /// Genuine commands that were sent for it.
    pub genuine: usize,
}

/// What the broker said to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was acknowledged, or (QoS 0) the connection lives on.
    Taken,
    /// It was refused with this reason code.
    Refused(u8),
    /// The connection was ended.
    Ended,
}

/// All attacks.
pub fn all() -> &'static [Attack] {
    table::TABLE
}

/// Makes an attack.
pub async fn run(attack: &Attack, arena: &Arena) -> anyhow::Result<Attempt> {
    deed::run(&attack.deed, attack.name, arena).await
}

impl Guarded {
    /// The answers that go with it in this version of MQTT.
    pub fn is(self, answer: Answer, protocol: Protocol) -> bool {
        match self {
            Self::Refused(_) if protocol == Protocol::V3 => answer == Answer::Ended,
            // There is no PUBACK for QoS 0 that could say why.
            Self::Refused(_) => matches!(answer, Answer::Refused(0x87) | Answer::Ended),
            Self::Absorbed | Self::Passed => answer == Answer::Taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_attack_has_a_name_of_its_own() {
        let names: BTreeSet<_> = all().iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all().len());
        assert!(names.len() > 40, "{}", names.len());
        // They stand in client ids.
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')));
    }
}

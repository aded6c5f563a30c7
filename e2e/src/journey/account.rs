//! What must still be true later, for instance after each part was restarted.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::site::Site;

/// What happened, by the ids under which it can be found again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Commands that were judged, each as the history has it.
    pub judged: Vec<Judged>,
    /// Alarms that were raised.
    pub alarms: Vec<Raised>,
}

/// A command that is in the history once with this verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The lock.
    pub lock: String,
    /// The command.
    pub process_id: String,
    /// `command` or `attempt`.
    pub kind: String,
    /// What the auditor says.
    pub verdict: String,
    /// What its owner was told by one mail and one SMS, if anything.
    pub told: Option<String>,
}

/// An alarm that was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The lock.
    pub lock: String,
    /// Its type.
    pub kind: String,
    /// Its id.
    pub id: String,
}

impl Account {
    /// Whether all of it is still so; what is not is an error.
    pub async fn check(&self, site: &Site) -> anyhow::Result<()> {
        for Judged { lock, process_id, kind, verdict, told } in &self.judged {
            let history = site.history(lock).await?;
            let same = history.iter().filter(|entry| {
                entry.kind == *kind
                    && entry.process_id.as_deref() == Some(process_id)
                    && entry.verdict.as_deref() == Some(verdict)
            });
            let count = same.count();
            ensure!(
                count == 1,
                "{kind} {process_id} of {lock} is {count} times {verdict} in the history: {history:?}"
            );
            let Some(event_type) = told else { continue };
            let mut told = site.notifications(lock).await?;
            told.retain(|one| one.event_type == *event_type && one.process_id.as_deref() == Some(process_id));
            let mut channels: Vec<&str> = told.iter().map(|one| one.channel.as_str()).collect();
            channels.sort_unstable();
            ensure!(
                channels == ["email", "sms"],
                "{event_type} of {process_id} is told by {channels:?}: {told:?}"
            );
        }
        for Raised { lock, kind, id } in &self.alarms {
            let alarms = site.alarms(lock).await?;
            let same = alarms.iter().filter(|alarm| alarm.kind == *kind && alarm.id == *id).count();
            ensure!(same == 1, "the alarm {kind} of {lock} is not there {id}: {alarms:?}");
        }
        Ok(())
    }
}

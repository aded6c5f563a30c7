//! What the registry knows of one client's session.

use std::sync::Arc;
use std::time::Instant;

use latchline_shared::message::Client;

use crate::packet::types::Will;
use crate::session::Session;
use crate::session::mailbox::{Mailbox, SessionKey};

/// A client's session.
pub(super) enum Entry {
    /// A connection has it.
    Online { mailbox: Arc<Mailbox>, client: Arc<Client> },
    /// It waits for its client.
    Parked(Box<Parked>),
}

/// A session that waits for its client.
pub struct Parked {
    /// The session.
    pub session: Session,
    /// Its mailbox, now the offline queue.
    pub mailbox: Arc<Mailbox>,
    /// Who was connected last.
    pub client: Arc<Client>,
    /// When the session ends; never, if there is none.
    pub expires_at: Option<Instant>,
    /// A will and when it is due, if it has a delay.
    pub will: Option<(Instant, Box<Will>)>,
}

impl Parked {
    /// When something is to be done about it.
    pub fn next_due(&self) -> Option<Instant> {
        let will = self.will.as_ref().map(|(due, _)| *due);
        [will, self.expires_at].into_iter().flatten().min()
    }

    /// The end of the session, with a will that is still open: it is due at the latest then
    /// (MQTT 5, section 3.1.3.2.2).
    pub fn end(self) -> Ended {
        let will = self.will.map(|(_, will)| (self.client, will));
        Ended { session: self.session, mailbox: self.mailbox, will }
    }
}

/// A session that is over: its subscriptions and its will are the caller's to deal with.
pub struct Ended {
    /// The session.
    pub session: Session,
    /// Its mailbox, which is still in the router.
    pub mailbox: Arc<Mailbox>,
    /// Its will, if that has been neither published nor discarded.
    pub will: Option<(Arc<Client>, Box<Will>)>,
}

/// What is due for a parked session.
pub enum Due {
    /// The client came back, or there is nothing yet.
    Nothing,
    /// Its will is due; the session lives on.
    Will(Arc<Client>, Box<Will>),
    /// It has expired.
    End(Box<Ended>),
}

/// A session as the administrator sees it.
#[derive(Debug, Clone)]
pub struct Status {
    /// Who is, or was last, connected.
    pub client: Arc<Client>,
    /// Number of the session.
    pub mailbox: Arc<Mailbox>,
    /// Whether a connection has the session.
    pub online: bool,
    /// When a parked session ends.
    pub expires_at: Option<Instant>,
}

impl Entry {
    pub(super) fn key(&self) -> SessionKey {
        match self {
            Self::Online { mailbox, .. } => mailbox.key(),
            Self::Parked(parked) => parked.mailbox.key(),
        }
    }

    pub(super) fn status(&self) -> Status {
        match self {
            Self::Online { mailbox, client } => Status {
                client: Arc::clone(client),
                mailbox: Arc::clone(mailbox),
                online: true,
                expires_at: None,
            },
            Self::Parked(parked) => Status {
                client: Arc::clone(&parked.client),
                mailbox: Arc::clone(&parked.mailbox),
                online: false,
                expires_at: parked.expires_at,
            },
        }
    }
}

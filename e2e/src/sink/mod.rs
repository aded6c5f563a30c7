//! What shows the mails and the SMS that arrive: for tests, the demo and the containers alike.
//!
//! ```text
//! GET /                    a page for people
//! GET /api/messages        { "count": how many there ever were, "messages": the newest first }
//!     ?limit=20            so many of them at most; LIMIT without
//!     &before=117          the 117th and those after it left out: the next page
//! GET /messages/117/html   the 117th mail as HTML, where nothing of it can do anything
//! GET /livez
//! ```
//!
//! Invariant: memory is bounded. So many of the newest messages are kept as whoever starts it says,
//! fewer if they are long (`latchline_notifier::sink`); all are counted.

pub mod mail;
pub mod page;
pub mod sms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use latchline_shared::kit::http::{Http, server};
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Messages that the sinks of tests keep.
pub const KEEP_MAX: usize = 200_000;
/// Messages of an answer, if nobody says how many.
pub const LIMIT: usize = 1_000;

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The notification's id: of a mail's Message-ID, or of a request's idempotency key. "" = none.
    pub id: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Who sent it.
    pub from: String,
    /// Whom to.
    pub to: Vec<String>,
    /// What about; an SMS has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What it says.
    pub text: String,
    /// The same as HTML; an SMS has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// What a sink answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// How many there ever were.
    pub count: u64,
    /// Those that are kept and were asked for, the newest first.
    pub messages: Vec<Message>,
}

/// Which messages are asked for. They are numbered from 1 in the order of their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Only those with a smaller number.
    pub before: u64,
    /// So many at most.
    pub limit: usize,
}

impl Part {
    /// The newest.
    pub fn newest(limit: usize) -> Self {
        Self { before: u64::MAX, limit }
    }

    /// One.
    pub fn only(number: u64) -> Self {
        Self { before: number.saturating_add(1), limit: 1 }
    }
}

/// What kind of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Mails.
    Mail,
    /// SMS.
    Sms,
}

/// Where the messages come from.
#[derive(Clone)]
pub struct Source {
    kind: Kind,
    read: Arc<dyn Fn(Part) -> Messages + Send + Sync>,
}

impl Source {
    fn read(&self, part: Part) -> Messages {
        (self.read)(part)
    }
}

/// A page that is served; dropping it ends it.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Page {
    /// Serves these messages at this address; port 0 is any that is free.
    pub async fn start(address: SocketAddr, source: Source) -> anyhow::Result<Self> {
        Self::start_with(address, source, Router::new()).await
    }

    /// As [`Page::start`], with further routes.
    pub async fn start_with(address: SocketAddr, source: Source, routes: Router) -> anyhow::Result<Self> {
        let listener = server::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let routes = page::routes(source)?.merge(routes);
        tokio::spawn(server::serve(listener, routes, http(address), stop.clone()));
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn http(address: SocketAddr) -> Http {
    Http {
        address: Some(address),
        connections_max: 64,
        body_bytes_max: 64 * 1024,
        head_timeout: Duration::from_secs(30),
        request_timeout: Duration::from_secs(10),
    }
}

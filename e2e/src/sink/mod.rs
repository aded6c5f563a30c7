//! What shows the mails and the SMS that arrive: for tests, the demo and the containers alike.
//!
//! ```text
//! GET /api/messages   { "count": how many there ever were, "messages": the kept ones, newest first }
//! GET /livez
//! ```
//!
//! Invariant: memory is bounded; the newest [`KEEP_MAX`] messages are kept, all are counted.

pub mod mail;
pub mod sms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use latchline_shared::kit::http::{Http, server};
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Messages that a sink keeps.
pub const KEEP_MAX: usize = 200_000;

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
    /// Those that are kept, the newest first.
    pub messages: Vec<Message>,
}

/// Where the messages come from.
pub type Source = Arc<dyn Fn() -> Messages + Send + Sync>;

/// A page that is served; dropping it ends it.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Page {
    /// Serves these messages at this address; port 0 is any that is free.
    pub async fn start(address: SocketAddr, source: Source) -> anyhow::Result<Self> {
        let listener = server::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let routes = Router::new()
            .route("/api/messages", get(async move || Json(source())))
            .route("/livez", get(async || "ok\n"));
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

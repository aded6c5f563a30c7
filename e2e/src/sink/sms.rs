//! SMS as messages: requests to a gateway (the notifier's preset `generic`), and a gateway of our own.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use latchline_notifier::sink::Kept;
use latchline_notifier::sink::http::{HttpServer, Reply, Request};
use latchline_shared::kit::clock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Kind, Message, Messages, Part, Source};

/// Names a message, the same in each attempt to send it.
const KEY: &str = "idempotency-key";

/// Lets a server answer as the gateway does that takes everything.
pub fn accept_all(server: &HttpServer) {
    server.answer_by(|request| Reply::json(200, &json!({ "id": request.header(KEY) })));
}

/// The SMS that a server was given.
pub fn source(server: &HttpServer) -> Source {
    let watch = server.watch();
    let read = move |part: Part| {
        let (count, requests) = watch(part.before, part.limit);
        Messages { count, messages: requests.iter().map(message).collect() }
    };
    Source { kind: Kind::Sms, read: Arc::new(read) }
}

/// What a request says; one that says nothing is an SMS without text.
fn message(request: &Request) -> Message {
    let sms = serde_json::from_slice(&request.body).unwrap_or_default();
    Message { at_ms: request.at_ms, ..of(sms, request.header(KEY)) }
}

/// The body of `POST /messages`.
#[derive(Default, Deserialize)]
struct Sms {
    #[serde(default)]
    from: String,
    to: String,
    text: String,
}

fn of(sms: Sms, id: &str) -> Message {
    let Sms { from, to, text } = sms;
    Message {
        id: id.to_owned(),
        at_ms: clock::unix_ms(),
        from,
        to: vec![to],
        subject: None,
        text,
        html: None,
    }
}

/// A gateway that takes everything and keeps the newest.
#[derive(Clone)]
pub struct Inbox(Arc<Mutex<Kept<Message>>>);

impl Inbox {
    /// An empty one.
    pub fn new(keep_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept::new(keep_max))))
    }

    /// What it was given.
    pub fn source(&self) -> Source {
        let inbox = self.clone();
        let read = move |part: Part| {
            let kept = inbox.0.lock().unwrap_or_else(PoisonError::into_inner);
            Messages { count: kept.count(), messages: kept.before(part.before, part.limit) }
        };
        Source { kind: Kind::Sms, read: Arc::new(read) }
    }

    /// `POST /messages`, as the preset `generic` says it.
    pub fn routes(&self) -> Router {
        Router::new().route("/messages", post(take)).with_state(self.clone())
    }
}

async fn take(State(inbox): State<Inbox>, headers: HeaderMap, Json(sms): Json<Sms>) -> Json<Value> {
    let id = headers.get(KEY).and_then(|key| key.to_str().ok()).unwrap_or_default();
    let message = of(sms, id);
    let bytes = message.text.len() + message.from.len() + message.to[0].len() + message.id.len();
    inbox.0.lock().unwrap_or_else(PoisonError::into_inner).push(message, bytes);
    Json(json!({ "id": id }))
}

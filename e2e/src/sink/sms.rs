//! Requests to an SMS gateway (the notifier's preset `generic`) as messages.

use std::sync::Arc;

use latchline_notifier::sink::http::{HttpServer, Reply, Request};
use serde_json::{Value, json};

use super::{Message, Messages, Source};

/// Lets a server answer as the gateway does that takes everything.
pub fn accept_all(server: &HttpServer) {
    server.answer_by(|request| Reply::json(200, &json!({ "id": request.header("idempotency-key") })));
}

/// The SMS that a server was given.
pub fn source(server: &HttpServer) -> Source {
    let watch = server.watch();
    Arc::new(move || {
        let (count, requests) = watch();
        Messages { count, messages: requests.iter().rev().map(message).collect() }
    })
}

fn message(request: &Request) -> Message {
    let body = request.json();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let to = match &body["to"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => vec![text("to")],
    };
    Message {
        id: request.header("idempotency-key").to_owned(),
        at_ms: request.at_ms,
        from: text("from"),
        to,
        subject: None,
        text: text("text"),
        html: None,
    }
}

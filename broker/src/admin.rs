//! The operator's HTTP API, behind a token: look at clients and subscriptions, disconnect a client,
//! publish a message.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/clients?after=ID&limit=N` | sessions in the order of their ids, a page |
//! | `GET /v1/clients/{id}` | one session with its subscriptions |
//! | `DELETE /v1/clients/{id}` | disconnects the client, or ends its parked session |
//! | `POST /v1/messages` | publishes; answers when the message is stored |

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use latchline_shared::kit::http::problem::Problem;
use latchline_shared::message::{Client, Message, Protocol, Qos, Sequence};
use latchline_shared::topic;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::broker::{Broker, Published};
use crate::registry::Status;
use crate::session::mailbox::Signal;

/// Sessions in one page, unless asked for otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

/// How long a message may take to be stored before the caller is told that it takes longer: less than
/// `http.request_timeout_ms`.
const STORE_TIMEOUT: Duration = Duration::from_secs(8);

/// Client id in the records of messages that were published here.
const CLIENT_ID: &str = "latchline-admin";

/// The routes. They need a token in front of them.
pub fn routes(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/v1/clients", get(list))
        .route("/v1/clients/{id}", get(show).delete(disconnect))
        .route("/v1/messages", post(publish))
        .with_state(broker)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Clients {
    clients: Vec<ClientView>,
    /// The `after` of the next page, if this one was full.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct ClientView {
    client_id: String,
    username: String,
    role: String,
    connected: bool,
    protocol: u8,
    peer: String,
    /// Number of the last connection, as in the `seq` header.
    session: u64,
    queued_messages: usize,
    expires_in_s: Option<u64>,
    subscriptions: Vec<SubscriptionView>,
}

#[derive(Debug, Serialize)]
struct SubscriptionView {
    filter: String,
    qos: u8,
}

impl ClientView {
    fn new(status: &Status) -> Self {
        let subscriptions = status.mailbox.subscriptions();
        let granted = subscriptions.all().iter();
        Self {
            client_id: status.client.id.to_string(),
            username: status.client.username.to_string(),
            role: status.client.role.to_string(),
            connected: status.online,
            protocol: status.client.protocol as u8,
            peer: status.client.peer.to_string(),
            session: status.client.session,
            queued_messages: status.mailbox.len(),
            expires_in_s: status.expires_at.map(|at| at.saturating_duration_since(Instant::now()).as_secs()),
            subscriptions: granted
                .map(|granted| SubscriptionView {
                    filter: granted.filter.to_string(),
                    qos: granted.qos.level(),
                })
                .collect(),
        }
    }
}

async fn list(State(broker): State<Arc<Broker>>, Query(page): Query<Page>) -> Result<Json<Clients>, Problem> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(bad_request(format!("limit: {limit} is not from 1 to {PAGE_MAX}")));
    }
    let clients: Vec<_> = broker.registry.page(&page.after, limit).iter().map(ClientView::new).collect();
    let next = clients.last().filter(|_| clients.len() == limit).map(|last| last.client_id.clone());
    Ok(Json(Clients { clients, next }))
}

async fn show(
    State(broker): State<Arc<Broker>>,
    Path(client_id): Path<String>,
) -> Result<Json<ClientView>, Problem> {
    let status = broker.registry.status(&client_id).ok_or_else(|| no_client(&client_id))?;
    Ok(Json(ClientView::new(&status)))
}

async fn disconnect(
    State(broker): State<Arc<Broker>>,
    Path(client_id): Path<String>,
) -> Result<StatusCode, Problem> {
    if broker.registry.signal(&client_id, Signal::Kick) {
        tracing::info!(client = client_id, "disconnected by an administrator");
        return Ok(StatusCode::NO_CONTENT);
    }
    let ended = broker.registry.evict(&client_id).ok_or_else(|| no_client(&client_id))?;
    broker.clean_up(ended);
    tracing::info!(client = client_id, "session ended by an administrator");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    topic: String,
    payload: String,
    #[serde(default = "at_least_once")]
    qos: u8,
    #[serde(default)]
    retain: bool,
}

fn at_least_once() -> u8 {
    Qos::AtLeastOnce.level()
}

#[derive(Debug, Serialize)]
struct Stored {
    mid: String,
}

async fn publish(State(broker): State<Arc<Broker>>, body: Bytes) -> Result<Json<Stored>, Problem> {
    let wanted: NewMessage =
        serde_json::from_slice(&body).map_err(|error| bad_request(format!("the message: {error}")))?;
    if !topic::is_topic_name(&wanted.topic) {
        return Err(bad_request("topic: not a topic name".to_owned()));
    }
    let qos = Qos::from_level(wanted.qos)
        .ok_or_else(|| bad_request(format!("qos: {} is not 0, 1 or 2", wanted.qos)))?;
    if broker.budget.is_exhausted() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many messages wait for storage"));
    }
    let client = administrator(&broker);
    let message = Message {
        mid: broker.next_message_id(),
        from: client.id.clone(),
        topic: wanted.topic.into(),
        payload: wanted.payload.into(),
        qos,
        retain: wanted.retain,
        dup: false,
        packet_id: None,
        properties: None,
        received_at: Instant::now(),
        expiry: None,
    };
    let mid = message.mid.to_string();
    match broker.publish_unattended(&client, message) {
        Published::Rejected(refusal, receipt) => {
            // It is refused whether or not that can be put on record in time.
            let _is_on_record = timeout(STORE_TIMEOUT, receipt).await;
            Err(Problem::new(StatusCode::FORBIDDEN, format!("refused: {}", refusal.cause)))
        }
        Published::Accepted { receipt, .. } => match timeout(STORE_TIMEOUT, receipt).await {
            Ok(Ok(())) => Ok(Json(Stored { mid })),
            Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_GATEWAY, format!("message {mid} was not stored"))),
            Err(_) => {
                let detail = format!("message {mid} is not stored yet; it will be when the storage answers");
                Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail))
            }
        },
    }
}

/// The publisher of these messages: a connection that nobody made.
fn administrator(broker: &Broker) -> Client {
    Client {
        id: CLIENT_ID.into(),
        username: CLIENT_ID.into(),
        role: "administrator".into(),
        protocol: Protocol::V5,
        peer: ([127, 0, 0, 1], 0).into(),
        session: broker.registry.next_connection_number(),
        sequence: Sequence::default(),
    }
}

fn bad_request(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn no_client(client_id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no client {client_id:?}"))
}

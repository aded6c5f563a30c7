//! A bounded HTTP/1 server for a router.
//!
//! On hyper rather than `axum::serve`, which bounds neither the connections nor the time that a
//! client takes for the head of a request. Bounds and what happens at them: `config/broker.toml`,
//! `[http]`.
//!
//! Non-guarantee: a client that does not read its answer keeps its connection until TCP gives up;
//! it can take up no more than `connections_max`.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::Http;
use super::problem::{self, Problem};

/// Largest head of a request, and largest part of an answer that is held for one connection.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// After an accept that failed, most likely for want of files.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Opens a listening socket.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `stop`; then takes no more requests, and returns when those that run have been
/// answered. Streams that do not end by themselves must watch `stop` too.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    http: Http,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    info!(listener = "http", address = %listener.local_addr()?, "listening");
    let router = bounded(router, &http);
    let permits = Arc::new(Semaphore::new(http.connections_max));
    let connections = TaskTracker::new();
    // Cancel safety: neither arm loses anything; a connection that was accepted is returned.
    while let Some(accepted) = stop
        .run_until_cancelled(async {
            let permit = Arc::clone(&permits).acquire_owned().await?;
            anyhow::Ok((permit, listener.accept().await))
        })
        .await
    {
        match accepted? {
            (permit, Ok((stream, _))) => {
                let connection = connection(stream, router.clone(), http.head_timeout, stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            (_, Err(error)) => {
                warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, head_timeout: Duration, stop: CancellationToken) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = pin!(served);
    let end = tokio::select! {
        end = served.as_mut() => end,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = end {
        debug!(%error, "http connection ended");
    }
}

/// The router under its bounds, with errors of one shape.
fn bounded(router: Router, http: &Http) -> Router {
    let request_timeout = http.request_timeout;
    router
        .layer(DefaultBodyLimit::max(http.body_bytes_max))
        .layer(from_fn(move |request: Request, next: Next| answer_within(request_timeout, request, next)))
}

async fn answer_within(deadline: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(deadline, next.run(request)).await {
        Ok(response) => problem::unify(response).await,
        Err(_) => {
            let detail = format!("no answer within {deadline:?}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
        }
    }
}

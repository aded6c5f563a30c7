//! An HTTP server that keeps what it is sent and answers as it is told: an SMS gateway, or the receiver
//! of a webhook.
//!
//! On hyper, because a connection that is closed without an answer is one of the answers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Response, StatusCode, header::CONTENT_LENGTH, header::CONTENT_TYPE};
use futures_util::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use latchline_shared::kit::clock;
use tokio::net::TcpStream;

use super::port::Port;
use super::{Kept, lock};

/// Longest body of a request; longer ones get 413.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request that was read to its end.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, POST and so on.
    pub method: String,
    /// Path, as it was written.
    pub path: String,
    /// Query without its question mark, as it was written; empty: none.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// When it was complete, in Unix milliseconds.
    pub at_ms: u64,
}

impl Request {
    /// A header; empty: there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The query's fields, decoded, in order.
    pub fn query_fields(&self) -> Vec<(String, String)> {
        fields(&self.query)
    }

    /// The fields of a body that is a form, decoded, in order.
    pub fn form_fields(&self) -> Vec<(String, String)> {
        fields(&String::from_utf8_lossy(&self.body))
    }

    /// What it takes to keep it, about.
    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        self.body.len() + self.path.len() + self.query.len() + headers
    }

    /// A body that is JSON; null: it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn fields(query: &str) -> Vec<(String, String)> {
    let Ok(mut url) = reqwest::Url::parse("http://localhost/") else { return Vec::new() };
    url.set_query(Some(query));
    url.query_pairs().into_owned().collect()
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// How long it takes.
    pub delay: Duration,
    /// Whether it is given at all.
    pub end: End,
}

/// Whether an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is.
    Whole,
    /// Its head and its body, which was to be longer: then the connection is closed.
    Cut,
    /// The connection is closed instead.
    Close,
    /// Nothing ever comes.
    Hang,
}

impl Reply {
    /// A status without a body.
    pub fn status(status: u16) -> Self {
        let (headers, body, delay) = (HeaderMap::new(), Bytes::new(), Duration::ZERO);
        Self { status, headers, body, delay, end: End::Whole }
    }

    /// A text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self { body: Bytes::from(text.into()), ..Self::status(status) }.header("content-type", "text/plain")
    }

    /// JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        let body = Bytes::from(value.to_string());
        Self { body, ..Self::status(status) }.header(CONTENT_TYPE.as_str(), "application/json")
    }

    /// Closes the connection instead of an answer.
    pub fn close() -> Self {
        Self { end: End::Close, ..Self::status(200) }
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self { end: End::Hang, ..Self::status(200) }
    }

    /// The same, and closes the connection before the end of the body.
    pub fn cut(self) -> Self {
        Self { end: End::Cut, ..self }
    }

    /// The same, later.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The same with this header; one that is none is left out.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<axum::http::HeaderName>(), value.parse()) {
            self.headers.append(name, value);
        }
        self
    }
}

type Decide = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

struct Shared {
    seen: Mutex<Kept<Request>>,
    queue: Mutex<VecDeque<Reply>>,
    decide: Mutex<Decide>,
}

/// The server.
pub struct HttpServer {
    shared: Arc<Shared>,
    port: Port,
}

impl HttpServer {
    /// Listens (port 0: any that is free) and answers 200. The newest `keep_max` requests are kept.
    pub async fn start(address: SocketAddr, keep_max: usize) -> io::Result<Self> {
        let decide: Decide = Arc::new(|_| Reply::status(200));
        let shared = Arc::new(Shared {
            seen: Mutex::new(Kept::new(keep_max)),
            queue: Mutex::default(),
            decide: Mutex::new(decide),
        });
        let port = open(address, &shared).await?;
        Ok(Self { shared, port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// The URL of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.port.address)
    }

    /// From now on, every request for which no answer is queued gets this.
    pub fn answer(&self, reply: Reply) {
        self.answer_by(move |_| reply.clone());
    }

    /// From now on, every request for which no answer is queued is answered by this.
    pub fn answer_by(&self, decide: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.decide) = Arc::new(decide);
    }

    /// Queues an answer, for one request.
    pub fn answer_next(&self, reply: Reply) {
        lock(&self.shared.queue).push_back(reply);
    }

    /// The newest requests, the oldest of them first.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.seen).all()
    }

    /// A look at the requests from elsewhere: how many there ever were, and at most `limit` of those
    /// before number `before`, the newest first, as far as they are kept.
    pub fn watch(&self) -> impl Fn(u64, usize) -> (u64, Vec<Request>) + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move |before, limit| {
            let seen = lock(&shared.seen);
            (seen.count(), seen.before(before, limit))
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        lock(&self.shared.seen).count()
    }

    /// Cuts all connections; nobody listens when this returns.
    pub async fn stop(&self) {
        self.port.close().await;
    }

    /// Listens again, on the same port.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.port.close().await;
        self.port = open(self.port.address, &self.shared).await?;
        Ok(())
    }
}

async fn open(address: SocketAddr, shared: &Arc<Shared>) -> io::Result<Port> {
    let shared = Arc::clone(shared);
    Port::open(address, move |stream| serve(stream, Arc::clone(&shared))).await
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // How a connection ends is the client's business, or was asked for.
    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: hyper::Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(Body::new(body), BODY_BYTES_MAX).await else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(response);
    };
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
        at_ms: clock::unix_ms(),
    };
    let reply = shared.reply(&request);
    let bytes = request.bytes();
    lock(&shared.seen).push(request, bytes);
    tokio::time::sleep(reply.delay).await;
    let Reply { status, mut headers, body, end, .. } = reply;
    let body = match end {
        End::Whole => Body::from(body),
        End::Cut => {
            headers.insert(CONTENT_LENGTH, (body.len() + 1).into());
            let cut = stream::once(async {
                // Meanwhile hyper sends what it has.
                tokio::task::yield_now().await;
                Err(io::Error::other("cut as told"))
            });
            Body::from_stream(stream::iter([Ok(body)]).chain(cut))
        }
        End::Close => return Err(io::Error::other("closed as told")),
        // Until the client goes, or the server is stopped.
        End::Hang => return std::future::pending().await,
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    *response.headers_mut() = headers;
    Ok(response)
}

impl Shared {
    fn reply(&self, request: &Request) -> Reply {
        if let Some(reply) = lock(&self.queue).pop_front() {
            return reply;
        }
        let decide = Arc::clone(&lock(&self.decide));
        decide(request)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const POST: &str = "POST /a%20b?x=1%2B2&y=a+b HTTP/1.1\r\nHost: x\r\nX-Key: k\r\nContent-Length: 7\r\n\
                        Connection: close\r\n\r\nto=%2B8";

    async fn server(keep_max: usize) -> HttpServer {
        HttpServer::start(([127, 0, 0, 1], 0).into(), keep_max).await.unwrap()
    }

    /// What comes back until the connection is closed.
    async fn ask(server: &HttpServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn requests_are_kept_as_they_came() {
        let server = server(2).await;
        server.answer(Reply::json(202, &serde_json::json!({"id": 7})).header("x-y", "z"));
        let answer = ask(&server, POST).await;
        assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n") && answer.ends_with("\r\n\r\n{\"id\":7}"));
        assert!(answer.contains("x-y: z\r\n"), "{answer}");
        let seen = server.requests().remove(0);
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/a%20b"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(seen.query_fields(), [pair("x", "1+2"), pair("y", "a b")]);
        assert_eq!(seen.form_fields(), [pair("to", "+8")]);
        assert_eq!(seen.header("x-key"), "k");
        for _ in 0..3 {
            ask(&server, POST).await;
        }
        assert_eq!((server.count(), server.requests().len()), (4, 2));
    }

    #[tokio::test]
    async fn answers_are_given_in_turn_and_badly_if_told() {
        let server = server(10).await;
        server.answer_by(|request| Reply::text(if request.method == "GET" { 404 } else { 500 }, "no"));
        server.answer_next(Reply::close());
        server.answer_next(Reply::text(200, "half").cut());
        assert_eq!(ask(&server, POST).await, "");
        let cut = ask(&server, POST).await;
        assert!(cut.contains("content-length: 5\r\n") && cut.ends_with("half"), "{cut}");
        assert!(ask(&server, POST).await.starts_with("HTTP/1.1 500 "));
        let get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(ask(&server, get).await.starts_with("HTTP/1.1 404 "));
        assert_eq!(server.count(), 4);
    }

    #[tokio::test]
    async fn it_hangs_until_it_is_stopped_and_comes_back() {
        let mut server = server(10).await;
        server.answer(Reply::hang());
        let (answer, ()) = tokio::join!(ask(&server, POST), async {
            while server.count() == 0 {
                tokio::task::yield_now().await;
            }
            server.stop().await;
        });
        assert_eq!(answer, "");
        let address = server.address();
        assert!(TcpStream::connect(address).await.is_err());
        server.answer(Reply::status(204));
        server.start_again().await.unwrap();
        assert_eq!(server.address(), address);
        assert!(ask(&server, POST).await.starts_with("HTTP/1.1 204 "));
        assert_eq!(server.count(), 2);
    }
}

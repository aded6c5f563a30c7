//! A served API: the real server on a port of its own, and a caller with a token of all scopes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use crate::kit::http::tokens::{self, Tokens};
use crate::kit::http::{Http, server};

/// By then whatever is waited for must have come.
pub const SOON: Duration = Duration::from_secs(30);

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct Served {
    /// Where it is.
    pub base: String,
    /// Asks, without a token unless one is given.
    pub client: Client,
    /// A token with all scopes.
    pub secret: String,
    /// Who may ask.
    pub tokens: Arc<Tokens>,
    /// Ends it.
    pub stop: CancellationToken,
    scopes: &'static [&'static str],
    folder: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// How it went.
    pub status: StatusCode,
    /// What is said about it.
    pub headers: HeaderMap,
    /// All of it.
    pub body: String,
}

impl Answer {
    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The detail of a problem.
    pub fn detail(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.body);
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// A text of each element of a list.
    pub fn texts(&self, list: &str, name: &str) -> Vec<String> {
        let json = self.json();
        let list = json[list].as_array().unwrap_or_else(|| panic!("no {list}: {}", self.body)).iter();
        let text = |one: &Value| one[name].as_str().map(str::to_owned);
        list.map(|one| text(one).unwrap_or_else(|| panic!("no {name}: {}", self.body))).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Served {
    /// Serves `routes`, which are made for those who may ask and for the end of the server.
    pub async fn start(
        scopes: &'static [&'static str],
        routes: impl FnOnce(Arc<Tokens>, CancellationToken) -> Router,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let token = tokens::generate("tester", &scopes.join(","), scopes).expect("a token");
        let path = folder.path().join("tokens");
        std::fs::write(&path, token.line).expect("the file of tokens");
        let tokens = Arc::new(Tokens::open(&path, scopes).expect("tokens"));
        let stop = CancellationToken::new();
        let listener = server::bind(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let http = Http {
            address: None,
            connections_max: 100,
            body_bytes_max: 256 * 1024,
            head_timeout: SOON,
            request_timeout: SOON,
        };
        let routes = routes(Arc::clone(&tokens), stop.clone());
        tokio::spawn(server::serve(listener, routes, http, stop.clone()));
        Self { base, client: Client::new(), secret: token.secret, tokens, stop, scopes, folder }
    }

    /// A question with the token; `path` may have a query.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.secret)
    }

    /// Asks.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.timeout(SOON).send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.text().await.expect("all of the answer") }
    }

    /// What is answered to `GET`, good or not.
    pub async fn ask(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// What is answered to `GET`, which must be good.
    pub async fn get(&self, path: &str) -> Answer {
        let answer = self.ask(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer
    }

    /// What is answered to `POST`.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    /// What is answered to `POST` without a body.
    pub async fn poke(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    /// What is answered to `PUT`.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    /// What is answered to `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// A stream from now on.
    pub async fn events(&self, path: &str) -> Events {
        Events::new(self.request(Method::GET, path).send().await.expect("a stream"))
    }

    /// A stream that goes on behind an event.
    pub async fn events_behind(&self, path: &str, id: &str) -> Events {
        let request = self.request(Method::GET, path).header("last-event-id", id);
        Events::new(request.send().await.expect("a stream"))
    }

    /// Panics unless each route (method, path, scope) lets in who has its scope, and nobody else.
    /// From then on there is a token for each scope, and none for all.
    pub async fn assert_scopes(&self, routes: &[(&str, &str, &str)]) {
        let secrets = self.one_token_a_scope();
        for (method, path, needed) in routes {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let request = || self.client.request(method.clone(), format!("{}{path}", self.base));
            for request in [request(), request().bearer_auth(&self.secret)] {
                let answer = self.send(request).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
                assert_eq!(answer.headers["www-authenticate"], "Bearer");
                assert!(answer.detail().contains("bearer token"), "{}", answer.body);
            }
            for (scope, secret) in &secrets {
                let answer = self.send(request().bearer_auth(secret)).await;
                let is_refused = answer.status == StatusCode::FORBIDDEN;
                assert_eq!(is_refused, scope != needed, "{method} {path} {scope}: {}", answer.status);
                if is_refused {
                    assert_eq!(answer.detail(), format!("the token {scope} has not the scope {needed}"));
                }
            }
        }
    }

    fn one_token_a_scope(&self) -> Vec<(&'static str, String)> {
        let token = |scope: &&'static str| tokens::generate(scope, scope, self.scopes).expect("a token");
        let tokens: Vec<_> = self.scopes.iter().map(|scope| (*scope, token(scope))).collect();
        let lines: String = tokens.iter().map(|(_, token)| format!("{}\n", token.line)).collect();
        std::fs::write(self.folder.path().join("tokens"), lines).expect("the file of tokens");
        assert_eq!(self.tokens.reload().expect("tokens"), self.scopes.len());
        tokens.into_iter().map(|(scope, token)| (scope, token.secret)).collect()
    }

    /// Panics unless the API describes itself to everybody, with a page that asks nobody else.
    pub async fn assert_described(&self, title: &str) {
        let open = |path: &str| self.client.get(format!("{}{path}", self.base));
        let served = self.send(open("/openapi.json")).await;
        assert_eq!(served.json()["info"]["title"], title);
        let page = self.send(open("/docs/")).await;
        assert_eq!(page.status, StatusCode::OK);
        let asks_others = page.body.contains("http://") || page.body.contains("https://");
        assert!(page.body.contains("swagger-ui") && !asks_others, "{}", page.body);
        let policy = page.headers["content-security-policy"].to_str().expect("a policy");
        assert!(policy.contains("default-src 'self'"), "{policy}");
        for (path, contains) in [
            ("/docs/swagger-initializer.js", "/openapi.json"),
            ("/docs/swagger-ui.css", ".swagger-ui"),
            ("/docs/swagger-ui-bundle.js", "function"),
        ] {
            let file = self.send(open(path)).await;
            assert_eq!((file.status.as_u16(), file.body.contains(contains)), (200, true), "{path}");
            assert_eq!(file.headers["x-content-type-options"], "nosniff");
        }
    }

    /// Panics unless answers are neither kept nor taken for anything but what they are.
    pub async fn assert_inert(&self, path: &str) {
        let answer = self.ask(path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.headers[name], value, "{path}");
        }
        let content_type = answer.headers["content-type"].to_str().expect("a type");
        assert!(content_type.ends_with("json"), "{path}: {content_type}");
    }
}

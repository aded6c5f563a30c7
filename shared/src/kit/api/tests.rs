//! A small API on the real server, asked over the loopback.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::{OpenApi as _, ToSchema};

use super::body::JsonBody;
use super::failure::Failure;
use super::live::{Feed, Live, Page, last_event_id};
use super::openapi::Common;
use super::tables::Tables;
use super::*;
use crate::fault::Fault;
use crate::kit::http::{Http, server};
use crate::kit::postgres;
use crate::kit::testing::eventually;

const SOON: Duration = Duration::from_secs(30);

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// What is wished.
    what: String,
    /// Where, if it matters.
    place: Option<Place>,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Place {
    /// Its number.
    number: u8,
}

/// Wish for something.
#[utoipa::path(post, path = "/wish", request_body = Wish,
    responses((status = 200, body = Wish), (status = 409, description = "somebody has it")))]
async fn wish(JsonBody(wish): JsonBody<Wish>) -> axum::Json<Wish> {
    axum::Json(wish)
}

/// Forget it.
#[utoipa::path(delete, path = "/wish", responses((status = 204, description = "forgotten"),
    (status = 503, description = "never again")))]
async fn forget() {}

const COMMON: Common = Common { token: "a token", unavailable: "not now" };

#[derive(utoipa::OpenApi)]
#[openapi(info(title = "Lab"), paths(wish, forget), modifiers(&COMMON))]
struct Description;

/// Numbers from 1, of which only even ones are shown.
struct Numbers {
    last: Mutex<u64>,
    is_away: AtomicBool,
    news: watch::Sender<u64>,
    shutdown: CancellationToken,
    places: Arc<Semaphore>,
}

struct Even(Arc<Numbers>);

impl Feed for Even {
    type Place = u64;
    type Event = Value;
    type Failure = &'static str;

    const NAME: &'static str = "number";

    async fn page(&self, after: Option<u64>) -> Result<Page<u64, Value>, &'static str> {
        if self.0.is_away.load(Ordering::SeqCst) {
            return Err("away");
        }
        let last = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = after.unwrap_or_default();
        let events: Vec<_> = (seen + 1..=last).filter(|n| n % 2 == 0).take(3).collect();
        let next = (events.len() < 3).then_some(last).filter(|last| *last > 0);
        Ok(Page { events: events.into_iter().map(|n| (n, json!({ "n": n }))).collect(), next })
    }

    fn id(&self, place: u64) -> String {
        place.to_string()
    }
}

async fn numbers(State(numbers): State<Arc<Numbers>>, headers: HeaderMap) -> Result<Response, Problem> {
    let after = match last_event_id(&headers) {
        Some(id) => Some(id.parse().map_err(|_| params::bad("Last-Event-ID: is no number"))?),
        None => None,
    };
    let permit = permit(&numbers.places, "streams")?;
    let (news, shutdown) = (numbers.news.subscribe(), numbers.shutdown.clone());
    Ok(Live { feed: Even(numbers), after, news, shutdown, permit }.into_response())
}

struct App {
    base: String,
    client: Client,
    numbers: Arc<Numbers>,
}

impl App {
    async fn start() -> Self {
        let numbers = Arc::new(Numbers {
            last: Mutex::new(0),
            is_away: AtomicBool::new(false),
            news: watch::Sender::new(0),
            shutdown: CancellationToken::new(),
            places: Arc::new(Semaphore::new(1)),
        });
        let router = Router::new()
            .route("/wish", post(wish).delete(forget))
            .route("/numbers", get(self::numbers))
            .with_state(Arc::clone(&numbers))
            .merge(openapi::routes("lab", Description::openapi()));
        let listener = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let http = Http {
            address: None,
            connections_max: 10,
            body_bytes_max: 100,
            head_timeout: SOON,
            request_timeout: SOON,
        };
        tokio::spawn(server::serve(listener, harden(router), http, numbers.shutdown.clone()));
        Self { base, client: Client::new(), numbers }
    }

    fn count_to(&self, last: u64) {
        *self.numbers.last.lock().unwrap() = last;
        self.numbers.news.send_modify(|count| *count += 1);
    }

    async fn listen(&self, last_event_id: Option<&str>) -> Listener {
        let mut request = self.client.get(format!("{}/numbers", self.base));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        Listener { response: request.send().await.unwrap(), text: String::new() }
    }
}

struct Listener {
    response: reqwest::Response,
    text: String,
}

impl Listener {
    /// The next event, as it was written; none at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(event);
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.expect("an event");
            self.text += std::str::from_utf8(&chunk.unwrap()?).unwrap();
        }
    }
}

#[tokio::test]
async fn bodies_are_read_strictly_and_refused_as_problems() {
    let app = App::start().await;
    let json = "application/json";
    let long = format!(r#"{{"what":"{}"}}"#, "x".repeat(100));
    for (content_type, body, status, expected) in [
        (json, r#"{"what":"tea","place":{"number":1}}"#, 200, ""),
        (json, "", 400, "body: EOF"),
        (json, r#"{"what":"tea""#, 400, "line 1 column"),
        (json, r#"{"what":"tea","place":{"number":256}}"#, 400, "body: place.number: invalid value"),
        (json, r#"{"what":"tea","where":1}"#, 400, "body: where: unknown field `where`"),
        (json, r#"{"what":"\u0000"}"#, 400, "body: a text holds the character U+0000"),
        (json, &long, 413, "the body is larger"),
        ("text/plain", r#"{"what":"tea"}"#, 415, "Content-Type"),
    ] {
        let request = app.client.post(format!("{}/wish", app.base)).header("content-type", content_type);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body}");
        let is_problem = answer.headers()["content-type"] == "application/problem+json";
        assert_eq!(is_problem, status != 200, "{body}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let text = answer.text().await.unwrap();
        assert!(text.contains(expected), "{body}: {text}");
    }
}

#[test]
fn every_operation_gets_the_errors_of_all() {
    let description = Description::openapi();
    super::testing::description::assert_complete(&description);
    let json = serde_json::to_value(description).unwrap();
    let problem =
        json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    let statuses = |operation: &Value| -> Vec<String> {
        let responses = operation["responses"].as_object().unwrap();
        let is_problem =
            |(status, response): (&String, &Value)| (response["content"] == problem).then(|| status.clone());
        responses.iter().filter_map(is_problem).collect()
    };
    let path = &json["paths"]["/wish"];
    assert_eq!(statuses(&path["post"]), ["400", "401", "403", "409", "413", "415", "500", "503"]);
    assert_eq!(statuses(&path["delete"]), ["400", "401", "403", "500", "503"]);
    let unavailable = |method: &str| path[method]["responses"]["503"]["description"].clone();
    assert_eq!((unavailable("post"), unavailable("delete")), (json!("not now"), json!("never again")));
}

#[test]
#[should_panic(expected = "post /loose: a type of the body is not #[serde(deny_unknown_fields)]")]
fn a_body_that_is_not_strict_is_found() {
    #[derive(Deserialize, ToSchema)]
    struct Loose {
        /// Anything.
        #[expect(dead_code, reason = "only its schema is looked at")]
        any: String,
    }

    /// Take anything.
    #[utoipa::path(post, path = "/loose", request_body = Vec<Loose>, responses((status = 200)))]
    #[expect(dead_code, reason = "only its description is looked at")]
    async fn loose() -> Result<(), Infallible> {
        Ok(())
    }

    #[derive(utoipa::OpenApi)]
    #[openapi(paths(loose), modifiers(&COMMON))]
    struct Description;

    super::testing::description::assert_complete(&Description::openapi());
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_and_ends_with_the_server() {
    let app = App::start().await;
    assert_eq!(app.listen(Some("x")).await.response.status(), 400);
    app.count_to(11);
    let mut all = app.listen(None).await;
    for n in [2, 4, 6, 8, 10] {
        let expected = format!("id: {n}\nevent: number\ndata: {{\"n\":{n}}}");
        assert_eq!(all.next().await.unwrap(), expected);
    }
    assert_eq!(app.listen(None).await.response.status(), 429);
    app.count_to(12);
    assert!(all.next().await.unwrap().starts_with("id: 12\nevent"));
    // What is not shown moves it, too.
    app.count_to(13);
    assert_eq!(all.next().await.unwrap(), "id: 13");
    drop(all);
    let is_free = async || app.numbers.places.available_permits() == 1;
    eventually(SOON, "the place is given back", is_free).await;

    app.numbers.is_away.store(true, Ordering::SeqCst);
    let mut resumed = app.listen(Some("10")).await;
    assert_eq!(resumed.next().await.unwrap(), "id: 10");
    app.numbers.is_away.store(false, Ordering::SeqCst);
    assert!(resumed.next().await.unwrap().starts_with("id: 12\nevent"));
    app.numbers.shutdown.cancel();
    assert_eq!(resumed.next().await, None);
}

#[tokio::test]
async fn a_question_only_reads_and_ends_in_time() {
    let settings = postgres::testing::database().await.unwrap();
    let pool = settings.pool("tests", None).unwrap();
    let tables = Tables { pool, query_timeout: Duration::from_millis(100) };
    let mut client = tables.client().await.unwrap();
    let ask = async |client: &mut deadpool_postgres::Client, statement: &str| {
        let transaction = tables.reading(client).await?;
        transaction.batch_execute(statement).await.map_err(Failure::from)
    };
    ask(&mut client, "select 1").await.unwrap();
    let slow = ask(&mut client, "select pg_sleep(60)").await.unwrap_err();
    assert!(matches!(slow, Failure::TooSlow), "{slow:?}");
    let problem = Problem::from(slow);
    assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem.detail.unwrap().starts_with("the query takes too long"));
    let writes = ask(&mut client, "create table a (n int)").await.unwrap_err();
    assert_eq!(Problem::from(writes).status, StatusCode::SERVICE_UNAVAILABLE);
    let wrong = ask(&mut client, "select from secret_table").await.unwrap_err();
    assert!(matches!(wrong, Failure::Postgres(Fault::Bug(_))), "{wrong:?}");
    let problem = Problem::from(wrong);
    assert_eq!((problem.status, problem.detail), (StatusCode::INTERNAL_SERVER_ERROR, None));
}

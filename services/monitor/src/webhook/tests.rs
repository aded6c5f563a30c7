//! A real Postgres, and receivers that behave well, badly, or not at all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use axum::routing::post;
use deadpool_postgres::Pool;
use latchline_shared::kit::config::Validate;
use latchline_shared::kit::http::server;
use latchline_shared::kit::postgres::testing::Database;
use latchline_shared::kit::testing::eventually;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::settings::Settings;
use super::{Step, Worker};
use crate::migrations::tests::database;

const SOON: Duration = Duration::from_secs(30);

fn settings(url: String) -> Settings {
    Settings {
        url: Some(url),
        bearer_token: Some("secret-of-the-desk".into()),
        bearer_token_file: None,
        ca_file: None,
        receiver: "desk".to_owned(),
        external_url: String::new(),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        batch_max: 3,
        retry_base: Duration::from_millis(10),
        retry_max: Duration::from_millis(20),
        age_max: Duration::from_secs(3_600),
    }
}

/// A receiver that gives the answers it was told, then 200.
#[derive(Default)]
struct Desk {
    answers: Mutex<VecDeque<Response<Body>>>,
    seen: Mutex<Vec<Seen>>,
}

/// What a receiver got.
#[derive(Debug, Clone)]
struct Seen {
    authorization: String,
    body: Value,
}

impl Desk {
    async fn open(answers: impl IntoIterator<Item = Response<Body>>) -> (Arc<Self>, String) {
        let desk = Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() });
        let routes = Router::new().route("/hook", post(take)).with_state(Arc::clone(&desk));
        let listener = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{}/hook?key=secret-of-the-url", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (desk, url)
    }

    /// The numbers of the alerts of each request.
    fn groups(&self) -> Vec<Vec<i64>> {
        let seen = self.seen.lock().unwrap();
        let numbers = |seen: &Seen| {
            let alerts = seen.body["alerts"].as_array().unwrap().iter();
            alerts.map(|alert| alert["labels"]["n"].as_str().unwrap().parse().unwrap()).collect()
        };
        seen.iter().map(numbers).collect()
    }
}

async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: String) -> Response<Body> {
    let authorization = headers["authorization"].to_str().unwrap().to_owned();
    assert_eq!(headers["content-type"], "application/json");
    desk.seen.lock().unwrap().push(Seen { authorization, body: serde_json::from_str(&body).unwrap() });
    desk.answers.lock().unwrap().pop_front().unwrap_or_default()
}

fn status(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::from("x".repeat(100_000))).unwrap()
}

/// A database with a queue.
struct Queue {
    pool: Pool,
    owner: Pool,
    registry: Registry,
    metrics: Metrics,
    wake: watch::Sender<u64>,
}

impl Queue {
    async fn open() -> Self {
        let Database { pool, owner, .. } = database().await;
        let mut registry = Registry::default();
        let metrics = Metrics::new(registry.sub_registry_with_prefix("monitor"));
        Self { pool, owner, registry, metrics, wake: watch::channel(0).0 }
    }

    fn worker(&self, settings: Settings) -> Worker {
        let metrics = self.metrics.clone();
        Worker::new(settings, self.pool.clone(), metrics, self.wake.subscribe()).unwrap().unwrap()
    }

    async fn add(&self, numbers: std::ops::Range<i64>) {
        let client = self.owner.get().await.unwrap();
        for n in numbers {
            let alert = json!({ "status": "firing", "labels": { "n": n.to_string() }, "annotations": {} });
            client.execute("insert into webhook (body) values ($1)", &[&alert]).await.unwrap();
        }
    }

    async fn execute(&self, sql: &str) {
        self.owner.get().await.unwrap().batch_execute(sql).await.unwrap();
    }

    async fn rows(&self) -> i64 {
        let select = "select count(*) from webhook";
        self.owner.get().await.unwrap().query_one(select, &[]).await.unwrap().get(0)
    }

    /// Milliseconds until the next attempt, and how many there were.
    async fn next(&self) -> (f64, i32) {
        let select = "select extract(epoch from min(next_attempt_at) - now())::float8 * 1000, max(attempts) \
             from webhook";
        let row = self.owner.get().await.unwrap().query_one(select, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }

    fn count(&self, outcome: &str, status: u16) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let name = format!("monitor_webhook_sent_total{{outcome=\"{outcome}\",status=\"{status}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

/// Steps until all is sent or dropped.
async fn run_dry(queue: &Queue, worker: &mut Worker) {
    eventually(SOON, "the queue is empty", async || {
        worker.step().await.unwrap();
        queue.rows().await == 0
    })
    .await;
}

#[tokio::test]
async fn alerts_are_sent_in_groups_in_their_order() {
    let queue = Queue::open().await;
    let (desk, url) = Desk::open([]).await;
    queue.add(1..8).await;
    let mut worker = queue.worker(settings(url));
    for _ in 0..3 {
        assert_eq!(worker.step().await, Ok(Step::Went));
    }
    assert_eq!(worker.step().await, Ok(Step::Idle));
    assert_eq!(desk.groups(), [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
    assert_eq!((queue.rows().await, queue.count("delivered", 200)), (0, 7));
    let first = desk.seen.lock().unwrap()[0].clone();
    assert_eq!(first.authorization, "Bearer secret-of-the-desk");
    assert_eq!((&first.body["version"], &first.body["receiver"]), (&json!("4"), &json!("desk")));
}

#[tokio::test]
async fn a_worker_sends_what_is_committed_and_ends() {
    let queue = Queue::open().await;
    let (desk, url) = Desk::open([]).await;
    let token = CancellationToken::new();
    let worker = tokio::spawn(queue.worker(settings(url)).run(token.clone()));
    queue.add(1..3).await;
    queue.wake.send_modify(|commits| *commits += 1);
    eventually(SOON, "both are sent", async || queue.rows().await == 0).await;
    assert_eq!(desk.groups().concat(), [1, 2]);
    token.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_fails_is_tried_again_before_all_that_follows() {
    let queue = Queue::open().await;
    let (desk, url) = Desk::open([status(500), status(408)]).await;
    queue.add(1..5).await;
    let mut worker = queue.worker(settings(url));
    worker.step().await.unwrap();
    run_dry(&queue, &mut worker).await;
    assert_eq!(desk.groups(), [vec![1, 2, 3], vec![1, 2, 3], vec![1, 2, 3], vec![4]]);
    assert_eq!(
        (queue.count("retried", 500), queue.count("retried", 408), queue.count("delivered", 200)),
        (3, 3, 4)
    );
}

#[tokio::test]
async fn the_receiver_may_ask_for_a_pause() {
    let queue = Queue::open().await;
    let mut busy = status(429);
    busy.headers_mut().insert("retry-after", "100".parse().unwrap());
    let (desk, url) = Desk::open([busy]).await;
    queue.add(1..2).await;
    let mut worker = queue.worker(settings(url));
    worker.step().await.unwrap();
    let (wait_ms, attempts) = queue.next().await;
    assert!((90_000.0..=100_000.0).contains(&wait_ms) && attempts == 1, "{wait_ms} {attempts}");
    // What was written meanwhile waits as well: it is newer.
    queue.add(2..3).await;
    assert_eq!(worker.step().await, Ok(Step::Idle));
    queue.execute("update webhook set next_attempt_at = now()").await;
    run_dry(&queue, &mut worker).await;
    assert_eq!(desk.groups(), [vec![1], vec![1, 2]]);
}

#[tokio::test]
async fn what_is_refused_for_good_is_dropped_alone() {
    let queue = Queue::open().await;
    let (desk, url) = Desk::open([status(400), status(200), status(422)]).await;
    queue.add(1..5).await;
    let mut worker = queue.worker(settings(url));
    run_dry(&queue, &mut worker).await;
    assert_eq!(desk.groups(), [vec![1, 2, 3], vec![1], vec![2], vec![3], vec![4]]);
    assert_eq!((queue.count("refused", 422), queue.count("delivered", 200)), (1, 3));
    queue.add(5..8).await;
    run_dry(&queue, &mut worker).await;
    assert_eq!(desk.groups()[5..], [vec![5, 6, 7]], "together again");
}

#[tokio::test]
async fn what_nobody_takes_for_long_is_dropped() {
    let queue = Queue::open().await;
    let (desk, url) = Desk::open([status(503), status(503)]).await;
    queue.add(1..4).await;
    queue.execute("update webhook set created_at = now() - interval '2 hours' where seq < 3").await;
    let mut worker = queue.worker(settings(url));
    worker.step().await.unwrap();
    assert_eq!((queue.rows().await, queue.count("expired", 503)), (1, 2));
    run_dry(&queue, &mut worker).await;
    assert_eq!(desk.groups(), [vec![1, 2, 3], vec![3], vec![3]]);
}

#[tokio::test]
async fn pauses_grow_up_to_the_most() {
    let queue = Queue::open().await;
    let (_desk, url) = Desk::open([]).await;
    let (base, most) = (Duration::from_secs(1), Duration::from_secs(60));
    let worker = queue.worker(Settings { retry_base: base, retry_max: most, ..settings(url) });
    for (attempts, longest) in [(1, 2), (3, 8), (5, 32), (6, 60), (i32::MAX, 60)] {
        let delays: Vec<_> = (0..200).map(|_| worker.delay(attempts, None)).collect();
        assert!(delays.iter().all(|delay| (base..=Duration::from_secs(longest)).contains(delay)));
        let upper_half = Duration::from_secs(longest) / 2;
        assert!(delays.iter().any(|delay| *delay > upper_half), "{attempts}");
        assert!(delays.iter().any(|delay| *delay < upper_half + base), "{attempts}");
    }
    let asked = |seconds| worker.delay(1, Some(Duration::from_secs(seconds)));
    assert_eq!((asked(100), asked(u64::MAX)), (Duration::from_secs(100), Duration::from_secs(3_600)));
}

/// A receiver that takes connections and says nothing, and one that is not there.
#[tokio::test]
async fn no_answer_is_a_failure() {
    let queue = Queue::open().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (silent_address, gone_address) = (silent.local_addr().unwrap(), gone.local_addr().unwrap());
    drop(gone);
    queue.add(1..2).await;
    for (attempts, address) in [(1, silent_address), (2, gone_address)] {
        let settings = settings(format!("http://{address}/secret-of-the-url"));
        let mut worker = queue.worker(Settings { timeout: Duration::from_millis(200), ..settings });
        let rows = super::queue::take(&queue.pool, 10, SOON).await.unwrap();
        let answer = worker.sender.send(&rows).await;
        let super::Answer::Failed { status: 0, after: None, why } = &answer else { panic!("{answer:?}") };
        assert!(!why.contains("secret"), "{why}");
        worker.settle(&rows, answer).await.unwrap();
        assert_eq!((queue.rows().await, queue.next().await.1), (1, attempts));
        assert_eq!(queue.count("retried", 0), attempts as u64);
        queue.execute("update webhook set next_attempt_at = now()").await;
    }
}

#[tokio::test]
async fn what_a_dead_worker_leased_comes_again() {
    let queue = Queue::open().await;
    let (desk, url) = Desk::open([]).await;
    queue.add(1..5).await;
    let leased = super::queue::take(&queue.pool, 3, Duration::from_secs(2)).await.unwrap();
    assert_eq!(leased.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
    // Nothing overtakes what is under way.
    let mut worker = queue.worker(settings(url));
    assert_eq!(worker.step().await, Ok(Step::Idle));
    run_dry(&queue, &mut worker).await;
    assert_eq!(desk.groups(), [vec![1, 2, 3], vec![4]]);
}

#[tokio::test]
async fn two_workers_send_each_alert_once_and_in_order() {
    let queue = Queue::open().await;
    let (desk, url) = Desk::open([]).await;
    queue.add(1..61).await;
    let token = CancellationToken::new();
    let workers: Vec<_> =
        (0..2).map(|_| tokio::spawn(queue.worker(settings(url.clone())).run(token.clone()))).collect();
    eventually(SOON, "all are sent", async || queue.rows().await == 0).await;
    token.cancel();
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    assert_eq!(desk.groups().concat(), (1..61).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let queue = Queue::open().await;
    let (other, elsewhere) = Desk::open([]).await;
    let mut redirect = status(307);
    redirect.headers_mut().insert("location", elsewhere.parse().unwrap());
    let (desk, url) = Desk::open([redirect]).await;
    queue.add(1..2).await;
    let mut worker = queue.worker(settings(url));
    worker.step().await.unwrap();
    assert_eq!((desk.groups().len(), other.groups().len(), queue.count("retried", 307)), (1, 0, 1));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let good = || settings("https://desk.example/hook".to_owned());
    let problems = |settings: Settings| {
        let mut problems = Vec::new();
        settings.problems(&mut problems);
        problems
    };
    assert_eq!(problems(good()), Vec::<String>::new());
    assert_eq!(problems(Settings { url: None, ..good() }), Vec::<String>::new());
    for url in
        ["desk.example", "ftp://desk.example/", "https://me:secret@desk.example/", "https://me@desk.example/"]
    {
        let problems = problems(settings(url.to_owned()));
        assert!(problems.len() == 1 && problems[0].starts_with("webhook.url: "), "{problems:?}");
        assert!(!problems[0].contains("secret"));
    }
    for (wrong, name) in [
        (Settings { batch_max: 0, ..good() }, "batch_max"),
        (Settings { timeout: Duration::ZERO, ..good() }, "timeout_ms"),
        (Settings { retry_max: Duration::ZERO, ..good() }, "retry_max_ms"),
        (Settings { bearer_token_file: Some("/nowhere".into()), ..good() }, "bearer_token"),
        (Settings { ca_file: Some("/nowhere".into()), ..good() }, "ca_file"),
    ] {
        let problems = problems(wrong);
        assert!(problems.len() == 1 && problems[0].starts_with(&format!("webhook.{name}")), "{problems:?}");
    }
    assert!(!format!("{:?}", good()).contains("secret"));
}

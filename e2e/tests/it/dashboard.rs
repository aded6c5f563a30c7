//! The dashboard asks only for metrics that the programs have, after they have done all that they do.

use std::collections::BTreeSet;
use std::time::Duration;

use latchline_e2e::feed::{self, Feed, Report, Scene, Unsent};
use latchline_e2e::site::Api;
use latchline_e2e::stack::notifier::User;
use latchline_e2e::stack::whole::{Whole, Wishes};
use latchline_e2e::stack::{COMMANDS, STATES};
use latchline_shared::kit::clock;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::{self, DEADLINE};

const DASHBOARD: &str = include_str!("../../../docker/grafana/dashboards/latchline.json");
/// What a query may be made of beside metrics.
const LANGUAGE: [&str; 6] = ["sum", "max", "rate", "increase", "histogram_quantile", "by"];

/// What a broker that is well never counts, so that there is no series: as `broker/src/metrics.rs`
/// registers them.
const RARE: [&str; 3] = ["broker_route_drops", "broker_session_refusals", "broker_session_read_pauses"];
const REGISTERED: &str = include_str!("../../../broker/src/metrics.rs");

/// The metrics of the dashboard's queries that are not among `known`, each with the panel.
fn strangers(known: &BTreeSet<String>) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut strangers = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            for metric in metrics(target["expr"].as_str().unwrap()) {
                if !known.contains(&metric) {
                    strangers.push(format!("{}: {metric}", panel["title"]));
                }
            }
        }
    }
    strangers
}

/// The names in a query, without labels, durations and the language's own.
fn metrics(query: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '[')) {
        rest = &rest[start..];
        if let Some(close) = rest.strip_prefix('{').and_then(|inside| inside.find('}')) {
            rest = &rest[close + 2..];
            continue;
        }
        if let Some(close) = rest.strip_prefix('[').and_then(|inside| inside.find(']')) {
            rest = &rest[close + 2..];
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = &rest[..end.max(1)];
        rest = &rest[end.max(1)..];
        if word == "by" {
            // The labels that are kept.
            rest = &rest[rest.find(')').unwrap()..];
        } else if !LANGUAGE.contains(&word) && !word.starts_with(|c: char| c.is_ascii_digit()) {
            names.push(word.to_owned());
        }
    }
    names
}

/// Names of the series that a program has now.
async fn series(program: &Api) -> BTreeSet<String> {
    let text = program.get("/metrics").await.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned)).collect()
}

#[test]
fn metrics_are_found_in_queries() {
    for (query, expected) in [
        ("up", vec!["up"]),
        ("sum by (verdict) (increase(a_total{verdict!=\"ok\"}[$__rate_interval]))", vec!["a_total"]),
        (
            "histogram_quantile(0.99, sum by (le, channel) (rate(b_seconds_bucket[5m])))",
            vec!["b_seconds_bucket"],
        ),
        ("a / 2 + c", vec!["a", "c"]),
    ] {
        assert_eq!(metrics(query), expected, "{query}");
    }
    assert!(strangers(&BTreeSet::new()).len() > 30);
}

/// Something of everything: a result, a low battery, a report in another lock's name, no record at all.
fn happen(kafka: &str, whole: &Whole) {
    let feed = Feed::open(kafka).unwrap();
    let (lock, ts_ms) = ("10083618796833171", clock::unix_ms());
    let scene = Scene { lock, n: 1, ts_ms };
    feed.send(COMMANDS, &scene.command(&whole.stack.secrets.master).unwrap()).unwrap();
    feed.send(STATES, &scene.result()).unwrap();
    // Nobody is told of this one, unless they ask for it by name.
    let locked = Report { process_id: "2", action: "lock", ..Report::of(lock, ts_ms + 50) };
    feed.send(STATES, &locked.record()).unwrap();
    let low = Report { battery: 3.0, ..Report::of(lock, ts_ms + 100) };
    feed.send(STATES, &low.record()).unwrap();
    let other = Report::of("10083618796833172", ts_ms + 200);
    feed.send(STATES, &feed::report(lock, other.payload().as_bytes(), ts_ms + 200)).unwrap();
    feed.send(STATES, &Unsent { key: lock.to_owned(), value: b"no record".to_vec(), mid: 0 }).unwrap();
    feed.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_asks_only_for_what_there_is() {
    let kafka = support::development().await;
    let bootstrap = kafka.bootstrap();
    let owner = User { id: "owner".to_owned(), phone: 9_012_345_678, locks: vec!["*".to_owned()] };
    let mut whole = Whole::start(kafka, Wishes { users: &[owner], ..Wishes::default() }).await.unwrap();
    for program in [&mut whole.audit.auditor, &mut whole.monitor.monitor, &mut whole.notifier.notifier] {
        program.expect("dead letter");
    }
    happen(&bootstrap, &whole);
    let site = whole.site().unwrap();
    let until = Instant::now() + DEADLINE;
    loop {
        let mut known = BTreeSet::from(["up".to_owned()]);
        let registered = RARE.iter().filter(|name| REGISTERED.contains(&format!("\"{name}\"")));
        known.extend(registered.map(|name| format!("{name}_total")));
        for program in [&site.broker, &site.auditor, &site.monitor, &site.notifier] {
            known.extend(series(program).await);
        }
        let strangers = strangers(&known);
        if strangers.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {strangers:#?}");
        sleep(Duration::from_millis(200)).await;
    }
    whole.finish().await.unwrap();
}

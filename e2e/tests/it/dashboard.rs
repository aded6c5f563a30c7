//! The dashboard asks only for metrics that the programs have, after they have done all that they do.

use std::collections::BTreeSet;

use latchline_e2e::site::Api;
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../docker/grafana/dashboards/latchline.json");
/// What a query may be made of beside metrics.
const LANGUAGE: [&str; 9] =
    ["sum", "max", "by", "rate", "increase", "histogram_quantile", "le", "up", "__rate_interval"];

/// The metrics of the dashboard's queries that are not among `known`, each with the panel.
pub(crate) fn strangers(known: &BTreeSet<String>) -> Vec<String> {
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
pub(crate) async fn series(program: &Api) -> BTreeSet<String> {
    let text = program.get("/metrics").await.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned)).collect()
}

#[test]
fn metrics_are_found_in_queries() {
    for (query, expected) in [
        ("up", vec![]),
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

//! What the documents say and a machine can check: `docs/limits.md` says of every bound what the
//! configuration and the code say, metrics have their names, links lead somewhere.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use latchline_broker::config::DEFAULT_TOML;

const PAGE: &str = include_str!("../../docs/limits.md");

/// Number settings of a default configuration by their full key, digits only.
fn numbers(toml: &str) -> BTreeMap<String, String> {
    let mut section = "";
    let mut numbers = BTreeMap::new();
    for line in toml.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.replace('_', "");
            if value.parse::<u64>().is_ok() {
                numbers.insert(format!("{section}.{key}"), value);
            }
        }
    }
    numbers
}

/// Rows of the page's tables that begin with a key: key and default.
fn rows() -> BTreeMap<String, String> {
    let cells = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let is_key = |name: &str| name.contains('.') && !name.contains(' ');
    PAGE.lines()
        .map(cells)
        .filter_map(|cells| {
            let key = cells.get(1)?.strip_prefix('`')?.strip_suffix('`').filter(|name| is_key(name))?;
            Some((key.to_owned(), cells.get(2)?.replace(',', "")))
        })
        .collect()
}

#[test]
fn every_limit_has_a_row_with_its_default() {
    let (numbers, rows) = (numbers(DEFAULT_TOML), rows());
    let limits: Vec<_> = numbers.keys().filter(|key| key.starts_with("limits.")).collect();
    assert!(limits.len() > 20, "{limits:?}");
    for key in limits {
        assert!(rows.contains_key(key), "docs/limits.md has no row for {key}");
    }
    for (key, default) in &rows {
        assert_eq!(Some(default), numbers.get(key), "docs/limits.md about {key}");
    }
}

const SERVICES: [&str; 3] = ["auditor", "monitor", "notifier"];

/// Settings of the services without a row: they bound nothing.
const UNBOUNDED: [&str; 4] = [
    // How far clocks are behind on purpose.
    "auditor judge.idle_grace_ms",
    "monitor alarms.grace_ms",
    // The shortest pause before another attempt; the longest is on the page.
    "monitor webhook.retry_base_ms",
    "notifier retry.base_ms",
];

/// What the page says of the services, row by row: of which, and the cells that follow.
fn rows_of_services() -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("The services\n")).unwrap();
    let mut rows = Vec::new();
    for line in section.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, services, ref rest @ ..] = cells[..] else { continue };
        if services == "service" || services.starts_with("---") {
            continue;
        }
        let services = if services == "all" { SERVICES.to_vec() } else { services.split(", ").collect() };
        for service in &services {
            assert!(SERVICES.contains(service), "docs/limits.md has a row of {service}: {line}");
        }
        rows.push((services, rest.to_vec()));
    }
    rows
}

fn settings_of(service: &str) -> BTreeMap<String, String> {
    numbers(&fs::read_to_string(root().join(format!("config/{service}.toml"))).unwrap())
}

#[test]
fn the_rows_of_the_services_have_their_defaults() {
    let mut rows = BTreeSet::new();
    for (services, cells) in rows_of_services() {
        let key = cells[0].strip_prefix('`').and_then(|key| key.strip_suffix('`'));
        let Some(key) = key.filter(|key| !key.contains(' ')) else { continue };
        let default = cells[1].replace(',', "");
        for service in services {
            let settings = settings_of(service);
            assert_eq!(settings.get(key), Some(&default), "docs/limits.md about {key} of the {service}");
            assert!(
                rows.insert(format!("{service} {key}")),
                "docs/limits.md has {key} of the {service} twice"
            );
        }
    }
    // What belongs to the bound of a row is named there, or in the text, with its default.
    let is_named = |key: &str, default: &str| {
        let plain = PAGE.replace(',', "");
        plain.contains(&format!("`{}` ({default})", key.trim_start_matches('.')))
    };
    for service in SERVICES {
        for (key, default) in settings_of(service) {
            let setting = format!("{service} {key}");
            // By channel and severity, told of in a sentence.
            let is_expiry = key.starts_with("expiry.");
            let is_there = rows.contains(&setting) || is_named(&key, &default) || is_expiry;
            let is_unbounded = UNBOUNDED.contains(&setting.as_str());
            assert_ne!(is_there, is_unbounded, "docs/limits.md about {key} of the {service}");
        }
    }
}

/// Path and text of all files below a folder.
fn texts(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts.extend(self::texts(&path));
        } else {
            texts.push((path.clone(), fs::read_to_string(path).unwrap()));
        }
    }
    texts
}

#[test]
fn every_cause_is_one_that_is_counted() {
    let sources = texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let is_in_code = |cause: &str| sources.iter().any(|(_, text)| text.contains(&format!("\"{cause}\"")));
    let mut causes = 0;
    for line in PAGE.lines() {
        // In a row or a list, the words in code after the counter's short name are causes.
        for counter in ["refusals ", "pauses ", "drops "] {
            let Some((_, after)) = line.split_once(counter) else { continue };
            let list = after.split([';', '|']).next().unwrap_or_default();
            for cause in list.split('`').skip(1).step_by(2) {
                causes += 1;
                assert!(is_in_code(cause), "no {counter}has the cause {cause}: {line}");
            }
        }
    }
    assert!(causes > 15, "only {causes} causes were found");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Path and text of every page.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = texts(&root().join("docs"));
    for name in ["README.md", "ARCHITECTURE.md", "STYLE.md", "CHANGELOG.md"] {
        pages.push((root().join(name), fs::read_to_string(root().join(name)).unwrap()));
    }
    pages
}

/// Names of metrics that a source registers below a prefix, without what follows from their type. Its
/// other words are names, too; that does no harm.
fn registered(prefix: &str, source: &str) -> Vec<String> {
    let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let words = source.split('"').skip(1).step_by(2).filter(is_name);
    words.map(|word| format!("{prefix}{word}")).collect()
}

/// Names of all metrics: the broker's, and those that the services and their kit register below the name
/// of the service.
fn metrics() -> BTreeSet<String> {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let files = ["broker/src/metrics.rs", "broker/src/hooks/metrics.rs", "bridge/src/metrics.rs"];
    let mut names: BTreeSet<_> = files.iter().flat_map(|file| registered("", &read(file))).collect();
    names.extend(registered("", &read("services/auditor/src/checkpoint/mod.rs")));
    let consumer = read("shared/src/kit/kafka/consumer/metrics.rs");
    let outbox = read("shared/src/kit/outbox/metrics.rs");
    for service in SERVICES {
        for (path, text) in texts(&root().join(format!("services/{service}/src"))) {
            if path.ends_with("metrics.rs") {
                names.extend(registered(&format!("{service}_"), &text));
            }
        }
        names.extend(registered(&format!("{service}_kafka_"), &consumer));
        if service != "notifier" {
            names.extend(registered(&format!("{service}_outbox_"), &outbox));
        }
    }
    names
}

/// The name of a metric as it is registered, in each way in which it may be meant: a histogram's samples
/// have a suffix of their own, a counter has one, and so have units.
fn meant(word: &str) -> Vec<&str> {
    let metric = ["_bucket", "_sum", "_count"].iter().find_map(|sample| word.strip_suffix(sample));
    let metric = metric.unwrap_or(word);
    ["", "_total", "_seconds", "_bytes"].iter().filter_map(|unit| metric.strip_suffix(unit)).collect()
}

/// How names of metrics begin; with `_`, where the page has left out or said before whose they are.
const BEGINNINGS: [&str; 5] = ["broker_", "auditor_", "monitor_", "notifier_", "_"];
/// Words that only look like them: a schema of the monitor, and ends of other names.
const OTHERS: [&str; 3] = ["monitor_rebuild", "_at", "_file"];

#[test]
fn metrics_have_their_names() {
    let metrics = metrics();
    let mut names = BEGINNINGS.map(|_| 0);
    for (page, text) in pages() {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let is_begin = |begin: &&str| {
                let rest = word.strip_prefix(*begin).unwrap_or_default();
                rest.starts_with(|c: char| c.is_ascii_lowercase())
            };
            let Some(index) = BEGINNINGS.iter().position(is_begin) else { continue };
            if OTHERS.contains(&word) {
                continue;
            }
            names[index] += 1;
            let is_known = |name: &String| {
                if word.ends_with('_') {
                    name.starts_with(word)
                } else if word.starts_with('_') {
                    meant(word).iter().any(|end| name.ends_with(end))
                } else {
                    meant(word).contains(&name.as_str())
                }
            };
            assert!(metrics.iter().any(is_known), "{} names {word}", page.display());
        }
    }
    assert!(names.iter().all(|count| *count > 15), "only {names:?} names of {BEGINNINGS:?} were found");
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for (page, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !path.is_empty() {
                links += 1;
                assert!(page.with_file_name(path).exists(), "{} links to {link}", page.display());
            }
        }
    }
    assert!(links > 20, "only {links} links were found");
}

//! What the documents say and a machine can check: `docs/limits.md` says of every bound what the
//! configuration and the code say, metrics have their names, links lead somewhere.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
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

#[test]
fn the_rows_of_the_services_have_their_defaults() {
    const SERVICES: [&str; 3] = ["auditor", "monitor", "notifier"];
    let of_service = |service: &&str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../config/{service}.toml"));
        numbers(&fs::read_to_string(file).unwrap())
    };
    let defaults: BTreeMap<_, _> = SERVICES.iter().map(|service| (*service, of_service(service))).collect();
    let mut rows = 0;
    for line in PAGE.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, services, key, default, ..] = cells[..] else { continue };
        let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`')) else { continue };
        for (service, defaults) in &defaults {
            if services == "all" || services.split(", ").any(|name| name == *service) {
                rows += 1;
                let default = default.replace(',', "");
                assert_eq!(defaults.get(key), Some(&default), "docs/limits.md about {key} of the {service}");
            }
        }
    }
    assert!(rows > 60, "only {rows} rows were found");
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

#[test]
fn metrics_have_their_names() {
    let code = ["broker/src/metrics.rs", "broker/src/hooks/metrics.rs", "bridge/src/metrics.rs"]
        .map(|file| fs::read_to_string(root().join(file)).unwrap())
        .concat();
    let mut names = 0;
    for (page, text) in pages() {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if !["accept", "session", "hook", "route", "bridge", "guard"]
                .iter()
                .any(|step| word.starts_with(&format!("broker_{step}_")))
            {
                continue;
            }
            names += 1;
            // A histogram's samples have the name of the histogram and a suffix of their own.
            let metric = ["_bucket", "_sum", "_count"].iter().find_map(|sample| word.strip_suffix(sample));
            let metric = metric.unwrap_or(word);
            let is_known = ["", "_total", "_seconds", "_bytes"].iter().any(|unit| {
                let name = metric.strip_suffix(unit);
                name.is_some_and(|name| code.contains(&format!("\"{name}\"")))
            });
            assert!(is_known, "{} names {word}", page.display());
        }
    }
    assert!(names > 15, "only {names} names were found");
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

//! Imports point one way: e2e → everything; broker (`main.rs` only) → bridge; all → shared;
//! shared → nothing of ours. Checked in the manifests, and in the sources where a manifest cannot
//! tell the library from the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const OURS: &str = "latchline-";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Which of our packages each of our packages depends on, tests' dependencies included.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let names = package["dependencies"].as_array().unwrap().iter().map(text);
            (text(package), names.collect())
        })
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Lines of `folder` outside comments that hold one of `words`, as `path:line: text`.
fn lines_with(folder: &Path, words: &[&str], except: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in sources(folder) {
        let relative = path.strip_prefix(folder).unwrap().display().to_string();
        if except.contains(&relative.as_str()) {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn packages_import_one_way() {
    let dependencies = dependencies();
    for (package, allowed) in [
        ("latchline-shared", &[][..]),
        ("latchline-bridge", &["latchline-shared"]),
        ("latchline-broker", &["latchline-bridge", "latchline-shared"]),
        ("latchline-notifier", &["latchline-shared"]),
        ("latchline-monitor", &["latchline-shared"]),
        ("latchline-auditor", &["latchline-shared"]),
    ] {
        for dependency in dependencies.get(package).into_iter().flatten() {
            assert!(
                !dependency.starts_with(OURS) || allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
    assert!(dependencies.contains_key("latchline-shared"), "{dependencies:?}");
}

#[test]
fn every_package_has_a_row_above() {
    let known = ["shared", "bridge", "broker", "notifier", "monitor", "auditor", "e2e"]
        .map(|name| format!("{OURS}{name}"));
    for package in dependencies().into_keys() {
        assert!(known.contains(&package), "say in this file what {package} may import");
    }
}

#[test]
fn only_the_binary_of_the_broker_names_the_bridge() {
    let folder = workspace().join("broker/src");
    let found = lines_with(&folder, &["latchline_bridge", "rdkafka"], &["main.rs"]);
    assert!(found.is_empty(), "the broker's library names the bridge or Kafka:\n{}", found.join("\n"));
    let dependencies = &dependencies()["latchline-broker"];
    assert!(!dependencies.contains("rdkafka"), "Kafka is the bridge's business");
}

#[test]
fn the_packet_crate_stays_behind_its_fence() {
    let folder = workspace().join("broker/src");
    let found: Vec<String> = lines_with(&folder, &["rmqtt_codec"], &[])
        .into_iter()
        .filter(|line| !line.contains("/packet/"))
        .collect();
    assert!(found.is_empty(), "only broker/src/packet/ names the codec:\n{}", found.join("\n"));
}

#[test]
fn contracts_name_no_runtime() {
    let folder = workspace().join("shared/src");
    let found: Vec<String> = lines_with(&folder, &["tokio", "rdkafka", "axum", "std::net::Tcp"], &[])
        .into_iter()
        .filter(|line| !line.contains("/kit/"))
        .collect();
    assert!(found.is_empty(), "outside its kit, shared is pure:\n{}", found.join("\n"));
}

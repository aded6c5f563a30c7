//! The files that containers are made from agree with the code: settings that the programs know,
//! versions, manifests, ports, streams. What needs Docker is in `make compose-test`.

use std::collections::BTreeSet;
use std::path::Path;

use toml::{Table, Value};

const COMPOSE: &str = include_str!("../../../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../../../docker/Dockerfile");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

/// Begins of variables, and the default document that knows the keys.
const PROGRAMS: [(&str, &str); 4] = [
    ("LATCHLINE_BROKER__", include_str!("../../../config/broker.toml")),
    ("LATCHLINE_AUDITOR__", include_str!("../../../config/auditor.toml")),
    ("LATCHLINE_MONITOR__", include_str!("../../../config/monitor.toml")),
    ("LATCHLINE_NOTIFIER__", include_str!("../../../config/notifier.toml")),
];

/// Words made of letters, digits and `_` that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(prefix))
        .collect()
}

#[test]
fn every_setting_is_one_that_its_program_knows() {
    for (prefix, document) in PROGRAMS {
        let document = document.parse::<Table>().unwrap();
        let mut names = words(COMPOSE, prefix);
        names.extend(words(DOCKERFILE, prefix));
        assert!(names.len() >= 5, "{prefix}: {names:?}");
        for name in names {
            let path = name[prefix.len()..].to_lowercase();
            let (table, key) = path.rsplit_once("__").unwrap_or(("", &path));
            let table = table
                .split("__")
                .filter(|part| !part.is_empty())
                .try_fold(&document, |table, part| table.get(part).and_then(Value::as_table));
            assert!(table.is_some_and(|table| table.contains_key(key)), "{name} is no setting");
        }
    }
}

#[test]
fn every_program_tells_its_own_secrets_from_a_file() {
    // A value that ends up in `docker inspect` is no secret any more.
    for (prefix, _) in PROGRAMS {
        for name in words(COMPOSE, prefix) {
            let last = name.rsplit("__").next().unwrap();
            for secret in ["PASSWORD", "TOKEN", "KEY"] {
                assert!(!last.ends_with(secret), "{name}: use {last}_FILE");
            }
        }
    }
}

#[test]
fn versions_and_manifests_are_those_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(DOCKERFILE.contains(&format!("ARG VERSION={version}\n")));
    let named: Vec<_> = COMPOSE.split("${LATCHLINE_VERSION:-").skip(1).collect();
    assert!(named.len() >= 6 && named.iter().all(|rest| rest.starts_with(&format!("{version}}}"))));
    let workspace = WORKSPACE.parse::<Table>().unwrap();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        assert!(DOCKERFILE.contains(&format!("COPY {member}/Cargo.toml {member}/\n")), "{member}");
    }
}

#[test]
fn only_loopback_is_published_unless_somebody_says_otherwise() {
    let mut published = 0;
    for line in
        COMPOSE.lines().filter(|line| line.contains("_PORT:-") && line.trim_start().starts_with(['-', 'p']))
    {
        // `LATCHLINE_BIND`, or `LATCHLINE_MQTT_BIND` for what locks and clients speak.
        let bound = line.matches("BIND:-127.0.0.1}:${LATCHLINE_").count();
        assert_eq!(line.matches("_PORT:-").count(), bound, "{line}");
        published += bound;
    }
    assert_eq!(published, 10, "eight of ours, Prometheus and Grafana");
}

#[test]
fn what_images_are_made_of_is_not_left_out() {
    let ignored = include_str!("../../../.dockerignore");
    for source in DOCKERFILE.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let source = source.split_whitespace().next().unwrap();
        if source.starts_with("--from") || source == "." {
            continue;
        }
        let top = source.split('/').next().unwrap();
        assert!(ignored.lines().any(|line| line == format!("!{top}")), "{source}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(source).exists(), "{source}");
    }
}

#[test]
fn every_image_of_ours_is_built_by_one_service() {
    // Two that build the same name at once fail with Compose 2 on a machine that does not have it yet.
    let targets: Vec<&str> = COMPOSE
        .lines()
        .filter_map(|line| Some(line.split_once("build: {")?.1.split_once("target: ")?.1))
        .collect();
    let distinct: BTreeSet<&str> = targets.iter().copied().collect();
    assert_eq!(targets.len(), distinct.len(), "{targets:?}");
    let stages = DOCKERFILE.lines().filter(|line| line.starts_with("FROM base AS ")).count();
    assert_eq!(distinct.len(), stages);
}

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::*;

const DEFAULTS: &str = r#"
name = "x"
[limits]
wait_ms = 100
count = 5
ratio = 0.5
[listen]
tcp = "127.0.0.1:1"
tls = ""
[access]
master_key = ""
master_key_file = ""
mode = "one"
[[access.rules]]
filter = "a"
[kafka]
url = "http://user:hunter2@host/"
[kafka.properties]
[extra]
on = false
"#;

/// As the binary does it: tables of two crates, flattened together.
#[derive(Debug, Deserialize)]
struct Whole {
    #[serde(flatten)]
    ours: Ours,
    kafka: Kafka,
    extra: Extra,
}

#[derive(Debug, Deserialize)]
struct Ours {
    name: String,
    limits: Limits,
    listen: Listen,
    access: Access,
}

#[derive(Debug, Deserialize)]
struct Limits {
    #[serde(rename = "wait_ms", deserialize_with = "value::milliseconds")]
    wait: Duration,
    count: u16,
    ratio: f64,
}

#[derive(Debug, Deserialize)]
struct Listen {
    #[serde(deserialize_with = "value::optional")]
    tcp: Option<SocketAddr>,
    #[serde(deserialize_with = "value::optional")]
    tls: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
struct Access {
    #[serde(deserialize_with = "value::optional")]
    master_key: Option<SecretString>,
    #[serde(deserialize_with = "value::optional")]
    master_key_file: Option<PathBuf>,
    mode: Mode,
    #[serde(deserialize_with = "value::list")]
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    One,
    Two,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    filter: String,
    qos: Option<Vec<u8>>,
}

#[derive(Debug, Deserialize)]
struct Kafka {
    url: String,
    properties: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Extra {
    on: bool,
}

impl Validate for Whole {
    fn problems(&self, problems: &mut Vec<String>) {
        if self.ours.limits.count < 3 {
            problems.push("limits.count: must be 3 at least".to_owned());
        }
        if self.ours.access.rules.len() as u16 > self.ours.limits.count {
            problems.push("access.rules: must not be more than limits.count".to_owned());
        }
        if self.extra.on && self.ours.listen.tls.is_none() {
            problems.push("extra.on: needs listen.tls".to_owned());
        }
    }
}

/// Reads with this file text and these variables; problems name the file `FILE`.
fn read_with(text: &str, env: &[(&str, &str)]) -> Result<(Whole, String), Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    let env = env.iter().map(|(name, value)| (format!("LATCHLINE_TEST{name}"), (*value).to_owned()));
    let plain = |problems: Problems| {
        let name = file.display().to_string();
        problems.0.into_iter().map(|problem| problem.replace(&name, "FILE")).collect::<Vec<_>>()
    };
    let config = load::<Whole>(DEFAULTS, Some(&file), "LATCHLINE_TEST", env.clone()).map_err(plain)?;
    let effective = effective::<Whole>(DEFAULTS, Some(&file), "LATCHLINE_TEST", env).map_err(plain)?;
    Ok((config, effective))
}

#[track_caller]
fn check_problems(text: &str, env: &[(&str, &str)], expected: &[&str]) {
    let problems = read_with(text, env).expect_err("there are problems");
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\nis not\n{expected}");
    }
}

#[test]
fn defaults_alone_are_enough() {
    let config: Whole = load(DEFAULTS, None, "LATCHLINE_TEST", std::iter::empty()).unwrap();
    assert_eq!(config.ours.name, "x");
    assert_eq!(config.ours.limits.wait, Duration::from_millis(100));
    assert_eq!(config.ours.listen.tcp, Some(([127, 0, 0, 1], 1).into()));
    assert_eq!(config.ours.listen.tls, None);
    assert!(config.ours.access.master_key.is_none() && config.ours.access.master_key_file.is_none());
    assert_eq!(config.kafka.url, "http://user:hunter2@host/");
    assert_eq!(config.ours.access.rules, [Rule { filter: "a".to_owned(), qos: None }]);
    assert_eq!(needless_keys::<Whole>(DEFAULTS), Ok(vec![]));
}

#[test]
fn the_file_wins_over_the_defaults_and_the_environment_over_both() {
    let text = "limits.count = 6\nlimits.wait_ms = 7\nlisten.tcp = ''\nkafka.properties.'linger.ms' = '5'";
    let (config, _) = read_with(text, &[("__LIMITS__COUNT", "8"), ("__NAME", "new")]).unwrap();
    assert_eq!(config.ours.limits.count, 8);
    assert_eq!(config.ours.limits.wait, Duration::from_millis(7));
    assert_eq!(config.ours.limits.ratio, 0.5);
    assert_eq!(config.ours.listen.tcp, None);
    assert_eq!(config.ours.name, "new");
    assert_eq!(config.kafka.properties["linger.ms"], "5");
}

#[test]
fn variables_are_toml_where_the_type_asks_for_it_and_text_elsewhere() {
    let env = [
        ("__NAME", "17"),
        ("__LIMITS__RATIO", "2"),
        ("__EXTRA__ON", "true"),
        ("__LISTEN__TLS", "0.0.0.0:2"),
        ("__LISTEN__TCP", ""),
        ("__ACCESS__MODE", "two"),
        ("__ACCESS__MASTER_KEY", "5 and 6"),
        ("__ACCESS__RULES", "[{ filter = \"b\" }, { filter = \"c\", qos = [1] }]"),
        ("__KAFKA__PROPERTIES", "{ \"client.id\" = \"me\" }"),
        ("__KAFKA__PROPERTIES__ACKS", "all"),
        ("_CONFIG", "not ours: one underscore"),
    ];
    let (config, _) = read_with("", &env).unwrap();
    assert_eq!(config.ours.name, "17");
    assert_eq!(config.ours.limits.ratio, 2.0);
    assert!(config.extra.on);
    assert_eq!(config.ours.listen.tls, Some(([0, 0, 0, 0], 2).into()));
    assert_eq!(config.ours.listen.tcp, None);
    assert_eq!(config.ours.access.mode, Mode::Two);
    assert_eq!(config.ours.access.master_key.unwrap().expose_secret(), "5 and 6");
    assert_eq!(config.ours.access.rules[1], Rule { filter: "c".to_owned(), qos: Some(vec![1]) });
    assert_eq!(config.kafka.properties["client.id"], "me");
    assert_eq!(config.kafka.properties["acks"], "all");
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    let text = r#"
        nmae = "typo"
        listen = 5
        name = { first = "a" }
        [limits]
        wait_ms = -1
        count = 70000
        [access]
        mode = "three"
        master_key = 12345
        [[access.rules]]
        filter = "ok"
        [[access.rules]]
        filtre = "typo"
        [[access.rules]]
        filter = "b"
        qos = ["x"]
        [kafka.properties]
        acks = 1
    "#;
    let env = [
        ("__LIMITS__RATIO", "half"),
        ("__LIMITS__SPEED", "1"),
        ("__LIMITS", "5"),
        ("__ACCESS__RULES__0__FILTER", "b"),
        ("__LISTEN__TCP", "localhost"),
        ("__NAME__FIRST", "b"),
        ("__EXTRA__ON", "true"),
    ];
    check_problems(
        text,
        &env,
        &[
            "FILE: listen: is a table",
            "FILE: name: is not a table",
            "FILE: nmae: unknown key, known here: access, extra, kafka, limits, listen, name",
            "LATCHLINE_TEST__ACCESS__RULES__0__FILTER: access.rules: is a list, set it as a whole",
            "LATCHLINE_TEST__LIMITS: limits: is a table, give it as { key = value }",
            "LATCHLINE_TEST__LIMITS__SPEED: limits.speed: unknown key, known here: count, ratio, wait_ms",
            "LATCHLINE_TEST__NAME__FIRST: name: unknown key",
            "FILE: access.master_key: does not fit",
            "FILE: access.mode: unknown variant `three`, expected `one` or `two`",
            "FILE: access.rules[1]: unknown field `filtre`",
            "FILE: access.rules[2]: invalid type: string \"x\", expected u8",
            "FILE: kafka.properties.acks: invalid type: integer `1`, expected a string",
            "FILE: limits.count: invalid value: integer `70000`, expected u16",
            "FILE: limits.wait_ms: invalid value: integer `-1`, expected u64",
            "LATCHLINE_TEST__LIMITS__RATIO: limits.ratio: invalid type: string \"half\", expected f64",
            "LATCHLINE_TEST__LISTEN__TCP: listen.tcp: invalid socket address",
            "LATCHLINE_TEST__EXTRA__ON: extra.on: needs listen.tls",
        ],
    );
}

#[test]
fn settings_that_fight_are_named_with_their_places() {
    check_problems(
        "limits.count = 1\naccess.rules = [{ filter = 'a' }, { filter = 'b' }]",
        &[],
        &["FILE: limits.count: must be 3 at least", "FILE: access.rules: must not be more than limits.count"],
    );
}

#[test]
fn a_problem_about_a_misfit_is_not_told_twice() {
    check_problems(
        "extra.on = true\nlisten.tls = 'nowhere'",
        &[],
        &["FILE: listen.tls: invalid socket address"],
    );
}

#[test]
fn a_broken_file_is_named_with_its_line_but_not_its_content() {
    check_problems("name = 'a'\naccess.master_key = hunter2", &[], &["FILE: line 2: "]);
    let problems = read_with("access.master_key = hunter2", &[("__NMAE", "x")]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(!problems[0].contains("hunter2"), "{problems:?}");
}

#[test]
fn a_missing_file_is_a_problem() {
    let missing = Path::new("/nonexistent/config.toml");
    let problems = load::<Whole>(DEFAULTS, Some(missing), "X", std::iter::empty()).unwrap_err();
    assert!(problems.to_string().contains("\n  /nonexistent/config.toml: cannot be read: "), "{problems}");
}

#[test]
fn the_effective_configuration_hides_secrets() {
    let text = "kafka.properties.'sasl.password' = 'hunter3'\nlimits.count = 9";
    let (config, effective) = read_with(text, &[("__ACCESS__MASTER_KEY", "hunter4")]).unwrap();
    assert!(!effective.contains("hunter"), "{effective}");
    assert!(!format!("{:?}", config.ours).contains("hunter"));
    let document: Table = toml::from_str(&effective).unwrap();
    assert_eq!(document["limits"]["count"].as_integer(), Some(9));
    assert_eq!(document["access"]["master_key"].as_str(), Some("<redacted>"));
    assert_eq!(document["access"]["master_key_file"].as_str(), Some(""));
    assert_eq!(document["kafka"]["url"].as_str(), Some("http://user:<redacted>@host/"));
}

#[test]
fn needless_keys_are_found() {
    let defaults = DEFAULTS.replace("count = 5", "count = 5\ncuont = 5");
    assert_eq!(needless_keys::<Whole>(&defaults), Ok(vec!["limits.cuont".to_owned()]));
}

#[test]
fn secrets_come_from_a_value_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &str| {
        std::fs::write(folder.path().join(name), content).unwrap();
        folder.path().join(name)
    };
    let value = SecretString::from("from value");
    let secret = |value: Option<&SecretString>, file: Option<&PathBuf>| {
        value::secret("http.token", value, file.map(PathBuf::as_path))
            .map(|secret| secret.map(|secret| secret.expose_secret().to_owned()))
            .map_err(|error| format!("{error:#}"))
    };
    assert_eq!(secret(None, None), Ok(None));
    assert_eq!(secret(Some(&value), None), Ok(Some("from value".to_owned())));
    assert_eq!(secret(None, Some(&path("good", " from file\r\n"))), Ok(Some(" from file".to_owned())));
    for (file, expected) in [
        (path("empty", "\n"), "is empty"),
        (path("long", &"x".repeat(65_537)), "is longer than 65536 bytes"),
        (folder.path().join("missing"), "No such file"),
    ] {
        let problem = secret(None, Some(&file)).unwrap_err();
        assert!(problem.starts_with("http.token_file: ") && problem.contains(expected), "{problem}");
    }
    let both = secret(Some(&value), Some(&path("both", "x"))).unwrap_err();
    assert_eq!(both, "http.token: set it or http.token_file, not both");
}

use latchline_shared::kit::config::{effective, load, needless_keys};

use super::*;
use crate::config::DEFAULT_TOML;

fn read(toml: &str) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.toml");
    std::fs::write(&file, toml).unwrap();
    let origin = format!("{}: ", file.display());
    load(DEFAULT_TOML, Some(&file), "LATCHLINE_BROKER", std::iter::empty())
        .map_err(|problems| problems.0.iter().map(|problem| problem.replace(&origin, "")).collect())
}

/// Exactly these problems, in this order.
#[track_caller]
fn check(toml: &str, expected: &[&str]) {
    let problems = read(toml).err().unwrap_or_default();
    assert_eq!(problems, expected, "{toml}");
}

#[test]
fn the_defaults_are_valid_complete_and_read() {
    let config = read("").unwrap();
    assert_eq!(config.listen.tcp, Some(([0, 0, 0, 0], 1883).into()));
    assert_eq!(config.listen.tls, None);
    assert_eq!(config.http.server.address, Some(([127, 0, 0, 1], 18083).into()));
    assert_eq!(config.limits.packet_bytes_max, 262_144);
    assert_eq!(config.limits.slow_receiver_wait, std::time::Duration::from_secs(5));
    assert_eq!(config.access.anonymous_role, None);
    assert_eq!(config.access.rules.len(), 8);
    // The table of the bridge is the bridge's to check.
    let needless = needless_keys::<Config>(DEFAULT_TOML).unwrap();
    assert_eq!(needless.iter().find(|key| !key.starts_with("bridge")), None);
}

#[test]
fn rules_of_ones_own_replace_the_list() {
    let config = read("[[access.rules]]\neffect = 'deny'\naction = 'all'\nfilter = '#'").unwrap();
    assert_eq!(config.access.rules.len(), 1);
    assert_eq!(config.access.rules[0].effect, Effect::Deny);
}

#[test]
fn secrets_are_not_printed() {
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let env = [
        ("LATCHLINE_BROKER__ACCESS__FLEET_MASTER_KEY".to_owned(), key.to_owned()),
        ("LATCHLINE_BROKER__HTTP__TOKEN".to_owned(), "correct horse battery".to_owned()),
    ];
    let config: Config = load(DEFAULT_TOML, None, "LATCHLINE_BROKER", env.clone().into_iter()).unwrap();
    let printed = effective::<Config>(DEFAULT_TOML, None, "LATCHLINE_BROKER", env.into_iter()).unwrap();
    for text in [format!("{config:?}"), printed] {
        assert!(!text.contains(key) && !text.contains("correct horse"), "{text}");
    }
    let read = config.access.fleet_master_key().unwrap().unwrap();
    assert_eq!(read.expose_secret(), key);
}

#[test]
fn names_and_addresses() {
    check("node = 'latchline'", &["node: must be name@host"]);
    check("node = '@host'", &["node: must be name@host"]);
    check("listen = { tcp = '', ws = '' }", &["listen: no listener is set, set tcp, tls, ws or wss"]);
    check("listen.ws_path = 'mqtt'", &["listen.ws_path: must begin with /"]);
    check("listen.ws = '127.0.0.1:1883'", &["listen.ws: 127.0.0.1:1883 is taken by listen.tcp"]);
    check("listen = { tcp = '127.0.0.1:5', ws = '127.0.0.2:5' }", &[]);
    check("listen = { tcp = '127.0.0.1:0', ws = '127.0.0.1:0' }", &[]);
    check("listen.ws = '[::]:1883'", &[]);
    check("http.address = '127.0.0.1:8083'", &["http.address: is also the address of a listener"]);
    check("http.token = 'short'", &["http.token: must have at least 16 bytes"]);
}

#[test]
fn certificates() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let pem = file.path().display();
    let server = format!("tls = '0.0.0.0:8883'\ncertificate_file = '{pem}'\nkey_file = '{pem}'");
    check(&format!("[listen]\n{server}"), &[]);
    check(
        "listen.wss = '0.0.0.0:8884'",
        &[
            "listen.certificate_file: must be set for listen.tls and listen.wss",
            "listen.key_file: must be set for listen.tls and listen.wss",
        ],
    );
    check(
        &format!(
            "listen = {{ tls = '0.0.0.0:8883', certificate_file = '/nonexistent/c', key_file = '{pem}' }}"
        ),
        &["listen.certificate_file: cannot open /nonexistent/c: No such file or directory (os error 2)"],
    );
    check(
        &format!("[listen]\n{server}\nclient_certificate = 'required'"),
        &["listen.client_certificate: needs listen.client_ca_file"],
    );
    check(
        &format!("[listen]\nclient_ca_file = '{pem}'\nclient_certificate = 'optional'"),
        &["listen.client_certificate: needs listen.tls or listen.wss"],
    );
    check(
        &format!("[listen]\n{server}\nclient_ca_file = '{pem}'\ncommon_name_is_client_id = true"),
        &[
            "listen.client_ca_file: has no effect while client_certificate is off",
            "listen.common_name_is_client_id: has no effect while client_certificate is off",
        ],
    );
    let all = "client_certificate = 'required'\ncommon_name_is_client_id = true";
    check(&format!("[listen]\n{server}\nclient_ca_file = '{pem}'\n{all}"), &[]);
}

#[test]
fn limits() {
    check("limits.receive_max = 0", &["limits.receive_max: must not be 0"]);
    check("limits.write_timeout_ms = 0", &["limits.write_timeout_ms: must not be 0"]);
    check("limits.slow_receiver_wait_ms = 0", &[]);
    let range = "limits.packet_bytes_max: must be between 1024 and 268435460";
    check("limits.packet_bytes_max = 1023", &[range]);
    check(
        "limits.packet_bytes_max = 262145",
        &["limits.packet_bytes_max: must not be more than limits.inflight_bytes_per_connection (262144)"],
    );
    check(
        "limits.inflight_bytes_total = 262143",
        &["limits.inflight_bytes_per_connection: must not be more than limits.inflight_bytes_total (262143)"],
    );
    check(
        "limits = { queue_bytes_max = 9, retained_bytes_max = 8 }",
        &[
            "limits.packet_bytes_max: must not be more than limits.queue_bytes_max (9)",
            "limits.packet_bytes_max: must not be more than limits.retained_bytes_max (8)",
        ],
    );
    check(
        "limits.sessions_max = 10",
        &["limits.connections_max: must not be more than limits.sessions_max (10)"],
    );
    check(
        "limits.connect_timeout_ms = 5000",
        &[
            "limits.authenticate_timeout_ms: must be less than limits.connect_timeout_ms, which it is a part of",
        ],
    );
    check(
        "limits.receive_max = 65536",
        &["limits.receive_max: invalid value: integer `65536`, expected u16"],
    );
}

#[test]
fn roles_and_master_key() {
    check("access.anonymous_role = 'guest'", &["access.anonymous_role: no rule allows this role anything"]);
    check("access.anonymous_role = 'operator'", &[]);
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    check(&format!("access.fleet_master_key = '{key}'"), &[]);
    check(
        &format!("access = {{ fleet_master_key = '{key}', fleet_role = 'locks' }}"),
        &["access.fleet_role: no rule allows this role anything"],
    );
    check("access.fleet_role = 'locks'", &[]);
    let malformed = "access.fleet_master_key: must be 64 lower-case hexadecimal digits";
    check(&format!("access.fleet_master_key = '{}'", key.to_uppercase()), &[malformed]);
    check("access.fleet_master_key = 'abc'", &[malformed]);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{key}\n")).unwrap();
    let path = file.path().display();
    check(&format!("access.fleet_master_key_file = '{path}'"), &[]);
    check(
        &format!("access = {{ fleet_master_key = '{key}', fleet_master_key_file = '{path}' }}"),
        &["access.fleet_master_key: set it or access.fleet_master_key_file, not both"],
    );
    std::fs::write(file.path(), "abc\n").unwrap();
    check(&format!("access.fleet_master_key_file = '{path}'"), &[malformed]);
}

#[test]
fn the_guard_needs_keys_and_room() {
    let no_key = "guard.mode: there is no key to verify commands with, set access.fleet_master_key_file, \
                  guard.named or guard.lock_secrets_file";
    check("guard.mode = 'enforce'", &[no_key]);
    check("guard.mode = 'report'", &[no_key]);
    check("guard = { nonces_max = 0, nonces_per_lock_max = 0 }", &[]);
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let with = |guard: &str, expected: &[&str]| {
        let access = format!("access.fleet_master_key = '{key}'");
        check(&format!("{access}\nguard = {{ mode = 'enforce', {guard} }}"), expected);
    };
    with("revoked_locks = ['1']", &[]);
    with("nonces_max = 10", &["guard.nonces_per_lock_max: must not be more than guard.nonces_max (10)"]);
    with("nonces_per_lock_max = 0", &["guard.nonces_per_lock_max: must not be 0"]);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{key}\n")).unwrap();
    let path = file.path().display();
    let named = |kid: &str| format!("{{ kid = '{kid}', master_key_file = '{path}' }}");
    with(&format!("named = [{}]", named("k1")), &[]);
    with(&format!("named = [{}]", named("")), &["guard.named[0].kid: is empty"]);
    let too_many = "access.fleet_master_key and guard.named: 3 master keys are active, 2 may be";
    with(&format!("named = [{}, {}]", named("k1"), named("k2")), &[too_many]);
    let secrets = "guard.lock_secrets_file: line 1: is not a lock's id and its secret";
    with(&format!("lock_secrets_file = '{path}'"), &[secrets]);
    // What is wrong with the fleet's key is said once.
    let malformed = "access.fleet_master_key: must be 64 lower-case hexadecimal digits";
    check("access.fleet_master_key = 'abc'\nguard.mode = 'enforce'", &[malformed]);
}

#[test]
fn rules() {
    let rule = |conditions: &str, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|problem| format!("access.rules[0]{problem}")).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        check(&format!("access.rules = [{{ effect = 'allow', {conditions} }}]"), &expected);
    };
    rule("action = 'all', filter = 'a/%c/+/%u/#'", &[]);
    rule("action = 'all', filter = 'a/#/b'", &[".filter: is not a topic filter"]);
    rule("action = 'all', filter = ''", &[".filter: is not a topic filter"]);
    for filter in ["a/%x", "a/x%c", "a/%c%u", "%"] {
        let expected = ".filter: % must stand as %c or %u, alone in its level";
        rule(&format!("action = 'all', filter = '{filter}'"), &[expected]);
    }
    rule(
        "action = 'all', filter = '$share/g/a'",
        &[".filter: rules see the filter inside a shared subscription, leave out $share"],
    );
    rule("action = 'publish', filter = 'a', qos = [0, 1, 2], retain = false", &[]);
    rule("action = 'publish', filter = 'a', qos = [3]", &[".qos: must list levels 0, 1 or 2"]);
    rule("action = 'publish', filter = 'a', qos = []", &[".qos: must list levels 0, 1 or 2"]);
    rule("action = 'all', filter = 'a', retain = true", &[": qos and retain need action = \"publish\""]);
    rule("action = 'all', filter = 'a', wildcard = true", &[": wildcard needs action = \"subscribe\""]);
    rule("action = 'subscribe', filter = 'a', wildcard = true", &[]);
    rule(
        "action = 'all', filter = 'a', role = 'x', except_role = 'x'",
        &[": role and except_role are the same, so it never applies"],
    );
    let known =
        "`effect`, `action`, `role`, `user`, `client`, `except_role`, `filter`, `qos`, `retain`, `wildcard`";
    let unknown = format!(": unknown field `filtre`, expected one of {known}");
    rule("action = 'all', filter = 'a', filtre = 'a'", &[&unknown]);
    rule("filter = 'a'", &[": missing field `action`"]);
    rule(
        "action = 'read', filter = 'a'",
        &[": unknown variant `read`, expected one of `publish`, `subscribe`, `all`"],
    );
}

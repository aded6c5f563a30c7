//! Who may connect, row by row, with a fleet, a credentials file and their combinations.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use latchline_shared::keys::MasterKey;
use latchline_shared::kit::config::load;
use latchline_shared::message::{Protocol, Qos, Sequence};
use tempfile::NamedTempFile;

use super::super::credentials::hash_secret;
use super::*;
use crate::config::DEFAULT_TOML;

const MASTER: &str = "7bdd93dfe9837876200e90cd788594f65752d5c10c51462789fc0ebd220c0e39";
const LOCK: &str = "10083618796833171";

/// What a client presents.
#[derive(Clone, Default)]
struct Login {
    client_id: String,
    username: Option<String>,
    password: Option<String>,
    common_name: Option<String>,
}

fn login(client_id: &str) -> Login {
    Login { client_id: client_id.to_owned(), ..Login::default() }
}

impl Login {
    fn user(self, username: &str) -> Self {
        Self { username: Some(username.to_owned()), ..self }
    }

    fn password(self, password: &str) -> Self {
        Self { password: Some(password.to_owned()), ..self }
    }

    fn common_name(self, common_name: &str) -> Self {
        Self { common_name: Some(common_name.to_owned()), ..self }
    }
}

fn password_of(client_id: &str) -> String {
    MasterKey::from_hex(MASTER).unwrap().mqtt_password(client_id)
}

/// Access control with these settings of `access`, and what else.
fn access(settings: &[(&str, &str)]) -> AccessControl {
    let env = settings.iter().map(|(key, value)| (format!("TEST__{key}"), (*value).to_owned()));
    AccessControl::open(&load(DEFAULT_TOML, None, "TEST", env).unwrap()).unwrap()
}

fn credentials_file() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let text = format!(
        "client gate-7 {gate} lock\nclient 666 revoked\nuser alice {alice} operator\n\
         user bob {bob} operator\nuser bob-admin {bob} administrator\nuser mallory revoked\n\
         client alice-gate {gate} lock\n",
        gate = hash_secret("gate-7's secret"),
        alice = hash_secret("alice's secret"),
        bob = hash_secret("bob's secret"),
    );
    fs::write(file.path(), text).unwrap();
    file
}

/// The role, or the refusal's cause.
fn check(access: &AccessControl, login: &Login) -> Result<String, &'static str> {
    let connect = Arc::new(Connect {
        client_id: login.client_id.as_str().into(),
        username: login.username.as_deref().map(Into::into),
        password: login.password.clone().map(Bytes::from),
        common_name: login.common_name.clone(),
        protocol: Protocol::V5,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
    });
    match access.client_authenticate(&connect) {
        Answer::Now(Authentication::Allow { role }) => Ok(role.to_string()),
        Answer::Now(Authentication::Deny(refusal)) => Err(refusal.cause),
        _ => panic!("access control always decides, at once"),
    }
}

fn check_all(
    access: &AccessControl,
    rows: impl IntoIterator<Item = (Login, Result<&'static str, &'static str>)>,
) {
    for (n, (login, expected)) in rows.into_iter().enumerate() {
        let result = check(access, &login);
        assert_eq!(result.as_deref().map_err(|cause| *cause), expected, "row {n}: {}", login.client_id);
    }
}

#[test]
fn everything_at_once() {
    let file = credentials_file();
    let access = access(&[
        ("ACCESS__CREDENTIALS_FILE", file.path().to_str().unwrap()),
        ("ACCESS__FLEET_MASTER_KEY", MASTER),
        ("ACCESS__ANONYMOUS_ROLE", "operator"),
    ]);
    let (gate, alice, bob) = ("gate-7's secret", "alice's secret", "bob's secret");
    let bad = Err("bad_credentials");
    let foreign = Err("foreign_client_id");
    check_all(
        &access,
        [
            // The fleet.
            (login(LOCK).password(&password_of(LOCK)), Ok("lock")),
            (login(LOCK).user("anything").password(&password_of(LOCK)), Ok("lock")),
            (login(LOCK).user("").password(&password_of(LOCK)), Ok("lock")),
            (login(LOCK).password(&password_of("10083618796833172")), bad),
            (login(LOCK).password(&password_of(LOCK).to_uppercase()), bad),
            (login(LOCK).password(""), bad),
            (login(LOCK).user("anything"), bad),
            (login(LOCK).user("alice").password(&password_of(LOCK)), bad),
            (login(LOCK).user("mallory").password(&password_of(LOCK)), Err("revoked")),
            (login("666").password(&password_of("666")), Err("revoked")),
            // A client with a secret of its own.
            (login("gate-7").password(gate), Ok("lock")),
            (login("gate-7").user("anything").password(gate), Ok("lock")),
            (login("gate-7").password(&password_of("gate-7")), bad),
            (login("gate-7").password(alice), bad),
            (login("gate-7").user("alice").password(gate), bad),
            (login("gate-7").user("alice").password(alice), bad),
            (login("gate-7"), bad),
            (login("gate-8").password(gate), bad),
            // Users.
            (login("alice").user("alice").password(alice), Ok("operator")),
            (login("alice-desk").user("alice").password(alice), Ok("operator")),
            (login("auto-00112233445566778899aabbccddeeff").user("alice").password(alice), Ok("operator")),
            (login(LOCK).user("alice").password(alice), foreign),
            (login("bob").user("alice").password(alice), foreign),
            (login("bob-1").user("alice").password(alice), foreign),
            (login("alice2").user("alice").password(alice), foreign),
            (login("alice-gate").user("alice").password(alice), bad),
            (login("bob-1").user("bob").password(bob), Ok("operator")),
            (login("bob-admin").user("bob").password(bob), foreign),
            (login("bob-admin-1").user("bob").password(bob), foreign),
            (login("bob-admin-1").user("bob-admin").password(bob), Ok("administrator")),
            (login("alice").user("alice").password(bob), bad),
            (login("alice").user("alice").password(""), bad),
            (login("alice").user("alice"), bad),
            (login("alice").password(alice), bad),
            (login("alice").user("Alice").password(alice), bad),
            (login("carol").user("carol").password(alice), bad),
            (login("mallory").user("mallory").password(alice), Err("revoked")),
            (login("666").user("alice").password(alice), Err("revoked")),
            // Certificates.
            (login(LOCK).common_name(LOCK), Ok("lock")),
            (login(LOCK).user("anything").common_name(LOCK), Ok("lock")),
            (login(LOCK).common_name("10083618796833172"), bad),
            (login(LOCK).common_name(LOCK).password("wrong"), bad),
            (login(LOCK).common_name(LOCK).user("alice"), bad),
            (login("alice").common_name("alice"), bad),
            (login("alice-1").common_name("alice-1"), bad),
            (login("gate-7").common_name("gate-7"), bad),
            (login("666").common_name("666"), Err("revoked")),
            // Anonymous.
            (login("anonymous"), Ok("operator")),
            (login("anonymous-1").user(""), Ok("operator")),
            (login("auto-00112233445566778899aabbccddeeff"), Ok("operator")),
            (login(LOCK), foreign),
            (login("alice"), foreign),
            (login("666"), Err("revoked")),
            (login("anonymous").user("anonymous"), bad),
            (login("anonymous").password("x"), bad),
        ],
    );
}

#[test]
fn a_fleet_alone() {
    let access = access(&[("ACCESS__FLEET_MASTER_KEY", MASTER), ("ACCESS__FLEET_ROLE", "operator")]);
    check_all(
        &access,
        [
            (login(LOCK).password(&password_of(LOCK)), Ok("operator")),
            (login("666").password(&password_of("666")), Ok("operator")),
            (login(LOCK), Err("unknown_client")),
            (login(LOCK).user("x"), Err("bad_credentials")),
        ],
    );
}

#[test]
fn anonymous_alone_may_use_any_id() {
    let access = access(&[("ACCESS__ANONYMOUS_ROLE", "operator")]);
    check_all(
        &access,
        [
            (login(LOCK), Ok("operator")),
            (login("x").user(""), Ok("operator")),
            (login("x").user("y"), Err("bad_credentials")),
            (login("x").password("y"), Err("bad_credentials")),
        ],
    );
}

#[test]
fn nothing_configured_lets_nobody_in() {
    check_all(
        &access(&[]),
        [
            (login(LOCK), Err("unknown_client")),
            (login(LOCK).user("x").password("y"), Err("bad_credentials")),
            (login(LOCK).password(""), Err("bad_credentials")),
        ],
    );
}

#[test]
fn an_anonymous_client_does_not_take_the_ids_of_a_user_of_that_name() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("user anonymous {} operator", hash_secret("secret"))).unwrap();
    let access = access(&[
        ("ACCESS__CREDENTIALS_FILE", file.path().to_str().unwrap()),
        ("ACCESS__ANONYMOUS_ROLE", "operator"),
    ]);
    assert_eq!(check(&access, &login("anonymous-1")), Err("foreign_client_id"));
    assert!(check(&access, &login("anonymous-1").user("anonymous").password("secret")).is_ok());
}

#[test]
fn a_reload_takes_the_new_file_or_keeps_the_old() {
    let file = credentials_file();
    let access = access(&[("ACCESS__CREDENTIALS_FILE", file.path().to_str().unwrap())]);
    let gate = login("gate-7").password("gate-7's secret");
    let client = Client {
        id: "gate-7".into(),
        username: ByteString::new(),
        role: "lock".into(),
        protocol: Protocol::V5,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        session: 1,
        sequence: Sequence::default(),
    };
    let state = Access::Publish { topic: "devices/gate-7/state", qos: Qos::AtLeastOnce, retain: false };

    fs::write(file.path(), "client gate-7 revoked\nnonsense").unwrap();
    access.reload();
    assert!(check(&access, &gate).is_ok());
    assert_eq!(access.client_authorise(&client, &state), Authorisation::Allow);

    fs::write(file.path(), "client gate-7 revoked\n").unwrap();
    access.reload();
    assert_eq!(check(&access, &gate), Err("revoked"));
    assert!(access.is_revoked(&client));
    assert_eq!(access.client_authorise(&client, &state), Authorisation::Deny(REVOKED));

    drop(file);
    access.reload();
    assert_eq!(check(&access, &gate), Err("revoked"));
}

#[test]
fn a_wrong_file_is_refused_at_start() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), "user alice secret operator\nnonsense\n").unwrap();
    let env = [("TEST__ACCESS__CREDENTIALS_FILE".to_owned(), file.path().to_str().unwrap().to_owned())];
    let config: Config = load(DEFAULT_TOML, None, "TEST", env.into_iter()).unwrap();
    let error = format!("{:#}", AccessControl::open(&config).err().unwrap());
    assert!(error.contains("line 1 must have revoked") && error.contains("; line 2 must begin"), "{error}");
}

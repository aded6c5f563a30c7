//! The default rules, row by row, and what a client's identity can do to a rule.

use std::net::{Ipv4Addr, SocketAddr};

use latchline_shared::kit::config::load;
use latchline_shared::message::{Protocol, Qos, Sequence};
use proptest::prelude::*;

use super::*;
use crate::config::{Config, DEFAULT_TOML};

const LOCK: &str = "10083618796833171";

fn client(id: &str, username: &str, role: &str) -> Client {
    Client {
        id: id.into(),
        username: username.into(),
        role: role.into(),
        protocol: Protocol::V5,
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        session: 1,
        sequence: Sequence::default(),
    }
}

fn default_rules() -> Rules {
    let config: Config = load(DEFAULT_TOML, None, "TEST", std::iter::empty()).unwrap();
    Rules::new(&config.access.rules)
}

/// Rules as they would stand in a configuration: a list of tables without the outer brackets.
fn rules(tables: &str) -> Rules {
    let list = [("TEST__ACCESS__RULES".to_owned(), format!("[{tables}]"))];
    let config: Config = load(DEFAULT_TOML, None, "TEST", list.into_iter()).unwrap();
    Rules::new(&config.access.rules)
}

fn publish(topic: &str) -> Access<'_> {
    Access::Publish { topic, qos: Qos::AtLeastOnce, retain: false }
}

fn subscribe(filter: &str) -> Access<'_> {
    Access::Subscribe { filter }
}

/// The cause of a refusal, `None` if it is none.
fn refusal(rules: &Rules, client: &Client, access: Access<'_>) -> Option<&'static str> {
    match rules.authorise(client, &access) {
        Authorisation::Allow => None,
        Authorisation::Deny(refusal) => {
            assert_eq!(refusal.reason_code, 0x87);
            Some(refusal.cause)
        }
        Authorisation::Ignore => panic!("the rules always decide"),
    }
}

#[test]
fn the_default_rules() {
    let rules = default_rules();
    let lock = client(LOCK, "", "lock");
    let operator = client("alice", "alice", "operator");
    let administrator = client("root", "root", "administrator");
    let stranger = client("x", "x", "nothing");
    let with = |topic, qos, retain| Access::Publish { topic, qos, retain };
    let command = "devices/10083618796833171/command";
    let state = "devices/10083618796833171/state";
    let no_rule = Some("no_rule");
    for (n, (client, access, expected)) in [
        (&lock, publish(state), None),
        (&lock, with(state, Qos::AtMostOnce, true), None),
        (&lock, publish("devices/10083618796833172/state"), no_rule),
        (&lock, publish("devices//state"), no_rule),
        (&lock, publish("devices/10083618796833171/state/x"), no_rule),
        (&lock, publish(command), no_rule),
        (&lock, with(command, Qos::AtMostOnce, false), Some("command_qos0")),
        (&lock, publish("$SYS/x"), no_rule),
        (&lock, subscribe(command), None),
        (&lock, subscribe("devices/10083618796833172/command"), no_rule),
        (&lock, subscribe("devices/+/command"), Some("command_wildcard")),
        (&lock, subscribe("devices/10083618796833171/#"), Some("command_wildcard")),
        (&lock, subscribe("devices/10083618796833171/+"), Some("command_wildcard")),
        (&lock, subscribe("+/10083618796833171/command"), Some("command_wildcard")),
        (&lock, subscribe("#"), Some("command_wildcard")),
        (&lock, subscribe(state), no_rule),
        (&lock, subscribe("$SYS/#"), no_rule),
        (&operator, publish(command), None),
        (&operator, with(command, Qos::ExactlyOnce, false), None),
        (&operator, with(command, Qos::AtMostOnce, false), Some("command_qos0")),
        (&operator, with(command, Qos::AtLeastOnce, true), Some("command_retained")),
        (&operator, with(command, Qos::AtMostOnce, true), Some("command_qos0")),
        (&operator, publish(state), no_rule),
        (&operator, publish("devices/1/2/command"), no_rule),
        (&operator, subscribe(state), None),
        (&operator, subscribe("devices/+/state"), None),
        (&operator, subscribe("devices/#"), Some("command_wildcard")),
        (&operator, subscribe("devices/+/+"), Some("command_wildcard")),
        (&operator, subscribe("+/+/+"), Some("command_wildcard")),
        (&operator, subscribe("devices/+/command"), Some("command_wildcard")),
        (&operator, subscribe("devices/1/#"), Some("command_wildcard")),
        (&operator, subscribe("devices/+/state/#"), no_rule),
        (&operator, subscribe(command), no_rule),
        (&administrator, with(command, Qos::AtMostOnce, true), None),
        (&administrator, subscribe("#"), None),
        (&administrator, subscribe("devices/+/command"), None),
        (&administrator, subscribe("$SYS/#"), no_rule),
        (&administrator, publish("$SYS/x"), no_rule),
        (&stranger, publish(state), no_rule),
        (&stranger, subscribe(state), no_rule),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(refusal(&rules, client, access), expected, "row {n}: {access:?} by {}", client.role);
    }
}

#[test]
fn no_identity_widens_a_rule() {
    let rules = default_rules();
    for id in ["+", "#", "", "a/b", "1/#", "$SYS", "+/+", "10083618796833171/command", "a+"] {
        let lock = client(id, "", "lock");
        for access in [
            subscribe("devices/10083618796833171/command"),
            subscribe("devices/+/command"),
            subscribe("devices/#"),
            subscribe("devices//command"),
            subscribe("devices/a/b/command"),
            publish("devices/10083618796833171/state"),
            publish("devices//state"),
            publish("devices/a/b/state"),
        ] {
            assert!(refusal(&rules, &lock, access).is_some(), "{id:?} may {access:?}");
        }
        let (topic, filter) = (format!("devices/{id}/state"), format!("devices/{id}/command"));
        for access in [publish(&topic), subscribe(&filter)] {
            assert!(refusal(&rules, &lock, access).is_some(), "{id:?} may {access:?}");
        }
    }
    let own = self::rules(r#"{ effect = "allow", action = "all", filter = "%c/#" }"#);
    assert_eq!(refusal(&own, &client("$SYS", "", "lock"), subscribe("$SYS/#")), Some("no_rule"));
    assert_eq!(refusal(&own, &client("a", "", "lock"), subscribe("a/#")), None);
}

proptest! {
    /// Whatever its id, a lock reaches its own topics and no others.
    #[test]
    fn a_lock_stays_within_its_topics(
        id in "[+#/$a1]{0,4}",
        topic in "devices/[+#/$a1]{0,4}/(state|command)",
    ) {
        let rules = default_rules();
        let lock = client(&id, "", "lock");
        if topic::is_topic_name(&topic) && refusal(&rules, &lock, publish(&topic)).is_none() {
            prop_assert_eq!(&topic, &format!("devices/{id}/state"));
        }
        if topic::is_topic_filter(&topic) && refusal(&rules, &lock, subscribe(&topic)).is_none() {
            prop_assert_eq!(&topic, &format!("devices/{id}/command"));
            prop_assert!(!topic::has_wildcard(&topic));
        }
    }
}

#[test]
fn a_denial_holds_for_identities_that_cannot_be_filled_in() {
    let rules = rules(
        r#"{ effect = "deny", action = "all", filter = "devices/%c/command" },
           { effect = "allow", action = "all", filter = "devices/#" }"#,
    );
    let command = "devices/a/b/command";
    assert_eq!(refusal(&rules, &client("a/b", "", "x"), publish(command)), Some("rule"));
    assert_eq!(refusal(&rules, &client("+", "", "x"), subscribe("devices/1/command")), Some("rule"));
    assert_eq!(refusal(&rules, &client("1", "", "x"), publish("devices/1/command")), Some("rule"));
    assert_eq!(refusal(&rules, &client("1", "", "x"), publish("devices/2/command")), None);
}

#[test]
fn a_user_name_counts_where_the_client_id_belongs_to_it() {
    let rules = rules(
        r#"{ effect = "deny", action = "publish", filter = "a/secret", user = "alice" },
           { effect = "allow", action = "publish", filter = "a/#", user = "alice" },
           { effect = "allow", action = "all", filter = "users/%u/#" }"#,
    );
    for (id, username, access, expected) in [
        ("alice", "alice", publish("a/b"), None),
        ("alice-desk", "alice", publish("a/b"), None),
        ("auto-0123456789abcdef", "alice", publish("a/b"), None),
        (LOCK, "alice", publish("a/b"), Some("no_rule")),
        ("alice", "", publish("a/b"), Some("no_rule")),
        (LOCK, "alice", publish("a/secret"), Some("rule")),
        ("alice", "alice", publish("users/alice/x"), None),
        ("alice", "alice", subscribe("users/alice/#"), None),
        ("alice", "alice", subscribe("users/+/#"), Some("no_rule")),
        ("bob", "bob", publish("users/alice/x"), Some("no_rule")),
        (LOCK, "alice", publish("users/alice/x"), Some("no_rule")),
        ("+", "+", subscribe("users/+/x"), Some("no_rule")),
        ("x", "", publish("users//x"), Some("no_rule")),
    ] {
        let client = client(id, username, "operator");
        assert_eq!(refusal(&rules, &client, access), expected, "{id} {username} {access:?}");
    }
}

#[test]
fn every_condition_must_hold_and_the_first_rule_decides() {
    let rules = rules(
        r#"{ effect = "deny", action = "publish", filter = "q/#", qos = [1, 2] },
           { effect = "deny", action = "publish", filter = "r/#", retain = false },
           { effect = "deny", action = "subscribe", filter = "w/#", wildcard = true },
           { effect = "allow", action = "publish", filter = "one/#", client = "7" },
           { effect = "deny", action = "publish", filter = "one/#" },
           { effect = "allow", action = "subscribe", filter = "s/+", except_role = "guest" },
           { effect = "allow", action = "subscribe", filter = "n/#", wildcard = false },
           { effect = "allow", action = "all", filter = "q/#" },
           { effect = "allow", action = "all", filter = "r/#" },
           { effect = "allow", action = "all", filter = "w/#" }"#,
    );
    let quietly = |topic| Access::Publish { topic, qos: Qos::AtMostOnce, retain: true };
    let (seven, guest) = (client("7", "", "lock"), client("8", "", "guest"));
    for (n, (client, access, expected)) in [
        (&seven, publish("q/a"), Some("qos")),
        (&seven, quietly("q/a"), None),
        (&seven, publish("r/a"), Some("retain")),
        (&seven, quietly("r/a"), None),
        (&seven, subscribe("w/+"), Some("wildcard")),
        (&seven, subscribe("w/a"), None),
        (&seven, publish("one/a"), None),
        (&guest, publish("one/a"), Some("rule")),
        (&seven, subscribe("one/a"), Some("no_rule")),
        (&seven, subscribe("s/a"), None),
        (&seven, subscribe("s/#"), Some("no_rule")),
        (&guest, subscribe("s/a"), Some("no_rule")),
        (&seven, subscribe("n/a"), None),
        (&seven, subscribe("n/+"), Some("no_rule")),
        (&seven, subscribe("#"), Some("wildcard")),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(refusal(&rules, client, access), expected, "row {n}");
    }
}

#[test]
fn without_rules_nothing_is_allowed() {
    let rules = Rules::new(&[]);
    assert_eq!(refusal(&rules, &client("1", "", "administrator"), publish("a")), Some("no_rule"));
}

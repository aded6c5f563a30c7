//! The rules of MQTT 5 that the router decides, one table each.

use super::super::{LEVELS_MAX, Match, Router, Subscription, levels};
use super::*;

fn receivers(router: &Router, topic: &str, publisher: Option<u64>) -> Vec<Seen> {
    let mut out = Vec::new();
    router.matches(topic, publisher.map(SessionKey), &mut out);
    seen(&out)
}

fn keys(router: &Router, topic: &str) -> Vec<u64> {
    receivers(router, topic, None).into_iter().map(|seen| seen.key.0).collect()
}

#[test]
fn overlapping_subscriptions_are_merged() {
    type Options = (&'static str, u8, bool, Option<u32>);
    let check = |subscriptions: &[Options], expected: (u8, bool, &[u32])| {
        let router = Router::new();
        let mailbox = mailbox(7);
        for &(filter, qos, retain_as_published, id) in subscriptions {
            let qos = Qos::from_level(qos).unwrap();
            router.subscribe(filter, Subscription { qos, retain_as_published, id, ..plain(&mailbox) });
        }
        let (qos, retain_as_published, ids) = expected;
        let expected = Seen {
            shared: false,
            key: SessionKey(7),
            qos: Qos::from_level(qos).unwrap(),
            retain_as_published,
            ids: ids.to_vec(),
        };
        assert_eq!(receivers(&router, "a/b", None), [expected], "{subscriptions:?}");
    };
    check(&[("a/b", 1, false, None)], (1, false, &[]));
    check(&[("a/b", 1, true, Some(5))], (1, true, &[5]));
    check(&[("a/b", 0, false, None), ("a/+", 2, false, None)], (2, false, &[]));
    check(&[("a/b", 2, false, None), ("a/+", 0, false, None)], (2, false, &[]));
    check(&[("a/b", 0, false, Some(1)), ("#", 0, true, Some(2))], (0, true, &[1, 2]));
    check(&[("a/b", 0, true, Some(1)), ("#", 0, false, None)], (0, true, &[1]));
    check(&[("+/b", 0, false, Some(3)), ("a/#", 1, false, Some(3))], (1, false, &[3, 3]));
    // The same filter again replaces.
    check(&[("a/b", 2, true, Some(1)), ("a/b", 0, false, Some(2))], (0, false, &[2]));
    check(&[("a/+", 2, true, Some(1)), ("a/+", 0, false, None)], (0, false, &[]));
}

#[test]
fn no_local_leaves_out_the_publisher() {
    let router = Router::new();
    let (one, two) = (mailbox(1), mailbox(2));
    router.subscribe("a/b", Subscription { no_local: true, ..plain(&one) });
    router.subscribe("a/+", Subscription { no_local: true, ..plain(&two) });
    for (publisher, expected) in
        [(None, vec![1, 2]), (Some(1), vec![2]), (Some(2), vec![1]), (Some(3), vec![1, 2])]
    {
        let found: Vec<u64> = receivers(&router, "a/b", publisher).iter().map(|seen| seen.key.0).collect();
        assert_eq!(found, expected, "published by {publisher:?}");
    }
    // Another subscription of the same session without no-local still hears it, with its own options.
    router.subscribe("#", Subscription { qos: Qos::AtMostOnce, id: Some(9), ..plain(&one) });
    let found = receivers(&router, "a/b", Some(1));
    assert_eq!((found[0].key, found[0].qos, &*found[0].ids), (SessionKey(1), Qos::AtMostOnce, &[9][..]));
}

#[test]
fn subscribing_and_unsubscribing_say_what_was_there() {
    for filter in ["a/b", "a/+", "#", "/", "$share/g/a/b", "$share/g/a/#"] {
        let router = Router::new();
        let (one, two) = (mailbox(1), mailbox(2));
        assert!(!router.unsubscribe(filter, SessionKey(1)), "{filter}");
        assert!(!router.subscribe(filter, plain(&one)), "{filter}");
        assert!(router.subscribe(filter, plain(&one)), "{filter}");
        assert!(!router.subscribe(filter, plain(&two)), "{filter}");
        assert_eq!(router.subscription_count(), 2, "{filter}");
        assert!(router.unsubscribe(filter, SessionKey(1)), "{filter}");
        assert!(!router.unsubscribe(filter, SessionKey(1)), "{filter}");
        assert!(router.unsubscribe(filter, SessionKey(2)), "{filter}");
        assert_eq!(router.subscription_count(), 0, "{filter}");
    }
}

#[test]
fn a_group_takes_turns() {
    for filter in ["$share/g/a/b", "$share/g/a/+"] {
        let router = Router::new();
        let members = [mailbox(1), mailbox(2), mailbox(3)];
        for member in &members {
            router.subscribe(filter, plain(member));
        }
        let turns = |n: usize| -> Vec<u64> { (0..n).flat_map(|_| keys(&router, "a/b")).collect() };
        assert_eq!(turns(6), [1, 2, 3, 1, 2, 3], "nobody is online: offline queues take turns");
        members[1].set_online();
        assert_eq!(turns(3), [2, 2, 2], "who is online is preferred");
        members[2].set_online();
        assert_eq!(turns(4), [3, 2, 3, 2]);
        members[1].set_offline();
        assert_eq!(turns(2), [3, 3]);
        router.unsubscribe(filter, SessionKey(3));
        assert_eq!(turns(3), [1, 2, 1], "who left is not chosen");
    }
}

#[test]
fn shared_and_ordinary_subscriptions_stand_side_by_side() {
    let router = Router::new();
    let (one, two) = (mailbox(1), mailbox(2));
    router.subscribe("a/b", Subscription { id: Some(1), ..plain(&one) });
    router.subscribe("a/+", Subscription { id: Some(2), ..plain(&one) });
    router.subscribe("$share/g/a/b", Subscription { id: Some(3), ..plain(&one) });
    router.subscribe("$share/g/a/+", Subscription { id: Some(4), ..plain(&one) });
    router.subscribe("$share/h/a/b", Subscription { id: Some(5), no_local: true, ..plain(&two) });
    let found: Vec<(bool, u64, Vec<u32>)> = receivers(&router, "a/b", Some(2))
        .into_iter()
        .map(|seen| (seen.shared, seen.key.0, seen.ids))
        .collect();
    let expected = [
        (false, 1, vec![1, 2]),
        (true, 1, vec![3]),
        (true, 1, vec![4]),
        // No-local is a protocol error on a shared subscription, and means nothing here.
        (true, 2, vec![5]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn matches_reuses_the_callers_buffer() {
    let router = Router::new();
    let one = mailbox(1);
    router.subscribe("a", plain(&one));
    let mut out: Vec<Match> = Vec::new();
    router.matches("a", None, &mut out);
    assert_eq!(out.len(), 1);
    router.matches("b", None, &mut out);
    assert!(out.is_empty(), "what was in it is gone");
}

#[test]
fn levels_are_counted() {
    for (filter, expected) in [("a", 1), ("a/b", 2), ("/", 2), ("a/+/#", 3), ("//", 3)] {
        assert_eq!(levels(filter), expected, "{filter}");
    }
    assert!(levels(&"/".repeat(LEVELS_MAX - 1)) <= LEVELS_MAX);
    assert!(levels(&"/".repeat(LEVELS_MAX)) > LEVELS_MAX);
}

#[test]
fn a_filter_of_30000_levels_does_no_harm() {
    let router = Router::new();
    let one = mailbox(1);
    let topic = "a/".repeat(30_000);
    let filters = ["+/".repeat(30_000), "a/".repeat(30_000), format!("{}#", "+/".repeat(30_000))];
    for filter in &filters {
        router.subscribe(filter, plain(&one));
    }
    assert_eq!(keys(&router, &topic), [1]);
    for filter in &filters {
        assert!(router.unsubscribe(filter, SessionKey(1)));
    }
    assert_eq!((router.wildcard.nodes(), router.exact.size()), (0, (0, 0)));
}

#[test]
fn unsubscribing_gives_everything_back() {
    let router = Router::new();
    let sessions: Vec<_> = (0..20).map(mailbox).collect();
    let filters: Vec<String> = (0..1_000)
        .flat_map(|n| [format!("a/{n}/c"), format!("a/{n}/+"), format!("+/{n}/#"), format!("$share/g/a/{n}")])
        .collect();
    for (n, filter) in filters.iter().enumerate() {
        for session in &sessions[..1 + n % 3] {
            router.subscribe(filter, plain(session));
        }
    }
    assert!(router.wildcard.nodes() > 2_000);
    let (_, room_before) = router.exact.size();
    for (n, filter) in filters.iter().enumerate() {
        for session in &sessions[..1 + n % 3] {
            assert!(router.unsubscribe(filter, session.key()), "{filter}");
        }
    }
    assert!(room_before >= 2_000);
    assert_eq!((router.wildcard.nodes(), router.exact.size()), (0, (0, 0)));
    assert!(sessions.iter().all(|session| Arc::strong_count(session) == 1), "no mailbox is kept alive");
}

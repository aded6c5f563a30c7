//! Random operations on a router and on a list of subscriptions that is searched from end to end.

use std::collections::BTreeMap;

use latchline_shared::topic;
use proptest::prelude::*;

use super::super::{Router, Subscription};
use super::*;

const SESSIONS: u64 = 4;

#[derive(Debug, Clone)]
enum Operation {
    Subscribe {
        filter: String,
        key: u64,
        qos: u8,
        no_local: bool,
        retain_as_published: bool,
        id: Option<u32>,
    },
    Unsubscribe {
        filter: String,
        key: u64,
    },
    Online(u64),
    Offline(u64),
    Match {
        topic: String,
        publisher: Option<u64>,
    },
}

/// The router as the specification says it, without any cleverness.
#[derive(Default)]
struct Model {
    subscriptions: BTreeMap<(String, u64), Subscription>,
    /// Who was chosen last, by the whole shared filter.
    served: BTreeMap<String, u64>,
}

impl Model {
    fn matches(&mut self, topic: &str, publisher: Option<u64>) -> Vec<Seen> {
        let mut ordinary: BTreeMap<u64, Seen> = BTreeMap::new();
        let mut shared: BTreeMap<&str, Vec<&Subscription>> = BTreeMap::new();
        for ((filter, key), subscription) in &self.subscriptions {
            match topic::split_share(filter) {
                Some(split) if topic::matches(split.unwrap().1, topic) => {
                    shared.entry(filter).or_default().push(subscription);
                }
                None if topic::matches(filter, topic)
                    && !(subscription.no_local && publisher == Some(*key)) =>
                {
                    let new = see(subscription, false);
                    let seen =
                        ordinary.entry(*key).or_insert_with(|| Seen { ids: Vec::new(), ..new.clone() });
                    seen.qos = seen.qos.max(new.qos);
                    seen.retain_as_published |= new.retain_as_published;
                    seen.ids.extend(new.ids);
                    seen.ids.sort_unstable();
                }
                _ => {}
            }
        }
        let mut all: Vec<Seen> = ordinary.into_values().collect();
        for (filter, members) in shared {
            let served = self.served.entry(filter.into()).or_default();
            let online: Vec<_> = members.iter().filter(|member| member.mailbox.is_online()).collect();
            let candidates = if online.is_empty() { members.iter().collect() } else { online };
            let later = candidates.iter().find(|member| member.mailbox.key().0 > *served);
            let chosen = later.unwrap_or(&candidates[0]);
            *served = chosen.mailbox.key().0;
            all.push(see(chosen, true));
        }
        all.sort();
        all
    }

    fn unsubscribe(&mut self, filter: &str, key: u64) -> bool {
        let existed = self.subscriptions.remove(&(filter.into(), key)).is_some();
        if !self.subscriptions.keys().any(|(other, _)| other == filter) {
            self.served.remove(filter);
        }
        existed
    }
}

fn see(subscription: &Subscription, shared: bool) -> Seen {
    let Subscription { mailbox, qos, retain_as_published, id, .. } = subscription;
    let ids = id.iter().copied().collect();
    Seen { shared, key: mailbox.key(), qos: *qos, retain_as_published: *retain_as_published, ids }
}

/// Two ordinary letters, a level that another begins with, an empty one, a server's one.
fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "aa", "", "$s"])
}

pub(super) fn topic_name() -> impl Strategy<Value = String> {
    let names = prop::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/"));
    names.prop_filter("a topic name", |name| topic::is_topic_name(name))
}

pub(super) fn topic_filter() -> impl Strategy<Value = String> {
    let part = prop_oneof![2 => level(), 1 => Just("+")];
    let filters = (prop::collection::vec(part, 0..5), any::<bool>()).prop_map(|(mut levels, open)| {
        levels.extend(open.then_some("#"));
        levels.join("/")
    });
    filters.prop_filter("a topic filter", |filter| topic::is_topic_filter(filter))
}

fn any_filter() -> impl Strategy<Value = String> {
    let group = prop::sample::select(vec!["", "", "$share/g/", "$share/h/"]);
    (group, topic_filter()).prop_map(|(group, filter)| format!("{group}{filter}"))
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0..SESSIONS;
    let options = (0..3_u8, any::<bool>(), any::<bool>(), prop::option::of(1..9_u32));
    prop_oneof![
        4 => (any_filter(), key.clone(), options).prop_map(
            |(filter, key, (qos, no_local, retain_as_published, id))| {
                Operation::Subscribe { filter, key, qos, no_local, retain_as_published, id }
            }
        ),
        2 => (any_filter(), key.clone()).prop_map(|(filter, key)| Operation::Unsubscribe { filter, key }),
        1 => key.clone().prop_map(Operation::Online),
        1 => key.clone().prop_map(Operation::Offline),
        4 => (topic_name(), prop::option::of(key))
            .prop_map(|(topic, publisher)| Operation::Match { topic, publisher }),
    ]
}

fn apply(operation: Operation, sessions: &[Arc<Mailbox>], router: &Router, model: &mut Model) {
    match operation {
        Operation::Subscribe { filter, key, qos, no_local, retain_as_published, id } => {
            let mailbox = Arc::clone(&sessions[key as usize]);
            let qos = Qos::from_level(qos).unwrap();
            let subscription = Subscription { mailbox, qos, no_local, retain_as_published, id };
            let existed = router.subscribe(&filter, subscription.clone());
            assert_eq!(existed, model.subscriptions.insert((filter, key), subscription).is_some());
        }
        Operation::Unsubscribe { filter, key } => {
            assert_eq!(router.unsubscribe(&filter, SessionKey(key)), model.unsubscribe(&filter, key));
        }
        Operation::Online(key) => sessions[key as usize].set_online(),
        Operation::Offline(key) => drop(sessions[key as usize].set_offline()),
        Operation::Match { topic, publisher } => {
            let mut out = Vec::new();
            router.matches(&topic, publisher.map(SessionKey), &mut out);
            assert_eq!(seen(&out), model.matches(&topic, publisher), "receivers of {topic}");
        }
    }
    assert_eq!(router.subscription_count(), model.subscriptions.len());
    let wildcards = model.subscriptions.keys().filter(|(filter, _)| topic::has_wildcard(filter)).count();
    assert!(router.wildcard.nodes() <= 2 * wildcards);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_router_does_what_the_specification_says(
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let sessions: Vec<_> = (0..SESSIONS).map(mailbox).collect();
        let (router, mut model) = (Router::new(), Model::default());
        for operation in operations {
            apply(operation, &sessions, &router, &mut model);
        }
        for (filter, key) in std::mem::take(&mut model.subscriptions).into_keys() {
            prop_assert!(router.unsubscribe(&filter, SessionKey(key)));
        }
        prop_assert_eq!(router.subscription_count(), 0);
        prop_assert_eq!((router.wildcard.nodes(), router.exact.size()), (0, (0, 0)));
        prop_assert!(sessions.iter().all(|session| Arc::strong_count(session) == 1));
    }

    /// One filter against one topic, so that rare shapes are met often.
    #[test]
    fn one_filter_matches_as_the_specification_says(filter in topic_filter(), topic in topic_name()) {
        let router = Router::new();
        let mut out = Vec::new();
        router.subscribe(&filter, plain(&mailbox(1)));
        router.matches(&topic, None, &mut out);
        prop_assert_eq!(out.len(), usize::from(topic::matches(&filter, &topic)));
    }
}

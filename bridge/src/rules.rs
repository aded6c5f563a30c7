//! Rules, sorted by hook for the question that is asked for each event: which streams does it go
//! to?
//!
//! There are few rules, and filters are matched without allocating, so a list per hook is enough.

use std::collections::BTreeSet;
use std::sync::Arc;

use latchline_shared::hook::Call;
use latchline_shared::topic;

use crate::config::{self, HOOKS};

/// All rules of a bridge.
#[derive(Debug)]
pub(crate) struct Rules([Vec<Rule>; HOOKS.len()]);

/// A rule of one hook.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Everything, if there is none.
    filter: Option<Box<str>>,
    /// Where the records go.
    pub(crate) stream: Arc<str>,
}

impl Rules {
    pub(crate) fn new(rules: &[config::Rule]) -> Self {
        let streams: BTreeSet<Arc<str>> = rules.iter().map(|rule| Arc::from(rule.topic.as_str())).collect();
        Self(HOOKS.map(|hook| {
            let of_hook = rules.iter().filter(|rule| rule.hook == hook);
            let compiled = of_hook.filter_map(|rule| {
                let stream = Arc::clone(streams.get(rule.topic.as_str())?);
                let filter = rule.filter.as_deref().map(Box::from);
                Some(Rule { filter, stream })
            });
            compiled.collect()
        }))
    }

    /// The hooks that have rules.
    pub(crate) fn calls(&self) -> Vec<Call> {
        HOOKS.into_iter().filter(|hook| !self.of(*hook).is_empty()).collect()
    }

    /// The names of all streams, each once.
    pub(crate) fn streams(&self) -> BTreeSet<Arc<str>> {
        self.0.iter().flatten().map(|rule| Arc::clone(&rule.stream)).collect()
    }

    /// The rules of `hook` that hold for an event with this topic name or subscription filter.
    pub(crate) fn matching<'a>(
        &'a self,
        hook: Call,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Rule> + Clone {
        self.of(hook).iter().filter(move |rule| rule.holds_for(name))
    }

    fn of(&self, hook: Call) -> &[Rule] {
        let index = HOOKS.iter().position(|known| *known == hook);
        index.map_or(&[], |index| self.0[index].as_slice())
    }
}

impl Rule {
    fn holds_for(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| topic::matches(filter, name))
    }
}

/// The filter of a subscription without the group that shares it: a rule is about topics.
pub(crate) fn without_group(filter: &str) -> &str {
    match topic::split_share(filter) {
        Some(Ok((_, inner))) => inner,
        _ => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &[(Call, Option<&str>, &str)]) -> Rules {
        let rules: Vec<_> = list
            .iter()
            .map(|(hook, filter, topic)| config::Rule {
                hook: *hook,
                filter: filter.map(str::to_owned),
                topic: (*topic).to_owned(),
            })
            .collect();
        Rules::new(&rules)
    }

    #[test]
    fn events_go_where_rules_say() {
        let rules = rules(&[
            (Call::MessagePublish, Some("devices/+/state"), "message_state"),
            (Call::MessagePublish, Some("devices/#"), "all"),
            (Call::MessageAcked, Some("devices/+/command"), "message_command"),
            (Call::ClientConnected, None, "presence"),
            (Call::SessionSubscribed, None, "all"),
        ]);
        for (hook, name, expected) in [
            (Call::MessagePublish, "devices/1/state", &["message_state", "all"][..]),
            (Call::MessagePublish, "devices/1/command", &["all"]),
            (Call::MessagePublish, "other", &[]),
            (Call::MessageAcked, "devices/1/command", &["message_command"]),
            (Call::MessageAcked, "devices/1/state", &[]),
            (Call::MessageDeliver, "devices/1/state", &[]),
            (Call::ClientConnected, "", &["presence"]),
            (Call::ClientDisconnected, "", &[]),
            (Call::SessionSubscribed, "$SYS/#", &["all"]),
            (Call::ClientAuthenticate, "", &[]),
        ] {
            let streams: Vec<_> = rules.matching(hook, name).map(|rule| &*rule.stream).collect();
            assert_eq!(streams, expected, "{hook:?} {name}");
        }
        assert_eq!(
            rules.calls(),
            [Call::ClientConnected, Call::SessionSubscribed, Call::MessagePublish, Call::MessageAcked]
        );
        let streams: Vec<_> = rules.streams().iter().map(|stream| stream.to_string()).collect();
        assert_eq!(streams, ["all", "message_command", "message_state", "presence"]);
    }

    #[test]
    fn groups_are_taken_off() {
        assert_eq!(without_group("$share/g/devices/+/state"), "devices/+/state");
        assert_eq!(without_group("devices/+/state"), "devices/+/state");
        assert_eq!(without_group("$share/g"), "$share/g");
    }
}

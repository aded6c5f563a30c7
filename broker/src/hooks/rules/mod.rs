//! The access rules: the first one that applies decides, and if none applies the answer is no.
//!
//! A rule applies to a publish if its filter matches the topic. A rule that allows applies to a
//! subscription if its filter covers the client's; one that denies, if the two have a topic in
//! common: whoever may not read a topic may not read it through a wildcard either.
//!
//! `%c` (client id) and `%u` (user name) are literals in the level where they stand. An identity
//! that is no plain level (empty, with `+`, `#` or `/`, or with a leading `$`) never widens a rule:
//! a rule that allows does not apply at all, and one that denies applies to everything below the
//! placeholder.
//!
//! User names count for rules that allow only where the client id belongs to the user (see
//! [`identity`]): a lock logs in by its id, and may send any user name.

use latchline_shared::hook::{Access, Authorisation, Refusal};
use latchline_shared::message::Client;
use latchline_shared::topic;

use super::filter::{Level, covers, levels, overlaps};
use super::identity;
use crate::config::{AccessRule, Action, Effect};

/// No rule applies.
pub const NO_RULE: Refusal = Refusal::not_authorized("no_rule");

/// The rules in their order.
#[derive(Debug)]
pub struct Rules(Box<[Rule]>);

impl Rules {
    /// The rules of a configuration that has been validated.
    pub fn new(rules: &[AccessRule]) -> Self {
        Self(rules.iter().map(Rule::new).collect())
    }

    /// What the rules say to this access; never `Ignore`.
    pub fn authorise(&self, client: &Client, access: &Access<'_>) -> Authorisation {
        match self.0.iter().find(|rule| rule.applies(client, access)) {
            None => Authorisation::Deny(NO_RULE),
            Some(rule) if rule.allows() => Authorisation::Allow,
            Some(rule) => Authorisation::Deny(Refusal::not_authorized(rule.cause)),
        }
    }
}

#[derive(Debug)]
struct Rule {
    conditions: AccessRule,
    levels: Box<[RuleLevel]>,
    /// What a client is told when the rule denies.
    cause: &'static str,
}

#[derive(Debug)]
enum RuleLevel {
    Literal(Box<str>),
    One,
    Rest,
    ClientId,
    Username,
}

impl Rule {
    fn new(rule: &AccessRule) -> Self {
        let rule_level = |level| match level {
            Level::One => RuleLevel::One,
            Level::Rest => RuleLevel::Rest,
            Level::Literal("%c") => RuleLevel::ClientId,
            Level::Literal("%u") => RuleLevel::Username,
            Level::Literal(text) => RuleLevel::Literal(text.into()),
        };
        Self {
            conditions: rule.clone(),
            levels: levels(&rule.filter).map(rule_level).collect(),
            cause: cause(rule),
        }
    }

    fn allows(&self) -> bool {
        self.conditions.effect == Effect::Allow
    }

    fn applies(&self, client: &Client, access: &Access<'_>) -> bool {
        self.is_for(client) && self.is_about(access) && self.matches(client, access)
    }

    fn is_for(&self, client: &Client) -> bool {
        let AccessRule { role, except_role, user, client: id, .. } = &self.conditions;
        role.as_deref().is_none_or(|role| client.role == role)
            && except_role.as_deref().is_none_or(|except| client.role != except)
            && id.as_deref().is_none_or(|id| client.id == id)
            && user.as_deref().is_none_or(|user| client.username == user && self.may_trust_user(client))
    }

    fn is_about(&self, access: &Access<'_>) -> bool {
        let AccessRule { action, qos, retain, wildcard, .. } = &self.conditions;
        match access {
            Access::Publish { qos: level, retain: flag, .. } => {
                *action != Action::Subscribe
                    && wildcard.is_none()
                    && qos.as_ref().is_none_or(|levels| levels.contains(&level.level()))
                    && retain.is_none_or(|retain| retain == *flag)
            }
            Access::Subscribe { filter } => {
                *action != Action::Publish
                    && qos.is_none()
                    && retain.is_none()
                    && wildcard.is_none_or(|wildcard| wildcard == topic::has_wildcard(filter))
            }
        }
    }

    fn matches(&self, client: &Client, access: &Access<'_>) -> bool {
        let has_placeholder = |level: &RuleLevel| matches!(level, RuleLevel::ClientId | RuleLevel::Username);
        let is_plain = |level: &RuleLevel| self.level(level, client) != Level::Rest;
        if self.allows() && self.levels.iter().any(|level| has_placeholder(level) && !is_plain(level)) {
            return false;
        }
        let own = self.levels.iter().map(|level| self.level(level, client));
        match access {
            Access::Publish { topic, .. } => covers(own, levels(topic)),
            Access::Subscribe { filter } if self.allows() => covers(own, levels(filter)),
            Access::Subscribe { filter } => overlaps(own, levels(filter)),
        }
    }

    /// The level as it is for this client; a placeholder that cannot be filled is `Rest`, which is
    /// the last level that [`covers`] and [`overlaps`] look at.
    fn level<'a>(&'a self, level: &'a RuleLevel, client: &'a Client) -> Level<'a> {
        match level {
            RuleLevel::Literal(text) => Level::Literal(text),
            RuleLevel::One => Level::One,
            RuleLevel::Rest => Level::Rest,
            RuleLevel::ClientId => plain(&client.id),
            RuleLevel::Username if self.may_trust_user(client) => plain(&client.username),
            RuleLevel::Username => Level::Rest,
        }
    }

    fn may_trust_user(&self, client: &Client) -> bool {
        !self.allows()
            || identity::begins_with_name(&client.id, &client.username)
            || identity::is_assigned(&client.id)
    }
}

fn plain(identity: &str) -> Level<'_> {
    let is_plain = !identity.is_empty() && !identity.contains(['+', '#', '/']) && !identity.starts_with('$');
    if is_plain { Level::Literal(identity) } else { Level::Rest }
}

/// The word for the metric and the reason string, by what is special about the rule.
fn cause(rule: &AccessRule) -> &'static str {
    let filter: Vec<_> = levels(&rule.filter).collect();
    let is_command = matches!(filter[..], [Level::Literal("devices"), _, Level::Literal("command")]);
    match (&rule.qos, rule.retain, rule.wildcard) {
        (Some(levels), _, _) if is_command && levels[..] == [0] => "command_qos0",
        (Some(_), _, _) => "qos",
        (None, Some(true), _) if is_command => "command_retained",
        (None, Some(_), _) => "retain",
        (None, None, Some(true)) if is_command => "command_wildcard",
        (None, None, Some(_)) => "wildcard",
        (None, None, None) => "rule",
    }
}

#[cfg(test)]
mod tests;

//! Topic aliases of one connection, in both directions (MQTT 5, section 3.3.2.3.4).

use std::collections::HashMap;
use std::num::NonZeroU16;

use bytestring::ByteString;

/// The aliases that are in use.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    from_client: HashMap<NonZeroU16, ByteString>,
    to_client: HashMap<ByteString, NonZeroU16>,
}

impl Aliases {
    /// The client sets an alias.
    pub(super) fn set(&mut self, alias: NonZeroU16, topic: &str) {
        // A copy: the topic is a slice of a read buffer that must not live on.
        self.from_client.insert(alias, ByteString::from(topic));
    }

    /// The topic that the client's alias stands for.
    pub(super) fn topic(&self, alias: NonZeroU16) -> Option<ByteString> {
        self.from_client.get(&alias).cloned()
    }

    /// The alias for a topic to the client, and whether the client knows it already. Topics get
    /// aliases as they come until `alias_max` is reached.
    pub(super) fn for_topic(&self, topic: &ByteString, alias_max: u16) -> Option<(NonZeroU16, bool)> {
        if let Some(alias) = self.to_client.get(topic) {
            return Some((*alias, true));
        }
        let next = u16::try_from(self.to_client.len() + 1).ok().filter(|next| *next <= alias_max)?;
        Some((NonZeroU16::new(next)?, false))
    }

    /// The client was told an alias.
    pub(super) fn sent(&mut self, topic: ByteString, alias: NonZeroU16) {
        self.to_client.insert(topic, alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_get_aliases_until_the_maximum() {
        let mut aliases = Aliases::default();
        let alias = |n| NonZeroU16::new(n).unwrap();
        assert_eq!(aliases.for_topic(&"a".into(), 2), Some((alias(1), false)));
        assert_eq!(aliases.for_topic(&"b".into(), 2), Some((alias(1), false)), "a was not sent");
        aliases.sent("a".into(), alias(1));
        assert_eq!(aliases.for_topic(&"b".into(), 2), Some((alias(2), false)));
        aliases.sent("b".into(), alias(2));
        assert_eq!(aliases.for_topic(&"a".into(), 2), Some((alias(1), true)));
        assert_eq!(aliases.for_topic(&"c".into(), 2), None);
    }

    #[test]
    fn the_client_may_set_an_alias_anew() {
        let mut aliases = Aliases::default();
        let alias = NonZeroU16::MIN;
        assert_eq!(aliases.topic(alias), None);
        aliases.set(alias, "a");
        aliases.set(alias, "b");
        assert_eq!(aliases.topic(alias).as_deref(), Some("b"));
    }
}

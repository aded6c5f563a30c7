//! Which client ids belong to whom.
//!
//! In MQTT whoever connects with a client id takes over its session: the messages that wait in it
//! and the connection that has it. And access rules grant topics by client id. So a login says two
//! things, who it is and which id it takes, and the second must follow from the first:
//!
//! - A lock logs in as its client id (a derived password, a secret of its own, a certificate).
//! - A user logs in by user name, so the client id is the user's own choice, within bounds: it is
//!   the user name, or begins with it and one of `-`, `:`, `/`, `@`, `.`; and if it begins so with
//!   several users' names, it belongs to the longest. An operator `alice` may be `alice` and
//!   `alice-desk`, never a lock's id.
//! - An anonymous client is held to the same rule with the name `anonymous`, unless nobody can log
//!   in in any other way, so that there is nothing to protect.
//! - Ids that the broker assigns are random and begin with [`ASSIGNED_PREFIX`]: anyone may have one.
//!
//! Non-guarantee: a user must not be named like the beginning of lock ids. With a user `lock`, the
//! id `lock-0001` is that user's to take.

/// Client ids that the broker assigns begin with this and go on with at least 128 random bits.
pub const ASSIGNED_PREFIX: &str = "auto-";

/// The name whose client ids anonymous clients use.
pub const ANONYMOUS: &str = "anonymous";

/// Whether the client id is one that the broker assigned.
pub fn is_assigned(client_id: &str) -> bool {
    client_id.starts_with(ASSIGNED_PREFIX)
}

/// Whether the client id is the name, or begins with it and a separator.
pub fn begins_with_name(client_id: &str, name: &str) -> bool {
    let Some(rest) = client_id.strip_prefix(name) else { return false };
    !name.is_empty() && rest.bytes().next().is_none_or(is_separator)
}

/// All names that the client id begins with, the longest first.
pub fn names(client_id: &str, name_bytes_max: usize) -> impl Iterator<Item = &str> {
    let bytes = client_id.as_bytes();
    let ends = (1..=bytes.len().min(name_bytes_max)).rev();
    ends.filter(|end| bytes.get(*end).is_none_or(|next| is_separator(*next))).map(|end| &client_id[..end])
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b':' | b'/' | b'@' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_begins_with_a_name_at_a_separator() {
        for (client_id, name, expected) in [
            ("alice", "alice", true),
            ("alice-desk", "alice", true),
            ("alice:1", "alice", true),
            ("alice/1", "alice", true),
            ("alice@home", "alice", true),
            ("alice.1", "alice", true),
            ("alice-", "alice", true),
            ("alice2", "alice", false),
            ("alice_2", "alice", false),
            ("aliceé", "alice", false),
            ("alic", "alice", false),
            ("Alice", "alice", false),
            ("10083618796833171", "alice", false),
            ("-alice", "", false),
            ("", "", false),
        ] {
            assert_eq!(begins_with_name(client_id, name), expected, "{client_id} {name}");
            let is_among = names(client_id, 256).any(|other| other == name);
            assert_eq!(is_among, expected, "{client_id} {name}");
        }
    }

    #[test]
    fn names_come_longest_first_and_bounded() {
        assert_eq!(names("a-b.c", 256).collect::<Vec<_>>(), ["a-b.c", "a-b", "a"]);
        assert_eq!(names("a-b.c", 3).collect::<Vec<_>>(), ["a-b", "a"]);
        assert_eq!(names("", 256).count(), 0);
        assert_eq!(names("é-ü", 256).collect::<Vec<_>>(), ["é-ü", "é"]);
    }
}

//! Topic names and filters (MQTT 5, section 4.7), and the lock that a topic belongs to.

/// Longest topic or filter in bytes (MQTT 5, section 1.5.4).
pub const BYTES_MAX: usize = 65_535;

/// Whether `name` is a topic name: not empty, no wildcards, no U+0000.
pub fn is_topic_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= BYTES_MAX && !name.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
}

/// Whether `filter` is a topic filter: wildcards stand alone in their level and `#` stands last.
///
/// A `$share/…` filter is checked by [`split_share`] first.
pub fn is_topic_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > BYTES_MAX || filter.bytes().any(|b| b == 0) {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            "+" => {}
            "#" => return levels.peek().is_none(),
            _ if level.contains(['+', '#']) => return false,
            _ => {}
        }
    }
    true
}

/// Whether the filter has a wildcard.
pub fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether `filter` matches the topic `name`. Topics that begin with `$` are not matched by a
/// wildcard in the first level (MQTT 5, section 4.7.2).
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        match (level, names.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Splits `$share/{group}/{filter}` (MQTT 5, section 4.8.2). `None` if it is not a shared
/// subscription; `Some(Err(()))` if it begins like one but is malformed.
pub fn split_share(filter: &str) -> Option<Result<(&str, &str), ()>> {
    let rest = filter.strip_prefix("$share/")?;
    Some(match rest.split_once('/') {
        Some((group, inner))
            if !group.is_empty() && !group.contains(['+', '#']) && is_topic_filter(inner) =>
        {
            Ok((group, inner))
        }
        _ => Err(()),
    })
}

/// The id of the lock that a topic under `devices/{id}/…` belongs to (contract, section 2).
pub fn lock_id(name: &str) -> Option<&str> {
    let (id, _) = name.strip_prefix("devices/")?.split_once('/')?;
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        for (filter, valid) in [
            ("a", true),
            ("a/b", true),
            ("/", true),
            ("+", true),
            ("#", true),
            ("a/+/b", true),
            ("a/#", true),
            ("+/+/#", true),
            ("", false),
            ("a/#/b", false),
            ("a+", false),
            ("a#", false),
            ("+a/b", false),
            ("a/b#", false),
            ("a\0b", false),
            ("##", false),
            ("été/+", true),
        ] {
            assert_eq!(is_topic_filter(filter), valid, "{filter}");
        }
    }

    #[test]
    fn names_have_no_wildcards() {
        for (name, valid) in
            [("a/b", true), ("/", true), ("", false), ("a/+", false), ("#", false), ("a\0", false)]
        {
            assert_eq!(is_topic_name(name), valid, "{name}");
        }
    }

    #[test]
    fn filters_match_names() {
        for (filter, name, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("+", "a/b", false),
            ("+/+", "/a", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("a", "a/", false),
            ("devices/+/state", "devices/1/state", true),
            ("devices/+/state", "devices/1/command", false),
        ] {
            assert_eq!(matches(filter, name), expected, "{filter} against {name}");
        }
    }

    #[test]
    fn shared_filters_are_split() {
        assert_eq!(split_share("a/b"), None);
        assert_eq!(split_share("$share/g/a/+"), Some(Ok(("g", "a/+"))));
        for malformed in ["$share/g", "$share//a", "$share/g/", "$share/g+/a", "$share/g/a#"] {
            assert_eq!(split_share(malformed), Some(Err(())), "{malformed}");
        }
    }

    #[test]
    fn topics_belong_to_locks() {
        assert_eq!(lock_id("devices/10083618796833171/state"), Some("10083618796833171"));
        for other in ["devices//state", "devices/1", "x/devices/1/state", "devices"] {
            assert_eq!(lock_id(other), None, "{other}");
        }
    }
}

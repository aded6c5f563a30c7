//! What one topic filter says about another (MQTT 5, section 4.7).
//!
//! A rule that allows a subscription must cover every topic that the subscription can bring; a rule
//! that denies one must apply as soon as they have a topic in common. Both are decided level by
//! level, and exactly: the tests compare with every topic of a small alphabet.
//!
//! Filters come as levels, not as text, so that a client's id that stands in a rule is a literal
//! whatever its characters are.

/// One level of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level<'a> {
    /// This text.
    Literal(&'a str),
    /// `+`: any text.
    One,
    /// `#`: any levels, none included; the last level.
    Rest,
}

/// The levels of a filter, or of a topic name, which is a filter without wildcards.
pub fn levels(filter: &str) -> impl Iterator<Item = Level<'_>> {
    filter.split('/').map(|level| match level {
        "+" => Level::One,
        "#" => Level::Rest,
        literal => Level::Literal(literal),
    })
}

/// Whether every topic that `inner` matches is matched by `outer`. With a topic name as `inner`:
/// whether `outer` matches it.
pub fn covers<'a, 'b>(
    outer: impl IntoIterator<Item = Level<'a>>,
    inner: impl IntoIterator<Item = Level<'b>>,
) -> bool {
    let (mut outer, mut inner) = (outer.into_iter(), inner.into_iter());
    let mut is_first = true;
    loop {
        match (outer.next(), inner.next()) {
            (Some(Level::Rest), level) => return !(is_first && is_reserved(level)),
            // The first level of a topic is always there, so `+/#` is all of `#`.
            (Some(Level::One), Some(Level::Rest)) => return is_first && outer.next() == Some(Level::Rest),
            (Some(Level::One), level @ Some(_)) if is_first && is_reserved(level) => return false,
            (Some(Level::One), Some(_)) => {}
            (Some(Level::Literal(one)), Some(Level::Literal(other))) if one == other => {}
            (None, None) => return true,
            _ => return false,
        }
        is_first = false;
    }
}

/// Whether there is a topic that both match.
pub fn overlaps<'a, 'b>(
    one: impl IntoIterator<Item = Level<'a>>,
    other: impl IntoIterator<Item = Level<'b>>,
) -> bool {
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut is_first = true;
    loop {
        match (one.next(), other.next()) {
            (Some(Level::Rest), level) | (level, Some(Level::Rest)) => {
                return !(is_first && is_reserved(level));
            }
            (Some(Level::One), level @ Some(_)) | (level @ Some(_), Some(Level::One)) => {
                if is_first && is_reserved(level) {
                    return false;
                }
            }
            (Some(Level::Literal(one)), Some(Level::Literal(other))) if one == other => {}
            (None, None) => return true,
            _ => return false,
        }
        is_first = false;
    }
}

/// Whether topics with this first level are not for wildcards (MQTT 5, section 4.7.2).
fn is_reserved(first: Option<Level<'_>>) -> bool {
    matches!(first, Some(Level::Literal(text)) if text.starts_with('$'))
}

#[cfg(test)]
mod tests {
    use latchline_shared::topic;

    use super::*;

    /// All sequences of up to `length_max` of these levels.
    fn sequences(alphabet: &[&str], length_max: usize) -> Vec<String> {
        let mut all = Vec::new();
        let mut last = alphabet.iter().map(ToString::to_string).collect::<Vec<_>>();
        for _ in 0..length_max {
            let longer =
                last.iter().flat_map(|head| alphabet.iter().map(move |level| format!("{head}/{level}")));
            let longer = longer.collect();
            all.append(&mut last);
            last = longer;
        }
        all
    }

    /// Each filter with the set of names it matches. The names have levels that no filter names,
    /// and more levels than any filter, to stand for all the names that are not there.
    fn filters_and_names() -> Vec<(String, Vec<bool>)> {
        // The empty name is not a topic, but nothing is gained by an exception for it.
        let names = sequences(&["", "a", "other", "$x"], 4);
        let filters = sequences(&["", "a", "$x", "+", "#"], 3);
        filters
            .into_iter()
            .filter(|filter| topic::is_topic_filter(filter))
            .map(|filter| {
                let matched = names.iter().map(|name| topic::matches(&filter, name)).collect();
                (filter, matched)
            })
            .collect()
    }

    #[test]
    fn the_relations_are_those_of_the_topics() {
        let filters = filters_and_names();
        assert!(filters.len() > 100);
        for (one, ones) in &filters {
            for (other, others) in &filters {
                let pairs = || ones.iter().zip(others);
                let covers_all = pairs().all(|(one, other)| *one || !other);
                assert_eq!(covers(levels(one), levels(other)), covers_all, "{one} covers {other}");
                let has_common = pairs().any(|(one, other)| *one && *other);
                assert_eq!(overlaps(levels(one), levels(other)), has_common, "{one} overlaps {other}");
            }
        }
    }

    #[test]
    fn examples() {
        for (outer, inner, is_covered, is_overlapping) in [
            ("devices/+/state", "devices/+/state", true, true),
            ("devices/+/state", "devices/1/state", true, true),
            ("devices/1/state", "devices/+/state", false, true),
            ("devices/+/command", "devices/#", false, true),
            ("devices/+/command", "#", false, true),
            ("devices/+/command", "+/+/+", false, true),
            ("devices/+/command", "devices/1/#", false, true),
            ("devices/+/command", "devices/+/state", false, false),
            ("devices/#", "devices", true, true),
            ("#", "$SYS/#", false, false),
            ("$SYS/#", "$SYS/a", true, true),
            ("+/#", "#", true, true),
        ] {
            assert_eq!(covers(levels(outer), levels(inner)), is_covered, "{outer} covers {inner}");
            assert_eq!(overlaps(levels(outer), levels(inner)), is_overlapping, "{outer} overlaps {inner}");
        }
    }
}

//! Texts of strangers, made fit to stand in a message: a lock's id is what a client calls itself, its
//! name what a user typed, an alarm's value what a lock sent.
//!
//! Invariant: what [`clean`] gives is one line without invisible characters, so that it can neither
//! begin a header nor a line of its own, nor turn the direction of what stands around it.

use std::sync::LazyLock;

use regex::Regex;

/// What replaces what was cut off.
const CUT: char = '…';
/// How much of an id is shown where it is only to be recognised.
const ID_TAIL_CHARS: usize = 5;
/// An id that is not longer is shown as it is.
const ID_SHORT_CHARS_MAX: usize = 8;

/// What does not stand alone: combining marks, variation selectors, joined and coloured emoji.
static ATTACHED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[\p{M}\u{200d}\u{1f3fb}-\u{1f3ff}]")
        .expect("the expression is a constant and a test uses it")
});

/// What cannot be seen: directions, joiners, fillers, tags. Some of it reorders what is around it.
static INVISIBLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"[\p{Cf}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{3164}\u{ffa0}\u{034f}\u{180b}-\u{180f}\u{fff0}-\u{fff8}]",
    )
    .expect("the expression is a constant and a test uses it")
});

/// The text as one line of visible characters.
pub(super) fn clean(text: &str) -> String {
    let spaced: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    let visible = INVISIBLE.replace_all(&spaced, "");
    // `split_whitespace` also knows U+2028 and U+2029, which some programs take for line breaks.
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of a clean text, at most so many UTF-16 code units, with … where something is missing.
pub(super) fn clip(text: &str, units_max: usize) -> String {
    if units(text) <= units_max {
        return text.to_owned();
    }
    let mut kept = 0;
    for (at, _) in text.char_indices() {
        if units(&text[..at]) + 1 > units_max {
            break;
        }
        if !ATTACHED.is_match(&text[at..]) {
            kept = at;
        }
    }
    let start = text[..kept].trim_end();
    if units_max == 0 { String::new() } else { format!("{start}{CUT}") }
}

/// The end of an id, by which people tell their locks apart.
pub(super) fn short_id(id: &str) -> String {
    let chars: Vec<char> = id.chars().collect();
    if chars.len() <= ID_SHORT_CHARS_MAX {
        return id.to_owned();
    }
    let tail = &chars[chars.len() - ID_TAIL_CHARS..];
    let tail: String = tail.iter().collect();
    let whole = tail.trim_start_matches(|first: char| ATTACHED.is_match(first.encode_utf8(&mut [0; 4])));
    format!("{CUT}{whole}")
}

/// The length of a text in an SMS that is not in the GSM alphabet.
pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_becomes_a_line() {
        for (text, expected) in [
            ("玄関", "玄関"),
            ("Front\r\nBcc: x@example.com", "Front Bcc: x@example.com"),
            ("a\0b\tc\u{7f}\u{85}\u{2028}\u{2029}d", "a b c d"),
            ("\u{202e}evil\u{202c} \u{2066}x\u{2069}", "evil x"),
            ("a\u{200b}b\u{200d}c\u{2060}d\u{feff}e\u{ad}f\u{3164}g\u{e0041}", "abcdefg"),
            ("  a   b  ", "a b"),
            ("\u{200b}\u{202e}\r\n", ""),
            ("<b>&'\"", "<b>&'\""),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters_that_people_see() {
        for (text, max, expected) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "abcd…"),
            ("abcdef", 1, "…"),
            ("abcdef", 0, ""),
            ("ab cdef", 4, "ab…"),
            ("a🔑b", 3, "a…"),
            ("a🔑bc", 4, "a🔑…"),
            ("abe\u{301}\u{302}x", 5, "ab…"),
            ("か\u{3099}ぎ屋", 3, "か\u{3099}…"),
            ("👍\u{1f3fd}abc", 4, "…"),
        ] {
            assert_eq!(clip(text, max), expected, "{text:?} {max}");
        }
    }

    #[test]
    fn an_id_is_known_by_its_end() {
        for (id, expected) in [
            ("10083618796833171", "…33171"),
            ("lock-17", "lock-17"),
            ("", ""),
            ("abcdefgh\u{301}ijkl", "…ijkl"),
        ] {
            assert_eq!(short_id(id), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_clean(text in any::<String>(), max in 0_usize..80) {
            let line = clean(&text);
            prop_assert!(!line.chars().any(char::is_control) && !INVISIBLE.is_match(&line));
            prop_assert_eq!(&clean(&line), &line);
            prop_assert!(units(&clip(&line, max)) <= max.max(units("")));
            prop_assert!(units(&short_id(&line)) <= 2 * ID_SHORT_CHARS_MAX);
        }
    }
}

//! Texts that come from outside, as the tables can keep them.
//!
//! Postgres refuses U+0000 and index entries of more than a third of a page. A record must not be
//! refused for what a client called itself, so such texts are changed, each to one of its own; the
//! raw record beside them has the original.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Longest text in bytes that is kept as it is.
pub const TEXT_BYTES_MAX: usize = 255;

/// How much of a longer text is kept.
const KEPT_BYTES_MAX: usize = 200;

/// The text, or the beginning of a long one followed by a hash of the whole, so that two long texts
/// do not become one.
pub fn bounded(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX && !text.contains('\0') {
        return text.to_owned();
    }
    // Replacing U+0000 makes a text longer, so it is done first.
    let kept = text.replace('\0', "\u{fffd}");
    if kept.len() <= TEXT_BYTES_MAX {
        return kept;
    }
    let end = (0..=KEPT_BYTES_MAX).rev().find(|at| kept.is_char_boundary(*at)).unwrap_or(0);
    let mut short = format!("{}…", &kept[..end]);
    for byte in &Sha256::digest(text)[..16] {
        write!(short, "{byte:02x}").expect("a String takes all text");
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_of_ordinary_length_are_kept() {
        for text in ["", "10083618796833171", "開錠", &"a".repeat(TEXT_BYTES_MAX)] {
            assert_eq!(bounded(text), text);
        }
        assert_eq!(bounded("a\0b"), "a\u{fffd}b");
    }

    #[test]
    fn long_texts_stay_different() {
        let long = |last: char| format!("{}{last}", "a".repeat(1_000));
        assert_eq!(bounded(&long('b')), bounded(&long('b')));
        assert_ne!(bounded(&long('b')), bounded(&long('c')));
        assert!(bounded(&long('b')).starts_with("aaaa"));
    }

    proptest! {
        #[test]
        fn every_text_can_be_kept(text in "(\\PC|\0){0,400}") {
            let kept = bounded(&text);
            prop_assert!(kept.len() <= TEXT_BYTES_MAX && !kept.contains('\0'));
            prop_assert_eq!(bounded(&kept), kept);
        }
    }
}

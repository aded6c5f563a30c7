//! What fits into an SMS (3GPP TS 23.038): 160 characters of the GSM alphabet, or 70 UTF-16 code units
//! as soon as one character is not in it. A lock's name in Japanese makes any text the second, so that is
//! what all of ours keep to, in every language.

use serde::Serialize;
use utoipa::ToSchema;

use super::clean::{clip, units};

/// Most UTF-16 code units of a message of ours: one segment, whatever it is encoded in.
pub const UNITS_MAX: usize = 70;

/// The GSM alphabet, but for its escape and the line breaks.
const BASIC: &str = "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà\n\r";
/// What takes an escape before it.
const EXTENSION: &str = "^{}\\[~]|€\u{c}";

/// How a text goes into the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// The GSM alphabet of 7 bits.
    Gsm7,
    /// UTF-16, as gateways send what they call UCS-2.
    Ucs2,
}

/// What a text takes as an SMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Segments {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Septets, or UTF-16 code units.
    pub units: usize,
    /// How many messages are paid for.
    pub segments: usize,
}

/// What a text takes as an SMS.
pub fn segments(text: &str) -> Segments {
    // A character must not be torn by the border of two segments, so they are filled one by one.
    let septets: Option<Vec<usize>> = text.chars().map(septets).collect();
    let (encoding, sizes, one, many) = match septets {
        Some(sizes) => (Encoding::Gsm7, sizes, 160, 153),
        None => (Encoding::Ucs2, text.chars().map(char::len_utf16).collect(), UNITS_MAX, 67),
    };
    let units: usize = sizes.iter().sum();
    if units <= one {
        return Segments { encoding, units, segments: usize::from(units > 0) };
    }
    let (mut segments, mut filled) = (1, 0);
    for size in sizes {
        if filled + size > many {
            (segments, filled) = (segments + 1, 0);
        }
        filled += size;
    }
    Segments { encoding, units, segments }
}

fn septets(one: char) -> Option<usize> {
    if BASIC.contains(one) {
        return Some(1);
    }
    EXTENSION.contains(one).then_some(2)
}

/// A text that fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fitted {
    /// As the template has it, the lock perhaps shortened.
    Whole(String),
    /// The template itself is too long: its end is missing.
    Cut(String),
}

/// The text that `render` makes of a lock's name, with as much of the name as there is room for, but not
/// less than `lock_units_min`.
pub(super) fn fit<E>(
    lock: &str,
    lock_units_min: usize,
    mut render: impl FnMut(&str) -> Result<String, E>,
) -> Result<Fitted, E> {
    let mut room = units(lock);
    loop {
        let text = render(&clip(lock, room))?;
        let beyond = units(&text).saturating_sub(UNITS_MAX);
        if beyond == 0 {
            return Ok(Fitted::Whole(text));
        }
        if room <= lock_units_min {
            return Ok(Fitted::Cut(clip(&text, UNITS_MAX)));
        }
        // A template may show the name twice or change it: then it takes more than one try.
        room = room.saturating_sub(beyond).max(lock_units_min);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_are_counted_as_they_are_paid_for() {
        use Encoding::{Gsm7, Ucs2};
        for (text, encoding, units, count) in [
            (String::new(), Gsm7, 0, 0),
            ("a".repeat(160), Gsm7, 160, 1),
            ("a".repeat(161), Gsm7, 161, 2),
            ("a".repeat(306), Gsm7, 306, 2),
            ("a".repeat(307), Gsm7, 307, 3),
            ("[]€".to_owned(), Gsm7, 6, 1),
            ("€".repeat(80), Gsm7, 160, 1),
            // 153 is odd: an escape and its character do not part.
            ("€".repeat(153), Gsm7, 306, 3),
            ("`".to_owned(), Ucs2, 1, 1),
            ("…33171".to_owned(), Ucs2, 6, 1),
            ("錠".repeat(70), Ucs2, 70, 1),
            ("錠".repeat(71), Ucs2, 71, 2),
            ("錠".repeat(134), Ucs2, 134, 2),
            ("錠".repeat(135), Ucs2, 135, 3),
            ("🔑".repeat(35), Ucs2, 70, 1),
            ("🔑".repeat(67), Ucs2, 134, 3),
        ] {
            assert_eq!(segments(&text), Segments { encoding, units, segments: count }, "{text}");
        }
        assert_eq!(BASIC.chars().count(), 127, "all but the escape");
    }

    #[test]
    fn a_lock_gives_way_and_then_the_end() {
        let fitted = |lock: &str, rest: usize| {
            fit::<Infallible>(lock, 6, |lock| Ok(format!("{lock}: {}", "x".repeat(rest)))).unwrap()
        };
        assert_eq!(fitted("door", 10), Fitted::Whole(format!("door: {}", "x".repeat(10))));
        let Fitted::Whole(text) = fitted(&"d".repeat(500), 40) else { panic!("there is room for the lock") };
        assert_eq!(text, format!("{}…: {}", "d".repeat(27), "x".repeat(40)));
        let Fitted::Cut(text) = fitted("front door", 69) else { panic!("there is no room for it") };
        assert!(text.starts_with("front…: xx") && text.ends_with("x…") && units(&text) == UNITS_MAX);
    }

    proptest! {
        #[test]
        fn whatever_a_template_does_it_fits(lock in any::<String>(), times in 0_usize..4, rest in "\\PC{0,90}") {
            let fitted = fit::<Infallible>(&lock, 6, |lock| Ok(format!("{}{rest}", lock.repeat(times)))).unwrap();
            let (Fitted::Whole(text) | Fitted::Cut(text)) = fitted;
            prop_assert!(units(&text) <= UNITS_MAX && segments(&text).segments <= 1);
        }
    }
}

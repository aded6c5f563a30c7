//! Which texts an SMS can hold in seven bits a character (3GPP TS 23.038); all others need UCS-2, of which
//! 70 characters fit.

/// The basic table and its extension.
const CHARACTERS: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡\
    ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà^{}\\[~]|€";

/// Whether it needs UCS-2.
pub fn needs_ucs2(text: &str) -> bool {
    text.chars().any(|character| !CHARACTERS.contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_makes_the_difference() {
        for (text, expected) in [
            ("", false),
            ("Front door: unlocked 12:30, 83% {x} €", false),
            ("Haustür geöffnet\n", false),
            ("玄関: 解錠", true),
            ("Front door – unlocked", true),
            ("`", true),
            ("ç", true),
        ] {
            assert_eq!(needs_ucs2(text), expected, "{text:?}");
        }
    }
}

//! What a mail server's words, or its silence, mean for a message. Pure.
//!
//! | when | what | is |
//! |---|---|---|
//! | before MAIL | anything but success | unavailable |
//! | MAIL … end of the message | 421; 530, 534, 535, 538: about the connection or about us | unavailable |
//! | MAIL … end of the message | 4.3.x, and 452 but 4.2.x: their system has no room, no directory | unavailable |
//! | MAIL … end of the message | other 4xx | transient |
//! | MAIL | 5xx: we may not send as who we are | unavailable |
//! | RCPT | 5.7.x: our address is listed, we may not relay, a rule | transient |
//! | RCPT | other 5xx | permanent, and a bounce if it is about the address |
//! | DATA, after the message | 5xx | permanent |
//! | before the message was written | no answer, or none that can be read | unavailable |
//! | after it was written | the same | ambiguous |
//!
//! The message was written when the system has taken its last byte but the line that ends it. A server
//! that closes the connection before may be seen only after: then a message that nobody has is called
//! ambiguous, never the other way round.
//!
//! About the address (RFC 3463): 5.1.1, 5.1.2, 5.1.3, 5.1.6, 5.1.10: gone. Other 5.1 but the sender's
//! (5.1.7, 5.1.8), 5.2, and 550 to 553 without such a code: hard. All others are about us, or about the
//! message. A mailbox that is full (4.2.2) is not their system: it may stay full, so it counts.

use lettre::transport::smtp::Error;
use std::error::Error as _;

use crate::channel::{Answer, Bounce};
use crate::status::Outcome;

/// How far an attempt was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not yet let in.
    Connect,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA, before its answer.
    Data,
    /// The message is being written.
    Writing,
    /// It was.
    Written,
}

/// What an error means.
pub fn of_error(phase: Phase, error: &Error, address: &str) -> Answer {
    let words = error.source().map(ToString::to_string).unwrap_or_default();
    match error.status() {
        Some(code) => of_code(phase, u16::from(code), &words, address),
        None => {
            let code = match error {
                error if error.is_timeout() => "timeout",
                error if error.is_tls() => "tls",
                error if error.is_response() => "no answer",
                _ => "connection",
            };
            // It may quote what cannot be read.
            silence(phase, code, &redacted(&error.to_string(), address))
        }
    }
}

/// What it means that there is no answer.
pub fn silence(phase: Phase, code: &str, words: &str) -> Answer {
    let outcome = if phase == Phase::Written { Outcome::Ambiguous } else { Outcome::Unavailable };
    Answer::new(outcome, code, words)
}

/// What a refusal means.
pub fn of_code(phase: Phase, code: u16, words: &str, address: &str) -> Answer {
    let (enhanced, rest) = enhanced(words);
    let full = enhanced.map_or_else(|| code.to_string(), |enhanced| format!("{code} {enhanced}"));
    let is_of = |class: &str| enhanced.is_some_and(|enhanced| enhanced.starts_with(class));
    let outcome = match (phase, code) {
        (Phase::Connect, _) | (_, 421 | 530 | 534 | 535 | 538) => Outcome::Unavailable,
        (_, 452) if !is_of("4.2.") => Outcome::Unavailable,
        (_, 400..500) if is_of("4.3.") => Outcome::Unavailable,
        (_, 400..500) => Outcome::Transient,
        (Phase::Sender, 500..600) => Outcome::Unavailable,
        (Phase::Recipient, 500..600) if is_of("5.7.") => Outcome::Transient,
        (_, 500..600) => Outcome::Permanent,
        // Not what may be said here: as if nothing had been said.
        _ => return silence(phase, &full, &redacted(rest, address)),
    };
    let mut answer = Answer::new(outcome, full, &redacted(rest, address));
    if outcome == Outcome::Permanent && phase == Phase::Recipient {
        answer.bounce = bounce(code, enhanced);
    }
    answer
}

fn bounce(code: u16, enhanced: Option<&str>) -> Option<Bounce> {
    match enhanced {
        Some("5.1.1" | "5.1.2" | "5.1.3" | "5.1.6" | "5.1.10") => Some(Bounce::Gone),
        Some("5.1.7" | "5.1.8") => None,
        Some(other) if other.starts_with("5.1.") || other.starts_with("5.2.") => Some(Bounce::Hard),
        Some(_) => None,
        None => (550..=553).contains(&code).then_some(Bounce::Hard),
    }
}

/// The code of RFC 3463 at the beginning, and the words after it.
fn enhanced(words: &str) -> (Option<&str>, &str) {
    let (first, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    let parts: Vec<&str> = first.split('.').collect();
    let is_number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let is_code = parts.len() == 3 && matches!(parts[0], "2" | "4" | "5") && parts.iter().all(is_number);
    if is_code { (Some(first), rest) } else { (None, words) }
}

/// The words without addresses, and without the name before the @ of ours.
pub fn redacted(words: &str, address: &str) -> String {
    let user = address.rsplit_once('@').map_or(address, |(user, _)| user);
    let is_user = |word: &str| {
        word.trim_matches(|c: char| !c.is_alphanumeric()).eq_ignore_ascii_case(user) && !user.is_empty()
    };
    let hidden = |word: &str| word.contains('@') || is_user(word);
    let words: Vec<&str> =
        words.split_whitespace().map(|word| if hidden(word) { "***" } else { word }).collect();
    words.join(" ")
}

/// What the server calls a message that it took: the word after "queued as", if it says so.
pub fn queue_id(words: &str) -> Option<String> {
    let (_, rest) = words.split_once("queued as ")?;
    rest.split_whitespace().next().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_follows() {
        use Bounce::{Gone, Hard};
        use Outcome::{Ambiguous, Permanent, Transient, Unavailable};
        use Phase::{Connect, Data, Recipient, Sender, Writing, Written};
        for (phase, code, words, outcome, full, bounce) in [
            (Connect, 554, "5.7.1 go away", Unavailable, "554 5.7.1", None),
            (Connect, 421, "", Unavailable, "421", None),
            (Connect, 535, "5.7.8 no", Unavailable, "535 5.7.8", None),
            (Sender, 421, "4.3.2 closing", Unavailable, "421 4.3.2", None),
            (Sender, 530, "5.7.0 first STARTTLS", Unavailable, "530 5.7.0", None),
            (Sender, 451, "4.3.0 no directory", Unavailable, "451 4.3.0", None),
            (Sender, 451, "4.7.1 later", Transient, "451 4.7.1", None),
            (Sender, 452, "4.3.1 no room", Unavailable, "452 4.3.1", None),
            (Sender, 550, "5.1.8 bad sender", Unavailable, "550 5.1.8", None),
            (Sender, 550, "5.7.1 not from you", Unavailable, "550 5.7.1", None),
            (Sender, 501, "syntax", Unavailable, "501", None),
            (Recipient, 450, "4.2.0 greylisted", Transient, "450 4.2.0", None),
            (Recipient, 451, "later", Transient, "451", None),
            (Recipient, 451, "4.3.0 no directory", Unavailable, "451 4.3.0", None),
            (Recipient, 452, "no room", Unavailable, "452", None),
            (Recipient, 452, "4.3.1 no room", Unavailable, "452 4.3.1", None),
            (Recipient, 452, "4.5.3 too many", Unavailable, "452 4.5.3", None),
            (Recipient, 452, "4.2.2 full", Transient, "452 4.2.2", None),
            (Recipient, 550, "5.7.1 listed", Transient, "550 5.7.1", None),
            (Recipient, 550, "5.7.26 not authenticated", Transient, "550 5.7.26", None),
            (Recipient, 550, "5.1.1 nobody", Permanent, "550 5.1.1", Some(Gone)),
            (Recipient, 550, "5.1.10 nobody", Permanent, "550 5.1.10", Some(Gone)),
            (Recipient, 550, "5.1.4 two of them", Permanent, "550 5.1.4", Some(Hard)),
            (Recipient, 552, "5.2.2 full", Permanent, "552 5.2.2", Some(Hard)),
            (Recipient, 550, "no such user", Permanent, "550", Some(Hard)),
            (Recipient, 553, "no", Permanent, "553", Some(Hard)),
            (Recipient, 554, "5.7.1 relay access denied", Transient, "554 5.7.1", None),
            (Recipient, 550, "5.1.7 bad sender", Permanent, "550 5.1.7", None),
            (Recipient, 501, "syntax", Permanent, "501", None),
            (Data, 554, "no valid recipients", Permanent, "554", None),
            (Data, 451, "4.3.0 later", Unavailable, "451 4.3.0", None),
            (Data, 554, "5.7.1 no", Permanent, "554 5.7.1", None),
            (Written, 552, "5.3.4 too big", Permanent, "552 5.3.4", None),
            (Written, 550, "5.1.1 nobody", Permanent, "550 5.1.1", None),
            (Written, 554, "5.7.1 spam", Permanent, "554 5.7.1", None),
            (Written, 451, "later", Transient, "451", None),
            (Written, 451, "4.3.0 later", Unavailable, "451 4.3.0", None),
            (Written, 452, "4.3.1 no room", Unavailable, "452 4.3.1", None),
            (Written, 421, "closing", Unavailable, "421", None),
            (Written, 354, "what", Ambiguous, "354", None),
            (Writing, 250, "what", Unavailable, "250", None),
        ] {
            let answer = of_code(phase, code, words, "taro@example.com");
            assert_eq!(
                (answer.outcome, answer.code.as_str(), answer.bounce),
                (outcome, full, bounce),
                "{words}"
            );
        }
        for (phase, outcome) in
            [(Connect, Unavailable), (Data, Unavailable), (Writing, Unavailable), (Written, Ambiguous)]
        {
            assert_eq!(silence(phase, "timeout", "").outcome, outcome);
        }
    }

    #[test]
    fn addresses_are_not_quoted() {
        let words = "5.1.1 <taro@example.com>: user Taro unknown, see https://example.com/tarot";
        let answer = of_code(Phase::Recipient, 550, words, "taro@example.com");
        assert_eq!(answer.excerpt, "*** user *** unknown, see https://example.com/tarot");
        assert_eq!(queue_id("2.0.0 Ok: queued as 4F9D"), Some("4F9D".to_owned()));
        assert_eq!(queue_id("2.0.0 Ok"), None);
    }
}

//! Where a page ended, so that the next one can begin there.
//!
//! Opaque to callers: base64url of a version, a hash of the question and the key of the last row. It
//! is not signed: a made-up cursor only chooses where a page begins, which everybody may.
//!
//! Invariant: whatever is read from a cursor is a value that Postgres takes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const VERSION: u8 = 1;
const HASH_BYTES: usize = 8;
/// Years that Postgres and RFC 3339 both know, in Unix microseconds.
const UNIX_US: std::ops::Range<i64> = 0..253_370_764_800_000_000;

/// Why a cursor was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It has another form.
    #[error("is no cursor of this server")]
    Malformed,
    /// It was made with another question.
    #[error("belongs to another filter or order; ask without it to begin anew")]
    OtherQuestion,
}

/// The key as text, for pages of this question.
pub fn encode(question: &str, key: &impl Serialize) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(hash(question));
    // Writing to memory, of types that are JSON: there is nothing to fail.
    bytes.extend(serde_json::to_vec(key).unwrap_or_default());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key from text, for a page of this question.
pub fn decode<K: DeserializeOwned>(question: &str, text: &str) -> Result<K, CursorError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Malformed)?;
    let (version, rest) = bytes.split_first().ok_or(CursorError::Malformed)?;
    let (hash_of_cursor, key) = rest.split_first_chunk::<HASH_BYTES>().ok_or(CursorError::Malformed)?;
    if *version != VERSION {
        return Err(CursorError::Malformed);
    }
    if *hash_of_cursor != hash(question) {
        return Err(CursorError::OtherQuestion);
    }
    serde_json::from_slice(key).map_err(|_| CursorError::Malformed)
}

fn hash(question: &str) -> [u8; HASH_BYTES] {
    let digest: [u8; 32] = Sha256::digest(question).into();
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&digest[..HASH_BYTES]);
    hash
}

/// A time in a key, to the microsecond as Postgres keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_microsecond().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unix_us = i64::deserialize(deserializer)?;
        let time = Timestamp::from_microsecond(unix_us).ok().filter(|_| UNIX_US.contains(&unix_us));
        time.map(Self).ok_or_else(|| D::Error::custom("no time"))
    }
}

/// An id in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub Uuid);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.simple())
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Uuid::parse_str(&text).map(Self).map_err(|_| D::Error::custom("no id"))
    }
}

/// A text in a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains('\0') { Err(D::Error::custom("no text")) } else { Ok(Self(text)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Key = (Time, Id, Text);

    fn key(unix_us: i64, text: &str) -> Key {
        let time = Timestamp::from_microsecond(unix_us).unwrap();
        (Time(time), Id(Uuid::from_u128(7)), Text(text.to_owned()))
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(unix_us in UNIX_US, text in "[^\0]{0,40}") {
            let key = key(unix_us, &text);
            prop_assert_eq!(decode::<Key>("q", &encode("q", &key)), Ok(key));
        }

        #[test]
        fn any_text_is_refused_or_read(text in ".{0,80}") {
            let _ = decode::<Key>("q", &text);
        }
    }

    #[test]
    fn a_cursor_of_something_else_is_refused() {
        let text = encode("q", &key(1, "x"));
        assert_eq!(decode::<Key>("p", &text), Err(CursorError::OtherQuestion));
        for text in ["", "x", "=", &text[1..], &text[..text.len() - 3], &format!("{text}AAAA")] {
            assert_eq!(decode::<Key>("q", text), Err(CursorError::Malformed), "{text}");
        }
        assert_eq!(decode::<(Time, Id)>("q", &text), Err(CursorError::Malformed));
        let mut of_the_future = URL_SAFE_NO_PAD.decode(&text).unwrap();
        of_the_future[0] += 1;
        let of_the_future = URL_SAFE_NO_PAD.encode(of_the_future);
        assert_eq!(decode::<Key>("q", &of_the_future), Err(CursorError::Malformed));
    }

    #[test]
    fn values_that_postgres_does_not_take_are_refused() {
        for made_up in [
            serde_json::json!([-1, "7", "x"]),
            serde_json::json!([i64::MAX, Uuid::nil().to_string(), "x"]),
            serde_json::json!([1, Uuid::nil().to_string(), "\0"]),
            serde_json::json!([1, "'", "x"]),
            serde_json::json!({}),
        ] {
            assert_eq!(decode::<Key>("q", &encode("q", &made_up)), Err(CursorError::Malformed), "{made_up}");
        }
    }
}

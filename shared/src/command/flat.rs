//! A strict reader of flat JSON objects: exactly what can be signed, and nothing that two parsers
//! could read in two ways.
//!
//! `serde_json` finds the tokens; what it would let pass (duplicate keys, floats, null, nesting,
//! large integers) is refused here, since a verifier and a lock that disagree about one field are
//! a way to have one thing signed and another done.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::BYTES_MAX;

/// Names and values in the byte order of the names.
pub(super) type Fields = BTreeMap<String, Value>;

/// Integers beyond this magnitude are not exact in every JSON parser.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A value that can be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string, never empty.
    Text(String),
    /// An integer of at most 2^53 - 1 in magnitude.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
}

/// Reads one flat object, or says why it is none.
pub(super) fn read(payload: &[u8]) -> Result<Fields, String> {
    if payload.len() > BYTES_MAX {
        return Err(format!("longer than {BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
    let Flat(fields) = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(fields)
}

struct Flat(Fields);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlatVisitor;

        impl<'de> Visitor<'de> for FlatVisitor {
            type Value = Flat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a flat object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Flat, A::Error> {
                let mut fields = Fields::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !is_name(&name) {
                        return Err(A::Error::custom("a name that is not allowed"));
                    }
                    if fields.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("{name} is there twice")));
                    }
                    fields.insert(name, map.next_value()?);
                }
                Ok(Flat(fields))
            }
        }

        deserializer.deserialize_map(FlatVisitor)
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 32
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        // What has no method here (float, null, array, object) is refused by serde.
        impl Visitor<'_> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, an integer or a boolean")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                if text.is_empty() {
                    return Err(E::custom("an empty string"));
                }
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, integer: i64) -> Result<Value, E> {
                if integer.unsigned_abs() > INTEGER_MAX {
                    return Err(E::custom("an integer beyond 2^53 - 1"));
                }
                Ok(Value::Integer(integer))
            }

            fn visit_u64<E: Error>(self, integer: u64) -> Result<Value, E> {
                self.visit_i64(i64::try_from(integer).unwrap_or(i64::MAX))
            }

            fn visit_bool<E: Error>(self, boolean: bool) -> Result<Value, E> {
                Ok(Value::Boolean(boolean))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(integer) => serializer.serialize_i64(*integer),
            Self::Boolean(boolean) => serializer.serialize_bool(*boolean),
        }
    }
}

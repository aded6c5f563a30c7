//! The one text of a command's fields, which is what is signed.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::flat::{Fields, Value};

/// All but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `name=value` joined with `&`, in the byte order of the names alone: sorting whole pairs would
/// differ where one name begins with another.
pub(super) fn canonical(fields: &Fields) -> String {
    let mut text = String::with_capacity(192);
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        match value {
            Value::Text(value) => text.extend(utf8_percent_encode(value, RESERVED)),
            Value::Integer(value) => write!(text, "{value}").expect("a String takes all text"),
            Value::Boolean(value) => text.push_str(if *value { "true" } else { "false" }),
        }
    }
    text
}

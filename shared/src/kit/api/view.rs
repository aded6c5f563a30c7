//! Values as answers show them.

use jiff::Timestamp;

/// RFC 3339 in UTC with milliseconds.
pub fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// What is not empty: what is not known is left out.
pub fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        let of = |unix_ms| time(Timestamp::from_millisecond(unix_ms).unwrap());
        assert_eq!(of(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(of(1_574_751_635_845), "2019-11-26T07:00:35.845Z");
    }
}

//! The key of a webhook contact's signatures, in the form of Standard Webhooks: `whsec_` and base64.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PREFIX: &str = "whsec_";
/// Of a key that we make.
const BYTES: usize = 32;
/// Of a key that somebody brings.
const BYTES_GIVEN: std::ops::RangeInclusive<usize> = 24..=64;

/// A key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Shows nothing of it.
impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

impl Secret {
    /// A new one.
    pub fn random() -> anyhow::Result<Self> {
        random::<BYTES>().map(|bytes| Self(bytes.to_vec()))
    }

    /// Of its text, or why it is none.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        let bytes = bytes.filter(|bytes| BYTES_GIVEN.contains(&bytes.len()));
        let (least, most) = (BYTES_GIVEN.start(), BYTES_GIVEN.end());
        bytes.map(Self).ok_or_else(|| format!("must be {PREFIX} and base64 of {least} to {most} bytes"))
    }

    /// Its text.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// As it is kept.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok().context("the system gives no randomness")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_back_and_never_the_same() {
        let secret = Secret::random().unwrap();
        assert_eq!(Secret::from_text(&secret.text()).unwrap(), secret);
        assert_ne!(Secret::random().unwrap(), secret);
        assert_eq!((secret.bytes().len(), format!("{secret:?}").as_str()), (32, "Secret(***)"));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_shown() {
        let short = format!("{PREFIX}{}", STANDARD.encode([1; 23]));
        let long = format!("{PREFIX}{}", STANDARD.encode([1; 65]));
        for text in ["", PREFIX, "whsec_hunter2!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &short, &long] {
            let why = Secret::from_text(text).unwrap_err();
            assert!(!why.contains("hunter2") && why.starts_with("must be whsec_"), "{text}: {why}");
        }
        assert!(Secret::from_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
    }
}

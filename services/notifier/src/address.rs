//! Addresses: what is one, and how it is shown where it should not be read.

use crate::event::Channel;

/// Longest address.
pub const ADDRESS_BYTES_MAX: usize = 320;

/// The address in the form in which it is kept, or why it is none. One address, never several: a
/// second recipient must not ride on it.
///
/// Whether a webhook may be one without TLS is the directory's to say (`directory::check`).
pub fn parse(channel: Channel, address: &str) -> Result<String, String> {
    if address.len() > ADDRESS_BYTES_MAX {
        return Err(format!("has more than {ADDRESS_BYTES_MAX} bytes"));
    }
    match channel {
        Channel::Email => email(address),
        Channel::Sms => phone(address),
        Channel::Webhook => url(address),
    }
}

fn email(address: &str) -> Result<String, String> {
    let parsed: lettre::Address = address.parse().map_err(|_| "is not user@host".to_owned())?;
    Ok(parsed.to_string())
}

/// E.164.
fn phone(address: &str) -> Result<String, String> {
    let digits = address.strip_prefix('+').unwrap_or_default().as_bytes();
    let is_number = (7..=15).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && digits.first() != Some(&b'0');
    if is_number {
        Ok(address.to_owned())
    } else {
        Err("is not +, country and number, digits only".to_owned())
    }
}

fn url(address: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(address).map_err(|_| "is no URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must be http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password".to_owned());
    }
    Ok(url.into())
}

/// The address as logs and readers without the right to it see it: `t***@example.com`,
/// `+81*****1234`, `https://example.com/***`.
pub fn masked(channel: Channel, address: &str) -> String {
    match channel {
        Channel::Email => {
            let (user, host) = address.rsplit_once('@').unwrap_or((address, ""));
            let first: String = user.chars().take(1).collect();
            format!("{first}***@{host}")
        }
        Channel::Sms => {
            let digits: Vec<char> = address.chars().collect();
            let hidden = digits.len().saturating_sub(7);
            let shown = |range: &[char]| range.iter().collect::<String>();
            match digits.get(3..3 + hidden) {
                Some(_) if hidden > 0 => {
                    format!("{}{}{}", shown(&digits[..3]), "*".repeat(hidden), shown(&digits[3 + hidden..]))
                }
                _ => "***".to_owned(),
            }
        }
        Channel::Webhook => match reqwest::Url::parse(address) {
            Ok(url) => format!("{}/***", url.origin().ascii_serialization()),
            Err(_) => "***".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_address() {
        for (channel, address, is_good) in [
            (Channel::Email, "taro@example.com", true),
            (Channel::Email, "taro@例え.jp", true),
            (Channel::Email, "taro@example.com, jiro@example.com", false),
            (Channel::Email, "taro@example.com\r\nBcc: x@example.com", false),
            (Channel::Email, "Taro <taro@example.com>", false),
            (Channel::Email, "taro", false),
            (Channel::Email, "", false),
            (Channel::Sms, "+819012341234", true),
            (Channel::Sms, "+819012341234,+819012341235", false),
            (Channel::Sms, "09012341234", false),
            (Channel::Sms, "+0123456789", false),
            (Channel::Sms, "+1234567890123456", false),
            (Channel::Sms, "+81 90 1234 1234", false),
            (Channel::Webhook, "https://example.com/hook?a=b", true),
            (Channel::Webhook, "ftp://example.com/", false),
            (Channel::Webhook, "https://user:secret@example.com/", false),
            (Channel::Webhook, "/hook", false),
        ] {
            assert_eq!(parse(channel, address).is_ok(), is_good, "{address:?}");
        }
    }

    #[test]
    fn an_address_is_not_shown() {
        for (channel, address, shown) in [
            (Channel::Email, "taro@example.com", "t***@example.com"),
            (Channel::Email, "錠@example.com", "錠***@example.com"),
            (Channel::Email, "nonsense", "n***@"),
            (Channel::Sms, "+819012341234", "+81******1234"),
            (Channel::Sms, "+123", "***"),
            (Channel::Sms, "", "***"),
            (Channel::Webhook, "https://example.com:8443/hook?token=x", "https://example.com:8443/***"),
            (Channel::Webhook, "nonsense", "***"),
        ] {
            assert_eq!(masked(channel, address), shown);
        }
    }
}

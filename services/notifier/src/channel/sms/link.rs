//! Links for delivery reports: made for one message of one gateway, and signed, so that a report needs
//! no other token.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use latchline_shared::hex;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// How much of the signature goes into a link: 32 digits.
const MAC_BYTES: usize = 16;

/// Makes and checks links.
#[derive(Clone)]
pub struct Links {
    base: String,
    key: SecretString,
}

impl fmt::Debug for Links {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Links").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Links {
    /// Links below this address, signed with this key.
    pub fn new(public_url: &str, key: SecretString) -> Self {
        Self { base: public_url.trim_end_matches('/').to_owned(), key }
    }

    /// The link of a message.
    pub fn url(&self, gateway: &str, id: Uuid) -> String {
        format!("{}/v1/dlr/{gateway}?ref={id}&mac={}", self.base, hex::encode(&self.mac(gateway, id)))
    }

    /// Whether we made a link with this signature; takes as long whatever is wrong with it.
    pub fn is_ours(&self, gateway: &str, id: Uuid, mac: &str) -> bool {
        let expected = hex::encode(&self.mac(gateway, id));
        bool::from(expected.as_bytes().ct_eq(mac.as_bytes()))
    }

    fn mac(&self, gateway: &str, id: Uuid) -> [u8; MAC_BYTES] {
        let key = self.key.expose_secret().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("hmac takes keys of every length");
        mac.update(format!("dlr|{gateway}|{id}").as_bytes());
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|index| whole[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_for_one_message_of_one_gateway() {
        let links = Links::new("https://example.com/n/", "a key of some length".into());
        let (id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let url = links.url("main", id);
        let (base, mac) = url.split_once("&mac=").unwrap();
        assert_eq!(base, "https://example.com/n/v1/dlr/main?ref=00000000-0000-0000-0000-000000000001");
        assert_eq!(mac.len(), 32);
        assert!(links.is_ours("main", id, mac));
        assert!(!links.is_ours("main", other, mac));
        assert!(!links.is_ours("spare", id, mac));
        for wrong in ["", &mac[1..], &mac.to_uppercase(), &format!("{mac}0")] {
            assert_eq!(links.is_ours("main", id, wrong), wrong == mac, "{wrong}");
        }
        let forged = Links::new("https://example.com/n/", "another key as long".into());
        assert!(!forged.is_ours("main", id, mac));
        assert!(!format!("{links:?}").contains("a key"));
    }
}

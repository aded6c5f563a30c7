//! Keys that are derived, not stored: one fleet master key gives every lock its signing key and,
//! optionally, its MQTT password (contract, section 4; HKDF is RFC 5869).
//!
//! So the broker and the auditor need no look-up, and a fleet needs no provisioning table. Uses are
//! separated by the prefix of HKDF's `info`; ids come after the prefix, so that no id of one use
//! can spell an `info` of the other.
//!
//! Invariant: nothing here prints, compares or hands out key material; a password is handed out
//! because it is what the lock has to be given.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;

use crate::hex;

const COMMAND_INFO: &[u8] = b"lock-cmd-v1|";
const MQTT_INFO: &[u8] = b"lock-mqtt-v1|";

/// A fleet's master key.
#[derive(Clone)]
pub struct MasterKey(Hkdf<Sha256>);

impl MasterKey {
    /// The key that 64 lower-case hexadecimal digits spell.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = hex::decode(text).ok_or(KeyError::NotHex { bytes: text.len() })?;
        // The empty salt of the contract is HKDF's default: a block of zeros.
        Ok(Self(Hkdf::new(None, &bytes)))
    }

    /// The key that signs the commands for this lock.
    pub fn command_key(&self, lock_id: &str) -> CommandKey {
        CommandKey(self.derive(COMMAND_INFO, lock_id))
    }

    /// The MQTT password of this client: 64 lower-case hexadecimal digits.
    pub fn mqtt_password(&self, client_id: &str) -> String {
        hex::encode(&self.derive(MQTT_INFO, client_id))
    }

    fn derive(&self, info: &[u8], id: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0
            .expand_multi_info(&[info, id.as_bytes()], &mut bytes)
            .expect("32 bytes are within HKDF's bound of 255 blocks");
        bytes
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// The key that signs the commands for one lock.
#[derive(Clone)]
pub struct CommandKey([u8; 32]);

impl CommandKey {
    /// A secret of the lock's own.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CommandKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommandKey(..)")
    }
}

/// A key that cannot be read. It never quotes what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 64 lower-case hexadecimal digits.
    #[error("a master key is 64 lower-case hexadecimal digits, these {bytes} bytes are not")]
    NotHex {
        /// Length of what was given.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "7bdd93dfe9837876200e90cd788594f65752d5c10c51462789fc0ebd220c0e39";
    const LOCK: &str = "10083618796833171";

    #[test]
    fn derives_the_command_key_of_the_contract() {
        let key = MasterKey::from_hex(MASTER).unwrap().command_key(LOCK);
        assert_eq!(
            hex::encode(key.bytes()),
            "4703fe931d5f81ccd56d76967d2fb88fc496e7dbaceb9a9c50ad071ec4ca93c0"
        );
    }

    #[test]
    fn every_use_and_id_has_a_key_of_its_own() {
        let master = MasterKey::from_hex(MASTER).unwrap();
        let password = master.mqtt_password(LOCK);
        // Computed with Python's hmac module.
        assert_eq!(password, "3af0eaab858bb366007f76ac52348d31766a88579d8a4f0cdf22c6d568c553c5");
        assert_ne!(password, hex::encode(master.command_key(LOCK).bytes()));
        assert_ne!(password, master.mqtt_password("10083618796833172"));
    }

    #[test]
    fn only_lower_case_hex_is_a_master_key() {
        for text in ["", "7b", &MASTER[1..], &MASTER.to_uppercase(), &format!("{MASTER}\n")] {
            let error = MasterKey::from_hex(text).unwrap_err();
            assert_eq!(error, KeyError::NotHex { bytes: text.len() });
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let master = MasterKey::from_hex(MASTER).unwrap();
        assert_eq!(format!("{master:?} {:?}", master.command_key(LOCK)), "MasterKey(..) CommandKey(..)");
    }
}

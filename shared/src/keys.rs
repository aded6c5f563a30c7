//! Keys that are derived, not stored: one fleet master key gives every lock its signing key and,
//! optionally, its MQTT password (contract, section 4; HKDF is RFC 5869).
//!
//! So the broker and the auditor need no look-up, and a fleet needs no provisioning table. Uses are
//! separated by the prefix of HKDF's `info`; ids come after the prefix, so that no id of one use
//! can spell an `info` of the other.
//!
//! A [`KeyRing`] is all that a verifier holds: at most two masters, so that one can replace the
//! other without a gap, the secrets of locks that have their own, and the locks that are revoked.
//!
//! Secrets that are not derived are random (they are generated, never chosen), so what is kept of
//! them is a fast hash ([`SecretHash`]).
//!
//! Invariant: nothing here prints key material, and every comparison takes the same time whatever
//! is compared; a password is handed out because it is what the lock has to be given.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::command::ShortSign;
use crate::hex;

/// Most master keys that are active at once: the old and the new one of a rotation.
pub const MASTERS_MAX: usize = 2;

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

    /// Whether this is the MQTT password of this client.
    pub fn is_mqtt_password(&self, client_id: &str, password: &[u8]) -> bool {
        self.mqtt_password(client_id).as_bytes().ct_eq(password).into()
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

    /// The secret that 64 lower-case hexadecimal digits spell.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        hex::decode(text).map(Self).ok_or(KeyError::NotHex { bytes: text.len() })
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

/// The keys that commands are verified with.
///
/// Invariant: at most [`MASTERS_MAX`] masters, no two of one name. Two without a name are no ring
/// either: nobody could say which is which when one is taken away.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    masters: Vec<(Option<String>, MasterKey)>,
    own: BTreeMap<String, CommandKey>,
    revoked: BTreeSet<String>,
    short: BTreeSet<String>,
}

impl KeyRing {
    /// A ring of these masters, each with the `kid` that names it in a command.
    pub fn new(masters: Vec<(Option<String>, MasterKey)>) -> Result<Self, KeyError> {
        if masters.len() > MASTERS_MAX {
            return Err(KeyError::TooMany { masters: masters.len() });
        }
        let names: BTreeSet<_> = masters.iter().map(|(kid, _)| kid).collect();
        if names.len() < masters.len() {
            return Err(KeyError::SameName);
        }
        Ok(Self { masters, ..Self::default() })
    }

    /// These locks have a secret of their own, which no master key replaces.
    pub fn with_own(mut self, own: impl IntoIterator<Item = (String, CommandKey)>) -> Self {
        self.own.extend(own);
        self
    }

    /// These locks have no key any more, not even one that could be derived.
    pub fn with_revoked(mut self, locks: impl IntoIterator<Item = String>) -> Self {
        self.revoked.extend(locks);
        self
    }

    /// These locks accept signatures of 16 digits.
    pub fn with_short(mut self, locks: impl IntoIterator<Item = String>) -> Self {
        self.short.extend(locks);
        self
    }

    /// The keys that may have signed a command for this lock which names the master `kid`, each
    /// with its own name. None: nobody can say who signed it (`unverifiable`).
    ///
    /// A lock with a secret of its own has this one key, whatever `kid` says: `kid` is signed like
    /// any other field, and chooses among masters only.
    pub fn candidates<'a>(
        &'a self,
        lock: &'a str,
        kid: Option<&'a str>,
    ) -> impl Iterator<Item = (Option<&'a str>, CommandKey)> {
        let revoked = self.revoked.contains(lock);
        let own = self.own.get(lock).filter(|_| !revoked);
        let masters = if revoked || own.is_some() { &[] } else { self.masters.as_slice() };
        let named = masters.iter().filter(move |(name, _)| kid.is_none() || name.as_deref() == kid);
        let derived = named.map(move |(name, master)| (name.as_deref(), master.command_key(lock)));
        own.map(|key| (None, key.clone())).into_iter().chain(derived)
    }

    /// Whether this lock accepts signatures of 16 digits.
    pub fn allows_short(&self, lock: &str) -> ShortSign {
        if self.short.contains(lock) { ShortSign::Allowed } else { ShortSign::Refused }
    }

    /// Whether there is no key at all, so that every command is unverifiable.
    pub fn is_empty(&self) -> bool {
        self.masters.is_empty() && self.own.is_empty()
    }
}

/// What is kept of a random secret: `sha256:` and the hash in 64 lower-case hexadecimal digits.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// A hash that no secret has, to compare with where there is no secret.
    pub const NOBODY: Self = Self([0; 32]);

    /// The hash of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// The hash as it is written, if the algorithm is known and the form is right.
    pub fn from_text(text: &str) -> Option<Self> {
        hex::decode(text.strip_prefix("sha256:")?).map(Self)
    }

    /// Whether both are of the same secret.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(&self.0))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// A key that cannot be read. It never quotes what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 64 lower-case hexadecimal digits.
    #[error("a key is 64 lower-case hexadecimal digits, these {bytes} bytes are not")]
    NotHex {
        /// Length of what was given.
        bytes: usize,
    },
    /// More masters than a rotation needs.
    #[error("{masters} master keys are active, {MASTERS_MAX} may be")]
    TooMany {
        /// How many were given.
        masters: usize,
    },
    /// Two masters that a command cannot tell apart.
    #[error("two master keys have the same name")]
    SameName,
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
    fn a_password_is_recognised() {
        let master = MasterKey::from_hex(MASTER).unwrap();
        let password = master.mqtt_password(LOCK);
        assert!(master.is_mqtt_password(LOCK, password.as_bytes()));
        for other in ["", &password[1..], &password.to_uppercase(), &master.mqtt_password("1")] {
            assert!(!master.is_mqtt_password(LOCK, other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn secrets_are_compared_by_their_hashes() {
        let text = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let hash = SecretHash::of(b"secret");
        assert_eq!(hash.to_string(), text);
        assert!(SecretHash::from_text(text).unwrap().is(&hash));
        assert!(!SecretHash::of(b"").is(&hash) && !SecretHash::NOBODY.is(&hash));
        for other in ["", "sha256:", &text[7..], &text.replace("256", "512"), &text.to_uppercase()] {
            assert!(SecretHash::from_text(other).is_none(), "{other}");
        }
    }

    #[test]
    fn only_lower_case_hex_is_a_master_key() {
        for text in ["", "7b", &MASTER[1..], &MASTER.to_uppercase(), &format!("{MASTER}\n")] {
            let error = MasterKey::from_hex(text).unwrap_err();
            assert_eq!(error, KeyError::NotHex { bytes: text.len() });
        }
    }

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_hex(&format!("{byte:02x}").repeat(32)).unwrap()
    }

    fn named(kid: &str, byte: u8) -> (Option<String>, MasterKey) {
        (Some(kid.to_owned()), master(byte))
    }

    #[test]
    fn a_ring_offers_the_keys_that_may_have_signed() {
        let old = hex::encode(master(1).command_key(LOCK).bytes());
        let new = hex::encode(master(2).command_key(LOCK).bytes());
        let own = "03".repeat(32);
        let ring = KeyRing::new(vec![named("k1", 1), named("k2", 2)])
            .unwrap()
            .with_own([("own".to_owned(), CommandKey::from_hex(&own).unwrap())])
            .with_own([("gone".to_owned(), CommandKey::from_hex(&own).unwrap())])
            .with_revoked(["gone".to_owned(), "gone2".to_owned()]);
        let unnamed = KeyRing::new(vec![(None, master(1))]).unwrap();
        for (what, ring, lock, kid, expected) in [
            ("no kid: both", &ring, LOCK, None, vec![(Some("k1"), &old), (Some("k2"), &new)]),
            ("named", &ring, LOCK, Some("k2"), vec![(Some("k2"), &new)]),
            ("unknown name", &ring, LOCK, Some("k3"), vec![]),
            ("own secret", &ring, "own", None, vec![(None, &own)]),
            ("own secret, whatever the name", &ring, "own", Some("k1"), vec![(None, &own)]),
            ("revoked with its own", &ring, "gone", None, vec![]),
            ("revoked", &ring, "gone2", Some("k1"), vec![]),
            ("unnamed master", &unnamed, LOCK, None, vec![(None, &old)]),
            ("a name that the unnamed master has not", &unnamed, LOCK, Some("k1"), vec![]),
        ] {
            let offered: Vec<_> = ring
                .candidates(lock, kid)
                .map(|(name, key)| (name.map(str::to_owned), hex::encode(key.bytes())))
                .collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(name, key)| (name.map(str::to_owned), key.clone())).collect();
            assert_eq!(offered, expected, "{what}");
        }
    }

    #[test]
    fn a_ring_is_small_and_unambiguous() {
        let three = vec![named("k1", 1), named("k2", 2), named("k3", 3)];
        assert_eq!(KeyRing::new(three).unwrap_err(), KeyError::TooMany { masters: 3 });
        for same in [vec![named("k1", 1), named("k1", 2)], vec![(None, master(1)), (None, master(2))]] {
            assert_eq!(KeyRing::new(same).unwrap_err(), KeyError::SameName);
        }
        assert!(KeyRing::default().is_empty() && !KeyRing::new(vec![named("k1", 1)]).unwrap().is_empty());
    }

    #[test]
    fn short_signatures_are_for_marked_locks() {
        let ring = KeyRing::default().with_short([LOCK.to_owned()]);
        assert_eq!(ring.allows_short(LOCK), ShortSign::Allowed);
        assert_eq!(ring.allows_short("2"), ShortSign::Refused);
    }

    #[test]
    fn debug_shows_no_key() {
        let master = MasterKey::from_hex(MASTER).unwrap();
        assert_eq!(format!("{master:?} {:?}", master.command_key(LOCK)), "MasterKey(..) CommandKey(..)");
    }
}

//! Secrets and names that nobody can guess, from the operating system.

use std::fs::File;
use std::io::Read;

use anyhow::Context;

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `N` random bytes.
pub fn bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes)
}

/// 32 random bytes as 64 lower-case hexadecimal digits: a master key, a password, a token.
pub fn secret() -> anyhow::Result<String> {
    Ok(bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// 22 letters and digits: a nonce, 131 bits of chance.
pub fn nonce() -> anyhow::Result<String> {
    Ok(u128::from_le_bytes(bytes()?)).map(|number| in_base(number, 62, 22))
}

/// 16 digits, as the reference numbers its processes.
pub fn process_id() -> anyhow::Result<String> {
    Ok(u128::from_le_bytes(bytes()?)).map(|number| in_base(number, 10, 16))
}

fn in_base(mut number: u128, base: u8, length: usize) -> String {
    let base = u128::from(base);
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        text.push(char::from(LETTERS[(number % base) as usize]));
        number /= base;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_form_that_the_contract_asks_for() {
        let (secret, nonce, process_id) = (secret().unwrap(), nonce().unwrap(), process_id().unwrap());
        assert!(
            secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
        assert!(nonce.len() == 22 && nonce.bytes().all(|b| b.is_ascii_alphanumeric()), "{nonce}");
        assert!(process_id.len() == 16 && process_id.bytes().all(|b| b.is_ascii_digit()), "{process_id}");
        assert_ne!(nonce, super::nonce().unwrap());
    }

    #[test]
    fn numbers_are_spelt_from_the_low_end() {
        assert_eq!(in_base(61 + 62 * 10, 62, 3), "zA0");
        assert_eq!(in_base(1234, 10, 6), "432100");
    }
}

//! What a message of the load says: which it is and when it was due, so that whoever receives it
//! can tell what is missing, what came twice and how long it took.
//!
//! The stamp stands where the contract has `process_id`, so a report of the load is a report and a
//! command a command. Payloads that are too short for a report are a stamp and dots; payloads too
//! short for a stamp are dots, and their delivery cannot be checked.

use bytes::Bytes;

/// Bytes of a stamp: `l`, run, stream, sequence and due time, in hexadecimal digits.
pub const STAMP_BYTES: usize = 1 + 8 + 1 + 6 + 1 + 8 + 1 + 12;
/// Streams that a stamp can name.
pub const STREAMS_MAX: u32 = 1 << 24;

const ID_DIGITS: usize = 17;
/// The sample of the contract with room for a stamp and for an id of a lock.
const HEAD: &str = r#"{   "process_id": ""#;
const MIDDLE: &str =
    r#"",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": ""#;
const TAIL: &str = r#"""#;
const NOTE: &str = r#","note":""#;
const END: &str = r#""}"#;

/// Which message, and when it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Tells the messages of this run from those of others.
    pub run: u32,
    /// Who sends, below [`STREAMS_MAX`]; its messages are numbered.
    pub stream: u32,
    /// Number in the stream, from 0.
    pub sequence: u32,
    /// Microseconds since the run began.
    pub due_us: u64,
}

impl Stamp {
    /// As text.
    pub fn text(self) -> [u8; STAMP_BYTES] {
        let mut text = [b'-'; STAMP_BYTES];
        text[0] = b'l';
        put_hex(&mut text[1..9], self.run.into());
        put_hex(&mut text[10..16], self.stream.into());
        put_hex(&mut text[17..25], self.sequence.into());
        put_hex(&mut text[26..38], self.due_us);
        text
    }

    /// The stamp in a payload, if there is one.
    pub fn find(payload: &[u8]) -> Option<Self> {
        let from = match payload.first()? {
            // The first value is that of `process_id`.
            b'{' => {
                let colon = payload.iter().position(|&byte| byte == b':')?;
                colon + payload[colon..].iter().position(|&byte| byte == b'"')? + 1
            }
            _ => 0,
        };
        let text = payload.get(from..from + STAMP_BYTES)?;
        let is_stamp = text[0] == b'l' && [9, 16, 25].iter().all(|&at| text[at] == b'-');
        let number = |range| take_hex(text.get::<std::ops::Range<usize>>(range)?);
        is_stamp.then_some(())?;
        Some(Self {
            run: number(1..9)? as u32,
            stream: number(10..16)? as u32,
            sequence: number(17..25)? as u32,
            due_us: number(26..38)?,
        })
    }
}

/// Payloads of one length.
#[derive(Debug, Clone)]
pub struct Payloads {
    pattern: Vec<u8>,
    stamp_at: Option<usize>,
    id_at: Option<usize>,
}

impl Payloads {
    /// Payloads of `bytes` bytes.
    pub fn of(bytes: usize) -> Self {
        let report = HEAD.len() + STAMP_BYTES + MIDDLE.len() + ID_DIGITS + TAIL.len();
        let shortest = report + NOTE.len() + END.len();
        if bytes < shortest {
            let stamp_at = (bytes >= STAMP_BYTES).then_some(0);
            return Self { pattern: vec![b'.'; bytes], stamp_at, id_at: None };
        }
        let (stamp, id) = ("0".repeat(STAMP_BYTES), "0".repeat(ID_DIGITS));
        let note = ".".repeat(bytes - shortest);
        let pattern = format!("{HEAD}{stamp}{MIDDLE}{id}{TAIL}{NOTE}{note}{END}").into_bytes();
        let id_at = HEAD.len() + STAMP_BYTES + MIDDLE.len();
        Self { pattern, stamp_at: Some(HEAD.len()), id_at: Some(id_at) }
    }

    /// One without a stamp, and of nobody.
    pub fn plain(self) -> Bytes {
        self.pattern.into()
    }

    /// Whether a receiver finds a stamp in them.
    pub fn are_stamped(&self) -> bool {
        self.stamp_at.is_some()
    }

    /// The payload of one message of the lock `id`.
    pub fn payload(&self, id: &str, stamp: Stamp) -> Bytes {
        let mut payload = self.pattern.clone();
        if let Some(at) = self.stamp_at {
            payload[at..at + STAMP_BYTES].copy_from_slice(&stamp.text());
        }
        if let Some(at) = self.id_at
            && id.len() == ID_DIGITS
        {
            payload[at..at + ID_DIGITS].copy_from_slice(id.as_bytes());
        }
        payload.into()
    }
}

fn put_hex(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn take_hex(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, &digit| Some(number << 4 | u64::from(char::from(digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lock;

    const STAMP: Stamp = Stamp { run: 0xdead_beef, stream: 19_499, sequence: 7, due_us: 0xffff_ffff_ffff };

    #[test]
    fn a_stamp_is_found_in_payloads_of_every_length() {
        let id = lock::id(19_499);
        for bytes in 0..400 {
            let payloads = Payloads::of(bytes);
            let payload = payloads.payload(&id, STAMP);
            assert_eq!(payload.len(), bytes);
            assert_eq!(Stamp::find(&payload), (bytes >= STAMP_BYTES).then_some(STAMP), "{bytes}");
            assert_eq!(payloads.are_stamped(), bytes >= STAMP_BYTES);
        }
        assert_eq!(Stamp::find(&Payloads::of(300).plain()), None);
        let report: serde_json::Value =
            serde_json::from_slice(&Payloads::of(300).payload(&id, STAMP)).unwrap();
        assert_eq!(report["client_id"], id);
        assert_eq!(report["lock_state"], 1);
        assert!(report["process_id"].as_str().unwrap().starts_with('l'));
    }

    #[test]
    fn other_payloads_have_no_stamp() {
        let sample = r#"{   "process_id": "7802441525528958",   "action": "unlock" }"#;
        for payload in [&b""[..], b"{", b"{:\"l", b"x", sample.as_bytes(), &[b'l'; 60], &[0xff; 60]] {
            assert_eq!(Stamp::find(payload), None, "{payload:?}");
        }
    }
}

//! The hash chains over history (docs/adr/0008-audit-chain.md). Pure.
//!
//! Rows of a chain are numbered from 1 without gap. Two hashes go along:
//!
//! ```text
//! leaf_bytes    = LP("audit.v1") u16 chain u64 seq i64 occurred_ms LP(kind) LP(client_id)
//!                 LP(process_id) LP(action) LP(verdict) LP(k_topic) u32 k_partition u64 k_offset
//!                 sha256(raw)
//! leaf_hash     = SHA256(0x00 leaf_bytes)
//! chain_hash[n] = SHA256(0x01 chain_hash[n-1] leaf_hash[n])
//! chain_hash[0] = SHA256("audit.v1 genesis chain <id>")
//!
//! detail_bytes   = i64 ingested_at_us u64 xid LP(direction) ?LP(process_id) ?LP(action)
//!                  ?LP(lock_state) ?i64 lock_state_raw ?u32 battery ?LP(publisher) ?LP(receiver)
//!                  ?LP(username) u32 count LP(finding)… i16 severity ?LP(reason) ?LP(nonce_str)
//!                  ?i64 cmd_ts ?i64 skew_ms ?i16 sign_bits ?LP(kid) ?LP(mid) ?LP(node) ?i16 qos
//! detail_hash[n] = SHA256(0x02 detail_hash[n-1] leaf_hash[n] detail_bytes[n])
//! detail_hash[0] = SHA256("audit.v1 detail genesis chain <id>")
//! ```
//!
//! `LP` is a u32 length and the bytes; integers are big-endian; `?` is 0x00 for what is null, else
//! 0x01 and the value; `battery` is the bits of the 32-bit float; an absent text in the leaf is an
//! empty one. Of the raw record only its hash counts, so it may be removed later.
//!
//! Invariant: every column of a row is covered by one of the hashes, and each hash by the head.

use sha2::{Digest, Sha256};

use crate::event::{Event, Row};

/// A hash.
pub type Hash = [u8; 32];

/// The end of a chain: what the next row is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the last row; 0 before the first.
    pub seq: i64,
    /// Hash of the chain up to it.
    pub chain_hash: Hash,
    /// Hash of the details up to it.
    pub detail_hash: Hash,
}

/// What is wrong with a row, seen from the row before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// Rows are not there.
    #[error("{}", missing(*first, *last))]
    Missing {
        /// Number of the first.
        first: i64,
        /// Number of the last.
        last: i64,
    },
    /// There is another row with this number, or the number is none.
    #[error("the row was inserted: its number was taken, or is none")]
    Inserted,
    /// The raw record is not the one that was hashed.
    #[error("the raw record does not match raw_sha256")]
    Raw,
    /// The columns that `leaf_hash` covers are not those that were hashed.
    #[error("the columns do not match leaf_hash")]
    Leaf,
    /// The row is not linked to the one before it.
    #[error("chain_hash does not continue that of the row before")]
    Link,
    /// The columns that `leaf_hash` does not cover are not those that were hashed.
    #[error("the columns do not match detail_hash")]
    Detail,
}

impl Break {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Inserted => "inserted",
            Self::Raw => "raw",
            Self::Leaf => "leaf",
            Self::Link => "link",
            Self::Detail => "detail",
        }
    }
}

fn missing(first: i64, last: i64) -> String {
    if first == last {
        format!("row {first} is missing")
    } else {
        format!("rows {first} to {last} are missing")
    }
}

impl Head {
    /// Before the first row.
    pub fn genesis(chain_id: i16) -> Self {
        Self {
            seq: 0,
            chain_hash: Sha256::digest(format!("audit.v1 genesis chain {chain_id}")).into(),
            detail_hash: Sha256::digest(format!("audit.v1 detail genesis chain {chain_id}")).into(),
        }
    }

    /// The end of a chain whose last row this is.
    pub fn at(row: &Row) -> Self {
        Self { seq: row.seq, chain_hash: row.chain_hash, detail_hash: row.detail_hash }
    }

    /// Makes the next row of the chain and goes on to it.
    pub fn link(&mut self, chain_id: i16, event: Event, ingested_at_us: i64, xid: u64) -> Row {
        let mut row = Row {
            raw_sha256: Sha256::digest(&event.raw).into(),
            event,
            raw_removed: false,
            chain_id,
            seq: self.seq + 1,
            ingested_at_us,
            xid,
            leaf_hash: [0; 32],
            chain_hash: [0; 32],
            detail_hash: [0; 32],
        };
        row.leaf_hash = leaf_hash(&row);
        row.chain_hash = chain_hash(&self.chain_hash, &row.leaf_hash);
        row.detail_hash = detail_hash(&self.detail_hash, &row);
        *self = Self::at(&row);
        row
    }

    /// Whether `row` is, unchanged, the one that was linked to this head.
    pub fn follows(&self, row: &Row) -> Result<(), Break> {
        let next = self.seq.saturating_add(1);
        if row.seq > next {
            return Err(Break::Missing { first: next, last: row.seq - 1 });
        }
        if row.seq < next {
            return Err(Break::Inserted);
        }
        intact(row)?;
        if row.chain_hash != chain_hash(&self.chain_hash, &row.leaf_hash) {
            return Err(Break::Link);
        }
        if row.detail_hash != detail_hash(&self.detail_hash, row) {
            return Err(Break::Detail);
        }
        Ok(())
    }
}

/// Whether what a row shows without the row before it is unchanged.
pub fn intact(row: &Row) -> Result<(), Break> {
    if !row.raw_removed && row.raw_sha256 != <Hash>::from(Sha256::digest(&row.event.raw)) {
        return Err(Break::Raw);
    }
    if row.leaf_hash != leaf_hash(row) {
        return Err(Break::Leaf);
    }
    Ok(())
}

/// The hash of what a row is about.
pub fn leaf_hash(row: &Row) -> Hash {
    let event = &row.event;
    let mut bytes = Bytes(Sha256::new_with_prefix([0x00]));
    bytes.text("audit.v1");
    bytes.raw(&row.chain_id.to_be_bytes());
    bytes.i64(row.seq);
    bytes.i64(event.occurred_at_ms);
    bytes.text(event.kind.name());
    bytes.text(&event.client_id);
    bytes.text(event.process_id.as_deref().unwrap_or_default());
    bytes.text(event.action.as_deref().unwrap_or_default());
    bytes.text(&event.verdict);
    bytes.text(&event.place.stream);
    bytes.raw(&event.place.partition.to_be_bytes());
    bytes.i64(event.place.offset);
    bytes.raw(&row.raw_sha256);
    bytes.0.finalize().into()
}

/// Links a leaf to the chain before it.
pub fn chain_hash(previous: &Hash, leaf: &Hash) -> Hash {
    Sha256::new_with_prefix([0x01]).chain_update(previous).chain_update(leaf).finalize().into()
}

/// Links the columns that the leaf does not cover to the details before them.
pub fn detail_hash(previous: &Hash, row: &Row) -> Hash {
    let event = &row.event;
    let mut bytes = Bytes(Sha256::new_with_prefix([0x02]));
    bytes.raw(previous);
    bytes.raw(&row.leaf_hash);
    bytes.i64(row.ingested_at_us);
    bytes.raw(&row.xid.to_be_bytes());
    bytes.text(event.direction.name());
    bytes.optional_text(event.process_id.as_deref());
    bytes.optional_text(event.action.as_deref());
    bytes.optional_text(event.lock_state.as_deref());
    bytes.optional(event.lock_state_raw.map(i64::to_be_bytes));
    bytes.optional(event.battery.map(|battery| battery.to_bits().to_be_bytes()));
    bytes.optional_text(event.publisher.as_deref());
    bytes.optional_text(event.receiver.as_deref());
    bytes.optional_text(event.username.as_deref());
    bytes.length(event.findings.len());
    event.findings.iter().for_each(|finding| bytes.text(finding));
    bytes.raw(&event.severity.level().to_be_bytes());
    bytes.optional_text(event.reason.as_deref());
    bytes.optional_text(event.nonce_str.as_deref());
    bytes.optional(event.cmd_ts.map(i64::to_be_bytes));
    bytes.optional(event.skew_ms.map(i64::to_be_bytes));
    bytes.optional(event.sign_bits.map(i16::to_be_bytes));
    bytes.optional_text(event.kid.as_deref());
    bytes.optional_text(event.mid.as_deref());
    bytes.optional_text(event.node.as_deref());
    bytes.optional(event.qos.map(i16::to_be_bytes));
    bytes.0.finalize().into()
}

/// What goes into a hash.
struct Bytes(Sha256);

impl Bytes {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// Texts and lists are shorter than 4 GiB: a record of Kafka is.
    fn length(&mut self, length: usize) {
        self.raw(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.raw(text.as_bytes());
    }

    fn optional_text(&mut self, text: Option<&str>) {
        self.raw(&[u8::from(text.is_some())]);
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn optional<const N: usize>(&mut self, value: Option<[u8; N]>) {
        self.raw(&[u8::from(value.is_some())]);
        if let Some(value) = value {
            self.raw(&value);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use latchline_shared::hex;

    use super::*;
    use crate::event::{Direction, Kind, Place, Severity};

    const COMMAND: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "nonce_str": "u7u4p0n8",   "ts": 1574744434,   "sign": "e9f5af7deaa28563" }"#;
    const STATE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;

    fn reference(kind: Kind, verdict: &str, stream: &str, occurred_at_ms: i64, raw: &str) -> Event {
        Event {
            occurred_at_ms,
            kind,
            client_id: "10083618796833171".to_owned(),
            process_id: Some("7802441525528958".to_owned()),
            action: Some("unlock".to_owned()),
            verdict: verdict.to_owned(),
            raw: raw.as_bytes().to_vec(),
            place: Place { stream: stream.to_owned(), partition: 0, offset: 0 },
            ..Event::default()
        }
    }

    #[test]
    fn the_vector_of_the_hash_rule() {
        let mut head = Head::genesis(0);
        let genesis = "3a4504476ff6399e410d485fdd89ec395d853e1cfeb884d688751ee05aaa0a69";
        assert_eq!(hex::encode(&head.chain_hash), genesis);
        let command =
            reference(Kind::Command, "bad_signature", "message_command", 1_574_751_635_845, COMMAND);
        let state = reference(Kind::Result, "ok", "message_state", 1_574_753_026_269, STATE);
        for (event, leaf, chain) in [
            (
                command,
                "abc88ecc8d5e5a919578b1a6fe0f64d0bb3eee28fa158c5ef75b8a876c26eada",
                "f29b4d56ad9ec9cfe4eb8aacdae0185ff700c66b0e64da023c78af5c3158e895",
            ),
            (
                state,
                "19278bd7dc1956349e7de2dafac4f601ad6fd5fc3f801e6e7cb57b8cb1d56870",
                "bcd17c94dc0e6086dc4d8b53781d0f8304284981225f6d4f620d74893af30668",
            ),
        ] {
            let before = head;
            let row = head.link(0, event, 7, 8);
            assert_eq!(hex::encode(&row.leaf_hash), leaf);
            assert_eq!(hex::encode(&row.chain_hash), chain);
            assert_eq!(before.follows(&row), Ok(()));
            assert_eq!(head, Head::at(&row));
        }
    }

    /// An event in which every column has a value.
    pub(crate) fn full(number: i64) -> Event {
        Event {
            occurred_at_ms: 1_767_225_600_000 + number,
            direction: Direction::Downlink,
            kind: Kind::Command,
            client_id: format!("1008361879683{number}"),
            process_id: Some(format!("7802{number}")),
            action: Some("unlock".to_owned()),
            lock_state: Some("unlocked".to_owned()),
            lock_state_raw: Some(1),
            battery: Some(83.4),
            publisher: Some("console".to_owned()),
            receiver: Some("1008361879683".to_owned()),
            username: Some("desk 解錠".to_owned()),
            verdict: "replay".to_owned(),
            findings: vec!["unexpected_receiver".to_owned(), "process_id_reuse".to_owned()],
            severity: Severity::Critical,
            reason: Some("seen before".to_owned()),
            nonce_str: Some("u7u4p0n8".to_owned()),
            cmd_ts: Some(1_767_225_600),
            skew_ms: Some(-12),
            sign_bits: Some(256),
            kid: Some("k1".to_owned()),
            raw: format!("{{ \"n\":{number}}}").into_bytes(),
            place: Place { stream: "message_command".to_owned(), partition: 3, offset: number },
            mid: Some("00aa".to_owned()),
            node: Some("latchline@127.0.0.1".to_owned()),
            qos: Some(1),
        }
    }

    #[test]
    fn the_vector_of_the_details() {
        // Computed by another implementation, in Python.
        let row = Head::genesis(3).link(3, full(1), 7, 8);
        let leaf = "7b4a6725713f8242add3ddd4506e1274bbbb4e0bc47228f49291d55ed5c89099";
        let detail = "0eb1b1e96465dea0bce4bcad29e38a000b999a2c1c3ec83137982a947f35ef3d";
        assert_eq!(
            (hex::encode(&row.leaf_hash), hex::encode(&row.detail_hash)),
            (leaf.into(), detail.into())
        );
    }

    #[test]
    fn rows_that_are_missing_inserted_or_cut_off_are_told_apart() {
        let mut head = Head::genesis(3);
        let rows: Vec<Row> = (1..=5).map(|n| head.link(3, full(n), n, 1)).collect();
        let at = Head::at;
        assert_eq!(at(&rows[1]).follows(&rows[4]), Err(Break::Missing { first: 3, last: 4 }));
        assert_eq!(at(&rows[1]).follows(&rows[1]), Err(Break::Inserted));
        assert_eq!(Head::genesis(3).follows(&Row { seq: 0, ..rows[0].clone() }), Err(Break::Inserted));
        // The same number in another chain.
        assert_eq!(Head::genesis(4).follows(&rows[0]), Err(Break::Link));
        let removed = Row {
            event: Event { raw: Vec::new(), ..rows[2].event.clone() },
            raw_removed: true,
            ..rows[2].clone()
        };
        assert_eq!(at(&rows[1]).follows(&removed), Ok(()));
        let emptied = Row { raw_removed: false, ..removed };
        assert_eq!(at(&rows[1]).follows(&emptied), Err(Break::Raw));
        assert_eq!(Break::Missing { first: 3, last: 4 }.to_string(), "rows 3 to 4 are missing");
    }

    #[test]
    fn nothing_and_an_empty_text_differ() {
        let link = |process_id| Head::genesis(0).link(0, Event { process_id, ..full(1) }, 1, 1);
        let (nothing, empty) = (link(None), link(Some(String::new())));
        assert_eq!(nothing.leaf_hash, empty.leaf_hash);
        assert_ne!(nothing.detail_hash, empty.detail_hash);
    }
}

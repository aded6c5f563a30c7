//! Where a page ended, so that the next one can begin there.
//!
//! Opaque to callers: base64url of a version, the order, a hash of the filter, since when is asked,
//! which read it continues, and the key of the last row. It is not signed: a made-up cursor only
//! chooses where a page begins, which `since` and `until` do as well, and whether it continues a
//! read that is on record is looked up (`http/reads.rs`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::filter::{Filter, Order};

const VERSION: u8 = 1;
const HASH_BYTES: usize = 8;
const BYTES: usize = 2 + HASH_BYTES + 8 + 8 + Key::BYTES;

/// A place in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// By time: `occurred_at` in Unix milliseconds. In order of writing: the transaction.
    pub first: i64,
    /// Chain.
    pub chain_id: i16,
    /// Number in the chain.
    pub seq: i64,
}

impl Key {
    const BYTES: usize = 8 + 2 + 8;

    /// Before everything that transaction `xid` and later ones write: chains are numbered from 0.
    pub fn before_transaction(xid: i64) -> Self {
        Self { first: xid, chain_id: -1, seq: 0 }
    }
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Since when the first page was asked, in Unix milliseconds, if there was such a bound: without
    /// it the default would move from page to page.
    pub since_ms: Option<i64>,
    /// Number in the system chain of the record of this read.
    pub read_seq: i64,
    /// The last row.
    pub key: Key,
}

/// Why a cursor was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It has another form.
    #[error("is no cursor of this server")]
    Malformed,
    /// It was made with another order.
    #[error("belongs to another order; ask without it to begin anew")]
    OtherOrder,
    /// It was made with another filter.
    #[error("belongs to another filter; ask without it to begin anew")]
    OtherFilter,
}

impl Cursor {
    /// As text, for pages of this filter.
    pub fn encode(&self, filter: &Filter) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend([VERSION, filter.order as u8]);
        bytes.extend(hash(filter));
        bytes.extend(self.since_ms.unwrap_or(i64::MIN).to_be_bytes());
        bytes.extend(self.read_seq.to_be_bytes());
        bytes.extend(self.key.first.to_be_bytes());
        bytes.extend(self.key.chain_id.to_be_bytes());
        bytes.extend(self.key.seq.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From text, for a page of this filter.
    pub fn decode(text: &str, filter: &Filter) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Malformed)?;
        let mut rest = bytes.as_slice();
        let [version, order] = take(&mut rest)?;
        if bytes.len() != BYTES || version != VERSION {
            return Err(CursorError::Malformed);
        }
        let hash_of_cursor: [u8; HASH_BYTES] = take(&mut rest)?;
        let since_ms = Some(i64::from_be_bytes(take(&mut rest)?)).filter(|since| *since != i64::MIN);
        let read_seq = i64::from_be_bytes(take(&mut rest)?);
        let first = i64::from_be_bytes(take(&mut rest)?);
        let chain_id = i16::from_be_bytes(take(&mut rest)?);
        let seq = i64::from_be_bytes(take(&mut rest)?);
        if !Order::ALL.iter().any(|known| *known as u8 == order) {
            return Err(CursorError::Malformed);
        }
        if order != filter.order as u8 {
            return Err(CursorError::OtherOrder);
        }
        if hash_of_cursor != hash(filter) {
            return Err(CursorError::OtherFilter);
        }
        Ok(Self { since_ms, read_seq, key: Key { first, chain_id, seq } })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CursorError> {
    let (head, tail) = rest.split_first_chunk().ok_or(CursorError::Malformed)?;
    *rest = tail;
    Ok(*head)
}

fn hash(filter: &Filter) -> [u8; HASH_BYTES] {
    let digest: [u8; 32] = Sha256::digest(filter.to_string()).into();
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&digest[..HASH_BYTES]);
    hash
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(client_id: &str, order: Order) -> Filter {
        Filter { client_id: Some(client_id.to_owned()), order, ..Filter::default() }
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(since in any::<Option<u32>>(), read_seq in any::<i64>(),
                                         first in any::<i64>(), chain_id in any::<i16>(), seq in any::<i64>()) {
            let since_ms = since.map(i64::from);
            let cursor = Cursor { since_ms, read_seq, key: Key { first, chain_id, seq } };
            let filter = filter("1", Order::Descending);
            prop_assert_eq!(Cursor::decode(&cursor.encode(&filter), &filter), Ok(cursor));
        }

        #[test]
        fn any_text_is_refused_or_read(text in ".{0,80}") {
            let _ = Cursor::decode(&text, &Filter::default());
        }
    }

    #[test]
    fn a_cursor_of_something_else_is_refused() {
        let key = Key { first: 1, chain_id: 2, seq: 3 };
        let cursor = Cursor { since_ms: None, read_seq: 4, key };
        let mine = filter("1", Order::Ingest);
        let text = cursor.encode(&mine);
        assert_eq!(Cursor::decode(&text, &filter("2", Order::Ingest)), Err(CursorError::OtherFilter));
        assert_eq!(Cursor::decode(&text, &filter("1", Order::Ascending)), Err(CursorError::OtherOrder));
        for text in ["", "x", "=", &text[1..], &text[..text.len() - 1], &format!("{text}AAAA")] {
            assert_eq!(Cursor::decode(text, &mine), Err(CursorError::Malformed), "{text}");
        }
        let mut of_the_future = URL_SAFE_NO_PAD.decode(&text).unwrap();
        of_the_future[0] += 1;
        let of_the_future = URL_SAFE_NO_PAD.encode(of_the_future);
        assert_eq!(Cursor::decode(&of_the_future, &mine), Err(CursorError::Malformed));
    }
}

//! An event as JSON: ids are texts, times are RFC 3339 in UTC with milliseconds, what is not known
//! is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use latchline_shared::hex;
use latchline_shared::kit::api::view::given;
use serde::Serialize;
use utoipa::ToSchema;

use crate::event::Row;

/// An event: something that happened to a lock, or that somebody did with the history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView {
    /// Chain of the history; 32767 holds reads and administration.
    pub chain_id: i16,
    /// Number in the chain, from 1 without gap.
    pub seq: i64,
    /// When the broker saw it.
    #[schema(format = DateTime, example = "2026-01-31T12:00:00.000Z")]
    pub occurred_at: String,
    /// When the auditor wrote it.
    #[schema(format = DateTime)]
    pub ingested_at: String,
    /// Transaction that wrote it.
    pub xid: String,
    /// `uplink`, `downlink` or `system`.
    pub direction: &'static str,
    /// `command`, `attempt`, `result`, `change`, `finding`, `admin` or `read`.
    pub kind: &'static str,
    /// The lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Ties a command and its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_id: Option<String>,
    /// `unlock`, `lock`, …; of a read, the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// State of the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_state: Option<String>,
    /// The state as the lock said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_state_raw: Option<i64>,
    /// Percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery: Option<f32>,
    /// Client id of the publisher; of a read, the token's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Client id of the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// User name of the receiver of a `command`; of anything else, of the publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Verdict of a command; `ok`, `failed` or `denied` of a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// What is wrong beside the verdict.
    pub findings: Vec<String>,
    /// `info`, `warning`, `major` or `critical`.
    pub severity: &'static str,
    /// Why, in words; of a read, the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Nonce of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce_str: Option<String>,
    /// When the command says that it was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub cmd_ts: Option<String>,
    /// From then to `occurred_at`, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skew_ms: Option<i64>,
    /// Bits of the signature, 64 or 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_bits: Option<i16>,
    /// Key of the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Where the record is in Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceView>,
    /// The broker's id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// The broker's node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// QoS of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<i16>,
    /// The whole record value in base64, with `raw=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// SHA-256 of the record value.
    pub raw_sha256: String,
    /// Hash of the event.
    pub leaf_hash: String,
    /// Hash of the chain up to the event.
    pub chain_hash: String,
    /// Hash of the details of the chain up to the event.
    pub detail_hash: String,
}

/// A place in Kafka.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Place)]
pub struct PlaceView {
    /// Stream.
    pub stream: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// Whether the raw record goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw {
    /// It does.
    Included,
    /// It does not.
    Omitted,
}

/// An event as JSON.
pub fn event(row: Row, raw: Raw) -> EventView {
    let event = row.event;
    let is_read = raw == Raw::Included && !event.raw.is_empty();
    EventView {
        chain_id: row.chain_id,
        seq: row.seq,
        occurred_at: time_ms(event.occurred_at_ms),
        ingested_at: time_ms(row.ingested_at_us.div_euclid(1000)),
        xid: row.xid.to_string(),
        direction: event.direction.name(),
        kind: event.kind.name(),
        client_id: given(event.client_id),
        process_id: event.process_id,
        action: event.action,
        lock_state: event.lock_state,
        lock_state_raw: event.lock_state_raw,
        battery: event.battery,
        publisher: event.publisher,
        receiver: event.receiver,
        username: event.username,
        verdict: given(event.verdict),
        findings: event.findings,
        severity: event.severity.name(),
        reason: event.reason,
        nonce_str: event.nonce_str,
        cmd_ts: event.cmd_ts.map(|seconds| time_ms(seconds.saturating_mul(1000))),
        skew_ms: event.skew_ms,
        sign_bits: event.sign_bits,
        kid: event.kid,
        place: given(event.place.stream).map(|stream| PlaceView {
            stream,
            partition: event.place.partition,
            offset: event.place.offset,
        }),
        mid: event.mid,
        node: event.node,
        qos: event.qos,
        raw: is_read.then(|| STANDARD.encode(&event.raw)),
        raw_sha256: hex::encode(&row.raw_sha256),
        leaf_hash: hex::encode(&row.leaf_hash),
        chain_hash: hex::encode(&row.chain_hash),
        detail_hash: hex::encode(&row.detail_hash),
    }
}

/// RFC 3339 in UTC with milliseconds; a time out of range is the nearest one in it.
pub fn time_ms(unix_ms: i64) -> String {
    let nearest = if unix_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    format!("{:.3}", Timestamp::from_millisecond(unix_ms).unwrap_or(nearest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(time_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_ms(1_574_751_635_845), "2019-11-26T07:00:35.845Z");
        assert_eq!(time_ms(-1), "1969-12-31T23:59:59.999Z");
        assert!(time_ms(i64::MAX).starts_with("9999-12-30T"));
    }
}

//! Who reads history is history: each read is an event of the system chain, written before the
//! answer is sent. If it cannot be written, there is no answer.
//!
//! A read that goes on (the next page, a stream that was interrupted) is not written again. A cursor
//! names the event of the read that it continues, and that is looked up: a made-up cursor, or one of
//! somebody else's, is a read of its own. Statistics, checkpoints and verification show nobody's
//! history and are not written.

use jiff::Timestamp;
use latchline_shared::kit::http::tokens::Caller;
use serde_json::json;
use tokio_postgres::types::Type;

use super::State;
use super::failure::Failure;
use crate::event::{Direction, Event, Kind, SYSTEM_CHAIN};
use crate::history;

/// A read of history.
#[derive(Debug)]
pub(super) struct Read<'a> {
    /// By whom.
    pub(super) caller: &'a Caller,
    /// Which route.
    pub(super) operation: &'static str,
    /// The lock that was asked for; empty if none was.
    pub(super) client_id: &'a str,
    /// What was asked for, in one spelling.
    pub(super) query: String,
}

impl State {
    /// Writes the read down, unless it goes on with the one at `continues`. Returns its number in
    /// the system chain.
    pub(super) async fn record(&self, read: &Read<'_>, continues: Option<i64>) -> Result<i64, Failure> {
        let mut client = self.tables.client().await?;
        if let Some(seq) = continues
            && self.is_on_record(&client, read, seq).await?
        {
            return Ok(seq);
        }
        let transaction = client.transaction().await?;
        history::append(&transaction, SYSTEM_CHAIN, vec![event(read)]).await?;
        // The chain is ours until the end of the transaction.
        let select = "select seq from auditor.chain_head where chain_id = $1";
        let head = transaction.query_typed_one(select, &[(&SYSTEM_CHAIN, Type::INT2)]).await?;
        let seq = head.try_get(0)?;
        transaction.commit().await?;
        Ok(seq)
    }

    async fn is_on_record(
        &self,
        client: &tokio_postgres::Client,
        read: &Read<'_>,
        seq: i64,
    ) -> Result<bool, Failure> {
        let select = "select exists (select from auditor.event where chain_id = $1 and seq = $2 \
             and kind = 'read' and publisher = $3 and action = $4 and reason = $5)";
        let row = client
            .query_typed_one(
                select,
                &[
                    (&SYSTEM_CHAIN, Type::INT2),
                    (&seq, Type::INT8),
                    (&&*read.caller.name, Type::TEXT),
                    (&read.operation, Type::TEXT),
                    (&read.query, Type::TEXT),
                ],
            )
            .await?;
        Ok(row.try_get(0)?)
    }
}

fn event(read: &Read<'_>) -> Event {
    let raw = json!({ "token": &*read.caller.name, "operation": read.operation, "query": read.query });
    Event {
        occurred_at_ms: Timestamp::now().as_millisecond(),
        direction: Direction::System,
        kind: Kind::Read,
        client_id: read.client_id.to_owned(),
        action: Some(read.operation.to_owned()),
        publisher: Some(read.caller.name.to_string()),
        reason: Some(read.query.clone()),
        raw: raw.to_string().into_bytes(),
        ..Event::default()
    }
}

//! Kafka's end of what was acknowledged: a message that the bridge has acknowledged is one that the
//! state stream has grown by.
//!
//! Non-guarantee: the stream's ends are those of everybody who stores in it; nobody else does in a
//! benchmark, but with a Kafka of your own somebody may, and hide a loss.

use anyhow::ensure;
use serde::Serialize;

use crate::kafka::reader::ends;
use crate::stack::STATES;

/// The stream's ends at some moment.
pub(crate) struct Ends {
    kafka: String,
    records: u64,
}

/// Both ends of what was stored.
#[derive(Debug, Clone, Serialize)]
pub struct Stored {
    /// Where.
    pub part: String,
    /// Messages acknowledged to their publishers.
    pub acknowledged: u64,
    /// Records that the stream has grown by meanwhile.
    pub stored: u64,
}

impl Ends {
    /// Looks where the stream ends now.
    pub(crate) async fn look(kafka: &str) -> anyhow::Result<Self> {
        Ok(Self { kafka: kafka.to_owned(), records: records(kafka).await? })
    }

    /// Records that it has grown by since.
    pub(crate) async fn grown(&self) -> anyhow::Result<u64> {
        Ok(records(&self.kafka).await?.saturating_sub(self.records))
    }

    /// Both ends.
    pub(crate) async fn stored(&self, part: String, acknowledged: u64) -> anyhow::Result<Stored> {
        Ok(Stored { part, acknowledged, stored: self.grown().await? })
    }
}

async fn records(kafka: &str) -> anyhow::Result<u64> {
    Ok(ends(kafka, &[STATES]).await?.values().map(|&end| u64::try_from(end).unwrap_or_default()).sum())
}

impl Stored {
    /// Fails if a message was acknowledged and not stored.
    pub fn check(&self) -> anyhow::Result<()> {
        let Self { part, acknowledged, stored } = self;
        ensure!(stored >= acknowledged, "{part}: {acknowledged} acknowledged, {stored} stored");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_and_not_stored_fails() {
        let stored = |acknowledged, stored| Stored { part: "a part".to_owned(), acknowledged, stored };
        stored(3, 3).check().unwrap();
        stored(3, 4).check().unwrap();
        assert_eq!(stored(3, 2).check().unwrap_err().to_string(), "a part: 3 acknowledged, 2 stored");
    }
}
